//! When jobs that share storage write, one at a time.
//!
//! A job that writes `x` seconds after its best moment loses `x²/2M` seconds more on each of its nodes: with the interval
//! `τ = √(2wM)`, what an interval of length `a` costs beyond the best rate is `w + a²/2M - aτ/M`, and that is
//! `(a - τ)²/2M` above its least. So the slots are chosen that have the least sum of `weight · x²`, with nodes/M as the
//! weight. None begins before it is due: a job computes on until then, and there is nothing to be gained before.

/// A checkpoint that is to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// The best moment; it may have passed.
    pub due_s: f64,
    /// For how long it needs the storage.
    pub takes_s: f64,
    /// How much a delay costs.
    pub weight: f64,
}

/// When each is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Slots {
    /// The beginning of each, in the order of the wishes.
    pub starts: Vec<f64>,
    /// Sum of the weighted squares of the delays.
    pub cost: f64,
}

/// The best slots, by branch and bound over the orders; for up to about ten.
pub fn exact(wishes: &[Wish], free_at: f64) -> Slots {
    let mut search = Search { wishes, best: fast_order(wishes, free_at), least: f64::INFINITY };
    search.least = cost(wishes, &search.best, free_at);
    search.go_on(&mut (0..wishes.len()).collect(), 0, free_at, 0.0);
    laid_out(wishes, &search.best, free_at)
}

/// Good slots, quickly: the best of two simple orders, and then one at a time moved to where it costs least.
pub fn fast(wishes: &[Wish], free_at: f64) -> Slots {
    laid_out(wishes, &fast_order(wishes, free_at), free_at)
}

/// In the order in which they are due.
pub fn first_come(wishes: &[Wish], free_at: f64) -> Slots {
    laid_out(wishes, &by_due(wishes), free_at)
}

struct Search<'a> {
    wishes: &'a [Wish],
    best: Vec<usize>,
    least: f64,
}

impl Search<'_> {
    fn go_on(&mut self, order: &mut Vec<usize>, placed: usize, at: f64, cost_so_far: f64) {
        if placed == order.len() {
            (self.least, self.best) = (cost_so_far, order.clone());
            return;
        }
        for next in placed..order.len() {
            order.swap(placed, next);
            let wish = self.wishes[order[placed]];
            let start = at.max(wish.due_s);
            let end = start + wish.takes_s;
            let so_far = cost_so_far + delay_cost(wish, start);
            // Each of the others begins at this one's end at the soonest.
            let rest = order[placed + 1..].iter().map(|&i| delay_cost(self.wishes[i], end.max(self.wishes[i].due_s)));
            if so_far + rest.sum::<f64>() < self.least {
                self.go_on(order, placed + 1, end, so_far);
            }
            order.swap(placed, next);
        }
    }
}

fn delay_cost(wish: Wish, start: f64) -> f64 {
    wish.weight * (start - wish.due_s).powi(2)
}

fn cost(wishes: &[Wish], order: &[usize], free_at: f64) -> f64 {
    let mut at = free_at;
    let mut sum = 0.0;
    for &i in order {
        let start = at.max(wishes[i].due_s);
        sum += delay_cost(wishes[i], start);
        at = start + wishes[i].takes_s;
    }
    sum
}

fn laid_out(wishes: &[Wish], order: &[usize], free_at: f64) -> Slots {
    let mut starts = vec![0.0; wishes.len()];
    let mut at = free_at;
    for &i in order {
        starts[i] = at.max(wishes[i].due_s);
        at = starts[i] + wishes[i].takes_s;
    }
    Slots { starts, cost: cost(wishes, order, free_at) }
}

fn by_due(wishes: &[Wish]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by(|&a, &b| wishes[a].due_s.total_cmp(&wishes[b].due_s));
    order
}

/// Whenever the storage is free, that one of those that are due whose delay grows dearest for its length.
fn by_priority(wishes: &[Wish], free_at: f64) -> Vec<usize> {
    let mut left = by_due(wishes);
    let mut order = Vec::with_capacity(left.len());
    let mut at = free_at;
    while let Some(&first) = left.first() {
        at = at.max(wishes[first].due_s);
        let gain = |i: usize| wishes[i].weight * (at - wishes[i].due_s) / wishes[i].takes_s.max(1e-9);
        let due = left.iter().enumerate().filter(|&(_, &i)| wishes[i].due_s <= at);
        let place = due.max_by(|a, b| gain(*a.1).total_cmp(&gain(*b.1))).map_or(0, |(place, _)| place);
        let next = left.remove(place);
        at += wishes[next].takes_s;
        order.push(next);
    }
    order
}

fn fast_order(wishes: &[Wish], free_at: f64) -> Vec<usize> {
    let judge = |order: &[usize]| cost(wishes, order, free_at);
    let improved = [by_due(wishes), by_priority(wishes, free_at)].map(|order| improve(order, judge));
    let [(due, due_cost), (priority, priority_cost)] = improved;
    if priority_cost < due_cost { priority } else { due }
}

fn improve(mut order: Vec<usize>, judge: impl Fn(&[usize]) -> f64) -> (Vec<usize>, f64) {
    let mut least = judge(&order);
    // Each round that is not the last lowers the cost; the limit keeps it quick whatever the numbers are.
    for _ in 0..order.len() {
        let before = least;
        for from in 0..order.len() {
            let mut best = (least, from);
            for to in 0..order.len() {
                moved(&mut order, from, to);
                let now = judge(&order);
                if now < best.0 {
                    best = (now, to);
                }
                moved(&mut order, to, from);
            }
            moved(&mut order, from, best.1);
            least = best.0;
        }
        if least >= before * (1.0 - 1e-9) {
            break;
        }
    }
    (order, least)
}

fn moved(order: &mut [usize], from: usize, to: usize) {
    if from <= to {
        order[from..=to].rotate_left(1);
    } else {
        order[to..=from].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u64);

    impl Random {
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        fn wishes(&mut self, count: usize) -> Vec<Wish> {
            let one = |_| Wish {
                due_s: 100.0 * self.unit() - 30.0,
                takes_s: 1.0 + 40.0 * self.unit().powi(2),
                weight: 0.1 + self.unit().powi(3) * 10.0,
            };
            (0..count).map(one).collect()
        }
    }

    /// All orders, without any bound.
    fn best_of_all(wishes: &[Wish], free_at: f64) -> f64 {
        fn permute(order: &mut Vec<usize>, from: usize, judge: &mut impl FnMut(&[usize])) {
            if from == order.len() {
                judge(order);
            }
            for i in from..order.len() {
                order.swap(from, i);
                permute(order, from + 1, judge);
                order.swap(from, i);
            }
        }
        let mut least = f64::INFINITY;
        let mut order = (0..wishes.len()).collect();
        permute(&mut order, 0, &mut |order| least = least.min(cost(wishes, order, free_at)));
        least
    }

    fn is_free_of_overlaps(wishes: &[Wish], slots: &Slots, free_at: f64) -> bool {
        let mut all: Vec<(f64, f64)> = slots.starts.iter().zip(wishes).map(|(&s, w)| (s, s + w.takes_s)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let in_time = slots.starts.iter().zip(wishes).all(|(&s, w)| s >= w.due_s && s >= free_at);
        in_time && all.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 1e-9)
    }

    #[test]
    fn the_exact_slots_are_the_best_of_all_orders() {
        let mut random = Random(5);
        for _ in 0..200 {
            let wishes = random.wishes(6);
            let slots = exact(&wishes, 10.0);
            assert!(is_free_of_overlaps(&wishes, &slots, 10.0));
            assert!((slots.cost - best_of_all(&wishes, 10.0)).abs() <= 1e-9 * slots.cost.max(1.0));
        }
    }

    #[test]
    fn the_fast_slots_cost_little_more_than_the_exact_ones_and_never_more_than_first_come() {
        let mut random = Random(11);
        let (mut sum, mut best, mut simple) = (0.0, 0.0, 0.0);
        for _ in 0..200 {
            let wishes = random.wishes(8);
            let (f, e, s) = (fast(&wishes, 0.0), exact(&wishes, 0.0), first_come(&wishes, 0.0));
            assert!(is_free_of_overlaps(&wishes, &f, 0.0));
            assert!(f.cost >= e.cost - 1e-9 && f.cost <= s.cost + 1e-9);
            sum += f.cost;
            best += e.cost;
            simple += s.cost;
        }
        assert!(sum <= 1.03 * best, "fast {sum}, exact {best}");
        assert!(simple >= 1.2 * best, "first come {simple}, exact {best}");
    }

    #[test]
    fn the_storage_waits_idle_for_a_dear_job_that_is_soon_due() {
        let small = Wish { due_s: 0.0, takes_s: 100.0, weight: 1.0 };
        let dear = Wish { due_s: 1.0, takes_s: 1.0, weight: 1_000.0 };
        assert_eq!(exact(&[small, dear], 0.0).starts, [2.0, 1.0]);
        assert_eq!(fast(&[small, dear], 0.0).starts, [2.0, 1.0]);
    }

    #[test]
    fn none_and_many_are_fine() {
        assert!(exact(&[], 0.0).starts.is_empty());
        let wishes = Random(3).wishes(64);
        assert!(is_free_of_overlaps(&wishes, &fast(&wishes, 0.0), 0.0));
    }
}
