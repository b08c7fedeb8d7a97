//! The measuring loop, the same for threads and MPI ranks; who meets at the barrier is the caller's affair.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::Mode;
use crate::host::Usage;
use crate::quantum::{Times, mark_run_begin, mark_run_end, quantum, ticks};

/// What one rank has to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rank: u8,
    pub run: u8,
    pub mode: Mode,
    pub samples: usize,
    pub warmup: u64,
    pub iterations: NonZeroU64,
}

/// What one rank saw. Times are in ticks of the time-stamp counter.
#[derive(Clone, Debug)]
pub struct Measured {
    pub times: Vec<Times>,
    /// Before the first quantum.
    pub begin: u64,
    /// After the last quantum and, in StepSync, its barrier.
    pub end: u64,
    /// What the thread cost the system from before the first to after the last quantum.
    pub usage: Usage,
    pub clock: Clock,
}

/// A span on both clocks, for the rate of the time-stamp counter.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Clock {
    pub ticks: u64,
    pub nanoseconds: u64,
}

impl Clock {
    /// Ticks per second.
    pub fn rate(self) -> f64 {
        self.ticks as f64 * 1e9 / self.nanoseconds as f64
    }
}

/// The shortest span that gives the rate to about one in 10^5, at a microsecond's uncertainty of reading.
const CLOCK_SPAN: Duration = Duration::from_millis(100);

/// Meetings at the barrier before StepSync is measured. Open MPI's shared memory transport goes through its message ring a
/// page at a time (one or two messages a barrier, some hundred to a page); each of its pages must have been touched.
const SETTLE: u64 = 500;

/// Warm up, measure, return. All ranks of a run call this with a `barrier` that they share.
///
/// Order matters: warm-up runs the very code of the measurement, so text, stack and what the barrier needs are mapped;
/// the sample buffer is written before; the run markers lie between barriers, so that no rank measures outside of them.
pub fn measure(plan: &Plan, mut barrier: impl FnMut()) -> Measured {
    // A value other than zero: zeroed memory would be mapped at the first write only, inside the measurement.
    let untouched = Times { begin: u64::MAX, end: u64::MAX };
    let mut times = vec![untouched; plan.samples];
    let mut discard = untouched;

    for _ in 0..plan.warmup {
        quantum(plan.iterations, plan.rank, &mut discard);
        barrier();
    }
    if plan.mode == Mode::Step {
        (0..SETTLE).for_each(|_| barrier());
    }
    // No run is on: this only has the markers' page mapped before faults are counted.
    mark_run_end(plan.run);
    let clock = (Instant::now(), ticks());
    let usage = Usage::of_this_thread();
    barrier();
    mark_run_begin(plan.run);
    barrier();
    let begin = ticks();
    match plan.mode {
        Mode::Step => {
            for sample in &mut times {
                quantum(plan.iterations, plan.rank, sample);
                barrier();
            }
        }
        Mode::Start => {
            for sample in &mut times {
                quantum(plan.iterations, plan.rank, sample);
            }
        }
    }
    let end = ticks();
    barrier();
    mark_run_end(plan.run);
    let usage = Usage::of_this_thread().since(&usage);
    while clock.0.elapsed() < CLOCK_SPAN {
        std::hint::spin_loop();
    }
    let clock = Clock { nanoseconds: clock.0.elapsed().as_nanos() as u64, ticks: ticks() - clock.1 };
    Measured { times, begin, end, usage, clock }
}

/// Iterations that take about `duration`, by the fastest of a few tries: disturbed tries are longer, never shorter.
pub fn calibrate(duration: Duration) -> NonZeroU64 {
    let mut iterations: u64 = 1 << 10;
    for _ in 0..3 {
        let n = NonZeroU64::new(iterations).unwrap_or(NonZeroU64::MIN);
        let mut discard = Times { begin: 0, end: 0 };
        let fastest = (0..9)
            .map(|_| {
                let start = Instant::now();
                quantum(n, 0, &mut discard);
                start.elapsed()
            })
            .min()
            .unwrap_or(duration);
        let factor = duration.as_nanos() as f64 / fastest.as_nanos().max(1) as f64;
        iterations = ((iterations as f64 * factor) as u64).clamp(1, 1 << 32);
    }
    NonZeroU64::new(iterations).unwrap_or(NonZeroU64::MIN)
}

/// A barrier for threads that neither sleeps nor calls the system. Each thread should have a core of its own.
pub struct SpinBarrier {
    members: usize,
    arrived: AtomicUsize,
    phase: AtomicUsize,
}

impl SpinBarrier {
    pub fn new(members: usize) -> Self {
        SpinBarrier { members, arrived: AtomicUsize::new(0), phase: AtomicUsize::new(0) }
    }

    pub fn wait(&self) {
        let phase = self.phase.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.members {
            self.arrived.store(0, Ordering::Relaxed);
            self.phase.store(phase.wrapping_add(1), Ordering::Release);
        } else {
            while self.phase.load(Ordering::Acquire) == phase {
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_follow_one_another_inside_the_boundaries() {
        let plan = Plan {
            rank: 0,
            run: 0,
            mode: Mode::Start,
            samples: 20,
            warmup: 1,
            iterations: NonZeroU64::new(100).unwrap(),
        };
        let measured = measure(&plan, || ());
        assert_eq!(measured.times.len(), 20);
        let mut last = measured.begin;
        for t in &measured.times {
            assert!(t.begin > last && t.end > t.begin);
            last = t.end;
        }
        assert!(measured.end >= last);
        assert!(measured.clock.rate() > 1e6);
    }

    #[test]
    fn step_meets_after_each_quantum_and_start_only_around_all() {
        for (mode, meetings) in [(Mode::Step, 3 + SETTLE + 3 + 7), (Mode::Start, 3 + 3)] {
            let plan = Plan { rank: 0, run: 0, mode, samples: 7, warmup: 3, iterations: NonZeroU64::MIN };
            let mut met = 0;
            measure(&plan, || met += 1);
            assert_eq!(met, meetings, "{mode:?}");
        }
    }

    #[test]
    fn a_spin_barrier_lets_nobody_pass_early() {
        let barrier = SpinBarrier::new(2);
        let counter = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for round in 1..=100 {
                        counter.fetch_add(1, Ordering::SeqCst);
                        barrier.wait();
                        assert_eq!(counter.load(Ordering::SeqCst), 2 * round);
                        barrier.wait();
                    }
                });
            }
        });
    }
}
