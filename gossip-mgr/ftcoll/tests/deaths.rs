//! Ranks as threads that die at any message: those that live have one result, with all that live in it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use ftcoll::engine::{Engine, Failed, Patience, Value, Wire};
use gossip_core::collective::{Rank, Time};
use gossip_core::rng::Rng;

struct Dead;

/// Messages of a rank arrive if it sent them; it dies when it wants to send one too many.
struct Threads {
    rank: Rank,
    begin: Instant,
    others: Vec<Sender<(Rank, Vec<u8>)>>,
    own: Receiver<(Rank, Vec<u8>)>,
    lives: Arc<Vec<AtomicBool>>,
    sends_left: u64,
    /// Whether this machine knows who lives; else only silence tells.
    knows: bool,
    /// Whether ranks talk as if it did not.
    corrects: bool,
}

impl Wire for Threads {
    fn now(&self) -> Time {
        self.begin.elapsed().as_micros() as Time
    }

    fn send(&mut self, to: Rank, message: Vec<u8>) {
        if self.sends_left == 0 {
            self.lives[self.rank as usize].store(false, Ordering::SeqCst);
            resume_unwind(Box::new(Dead));
        }
        self.sends_left -= 1;
        // The receiver may be dead.
        let _ = self.others[to as usize].send((self.rank, message));
    }

    fn receive(&mut self) -> Option<(Rank, Vec<u8>)> {
        self.own.try_recv().ok()
    }

    fn is_alive(&self, rank: Rank) -> Option<bool> {
        self.knows.then(|| self.lives[rank as usize].load(Ordering::SeqCst))
    }

    fn knows_all(&self) -> bool {
        self.knows && !self.corrects
    }

    fn idle(&mut self) {
        std::thread::yield_now();
    }
}

/// What a rank saw: for each reduction the sum of the contributors' bits, and for each broadcast what came.
type Seen = Vec<(u64, Vec<Rank>, Result<u64, Failed>)>;

fn sum(value: &mut Value<()>, other: &Value<()>) {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    value.bytes = (number(&value.bytes) + number(&other.bytes)).to_le_bytes().to_vec();
}

#[derive(Clone, Copy)]
struct How {
    knows: bool,
    corrects: bool,
    gossip: bool,
}

const PLAIN: How = How { knows: true, corrects: false, gossip: false };

/// Runs `rounds` of a reduction and a broadcast on `size` ranks, each of which dies after so many messages.
fn run(size: u32, rounds: u64, sends: &[u64], How { knows, corrects, gossip }: How) -> Vec<Option<Seen>> {
    let lives: Arc<Vec<AtomicBool>> = Arc::new((0..size).map(|_| AtomicBool::new(true)).collect());
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..size)
            .zip(receivers)
            .map(|(rank, own)| {
                let (others, lives) = (senders.clone(), Arc::clone(&lives));
                let wire =
                    Threads { rank, begin, others, own, lives, sends_left: sends[rank as usize], knows, corrects };
                let patience = Patience { timeout: if knows { 60_000_000 } else { 300_000 }, ask: 5_000 };
                scope.spawn(move || {
                    let life = catch_unwind(AssertUnwindSafe(|| {
                        let mut engine = Engine::new(wire, rank, size, patience, gossip, sum);
                        let mut seen = Seen::new();
                        for round in 0..rounds {
                            let own = Value { bytes: (1u64 << rank).to_le_bytes().to_vec(), call: () };
                            let bits = engine.allreduce(own).unwrap();
                            let root = (round % u64::from(size)) as Rank;
                            let mut bytes = [if rank == root { 7 } else { 0 }; 8];
                            let came = engine.broadcast(root, &mut bytes).map(|()| u64::from_le_bytes(bytes));
                            let took_part = engine.contributors().to_vec();
                            seen.push((u64::from_le_bytes(bits.try_into().unwrap()), took_part, came));
                        }
                        // A last one, so that who ends knows that nobody needs it.
                        engine.allreduce(Value { bytes: vec![0; 8], call: () }).unwrap();
                        engine.linger(20_000);
                        seen
                    }));
                    match life {
                        Ok(seen) => Some(seen),
                        Err(reason) if reason.is::<Dead>() => None,
                        Err(reason) => resume_unwind(reason),
                    }
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn check(all: &[Option<Seen>], what: &str) {
    let living: Vec<Rank> = (0..).zip(all).filter(|(_, seen)| seen.is_some()).map(|(rank, _)| rank).collect();
    let seen: Vec<&Seen> = all.iter().flatten().collect();
    for rounds in seen.windows(2) {
        assert_eq!(rounds[0], rounds[1], "{what}");
    }
    for (bits, took_part, came) in seen.first().into_iter().copied().flatten() {
        let expected: u64 = took_part.iter().map(|rank| 1 << rank).sum();
        assert_eq!(*bits, expected, "{what}: each that took part is in the sum once");
        assert!(living.iter().all(|rank| took_part.contains(rank)), "{what}");
        let seven = u64::from_le_bytes([7; 8]);
        assert!(
            *came == Ok(seven) || matches!(came, Err(Failed::Root(root)) if !living.contains(root)),
            "{what} {came:?}"
        );
    }
}

const FOR_EVER: u64 = u64::MAX;

#[test]
fn whoever_dies_at_whatever_message_the_others_agree() {
    for victim in 0..5 {
        for at in 0..40 {
            let mut sends = [FOR_EVER; 5];
            sends[victim] = at;
            for corrects in [false, true] {
                let all = run(5, 3, &sends, How { corrects, ..PLAIN });
                assert!(at > 0 || all[victim].is_none(), "it sends at least one message");
                check(&all, &format!("{victim} dies at message {at}, {corrects}"));
            }
        }
    }
}

#[test]
fn any_number_may_die_at_any_time() {
    let mut rng = Rng::new(17, 0);
    for case in 0..60 {
        let size = 2 + rng.below(7) as u32;
        let mut sends: Vec<u64> = (0..size).map(|_| if rng.below(2) == 0 { rng.below(60) } else { FOR_EVER }).collect();
        // One lives.
        let survivor = rng.below(u64::from(size)) as usize;
        sends[survivor] = FOR_EVER;
        let how = How { gossip: case % 2 == 1, corrects: case % 4 < 2, ..PLAIN };
        let all = run(size, 4, &sends, how);
        assert!(all[survivor].is_some());
        check(&all, &format!("case {case}: {sends:?}"));
    }
}

#[test]
fn where_nobody_knows_who_lives_silence_tells() {
    let mut sends = [FOR_EVER; 4];
    sends[1] = 3;
    let all = run(4, 2, &sends, How { knows: false, ..PLAIN });
    assert_eq!(all.iter().flatten().count(), 3);
    let reductions = |seen: &Seen| seen.iter().map(|(bits, who, _)| (*bits, who.clone())).collect::<Vec<_>>();
    let living: Vec<&Seen> = all.iter().flatten().collect();
    assert!(living.iter().all(|seen| reductions(seen) == reductions(living[0])));
    assert_eq!(reductions(living[0]).last().unwrap().1, [0, 2, 3]);
}
