//! How much load should flow between which neighbours: second-order diffusion.
//!
//! First order: f = α (l_i - l_j), α = 1/(1 + highest degree). Second order adds momentum:
//! f_t = (β-1) f_{t-1} + βα (l_i - l_j), β = 2/(1 + √(1-γ²)), γ the second largest eigenvalue of the
//! diffusion matrix (Ghosh, Muthukrishnan, Schultz 1996). It overshoots on the way, so it is iterated
//! on numbers only, and tasks move once.

use crate::Options;

/// Flow along each pair, positive from the first to the second.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// One amount a pair.
    pub amounts: Vec<f64>,
    /// Iterations needed.
    pub iterations: u32,
}

/// The flow that balances `loads` over the neighbour `pairs`. A pair rests while its flow in an
/// iteration is below the threshold; when all rest it is done.
pub fn flow(loads: &[f64], pairs: &[(u32, u32)], options: &Options) -> Flow {
    let mut loads = loads.to_vec();
    let mean = loads.iter().sum::<f64>() / loads.len().max(1) as f64;
    let threshold = options.flow_threshold * mean;
    let alpha = alpha(loads.len(), pairs);
    let beta = beta(loads.len(), pairs, alpha);
    let mut amounts = vec![0.0; pairs.len()];
    let mut last = vec![0.0; pairs.len()];
    for iteration in 0..options.max_iterations {
        let momentum = if iteration == 0 { 0.0 } else { beta - 1.0 };
        let strength = if iteration == 0 { alpha } else { beta * alpha };
        let mut moved = false;
        for (f, &(i, j)) in last.iter_mut().zip(pairs) {
            *f = momentum * *f + strength * (loads[i as usize] - loads[j as usize]);
            if f.abs() < threshold {
                *f = 0.0;
            }
            moved |= *f != 0.0;
        }
        if !moved {
            return Flow {
                amounts,
                iterations: iteration,
            };
        }
        for ((amount, f), &(i, j)) in amounts.iter_mut().zip(&last).zip(pairs) {
            *amount += f;
            loads[i as usize] -= f;
            loads[j as usize] += f;
        }
    }
    Flow {
        amounts,
        iterations: options.max_iterations,
    }
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
    let mut x: Vec<f64> = (0..parts)
        .map(|i| ((i * 2_654_435_761) % 1_000_003) as f64)
        .collect();
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

    #[test]
    fn the_flow_balances_a_chain() {
        let pairs: Vec<(u32, u32)> = (0..9).map(|i| (i, i + 1)).collect();
        let mut loads = vec![0.0; 10];
        loads[0] = 1_000.0;
        let flow = flow(
            &loads,
            &pairs,
            &Options {
                flow_threshold: 1e-4,
                ..Options::default()
            },
        );
        for (&(i, j), amount) in pairs.iter().zip(&flow.amounts) {
            loads[i as usize] -= amount;
            loads[j as usize] += amount;
        }
        assert!(
            loads.iter().all(|load| (load - 100.0).abs() < 1.0),
            "{loads:?}"
        );
    }

    #[test]
    fn balanced_loads_need_no_iteration() {
        let flow = flow(&[5.0; 4], &[(0, 1), (1, 2), (2, 3)], &Options::default());
        assert_eq!((flow.iterations, flow.amounts), (0, vec![0.0; 3]));
    }
}
