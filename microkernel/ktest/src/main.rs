//! Tests of the microkernel, run on it in place of the root task.
//!
//! Each test is a function that fails where the kernel does not keep its word; docs/acceptance.md says which case it is
//! for. Words of the command line: `ktest=NAME,...` runs the tests of these names (where there is none of a name, those whose
//! name contains it), `skip=NAME,...` leaves tests out, `ktest=list` prints `test NAME, N cores` for each; without one all run that have cores enough. Output:
//! `ok NAME` or `not ok NAME: reason` a line; the exit status tells of failures. A test gets a fresh range of slots and gives everything back by revoking its Untyped.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod attacks;
#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod capabilities;
#[cfg(target_os = "none")]
mod decoupled;
#[cfg(target_os = "none")]
mod differential;
#[cfg(target_os = "none")]
mod faults;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod ipc;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod operands;
#[cfg(target_os = "none")]
mod quotas;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod revocation;
#[cfg(target_os = "none")]
mod scheduling;
#[cfg(target_os = "none")]
mod stress;
#[cfg(target_os = "none")]
mod support;
#[cfg(target_os = "none")]
mod vcpus;
#[cfg(target_os = "none")]
mod waiting;

#[cfg(target_os = "none")]
mod program {
    use abi::{MessagePage, RootBoot};
    use rt::println;

    use crate::differential;
    use crate::support::{self, Test};
    use crate::{
        attacks, bench, capabilities, decoupled, faults, interrupts, ipc, machine, memory, operands, quotas, registers,
        revocation, scheduling, stress, vcpus, waiting,
    };

    #[unsafe(no_mangle)]
    extern "C" fn main(boot: u64, _message: *mut MessagePage) -> ! {
        // SAFETY: the kernel passes the address of a page that holds a RootBoot.
        let boot = unsafe { &*(boot as *const RootBoot) };
        support::init(boot);
        let Some(words) = boot.words() else { rt::exit(2) };
        let words = || words.clone();
        let wanted = words().find_map(|w| w.strip_prefix("ktest="));
        if words().any(|w| w == "kbench") {
            rt::exit(u64::from(!bench::run()));
        }
        if words().any(|w| w == "kexit") {
            support::begin();
            machine::exit_while_others_compute();
        }
        if words().any(|w| w == "kflood") {
            machine::flood();
        }
        if let Some(operations) = words().find_map(|w| w.strip_prefix("differential=")) {
            let seed = words().find_map(|w| w.strip_prefix("seed="));
            let (Ok(operations), Ok(seed)) = (operations.parse(), seed.unwrap_or("1").parse()) else { rt::exit(2) };
            rt::exit(u64::from(!differential::run(operations, seed)));
        }
        let groups = [
            capabilities::TESTS,
            quotas::TESTS,
            revocation::TESTS,
            memory::TESTS,
            ipc::TESTS,
            operands::TESTS,
            waiting::TESTS,
            faults::TESTS,
            attacks::TESTS,
            scheduling::TESTS,
            vcpus::TESTS,
            registers::TESTS,
            decoupled::TESTS,
            interrupts::TESTS,
            machine::TESTS,
            stress::TESTS,
        ];
        if wanted == Some("list") {
            for test in groups.into_iter().flatten() {
                println!("test {}, {} cores", test.name, test.cores);
            }
            rt::exit(0);
        }
        let all = || groups.into_iter().flatten();
        let matches = |name: &str, w: &str| if all().any(|test| test.name == w) { name == w } else { name.contains(w) };
        let is_wanted = |name: &str| wanted.is_none_or(|list| list.split(',').any(|w| matches(name, w)));
        let skipped = words().find_map(|w| w.strip_prefix("skip=")).unwrap_or("");
        let is_skipped = |name: &str| skipped.split(',').any(|w| name == w);
        let mut failed = 0;
        let mut ran = 0;
        for Test { name, cores, run } in all() {
            if !is_wanted(name) || is_skipped(name) || boot.cores < *cores {
                continue;
            }
            ran += 1;
            support::begin();
            match run() {
                Ok(()) => println!("ok {name}"),
                Err(reason) => {
                    failed += 1;
                    println!("not ok {name}: {reason}");
                }
            }
            support::clean_up();
        }
        println!("ktest: {ran} run, {failed} failed on {} cores", boot.cores);
        rt::exit(if ran == 0 { 2 } else { u64::from(failed > 0) })
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("These tests run on the microkernel: `mk test kernel`.");
    std::process::exit(2);
}
