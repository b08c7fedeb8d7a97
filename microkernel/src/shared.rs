//! Pages that user level may write at any time. Their plain fields are copied out and in by volatile accesses, one for each
//! copy, so that the kernel decides by what it has seen and not by what stands there a moment later; a reference to such a
//! field would promise the compiler that nobody writes it. (Atomic fields may be referred to: they promise nothing.)

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// A page shared with user level, which stays for `'a`. Use it with [`get!`](crate::get), [`set!`](crate::set),
/// [`word!`](crate::word) and [`part!`](crate::part).
pub struct Shared<'a, T>(*mut T, PhantomData<&'a ()>);

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// # Safety
    /// The page is mapped in the kernel and stays so for `'a`.
    #[inline]
    pub unsafe fn new(page: *mut T) -> Self {
        Self(page, PhantomData)
    }

    /// # Safety
    /// `word` lies in this page.
    #[inline(always)]
    pub unsafe fn word<W: Word>(self, word: *const W) -> &'a W {
        // SAFETY: by the caller's promise; who made the Shared promised that the page lives.
        unsafe { &*word }
    }

    /// # Safety
    /// `part` lies in this page.
    #[inline(always)]
    pub unsafe fn part<P>(self, part: *mut P) -> Shared<'a, P> {
        Shared(part, PhantomData)
    }

    #[inline]
    pub fn as_ptr(self) -> *mut T {
        self.0
    }
}

/// What any bits are a value of.
///
/// # Safety
/// The type is that: integers, and `repr(C)` structures and arrays of them.
pub unsafe trait Plain: Copy {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}
// SAFETY: repr(C), four integers.
unsafe impl Plain for abi::MapItem {}
// SAFETY: repr(C), integers and Regs, which are integers.
unsafe impl Plain for abi::TrapFrame {}

/// What may be referred to while others write it.
pub trait Word {}
impl Word for AtomicU32 {}
impl Word for AtomicU64 {}

/// # Safety
/// `field` lies in a live page.
#[inline(always)]
pub unsafe fn copy_out<T: Plain>(field: *const T) -> T {
    // SAFETY: by the caller's promise; any bits are a T.
    unsafe { field.read_volatile() }
}

/// # Safety
/// `field` lies in a live page.
#[inline(always)]
pub unsafe fn copy_in<T: Plain>(field: *mut T, value: T) {
    // SAFETY: by the caller's promise.
    unsafe { field.write_volatile(value) }
}

/// A copy of a field of a [`Shared`] page: `get!(page.frame.trapno)`.
macro_rules! get {
    ($page:ident.$($field:tt)+) => {
        // SAFETY: who made the Shared promised that the page lives.
        unsafe { $crate::shared::copy_out(&raw const (*$page.as_ptr()).$($field)+) }
    };
}

/// Write a field of a [`Shared`] page: `set!(page.frame.trapno = 14)`.
macro_rules! set {
    ($page:ident.$($field:ident).+ $([$index:expr])? = $value:expr) => {{
        let value = $value;
        // SAFETY: who made the Shared promised that the page lives.
        unsafe { $crate::shared::copy_in(&raw mut (*$page.as_ptr()).$($field).+ $([$index])?, value) }
    }};
}

/// A part of a [`Shared`] page, shared likewise: `part!(page.frame.regs)`.
macro_rules! part {
    ($page:ident.$($field:ident).+) => {
        // SAFETY: who made the Shared promised that the page lives.
        unsafe { $page.part(&raw mut (*$page.as_ptr()).$($field).+) }
    };
}

/// An atomic field of a [`Shared`] page: `word!(page.state)`.
macro_rules! word {
    ($page:ident.$field:ident) => {
        // SAFETY: the field lies in the page.
        unsafe { $page.word(&raw const (*$page.as_ptr()).$field) }
    };
}

pub(crate) use {get, part, set, word};
