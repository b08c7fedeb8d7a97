//! The one error enumeration of the interface.

/// What a system call returns in `rax`: 0, or the negated value of one of these.
#[repr(i64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The handle names an empty slot or lies outside the CSpace.
    NoCapability = 1,
    /// The capability names an object of another kind than the operation needs.
    WrongType = 2,
    /// The capability lacks the right that the operation needs.
    NoRights = 3,
    /// The object has no such method, or the thread may not make this system call.
    BadMethod = 4,
    /// An argument is out of its range (word 0 of the answer says which, for this as for other errors about arguments).
    BadArgument = 5,
    /// An address or size is not aligned, not canonical, or reaches outside its range.
    BadAddress = 6,
    /// The destination slot is occupied.
    Occupied = 7,
    /// The Untyped that pays has not enough memory left.
    NoMemory = 8,
    /// The object is in a state that forbids the operation (running thread, bound notification, ...).
    BadState = 9,
    /// The object was deleted while the caller waited for it.
    Deleted = 10,
    /// The wait was cancelled; or there is more to do than one call does: call again.
    Cancelled = 11,
    /// Nothing to receive (polling receive only).
    Empty = 12,
    /// The message is longer than [`crate::MSG_WORDS`].
    TooLong = 13,
    /// Another owner already holds the core, interrupt or range.
    Busy = 14,
}

impl Error {
    /// The error that a returned `rax` stands for; `None` for success and for values outside the enumeration.
    pub const fn from_status(status: i64) -> Option<Self> {
        Some(match status {
            -1 => Self::NoCapability,
            -2 => Self::WrongType,
            -3 => Self::NoRights,
            -4 => Self::BadMethod,
            -5 => Self::BadArgument,
            -6 => Self::BadAddress,
            -7 => Self::Occupied,
            -8 => Self::NoMemory,
            -9 => Self::BadState,
            -10 => Self::Deleted,
            -11 => Self::Cancelled,
            -12 => Self::Empty,
            -13 => Self::TooLong,
            -14 => Self::Busy,
            _ => return None,
        })
    }

    /// The value that goes into `rax`.
    pub const fn status(self) -> i64 {
        -(self as i64)
    }
}
