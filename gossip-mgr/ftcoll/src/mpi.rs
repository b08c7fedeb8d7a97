//! MPI's messages as the engine wants them.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::Instant;

use gossip_core::collective::{Rank, Time};

use crate::engine::Wire;
use crate::liveness::{Identity, LENGTH, Liveness};

unsafe extern "C" {
    fn ftcoll_mpi_all(own: *const c_void, count: c_int, all: *mut c_void);
    fn ftcoll_mpi_send(bytes: *const c_void, count: c_int, to: c_int) -> *mut c_void;
    fn ftcoll_mpi_sent(request: *mut c_void) -> c_int;
    fn ftcoll_mpi_probe(from: *mut c_int) -> c_int;
    fn ftcoll_mpi_receive(bytes: *mut c_void, count: c_int, from: c_int) -> c_int;
    fn ftcoll_mpi_combine(other: *const c_void, value: *mut c_void, call: *const c_void);
}

/// MPI keeps longer messages until their receiver takes them.
const EAGER: usize = 2_048;
/// Looks without anything to do before the core is left to others, if each rank has one.
const SPINS: u32 = 64;

/// Type, operation and count of a reduction, on the caller's stack.
#[derive(Clone, Debug)]
pub struct Call(*const c_void);

impl Call {
    /// Valid while the collective is under way: values are not combined later.
    pub fn new(call: *const c_void) -> Self {
        Self(call)
    }

    /// For empty values.
    pub fn none() -> Self {
        Self(ptr::null())
    }

    /// value = value op other, of the same length.
    pub fn combine(&self, value: &mut [u8], other: &[u8]) {
        if self.0.is_null() || value.is_empty() {
            return;
        }
        // SAFETY: both are as long as the call says, since each rank made its value for it and they have one length; the
        // call is on the stack of the collective that is under way.
        unsafe { ftcoll_mpi_combine(other.as_ptr().cast(), value.as_mut_ptr().cast(), self.0) }
    }
}

/// The shadow of MPI_COMM_WORLD.
pub struct Mpi {
    begin: Instant,
    liveness: Liveness,
    /// What is on its way, with MPI's request for it.
    sending: Vec<(*mut c_void, Vec<u8>)>,
    spins: u32,
    most_spins: u32,
}

impl Mpi {
    /// After MPI's start, on all ranks.
    pub fn start(_rank: c_int, size: c_int) -> Self {
        let own = Identity::own();
        let bytes = own.to_bytes();
        let mut all = vec![0; LENGTH * size as usize];
        // SAFETY: each rank gives `LENGTH` bytes, and there is room for all.
        unsafe { ftcoll_mpi_all(bytes.as_ptr().cast(), LENGTH as c_int, all.as_mut_ptr().cast()) };
        let all = all.chunks_exact(LENGTH).map(|one| Identity::from_bytes(one.try_into().expect("its length")));
        let liveness = Liveness::new(own, all.collect());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most_spins = if liveness.count_here() > cores { 0 } else { SPINS };
        Self { begin: Instant::now(), liveness, sending: Vec::new(), spins: 0, most_spins }
    }

    fn give_back(&mut self) {
        // SAFETY: each is a request of ftcoll_mpi_send, which is forgotten once it is said to be over.
        self.sending.retain(|(request, _)| unsafe { ftcoll_mpi_sent(*request) } == 0);
    }
}

impl Wire for Mpi {
    fn now(&self) -> Time {
        self.begin.elapsed().as_micros() as Time
    }

    fn send(&mut self, to: Rank, message: Vec<u8>) {
        // Nobody would take it, and a large one would wait for its receiver for ever.
        let is_lost = message.len() > EAGER && self.liveness.of(to) == Some(false);
        if is_lost || message.len() > c_int::MAX as usize {
            return;
        }
        // SAFETY: the bytes stay where they are, in `sending`, until MPI says that they are sent.
        let request = unsafe { ftcoll_mpi_send(message.as_ptr().cast(), message.len() as c_int, to as c_int) };
        if !request.is_null() {
            self.sending.push((request, message));
        }
        self.give_back();
    }

    fn receive(&mut self) -> Option<(Rank, Vec<u8>)> {
        let mut from = 0;
        // SAFETY: it writes one number.
        let count = unsafe { ftcoll_mpi_probe(&mut from) };
        let mut bytes = vec![0; usize::try_from(count).ok()?];
        // SAFETY: there is room for as many bytes.
        let is_received = unsafe { ftcoll_mpi_receive(bytes.as_mut_ptr().cast(), count, from) } != 0;
        self.spins = 0;
        is_received.then_some((from as Rank, bytes))
    }

    fn is_alive(&self, rank: Rank) -> Option<bool> {
        self.liveness.of(rank)
    }

    fn knows_all(&self) -> bool {
        self.liveness.knows_all()
    }

    fn idle(&mut self) {
        self.give_back();
        self.spins += 1;
        if self.spins > self.most_spins {
            std::thread::yield_now();
        }
    }
}
