//! Which processes of this machine live.

use std::fs;

use gossip_core::collective::Rank;

/// What tells a process from all others of its machine, as long as that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Machine and its pid namespace.
    machine: u64,
    pid: u32,
    /// When it was started, in ticks: another may get the same pid later.
    started: u64,
}

/// Bytes of an identity on its way to the others.
pub const LENGTH: usize = 20;

impl Identity {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        // FNV-1a: equal texts give equal numbers on all nodes, whoever built the program.
        let bytes = boot.bytes().chain(namespace.to_string_lossy().into_owned().into_bytes());
        let machine =
            bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        Self { machine, pid, started: state(pid).map_or(0, |(_, started)| started) }
    }

    /// For the others.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&self.machine.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.pid.to_le_bytes());
        bytes[12..].copy_from_slice(&self.started.to_le_bytes());
        bytes
    }

    /// From another.
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let pid = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        Self { machine: word(0), pid, started: word(12) }
    }
}

/// State and start of a process.
fn state(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may contain anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// All ranks' processes.
pub struct Liveness {
    own: Identity,
    all: Vec<Identity>,
}

impl Liveness {
    /// With what each rank said of itself.
    pub fn new(own: Identity, all: Vec<Identity>) -> Self {
        Self { own, all }
    }

    /// How many are on this machine.
    pub fn count_here(&self) -> usize {
        self.all.iter().filter(|known| known.machine == self.own.machine).count()
    }

    /// Whether all are on this machine.
    pub fn knows_all(&self) -> bool {
        self.all.iter().all(|known| known.machine == self.own.machine)
    }

    /// Whether a rank lives; none if it is on another machine.
    pub fn of(&self, rank: Rank) -> Option<bool> {
        let known = self.all.get(rank as usize)?;
        if known.machine != self.own.machine {
            return None;
        }
        // One that is dead and not yet waited for says nothing any more.
        Some(state(known.pid).is_some_and(|(state, started)| started == known.started && !"ZX".contains(state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_is_killed_and_its_pid_alone_is_not_it() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let own = Identity::own();
        let (_, started) = state(child.id()).unwrap();
        let of_child = Identity { pid: child.id(), started, ..own };
        let other = Identity { started: started + 1, ..of_child };
        let far = Identity { machine: !own.machine, ..of_child };
        let all = [own, of_child, other, far].map(|identity| Identity::from_bytes(identity.to_bytes()));
        let liveness = Liveness::new(own, all.to_vec());
        assert_eq!([0, 1, 2, 3].map(|rank| liveness.of(rank)), [Some(true), Some(true), Some(false), None]);
        child.kill().unwrap();
        // It is a zombie until it is waited for, or soon will be.
        while liveness.of(1) == Some(true) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(liveness.of(1), Some(false));
    }
}
