//! What a signal goes to.

use abi::Error;

#[cfg(feature = "check")]
use super::Object;
use super::{Capability, Kind, Notification, Ref, Thread, ThreadKind};

/// A Notification or a vCPU, with the badge of the capability that named it.
#[derive(Clone)]
pub enum Target {
    Notification(Ref<Notification>, u64),
    Vcpu(Ref<Thread>, u64),
}

impl Target {
    /// From a capability to a Notification or a vCPU that has the right to write.
    pub fn new(capability: Capability) -> Result<Self, Error> {
        match capability.object.kind() {
            Kind::Notification => Ok(Self::Notification(capability.object.downcast()?, capability.badge)),
            Kind::Thread => {
                let thread = capability.object.downcast::<Thread>()?;
                if thread.kind() != ThreadKind::Vcpu {
                    return Err(Error::WrongType);
                }
                Ok(Self::Vcpu(thread, capability.badge))
            }
            _ => Err(Error::WrongType),
        }
    }

    /// A vCPU that has ended.
    pub fn is_dead(&self) -> bool {
        matches!(self, Self::Vcpu(thread, _) if thread.is_dead())
    }
}

#[cfg(feature = "check")]
impl Target {
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        match self {
            Self::Notification(notification, _) => audit.reference(notification),
            Self::Vcpu(thread, _) => {
                audit.reference(thread);
                crate::holds!(thread.header(), thread.kind() == ThreadKind::Vcpu, "a signal's target, but no vCPU");
            }
        }
    }
}
