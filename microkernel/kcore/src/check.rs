//! What the fuzzer and a kernel built with the feature `check` agree on.

/// Method of the Machine: (whether to list all objects in the log) -> (objects, capabilities) checks every invariant while the
/// other cores stand still; the kernel panics where one does not hold. Other kernels know no such method.
pub const MACHINE_CHECK: u64 = 0x7e00;

/// First word of what is free for Linux in a vCPU's page: nobody but the kernel sets bits of its `pending`, and no other vCPU
/// has the page, so that one that sleeps with signals is a fault of the kernel's.
pub const PRIVATE: u64 = u64::from_le_bytes(*b"private!");
