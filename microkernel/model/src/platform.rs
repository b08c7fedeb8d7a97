//! What the object layer asks of the machine, in the models.

use core::ptr::NonNull;

pub fn spin() {
    loom::thread::yield_now();
}

#[allow(dead_code, reason = "nothing ends here")]
pub struct EndOf(pub NonNull<()>);

/// The models keep a reference to every object.
pub fn begin(_: EndOf) {
    unreachable!("nothing ends here");
}

pub fn to_virtual(physical: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(physical as usize)
}

pub fn to_physical<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// # Safety
/// Nobody else uses the memory.
pub unsafe fn zero(physical: u64, bytes: u64) {
    // SAFETY: by the caller's promise.
    unsafe { to_virtual(physical).write_bytes(0, bytes as usize) };
}
