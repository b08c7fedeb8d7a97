//! `libdecouple.so`: the C interface; `include/decouple.h` declares and documents it.
//!
//! Every function returns 0 (or a core) on success and -errno on failure; [`decouple_error`] has the message.

use libc::{c_char, c_int};
use std::cell::RefCell;
use std::ffi::CString;
use tacet_decouple::{CoreList, Device, Driver, Error, Machine, Sysfs, Target, place, reservation};

thread_local! {
    /// The message of this thread's last failure.
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// A reservation, as C holds it.
pub struct Reservation(Device);

/// `struct decouple_core` of the header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Core {
    core: c_int,
    state: c_int,
    pid: c_int,
    tid: c_int,
    uid: i64,
    reserved_by: c_int,
    comm: [u8; 16],
    since_ns: u64,
    syscalls: u64,
    faults: u64,
    traps: u64,
    stops: u64,
    answer_ns: u64,
}

fn fail(error: &Error) -> c_int {
    MESSAGE.with_borrow_mut(|message| *message = CString::new(error.to_string().replace('\0', "")).unwrap_or_default());
    -error.errno()
}

fn answer(result: Result<u32, Error>) -> c_int {
    match result {
        Ok(value) => c_int::try_from(value).unwrap_or(c_int::MAX),
        Err(error) => fail(&error),
    }
}

fn target(pid: c_int, tid: c_int) -> Result<Target, Error> {
    match (pid, tid) {
        (0, 0) => Ok(Target::Caller),
        (pid, 0) if pid > 0 => Ok(Target::Main(pid)),
        (pid, tid) if pid > 0 && tid > 0 => Ok(Target::Thread { pid, tid }),
        // SAFETY: only returns a number.
        (0, tid) if tid > 0 => Ok(Target::Thread { pid: unsafe { libc::getpid() }, tid }),
        _ => Err(Error::Usage(format!("PID {pid} and TID {tid} name no thread"))),
    }
}

fn cores_of(machine: &Machine, core: c_int, holder: Option<i32>) -> Result<CoreList, Error> {
    let wanted = match core {
        -1 => None,
        core => match u32::try_from(core).ok().and_then(|core| CoreList::new(vec![core]).ok()) {
            Some(list) => Some(list),
            None => return Err(Error::Usage(format!("{core} is not a core"))),
        },
    };
    place::candidates(machine, wanted.as_ref(), None, holder)
}

fn attach(pid: c_int, tid: c_int, core: c_int) -> Result<u32, Error> {
    let sysfs = Sysfs::default();
    let holder = std::env::var(reservation::VARIABLE).ok().and_then(|text| text.parse().ok());
    let device = match holder {
        Some(holder) => reservation::adopt(&sysfs, holder)?,
        None => Device::open()?,
    };
    let cores = cores_of(&sysfs.machine()?, core, holder)?;
    place::attach(&device, &sysfs, target(pid, tid)?, &cores, holder)
}

#[unsafe(no_mangle)]
pub extern "C" fn decouple_attach(pid: c_int, tid: c_int, core: c_int) -> c_int {
    answer(attach(pid, tid, core))
}

#[unsafe(no_mangle)]
pub extern "C" fn decouple_detach(pid: c_int, tid: c_int) -> c_int {
    let detach = || {
        let target = target(pid, tid)?;
        place::detach(&Device::open()?, &Sysfs::default(), target).map(|()| 0)
    };
    answer(detach())
}

/// # Safety
/// `cores` has room for `length` elements; it may be null if `length` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn decouple_status(cores: *mut Core, length: usize) -> c_int {
    let machine = match Device::open().and_then(|_| Sysfs::default().machine()) {
        Ok(machine) => machine,
        Err(error) => return fail(&error),
    };
    for (index, core) in machine.compute.iter().take(length).enumerate() {
        let mut comm = [0; 16];
        for (to, from) in comm[..15].iter_mut().zip(core.comm.bytes()) {
            *to = from;
        }
        // Those of other users' threads are not for this one: zero, as the header says.
        let counters = core.counters.clone().unwrap_or_default();
        let row = Core {
            core: core.core as c_int,
            state: core.state as c_int,
            pid: core.pid.unwrap_or(0),
            tid: core.tid.unwrap_or(0),
            uid: core.uid.map_or(-1, i64::from),
            reserved_by: core.reserved_by.unwrap_or(0),
            comm,
            since_ns: core.since_ns.unwrap_or(0),
            syscalls: counters.syscalls,
            faults: counters.faults,
            traps: counters.traps,
            stops: counters.stops,
            answer_ns: counters.answer_ns,
        };
        // SAFETY: index < length, for which the caller promises room.
        unsafe { cores.add(index).write(row) };
    }
    machine.compute.len() as c_int
}

/// # Safety
/// `list` is a string; `reservation` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn decouple_reserve(list: *const c_char, reservation: *mut *mut Reservation) -> c_int {
    // SAFETY: the caller passes a string.
    let text = unsafe { std::ffi::CStr::from_ptr(list) }.to_string_lossy().into_owned();
    let reserve = || {
        let cores: CoreList = text.parse().map_err(|reason| Error::List { text: text.clone(), reason })?;
        let device = Device::open()?;
        reservation::reserve(&device, &Sysfs::default(), &cores)?;
        Ok(device)
    };
    match reserve() {
        Ok(device) => {
            // SAFETY: the caller says that it can be written.
            unsafe { reservation.write(Box::into_raw(Box::new(Reservation(device)))) };
            0
        }
        Err(error) => fail(&error),
    }
}

/// # Safety
/// `reservation` came from [`decouple_reserve`] and was not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn decouple_attach_reserved(
    reservation: *const Reservation,
    pid: c_int,
    tid: c_int,
    core: c_int,
) -> c_int {
    // SAFETY: the caller passes a live reservation.
    let driver: &dyn Driver = unsafe { &(*reservation).0 };
    let attach = || {
        let sysfs = Sysfs::default();
        // SAFETY: only returns a number.
        let own = Some(unsafe { libc::getpid() });
        let cores = cores_of(&sysfs.machine()?, core, own)?;
        place::attach(driver, &sysfs, target(pid, tid)?, &cores, own)
    };
    answer(attach())
}

/// # Safety
/// `reservation` came from [`decouple_reserve`] and was not released, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn decouple_release(reservation: *mut Reservation) {
    if !reservation.is_null() {
        // SAFETY: the caller gives up the box that decouple_reserve made. The driver releases at the close.
        drop(unsafe { Box::from_raw(reservation) });
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn decouple_error() -> *const c_char {
    MESSAGE.with_borrow(|message| message.as_ptr())
}
