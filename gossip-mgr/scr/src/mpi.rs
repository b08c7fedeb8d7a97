//! MPI's ranks as a session wants them.

use std::ffi::{c_int, c_void};

use gossip_checkpoint::comm::Comm;

unsafe extern "C" {
    fn gossip_mpi_start() -> c_int;
    fn gossip_mpi_end();
    fn gossip_mpi_rank() -> c_int;
    fn gossip_mpi_size() -> c_int;
    fn gossip_mpi_broadcast(bytes: *mut c_void, count: c_int);
    fn gossip_mpi_all_lengths(own: c_int, all: *mut c_int);
    fn gossip_mpi_all_bytes(
        own: *const c_void,
        count: c_int,
        all: *mut c_void,
        counts: *const c_int,
        offsets: *const c_int,
    );
    fn gossip_mpi_max(values: *mut u64, count: c_int);
}

/// All ranks of the program. There is one only while MPI runs.
pub struct Mpi(());

impl Mpi {
    /// None if MPI does not run.
    pub fn start() -> Option<Self> {
        // SAFETY: it asks MPI itself whether it may be called.
        (unsafe { gossip_mpi_start() } != 0).then_some(Self(()))
    }

    /// Before MPI's end.
    pub fn end() {
        // SAFETY: it does nothing if there was no start; the program calls it before MPI_Finalize, as scr.h says.
        unsafe { gossip_mpi_end() }
    }
}

fn count(length: usize) -> c_int {
    c_int::try_from(length).expect("labels and sources are below 2 GiB")
}

impl Comm for Mpi {
    fn rank(&self) -> u32 {
        // SAFETY: there is a communicator as long as there is an `Mpi`.
        unsafe { gossip_mpi_rank() as u32 }
    }

    fn size(&self) -> u32 {
        // SAFETY: there is a communicator as long as there is an `Mpi`.
        unsafe { gossip_mpi_size() as u32 }
    }

    fn broadcast(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let mut length = [bytes.len() as u64];
        // SAFETY: the buffer is one byte string of eight bytes on all ranks.
        unsafe { gossip_mpi_broadcast(length.as_mut_ptr().cast(), 8) };
        bytes.resize(length[0] as usize, 0);
        // SAFETY: the buffer has the length that rank 0 told, on all ranks.
        unsafe { gossip_mpi_broadcast(bytes.as_mut_ptr().cast(), count(bytes.len())) };
        bytes
    }

    fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut lengths = vec![0; self.size() as usize];
        // SAFETY: there is a place for each rank's length.
        unsafe { gossip_mpi_all_lengths(count(bytes.len()), lengths.as_mut_ptr()) };
        let mut offsets = Vec::new();
        let mut total = 0;
        for &length in &lengths {
            offsets.push(count(total));
            total += length as usize;
        }
        if total == 0 {
            // Empty buffers are at one place, which MPI takes for a mistake.
            return vec![Vec::new(); lengths.len()];
        }
        let mut all = vec![0_u8; total];
        // SAFETY: each rank's bytes have their place in `all`, by the lengths that all ranks told.
        unsafe {
            gossip_mpi_all_bytes(
                bytes.as_ptr().cast(),
                count(bytes.len()),
                all.as_mut_ptr().cast(),
                lengths.as_ptr(),
                offsets.as_ptr(),
            );
        }
        let part = |(&offset, &length): (&c_int, &c_int)| all[offset as usize..(offset + length) as usize].to_vec();
        offsets.iter().zip(&lengths).map(part).collect()
    }

    fn max(&self, values: &mut [u64]) {
        // SAFETY: as many values on all ranks, as all do the same.
        unsafe { gossip_mpi_max(values.as_mut_ptr(), count(values.len())) }
    }
}
