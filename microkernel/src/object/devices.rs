//! Objects that stand for hardware: cores, interrupts, the machine, the log.

use abi::Error;

use super::{Header, Kind, Object, Ref, Target, Untyped, create};
use crate::arch::{apic, ioapic};
use crate::percore::{self, FIRST_DEVICE_VECTOR, Peer};
use crate::sync::SpinLock;

/// The right to run threads on one core, with priorities up to a ceiling: the capability's badge, where it has one.
#[repr(C)]
pub struct Cpu {
    header: Header,
    pub index: usize,
}

// SAFETY: repr(C), header first, made with Kind::Cpu only.
unsafe impl Object for Cpu {
    const KIND: Kind = Kind::Cpu;
}

impl Cpu {
    pub fn new(header: Header, index: usize) -> Self {
        Self { header, index }
    }
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqSource {
    Msi,
    /// A pin of an IOAPIC; `level`: masked from the interrupt until it is acknowledged.
    Pin {
        gsi: u32,
        level: bool,
    },
}

/// One interrupt vector of one core.
#[repr(C)]
pub struct IrqHandler {
    header: Header,
    pub source: IrqSource,
    core: &'static Peer,
    vector: u8,
    pub target: SpinLock<Option<Target>>,
}

// SAFETY: repr(C), header first, made with Kind::IrqHandler only.
unsafe impl Object for IrqHandler {
    const KIND: Kind = Kind::IrqHandler;

    fn orphaned(&self) -> bool {
        if let IrqSource::Pin { gsi, .. } = self.source {
            ioapic::set_masked(gsi, true);
        }
        let slot = &self.core.irqs[usize::from(self.vector - FIRST_DEVICE_VECTOR)];
        // (Nothing goes while its lock is held.)
        let (handler, target) = (slot.lock().take(), self.target.lock().take());
        drop((handler, target));
        true
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

impl IrqHandler {
    /// Route the pin to its vector. False: there is no such pin.
    pub fn route(&self, active_low: bool) -> bool {
        let IrqSource::Pin { gsi, level } = self.source else { return false };
        ioapic::route(gsi, self.core.apic_id(), self.vector, level, active_low)
    }

    pub fn bind(&self, target: Target) {
        let mut place = self.target.lock();
        let old = place.replace(target);
        // A vCPU that ends looks for its handlers after it was marked: it finds this one, or is seen to be dead here.
        let dead = place.take_if(|target| target.is_dead());
        drop(place);
        drop((old, dead));
        if let IrqSource::Pin { gsi, .. } = self.source {
            ioapic::set_masked(gsi, false);
        }
    }

    pub fn acknowledge(&self) {
        if let IrqSource::Pin { gsi, level: true } = self.source {
            ioapic::set_masked(gsi, false);
        }
    }

    /// MSI address and data, for MSI only.
    pub fn message(&self) -> Result<[u64; 2], Error> {
        if self.source != IrqSource::Msi {
            return Err(Error::BadState);
        }
        Ok(apic::msi(self.core.apic_id(), self.vector))
    }
}

#[cfg(feature = "check")]
impl IrqHandler {
    fn tell(&self, audit: &mut crate::check::Audit) {
        if let Some(target) = self.target.lock().as_ref() {
            target.audit(audit);
        }
        let registered =
            self.core.irqs[usize::from(self.vector - FIRST_DEVICE_VECTOR)].lock().as_ref().is_some_and(|h| h.is(self));
        crate::holds!(
            &self.header,
            registered == (self.header.counts().1 > 0),
            "vector {:#x}: registered is {registered}",
            self.vector
        );
    }
}

/// Whether an IOAPIC pin has a handler already.
fn is_claimed(wanted: u32) -> bool {
    let has = |slot: &SpinLock<Option<Ref<IrqHandler>>>| matches!(slot.lock().as_deref(), Some(IrqHandler { source: IrqSource::Pin { gsi, .. }, .. }) if *gsi == wanted);
    percore::cores().any(|core| core.irqs.iter().any(has))
}

/// Make the handler of `source`, with the first free vector of a core. BadArgument: no device can interrupt that core.
/// Busy: it has no vector left, or the pin has a handler.
pub fn claim_vector(core: &'static Peer, source: IrqSource, payer: &Ref<Untyped>) -> Result<Ref<IrqHandler>, Error> {
    if !apic::devices_reach(core.apic_id()) {
        return Err(Error::BadArgument);
    }
    static CLAIMING: SpinLock<()> = SpinLock::new(());
    let _guard = CLAIMING.lock();
    if let IrqSource::Pin { gsi, .. } = source
        && is_claimed(gsi)
    {
        return Err(Error::Busy);
    }
    let free = core.irqs.iter().position(|slot| slot.lock().is_none()).ok_or(Error::Busy)?;
    let vector = FIRST_DEVICE_VECTOR + free as u8;
    let target = SpinLock::new(None);
    let handler = create(payer, |header| IrqHandler { header, source, core, vector, target })?;
    *core.irqs[free].lock() = Some(handler.clone());
    Ok(handler)
}

/// The machine as a whole.
#[repr(C)]
pub struct Machine {
    pub header: Header,
    /// Pays for what is made of it, which is small and made while the system starts.
    pub reserve: Ref<Untyped>,
}

// SAFETY: repr(C), header first, made with Kind::Machine only.
unsafe impl Object for Machine {
    const KIND: Kind = Kind::Machine;

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        audit.reference(&self.reserve);
    }
}

/// The kernel log.
#[repr(C)]
pub struct Log {
    pub header: Header,
}

// SAFETY: repr(C), header first, made with Kind::Log only.
unsafe impl Object for Log {
    const KIND: Kind = Kind::Log;
}
