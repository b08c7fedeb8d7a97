//! A fuzzer of the microkernel, run on it in place of the root task.
//!
//! Three workers a core make random and mutated system calls in a CSpace that they share (the *playground*), among
//! vCPUs, decoupled and ordinary threads that do harm of their own. A coordinator ends a batch after a number of calls,
//! has the kernel check every object (`kcore::check`), takes all memory back, checks again, and sets up the next batch.
//! From five cores on, a *canary* tells whether memory can be reached that was taken back.
//!
//! Command line: `seed=S` (default 1), `calls=N` (default 100000), `batch=N` calls (default 20000). A worker's calls
//! depend on seed, batch and worker alone, but for the times of timers; how cores interleave does not repeat.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod canary;
#[cfg(target_os = "none")]
mod coordinator;
#[cfg(target_os = "none")]
mod playground;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod worker;

#[cfg(target_os = "none")]
mod program {
    use abi::{MessagePage, RootBoot};
    use rt::println;

    use crate::coordinator;

    /// The command line cannot be understood.
    const STATUS_USAGE: u64 = 2;

    #[unsafe(no_mangle)]
    extern "C" fn main(boot: u64, _message: *mut MessagePage) -> ! {
        // SAFETY: the kernel passes the address of a page that holds a RootBoot.
        let boot = unsafe { &*(boot as *const RootBoot) };
        let Some(words) = boot.words() else {
            println!("kfuzz: the command line is not UTF-8");
            rt::exit(STATUS_USAGE);
        };
        let mut plan =
            coordinator::Plan { seed: 1, calls: 100_000, batch: 20_000, cores: boot.cores, tsc_hz: boot.tsc_hz };
        for word in words {
            let known = word.split_once('=').and_then(|(name, value)| Some((name, value.parse::<u64>().ok()?)));
            match known {
                Some(("seed", value)) => plan.seed = value,
                Some(("calls", value)) => plan.calls = value,
                Some(("batch", value)) if value > 0 => plan.batch = value,
                _ => {
                    println!("kfuzz: unknown or malformed option '{word}'; there are seed=N, calls=N, batch=N");
                    rt::exit(STATUS_USAGE);
                }
            }
        }
        if plan.cores < 2 {
            println!("kfuzz: needs two cores at least: the coordinator's, and one for decoupled threads");
            rt::exit(STATUS_USAGE);
        }
        coordinator::start(plan)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("This fuzzer runs on the microkernel: `mk test fuzz`.");
    std::process::exit(2);
}
