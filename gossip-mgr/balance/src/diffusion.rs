//! How much load should flow between which neighbours: second-order diffusion.
//!
//! First order: f = α (l_i - l_j), α = 1/(1 + highest degree). Second order adds momentum:
//! f_t = (β-1) f_{t-1} + βα (l_i - l_j), β = 2/(1 + √(1-γ²)), γ the second largest eigenvalue of the
//! diffusion matrix (Ghosh, Muthukrishnan, Schultz 1996). It overshoots on the way, so it is iterated
//! on numbers only, and tasks move once.
//!
//! A [`Node`] is one part's share, and [`flow`] runs all of them in one process. A distributed
//! application gives each process one node and sends the loads as messages.

use crate::Options;

/// What all nodes agree on before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Share of a difference that flows in an iteration.
    pub alpha: f64,
    /// Strength of the momentum, 1 to 2.
    pub beta: f64,
    /// A pair rests while less would flow in an iteration, in load.
    pub threshold: f64,
    /// A pair rests while neither of its two has more than the mean load. To stop at the tolerance would
    /// leave refinement little to exchange between full parts.
    pub mean: f64,
}

impl Coefficients {
    /// Those for these loads and pairs of neighbours.
    pub fn new(loads: &[f64], pairs: &[(u32, u32)], options: &Options) -> Self {
        let mean = loads.iter().sum::<f64>() / loads.len().max(1) as f64;
        let alpha = alpha(loads.len(), pairs);
        Self { alpha, beta: beta(loads.len(), pairs, alpha), threshold: options.flow_threshold * mean, mean }
    }
}

/// One part in the calculation. Each iteration it sends [`Node::load`] to its neighbours and gives
/// what it hears from them to [`Node::step`].
#[derive(Clone, Debug)]
pub struct Node {
    coefficients: Coefficients,
    load: f64,
    first: bool,
    /// For each neighbour what flowed to it in the last iteration and in all.
    flows: Vec<(f64, f64)>,
}

impl Node {
    /// A part with this load and number of neighbours.
    pub fn new(load: f64, neighbours: usize, coefficients: Coefficients) -> Self {
        Self { coefficients, load, first: true, flows: vec![(0.0, 0.0); neighbours] }
    }

    /// The load after the iterations so far.
    pub fn load(&self) -> f64 {
        self.load
    }

    /// An iteration, given the loads of the neighbours, in the same order each time. Returns
    /// whether anything flowed. Both ends of a pair find the same flow, with opposite signs.
    pub fn step(&mut self, loads: impl IntoIterator<Item = f64>) -> bool {
        let c = self.coefficients;
        let (momentum, strength) = if self.first { (0.0, c.alpha) } else { (c.beta - 1.0, c.beta * c.alpha) };
        self.first = false;
        let (own, mut given) = (self.load, 0.0);
        for ((last, sum), other) in self.flows.iter_mut().zip(loads) {
            let f = momentum * *last + strength * (own - other);
            let rests = f.abs() < c.threshold || own.max(other) <= c.mean;
            *last = if rests { 0.0 } else { f };
            *sum += *last;
            given += *last;
        }
        self.load -= given;
        self.flows.iter().any(|&(last, _)| last != 0.0)
    }

    /// What should flow to each neighbour; negative from it.
    pub fn amounts(&self) -> impl Iterator<Item = f64> + '_ {
        self.flows.iter().map(|&(_, sum)| sum)
    }
}

/// Flow along each pair, positive from the first to the second.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// One amount a pair.
    pub amounts: Vec<f64>,
    /// Iterations needed.
    pub iterations: u32,
}

/// The flow that brings `loads` to about their mean over the neighbour `pairs`: all nodes, until all
/// pairs rest.
pub fn flow(loads: &[f64], pairs: &[(u32, u32)], options: &Options) -> Flow {
    let coefficients = Coefficients::new(loads, pairs, options);
    let mut neighbours = vec![Vec::new(); loads.len()];
    for &(i, j) in pairs {
        neighbours[i as usize].push(j as usize);
        neighbours[j as usize].push(i as usize);
    }
    let mut nodes: Vec<Node> = loads
        .iter()
        .zip(&neighbours)
        .map(|(&load, neighbours)| Node::new(load, neighbours.len(), coefficients))
        .collect();
    let mut iterations = 0;
    while iterations < options.max_iterations {
        let heard: Vec<f64> = nodes.iter().map(Node::load).collect();
        let mut flowed = false;
        for (node, neighbours) in nodes.iter_mut().zip(&neighbours) {
            flowed |= node.step(neighbours.iter().map(|&n| heard[n]));
        }
        if !flowed {
            break;
        }
        iterations += 1;
    }
    // Each node has its pairs in the order in which they are in `pairs`.
    let mut given: Vec<_> = nodes.iter().map(Node::amounts).collect();
    let amounts = pairs
        .iter()
        .map(|&(i, j)| {
            given[j as usize].next();
            given[i as usize].next().unwrap_or(0.0)
        })
        .collect();
    Flow { amounts, iterations }
}

fn alpha(parts: usize, pairs: &[(u32, u32)]) -> f64 {
    let mut degree = vec![0u32; parts];
    for &(i, j) in pairs {
        degree[i as usize] += 1;
        degree[j as usize] += 1;
    }
    1.0 / (1.0 + f64::from(degree.into_iter().max().unwrap_or(0)))
}

/// β from γ, and that by power iteration on vectors without a constant part.
fn beta(parts: usize, pairs: &[(u32, u32)], alpha: f64) -> f64 {
    if parts < 2 {
        return 1.0;
    }
    // Any start that is neither constant nor symmetric by accident.
    let mut x: Vec<f64> = (0..parts).map(|i| ((i * 2_654_435_761) % 1_000_003) as f64).collect();
    let mut gamma = 0.0;
    for _ in 0..200 {
        let mean = x.iter().sum::<f64>() / parts as f64;
        x.iter_mut().for_each(|v| *v -= mean);
        let norm = x.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm == 0.0 {
            return 1.0;
        }
        x.iter_mut().for_each(|v| *v /= norm);
        let mut y = x.clone();
        for &(i, j) in pairs {
            let difference = alpha * (x[i as usize] - x[j as usize]);
            y[i as usize] -= difference;
            y[j as usize] += difference;
        }
        gamma = y.iter().map(|v| v * v).sum::<f64>().sqrt();
        x = y;
    }
    2.0 / (1.0 + (1.0 - gamma.min(0.999_999).powi(2)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u32) -> Vec<(u32, u32)> {
        (0..length - 1).map(|i| (i, i + 1)).collect()
    }

    #[test]
    fn the_flow_brings_a_chain_within_the_tolerance() {
        let pairs = chain(10);
        let mut loads = vec![0.0; 10];
        loads[0] = 1_000.0;
        let options = Options { flow_threshold: 1e-4, ..Options::default() };
        let flow = flow(&loads, &pairs, &options);
        for (&(i, j), amount) in pairs.iter().zip(&flow.amounts) {
            loads[i as usize] -= amount;
            loads[j as usize] += amount;
        }
        let most = 100.0 * (1.0 + options.tolerance);
        assert!(loads.iter().all(|&load| load <= most), "{loads:?}");
    }

    #[test]
    fn loads_that_differ_by_less_than_the_threshold_need_no_iteration() {
        let options = Options::default();
        let flow = flow(&[5.0, 5.005, 4.995, 5.0], &chain(4), &options);
        assert_eq!((flow.iterations, flow.amounts), (0, vec![0.0; 3]));
    }

    /// Iterations over a chain of 64 whose first eight parts have eight times the load of the others.
    fn iterations(beta: Option<f64>) -> u32 {
        let pairs = chain(64);
        let loads: Vec<f64> = (0..64).map(|i| if i < 8 { 80.0 } else { 10.0 }).collect();
        let options = Options { flow_threshold: 1e-5, ..Options::default() };
        let mut coefficients = Coefficients::new(&loads, &pairs, &options);
        coefficients.beta = beta.unwrap_or(coefficients.beta);
        let near = |i: usize| [i.checked_sub(1), Some(i + 1).filter(|&j| j < 64)];
        let mut nodes: Vec<Node> = loads
            .iter()
            .enumerate()
            .map(|(i, &load)| Node::new(load, near(i).iter().flatten().count(), coefficients))
            .collect();
        for iteration in 0..100_000 {
            let heard: Vec<f64> = nodes.iter().map(Node::load).collect();
            let mut flowed = false;
            for (i, node) in nodes.iter_mut().enumerate() {
                flowed |= node.step(near(i).into_iter().flatten().map(|j| heard[j]));
            }
            if !flowed {
                return iteration;
            }
        }
        u32::MAX
    }

    #[test]
    fn momentum_needs_far_fewer_iterations_than_first_order() {
        let (first, second) = (iterations(Some(1.0)), iterations(None));
        assert!(4 * second < first, "{second} against {first}");
    }
}
