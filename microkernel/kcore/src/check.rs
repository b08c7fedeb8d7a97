//! What the fuzzer and a kernel built with the feature `check` agree on.

/// Method of the Machine: () -> (objects, capabilities) checks every invariant while the other cores stand still; the
/// kernel panics where one does not hold. Other kernels know no such method.
pub const MACHINE_CHECK: u64 = 0x7e00;
