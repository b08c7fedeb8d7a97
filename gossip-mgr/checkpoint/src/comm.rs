//! What a session needs of the ranks' way to talk: MPI, or threads in a test.

/// A group of ranks. All calls but the first two are collective.
pub trait Comm {
    /// This rank.
    fn rank(&self) -> u32;
    /// How many there are.
    fn size(&self) -> u32;
    /// Rank 0's bytes, on all.
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8>;
    /// All ranks' bytes, on all.
    fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>>;
    /// For each place the largest of all ranks' values.
    fn max(&self, values: &mut [u64]);
}

pub mod threads {
    //! Ranks that are threads of one process.

    use std::sync::{Arc, Barrier, Mutex, PoisonError};

    use super::Comm;

    struct Board {
        barrier: Barrier,
        bytes: Mutex<Vec<Vec<u8>>>,
    }

    /// A rank.
    pub struct Thread {
        rank: u32,
        board: Arc<Board>,
    }

    impl Thread {
        /// The ranks of a group.
        pub fn group(size: u32) -> Vec<Self> {
            let board =
                Board { barrier: Barrier::new(size as usize), bytes: Mutex::new(vec![Vec::new(); size as usize]) };
            let board = Arc::new(board);
            (0..size).map(|rank| Self { rank, board: Arc::clone(&board) }).collect()
        }
    }

    impl Comm for Thread {
        fn rank(&self) -> u32 {
            self.rank
        }

        fn size(&self) -> u32 {
            self.board.bytes.lock().unwrap_or_else(PoisonError::into_inner).len() as u32
        }

        fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
            self.gather(bytes).swap_remove(0)
        }

        fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
            let lock = || self.board.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            lock()[self.rank as usize] = bytes;
            self.board.barrier.wait();
            let all = lock().clone();
            self.board.barrier.wait();
            all
        }

        fn max(&self, values: &mut [u64]) {
            let own = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            for other in self.gather(own) {
                for (value, bytes) in values.iter_mut().zip(other.chunks_exact(8)) {
                    *value = (*value).max(u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
                }
            }
        }
    }
}
