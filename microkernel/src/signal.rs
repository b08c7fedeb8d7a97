//! Signals, and interrupts, which are signals of devices.

use kcore::handshake::Signalled;

use crate::arch::{apic, ioapic};
use crate::object::{IrqHandler, IrqSource, Ref, Target, Thread};
use crate::percore;
use crate::{sched, word};

/// OR bits into a vCPU's `pending` word and see to it that the vCPU looks at them.
pub fn vcpu(thread: &Thread, bits: u64) {
    let Some(page) = thread.vcpu_page() else { return };
    match thread.rest.state.signal(word!(page.pending), bits) {
        Signalled::Woken => sched::wake(Ref::of(thread)),
        // (On the own core, `vcpu::leave` looks before it returns.)
        Signalled::New => {
            if let Some(home) = thread.core().filter(|home| home.index != percore::core().index) {
                apic::send(home.apic_id(), apic::VECTOR_POKE);
            }
        }
        Signalled::Known => {}
    }
}

/// The handlers of a core, by its number, signal no vCPU any more that has ended. True: there is no such core.
pub fn unbind_the_dead(core: usize) -> bool {
    let Some(core) = percore::core_at(core) else { return true };
    for slot in &core.irqs {
        let handler = slot.lock().clone();
        let target = handler.and_then(|handler| handler.target.lock().take_if(|target| target.is_dead()));
        drop(target);
    }
    false
}

impl Target {
    pub fn signal(&self) {
        match self {
            Self::Notification(notification, badge) => notification.signal(*badge),
            Self::Vcpu(thread, badge) => vcpu(thread, *badge),
        }
    }
}

impl IrqHandler {
    /// The interrupt happened, on its core.
    pub fn deliver(&self) {
        if let IrqSource::Pin { gsi, level: true } = self.source {
            ioapic::set_masked(gsi, true);
        }
        let target = self.target.lock().clone();
        if let Some(target) = target {
            target.signal();
        }
    }
}
