//! The end of a program: was it decoupled as the plan said?

use crate::{FAILED, STATE, real, say};
use decouple::plan::{Policy, When};
use libc::{c_int, c_void};

unsafe extern "C" {
    /// glibc's atexit that tells the exit status.
    fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

/// Has the end of this program checked. What is registered before `main` runs last.
pub fn watch() {
    // SAFETY: the function stays loaded: a preloaded library is never unloaded.
    unsafe { on_exit(finish, std::ptr::null_mut()) };
}

/// The program ends well without anybody of it having been decoupled, and this has not been told. A program that fails
/// before MPI_Init tells its own reason.
fn forgotten(status: c_int) -> bool {
    status == 0
        && STATE.get().is_some_and(|state| {
            state.plan.when == When::AfterInit && state.plan.pid == crate::getpid() && !state.mark.is_set()
        })
}

/// Tells of a program that never called MPI_Init; returns the exit status that it gets.
fn verdict(status: c_int) -> c_int {
    let Some(state) = STATE.get().filter(|_| forgotten(status)) else { return status };
    state.mark.set();
    let text = "the program ended without calling MPI_Init, so it never was decoupled \
                (use --now for programs without MPI, or with MPI linked statically)";
    match state.plan.policy {
        Policy::Prefer => {
            say(&format!("warning: {text}"));
            status
        }
        Policy::Require | Policy::Off => {
            say(text);
            FAILED
        }
    }
}

/// Runs at `exit` and at the return from `main`, after the program's own exit handlers.
extern "C" fn finish(status: c_int, _: *mut c_void) {
    if verdict(status) != status {
        crate::give_up();
    }
}

/// Shells leave by `_exit`, which runs no exit handlers.
#[unsafe(no_mangle)]
pub extern "C" fn _exit(status: c_int) -> ! {
    real::exit_now(verdict(status))
}

#[unsafe(no_mangle)]
pub extern "C" fn _Exit(status: c_int) -> ! {
    _exit(status)
}
