//! The ioctl interface of `/dev/decouple`, as `linux/decouple.h` of the Linux port defines it.
//!
//! All structures are little-endian and naturally aligned; `tests/abi.rs` compares the numbers with the header.

/// Where the driver's device is.
pub const DEVICE: &str = "/dev/decouple";

/// The interface version that this library speaks ([`Version::abi`]).
pub const ABI: u32 = 1;

/// Cores that one reservation request can name: 0..64.
pub const RESERVE_CORES: u32 = 64;

/// Decouple a thread. `pid` 0 is the caller; `tid` 0 is the main thread of `pid`, or with `pid` 0 the calling thread;
/// `core` -1 is the first free one, and on return the one that was taken. `flags` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    pub pid: i32,
    pub tid: i32,
    pub core: i32,
    pub flags: u32,
}

/// Bring a decoupled thread back to Linux. `pid` and `tid` as in [`Attach`]; the other fields are 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detach {
    pub pid: i32,
    pub tid: i32,
    pub flags: u32,
    pub reserved: u32,
}

/// Reserve or release compute cores; bit c of `cores` is machine core c. Held by the open file description.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    pub cores: [u64; 1],
    pub flags: u32,
    pub reserved: u32,
}

/// What the driver speaks, and how many compute cores it has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub abi: u32,
    pub cores: u32,
}

const WRITE: u32 = 1;
const READ: u32 = 2;

/// An ioctl number by the rule of Linux's `asm-generic/ioctl.h`: direction, size, type 'D', number.
const fn request<T>(direction: u32, number: u32) -> u32 {
    direction << 30 | (size_of::<T>() as u32) << 16 | (b'D' as u32) << 8 | number
}

pub const ATTACH: u32 = request::<Attach>(READ | WRITE, 1);
pub const DETACH: u32 = request::<Detach>(WRITE, 2);
pub const RESERVE: u32 = request::<Reserve>(WRITE, 3);
pub const RELEASE: u32 = request::<Reserve>(WRITE, 4);
pub const VERSION: u32 = request::<Version>(READ, 5);
