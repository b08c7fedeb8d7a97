//! The driver, and what stands for it in tests.

use crate::abi;
use crate::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The requests of `/dev/decouple`. Errors are the driver's errno; [`crate::place`] puts them into words.
pub trait Driver {
    /// Decouples a thread; returns the core that it took. See [`abi::Attach`].
    fn attach(&self, pid: i32, tid: i32, core: Option<u32>) -> io::Result<u32>;
    /// Brings a thread back.
    fn detach(&self, pid: i32, tid: i32) -> io::Result<()>;
    /// Reserves cores for this open file; bit c is core c.
    fn reserve(&self, cores: u64) -> io::Result<()>;
    /// Gives back cores that this open file reserved.
    fn release(&self, cores: u64) -> io::Result<()>;
}

/// The open device.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// Opens `/dev/decouple` and checks that it speaks this library's version.
    pub fn open() -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(abi::DEVICE).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Error::NotTacet,
                _ => Error::Device(error),
            }
        })?;
        Self::checked(Device(file))
    }

    /// Takes over a descriptor of the device, for instance one that holds a reservation.
    ///
    /// # Safety
    /// `fd` is open and nobody else owns it.
    pub unsafe fn from_raw(fd: i32) -> Result<Self, Error> {
        // SAFETY: the caller gives up the descriptor.
        Self::checked(Device(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    fn checked(self) -> Result<Self, Error> {
        let mut version = abi::Version::default();
        self.call(abi::VERSION, &mut version).map_err(Error::Device)?;
        match version.abi {
            abi::ABI => Ok(self),
            other => Err(Error::Version(other)),
        }
    }

    /// Lets the descriptor live on across exec.
    pub fn keep_across_exec(&self) -> io::Result<()> {
        // SAFETY: fcntl on a descriptor that we own; F_SETFD takes an int.
        match unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn call<T>(&self, request: u32, argument: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: each request number carries the size of its structure, and every caller passes that structure.
            if unsafe { libc::ioctl(self.0.as_raw_fd(), request as libc::c_ulong, argument as *mut T) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Driver for Device {
    fn attach(&self, pid: i32, tid: i32, core: Option<u32>) -> io::Result<u32> {
        let core = match core {
            None => -1,
            Some(core) => i32::try_from(core).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
        };
        let mut request = abi::Attach { pid, tid, core, flags: 0 };
        self.call(abi::ATTACH, &mut request)?;
        u32::try_from(request.core).map_err(|_| io::Error::from_raw_os_error(libc::EPROTO))
    }

    fn detach(&self, pid: i32, tid: i32) -> io::Result<()> {
        self.call(abi::DETACH, &mut abi::Detach { pid, tid, ..Default::default() })
    }

    fn reserve(&self, cores: u64) -> io::Result<()> {
        self.call(abi::RESERVE, &mut abi::Reserve { cores: [cores], ..Default::default() })
    }

    fn release(&self, cores: u64) -> io::Result<()> {
        self.call(abi::RELEASE, &mut abi::Reserve { cores: [cores], ..Default::default() })
    }
}
