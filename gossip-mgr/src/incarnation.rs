//! The number of a node's life. It must grow from start to start: others take a lower one for a replay,
//! and a dead life for dead.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tracing::warn;

/// The clock's microseconds, or one more than the last life's if the clock went back. The last is kept in
/// `state`, by the node's address, as several nodes of a machine may share that folder. If it cannot be
/// kept, gossip does not stop for it.
pub fn next(state: &Path, node: SocketAddr) -> u64 {
    let file = state.join(format!("{node}.incarnation"));
    let clock = UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as u64;
    let incarnation = clock.max(last(&file).map_or(0, |last| last.saturating_add(1)));
    if let Err(error) = keep(&file, incarnation) {
        warn!(file = %file.display(), %error, "cannot keep the incarnation: after a restart with a clock that went \
              back the others will not take this node in");
    }
    incarnation
}

/// None if there is none, or nothing readable.
fn last(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A crash leaves the old number or the new one.
fn keep(file: &Path, incarnation: u64) -> io::Result<()> {
    let new: PathBuf = file.with_extension("new");
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&new, format!("{incarnation}\n"))?;
    std::fs::File::open(&new)?.sync_all()?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn it_grows_although_the_clock_went_back_each_node_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("not/yet/there");
        let first = next(&state, node(1));
        let future = first + 1_000_000_000_000;
        std::fs::write(state.join("10.0.0.1:1.incarnation"), format!("{future}\n")).unwrap();
        assert_eq!(next(&state, node(1)), future + 1);
        assert_eq!(next(&state, node(1)), future + 2);
        assert!((first..future).contains(&next(&state, node(2))));
    }

    #[test]
    fn a_damaged_file_or_no_place_to_write_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("10.0.0.1:1.incarnation"), "half a num").unwrap();
        assert!(next(dir.path(), node(1)) > 0);
        assert!(next(Path::new("/proc/nowhere"), node(1)) > 0);
    }
}
