//! Signals to vCPUs.

use kcore::handshake::Signalled;

use crate::arch::{self, apic};
use crate::object::{Ref, Thread};
use crate::sched;

/// OR bits into a vCPU's `pending` word and see to it that the vCPU looks at them.
pub fn vcpu(thread: &Thread, bits: u64) {
    let page = thread.vcpu_page();
    // SAFETY: a vCPU's page lives as long as the vCPU; `pending` is atomic.
    let pending = unsafe { &(*page).pending };
    match thread.signal(pending, bits) {
        Signalled::Woken => sched::wake(Ref::of(thread)),
        // (On the own core, `vcpu::leave` looks before it returns.)
        Signalled::New => {
            if let Some(home) = thread.core().filter(|home| home.index != arch::core().index) {
                apic::send(home, apic::VECTOR_POKE);
            }
        }
        Signalled::Known => {}
    }
}
