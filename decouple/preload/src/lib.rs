//! `libdecouple-preload.so`: decouples the program that `decouple` became.
//!
//! Principles:
//! 1. Without a plan in the environment it does nothing at all.
//! 2. Now, or when MPI_Init returns: the plan says. What already runs undecoupled stays so: children and helper threads.
//! 3. Never silently undecoupled: a failure ends the program with status 125 (policy require) or is told on standard
//!    error (prefer); a program that was to call MPI_Init and never did is found out when it ends.

mod exit;
mod hooks;
mod mark;
mod real;

use decouple::plan::{self, Plan, Policy, When};
use decouple::{Device, Driver, Error, Sysfs, Target};
use mark::Mark;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit status of a program that could not be decoupled.
const FAILED: i32 = 125;

struct State {
    plan: Plan,
    mark: Mark,
}

static STATE: OnceLock<State> = OnceLock::new();
/// An attempt was made in this process image: MPI_Init_thread may call MPI_Init, and Fortran's calls C's.
static TRIED: AtomicBool = AtomicBool::new(false);

fn getpid() -> i32 {
    // SAFETY: only returns a number.
    unsafe { libc::getpid() }
}

fn say(text: &str) {
    // eprintln would panic where standard error is closed.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "decouple: {text}");
}

/// Ends the program without its own exit handlers: it has not begun, or must not go on. What it printed so far is
/// written out.
fn give_up() -> ! {
    // SAFETY: fflush(NULL) flushes all C streams; _exit does not return.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        real::exit_now(FAILED)
    }
}

/// Runs when the dynamic linker has loaded the program, before its constructors and `main`.
extern "C" fn start() {
    let Ok(text) = std::env::var(plan::VARIABLE) else { return };
    let plan: Plan = match text.parse() {
        Ok(plan) => plan,
        Err(reason) => {
            say(&format!("{}: {reason}; only decouple sets this variable", plan::VARIABLE));
            give_up();
        }
    };
    let mark = Mark::open(&plan);
    let (when, chosen) = (plan.when, plan.pid == getpid());
    let _ = STATE.set(State { plan, mark });
    match when {
        When::Now if chosen => decouple_caller("at its start"),
        When::AfterInit if chosen => exit::watch(),
        // A child of the chosen process: it may still be the one that calls MPI_Init.
        _ => {}
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

/// MPI_Init has returned.
fn initialised() {
    if STATE.get().is_some_and(|state| state.plan.when == When::AfterInit) {
        decouple_caller("after MPI_Init");
    }
}

fn decouple_caller(when: &str) {
    let Some(state) = STATE.get() else { return };
    if TRIED.swap(true, Ordering::Relaxed) {
        return;
    }
    let sysfs = Sysfs::default();
    let plan = &state.plan;
    match attach(plan, &sysfs) {
        Ok(core) => {
            state.mark.set();
            if plan.verbose {
                say(&format!("{} decoupled onto core {core} {when}", sysfs.process(getpid())));
            }
        }
        Err(error) if plan.policy == Policy::Prefer => {
            // The failure was told: the end of the program need not tell it again.
            state.mark.set();
            say(&format!("warning: {} runs undecoupled: {error}", sysfs.process(getpid())));
        }
        Err(error) => {
            say(&error.to_string());
            give_up();
        }
    }
}

fn attach(plan: &Plan, sysfs: &Sysfs) -> Result<u32, Error> {
    let device = match plan.reservation {
        Some(holder) => decouple::reservation::adopt(sysfs, holder)?,
        None => Device::open()?,
    };
    let driver: &dyn Driver = &device;
    match decouple::attach(driver, sysfs, Target::Caller, &plan.cores, plan.reservation) {
        // An exec within the program may have kept the thread on its core.
        Err(Error::Already { core: Some(core), .. }) if plan.cores.contains(core) => Ok(core),
        result => result,
    }
}
