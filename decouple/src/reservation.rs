//! Reservations of compute cores.
//!
//! A reservation belongs to an open file of `/dev/decouple` and ends with it. Who wants to use it must go through that
//! very open file: the holder's PID names it, and `pidfd_getfd` fetches it, which needs the right to ptrace the holder.

use crate::abi;
use crate::cores::CoreList;
use crate::driver::{Device, Driver};
use crate::error::{Busy, Error};
use crate::state::Sysfs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Environment variable with the PID of the process whose reservation is to be used.
pub const VARIABLE: &str = "DECOUPLE_RESERVATION";

/// The device, through the open file of `holder`.
pub fn adopt(sysfs: &Sysfs, holder: i32) -> Result<Device, Error> {
    let failed = |reason: io::Error| match reason.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => Error::ReservationGone(holder),
        _ => Error::Reservation { holder: sysfs.process(holder), reason },
    };
    // The process first: if it ends and its number is used again, pidfd_getfd refuses, whatever /proc said of the new one.
    // SAFETY: pidfd_open takes two integers; the descriptor that it returns is ours.
    let pidfd = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, holder, 0)) }.map_err(failed)?;
    let descriptors = sysfs.descriptors(holder, Path::new(abi::DEVICE)).map_err(failed)?;
    let descriptor = *descriptors.first().ok_or(Error::ReservationGone(holder))?;
    // SAFETY: pidfd_getfd takes three integers; the descriptor that it returns is ours.
    let shared =
        unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), descriptor, 0)) }.map_err(failed)?;
    // SAFETY: the descriptor is open and given up here.
    unsafe { Device::from_raw(std::os::fd::IntoRawFd::into_raw_fd(shared)) }
}

/// # Safety
/// `result` is what a system call returned that makes a new descriptor, or -1.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the caller says that the descriptor is new, so nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The mask that the driver takes.
fn mask(sysfs: &Sysfs, cores: &CoreList) -> Result<u64, Error> {
    let mut mask = 0;
    for &core in cores.as_slice() {
        if core >= abi::RESERVE_CORES {
            return Err(Error::NoSuchCore { core, compute: sysfs.machine()?.compute_list() });
        }
        mask |= 1 << core;
    }
    Ok(mask)
}

/// Reserves `cores` for the open file of `driver`, all or none.
pub fn reserve(driver: &dyn Driver, sysfs: &Sysfs, cores: &CoreList) -> Result<(), Error> {
    let machine = sysfs.machine()?;
    machine.check(cores)?;
    let Err(source) = driver.reserve(mask(sysfs, cores)?) else { return Ok(()) };
    if source.raw_os_error() != Some(libc::EBUSY) {
        return Err(Error::Refused { what: "reserve cores", source });
    }
    let machine = sysfs.machine()?;
    for core in cores.as_slice().iter().filter_map(|core| machine.core(*core)) {
        if let Some(busy) = sysfs.busy(core, None) {
            return Err(Error::Busy { core: core.core, busy });
        }
    }
    Err(Error::Busy { core: cores.as_slice()[0], busy: Busy::JustNow })
}

/// Gives back `cores` of the reservation that the open file of `driver` holds.
pub fn release(driver: &dyn Driver, sysfs: &Sysfs, cores: &CoreList) -> Result<(), Error> {
    driver.release(mask(sysfs, cores)?).map_err(|source| Error::Refused { what: "release cores", source })
}
