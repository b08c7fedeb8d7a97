//! Slots of the root task's CSpace, and small wrappers around methods.

use abi::RIGHT_ALL;
use rt::invoke;

use crate::options::Reason;

/// Slots that the root task uses for what it makes, above the ones that the kernel filled.
pub const LINUX_MEMORY: u64 = abi::ROOT_CAP_FREE;
pub const LINUX_TASK: u64 = abi::ROOT_CAP_FREE + 1;
pub const LINUX_CSPACE: u64 = abi::ROOT_CAP_FREE + 2;
pub const LINUX_UNTYPED: u64 = abi::ROOT_CAP_FREE + 3;
pub const ENDPOINT: u64 = abi::ROOT_CAP_FREE + 4;
pub const REPLY: u64 = abi::ROOT_CAP_FREE + 5;
pub const ECAM: u64 = abi::ROOT_CAP_FREE + 6;
pub const MMIO: u64 = abi::ROOT_CAP_FREE + 7;
pub const MMIO64: u64 = abi::ROOT_CAP_FREE + 8;
pub const VCPU: u64 = abi::ROOT_CAP_FREE + 64;
pub const MSI: u64 = abi::ROOT_CAP_FREE + 128;

/// Retype memory of the largest Untyped.
pub fn retype(what: &'static str, kind: u64, size: u64, slot: u64) -> Result<(), Reason> {
    rt::retype(abi::ROOT_CAP_UNTYPED, kind, size, slot).map_err(|e| Reason::Kernel(what, e))
}

/// Call a method and say what failed.
pub fn must(what: &'static str, slot: u64, method: u64, words: &[u64]) -> Result<[u64; 2], Reason> {
    invoke(slot, method, words).map_err(|e| Reason::Kernel(what, e))
}

/// Give Linux a copy of a capability.
pub fn give(slot: u64, linux_slot: u64, rights: u64, badge: u64) -> Result<(), Reason> {
    must("giving Linux a capability", LINUX_CSPACE, abi::CSPACE_PUT, &[slot, linux_slot, rights & RIGHT_ALL, badge])
        .map(drop)
}

/// Debug name of an object, at most 16 bytes.
pub fn name(slot: u64, text: &str) -> Result<(), Reason> {
    let mut bytes = [0; 16];
    let n = text.len().min(16);
    bytes[..n].copy_from_slice(&text.as_bytes()[..n]);
    let word = |i: usize| u64::from_le_bytes(bytes[i..i + 8].try_into().expect("eight bytes"));
    must("naming an object", slot, abi::OBJECT_NAME, &[word(0), word(8)]).map(drop)
}
