//! The root task: takes the boot archive, gives Linux its memory, vCPUs and devices, starts it, and watches it.
//!
//! Principles:
//! 1. Linux gets what it is told about and nothing else: its memory, the PCI windows, its interrupts, the compute
//!    cores' Cpu capabilities.
//! 2. Whatever ends Linux ends the run, with a status that says how.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod linux;
#[cfg(target_os = "none")]
mod options;
#[cfg(target_os = "none")]
mod pci;
#[cfg(target_os = "none")]
mod slots;

#[cfg(target_os = "none")]
mod program {
    use abi::{MessagePage, RootBoot};
    use rt::println;

    use crate::{linux, options};

    /// How a run ends; QEMU exits with status * 2 + 1.
    const STATUS_OFF: u64 = 0;
    const STATUS_LINUX_PANIC: u64 = 1;
    const STATUS_LINUX_CRASH: u64 = 2;
    const STATUS_REBOOT: u64 = 3;
    const STATUS_BAD_BOOT: u64 = 4;

    #[unsafe(no_mangle)]
    extern "C" fn main(boot: u64, _message: *mut MessagePage) -> ! {
        // SAFETY: the kernel passes the address of a page that holds a RootBoot.
        let boot = unsafe { &*(boot as *const RootBoot) };
        assert!(boot.magic == abi::BOOT_MAGIC, "kernel and root task are of different versions");
        let started = options::parse(boot).and_then(|options| linux::start(boot, &options));
        let endpoint = match started {
            Ok(endpoint) => endpoint,
            Err(reason) => {
                println!("[root] cannot start Linux: {reason}");
                rt::exit(STATUS_BAD_BOOT)
            }
        };
        watch(endpoint)
    }

    /// Serve Linux's requests until it ends.
    fn watch(linux: linux::Watched) -> ! {
        loop {
            let message = rt::receive(linux.endpoint, linux.reply).expect("the endpoint is the root task's own");
            let [a, b, c, d] = message.words;
            let status = match message.label() {
                abi::ROOT_POWEROFF => {
                    println!("[root] Linux has shut down");
                    STATUS_OFF
                }
                abi::ROOT_REBOOT => {
                    println!("[root] Linux asks for a reboot");
                    STATUS_REBOOT
                }
                abi::ROOT_PANIC => {
                    println!("[root] Linux panicked; its messages are above");
                    STATUS_LINUX_PANIC
                }
                abi::FAULT_LABEL => {
                    println!(
                        "[root] Linux crashed: exception {a} error {b:#x} address {c:#x} at {d:#x}, where it could not handle one"
                    );
                    STATUS_LINUX_CRASH
                }
                label => {
                    println!("[root] Linux sent an unknown request, {label}");
                    continue;
                }
            };
            rt::exit(status)
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("The root task runs on Tacet's microkernel: build it with `mk build`, boot it with `mk boot`.");
    std::process::exit(2);
}
