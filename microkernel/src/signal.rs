//! Signals to vCPUs.

use core::sync::atomic::Ordering;

use crate::arch::{self, apic};
use crate::object::{Ref, State, Thread};
use crate::sched;

/// OR bits into a vCPU's `pending` word and see to it that the vCPU looks at them.
pub fn vcpu(thread: &Thread, bits: u64) {
    let page = thread.vcpu_page();
    // SAFETY: a vCPU's page lives as long as the vCPU; `pending` is atomic.
    let old = unsafe { (*page).pending.fetch_or(bits, Ordering::SeqCst) };
    if thread.change_state(State::WaitVcpu, State::Ready) {
        sched::wake(Ref::of(thread));
        return;
    }
    // Whoever set the bits before has sent the interrupt; on the own core, `leave` looks before it returns.
    if old & bits != bits
        && let Some(home) = thread.core()
        && home.index != arch::core().index
    {
        apic::send(home, apic::VECTOR_POKE);
    }
}
