//! The word that all processes of one `decouple COMMAND` share: was anybody decoupled?
//!
//! It is mapped at the start, so that noting it costs no system call and survives a program that closes descriptors.

use decouple::plan::Plan;
use std::fs::{File, OpenOptions};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// The mapped word, or one of this process alone where the file cannot be reached.
pub enum Mark {
    Shared(NonNull<AtomicU32>),
    Own(AtomicU32),
}

// SAFETY: the word is only reached through atomic operations, and the mapping is never taken away.
unsafe impl Send for Mark {}
// SAFETY: as above.
unsafe impl Sync for Mark {}

impl Mark {
    /// Maps the plan's word: the inherited descriptor, or where that was closed on the way, the one of the process that
    /// `decouple` became.
    pub fn open(plan: &Plan) -> Self {
        // SAFETY: only looked at and mapped; ManuallyDrop never closes what may be somebody else's descriptor.
        let inherited = ManuallyDrop::new(unsafe { File::from_raw_fd(plan.mark.fd) });
        if let Some(word) = map(&inherited, plan.mark.inode) {
            return Mark::Shared(word);
        }
        let path = format!("/proc/{}/fd/{}", plan.pid, plan.mark.fd);
        let reopened = OpenOptions::new().read(true).write(true).open(path).ok();
        match reopened.and_then(|file| map(&file, plan.mark.inode)) {
            Some(word) => Mark::Shared(word),
            None => Mark::Own(AtomicU32::new(0)),
        }
    }

    fn word(&self) -> &AtomicU32 {
        match self {
            // SAFETY: mapped for the life of the process, aligned to a page.
            Mark::Shared(word) => unsafe { word.as_ref() },
            Mark::Own(word) => word,
        }
    }

    pub fn set(&self) {
        self.word().store(1, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.word().load(Ordering::Relaxed) != 0
    }
}

fn map(file: &File, inode: u64) -> Option<NonNull<AtomicU32>> {
    let metadata = file.metadata().ok()?;
    if metadata.ino() != inode || metadata.len() < size_of::<AtomicU32>() as u64 {
        return None;
    }
    // SAFETY: a new shared mapping of the file's first word, which exists (checked above); nothing is replaced.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<AtomicU32>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) }
}
