//! AdamW (Loshchilov and Hutter 2019), the learning rate of each step, and the length of gradients.

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var};
use rayon::prelude::*;

use crate::storage::{values, values_mut, with_values};

/// As in PyTorch: how much of the old means stays, and what keeps a division finite.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;
/// Elements that are worth a task of their own.
const TASK: usize = 1 << 16;

/// The learning rate of `step` (from 0) of `steps`, as a share of the highest: from 0 in `warmup` steps to 1, and then
/// towards 0.
pub(super) fn schedule(step: usize, steps: usize, warmup: usize) -> f64 {
    match step < warmup {
        true => step as f64 / warmup as f64,
        false => steps.saturating_sub(step) as f64 / steps.saturating_sub(warmup).max(1) as f64,
    }
}

/// Weights, and the means of their gradients.
pub(super) struct AdamW {
    slots: Vec<Slot>,
    weight_decay: f64,
    steps: i32,
}

struct Slot {
    weights: Var,
    /// Means of the gradient, and of its square, one after the other.
    means: Tensor,
}

impl AdamW {
    /// Weights with one dimension (biases, norms) are spared from `weight_decay`.
    pub(super) fn new(weights: impl Iterator<Item = Var>, weight_decay: f64) -> Result<Self> {
        let slot = |weights: Var| {
            let means = Tensor::zeros((2, weights.elem_count()), DType::F32, weights.device())?;
            Ok(Slot { weights, means })
        };
        Ok(Self { slots: weights.map(slot).collect::<Result<_>>()?, weight_decay, steps: 0 })
    }

    /// A step along `gradients`, one for each weight and each multiplied by `factor`.
    pub(super) fn step(&mut self, gradients: &[Tensor], factor: f64, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        let corrections = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
        for (slot, gradient) in self.slots.iter().zip(gradients) {
            let decay = if slot.weights.rank() < 2 { 0.0 } else { self.weight_decay };
            slot.means.inplace_op2(gradient, &Means { factor: factor as f32 })?;
            let step = Update {
                keep: (1.0 - learning_rate * decay) as f32,
                rate: (learning_rate / corrections.0) as f32,
                scale: (1.0 / corrections.1.sqrt()) as f32,
            };
            slot.weights.inplace_op2(&slot.means, &step)?;
        }
        Ok(())
    }
}

/// Means that take in a new gradient.
struct Means {
    factor: f32,
}

impl InplaceOp2 for Means {
    fn name(&self) -> &'static str {
        "means of gradients"
    }

    fn cpu_fwd(&self, means: &mut CpuStorage, at: &Layout, new: &CpuStorage, new_at: &Layout) -> Result<()> {
        let (means, new) = (values_mut(means, at)?, values(new, new_at)?);
        let (first, second) = means.split_at_mut(new.len());
        let parts = first.par_chunks_mut(TASK).zip(second.par_chunks_mut(TASK)).zip(new.par_chunks(TASK));
        parts.for_each(|((first, second), new)| {
            for ((m, v), g) in first.iter_mut().zip(second).zip(new) {
                let g = g * self.factor;
                *m += (1.0 - BETA1) as f32 * (g - *m);
                *v = BETA2 as f32 * *v + (1.0 - BETA2) as f32 * g * g;
            }
        });
        Ok(())
    }
}

/// Weights that take a step along their means.
struct Update {
    keep: f32,
    rate: f32,
    scale: f32,
}

impl InplaceOp2 for Update {
    fn name(&self) -> &'static str {
        "step of AdamW"
    }

    fn cpu_fwd(&self, weights: &mut CpuStorage, at: &Layout, means: &CpuStorage, by: &Layout) -> Result<()> {
        let (weights, means) = (values_mut(weights, at)?, values(means, by)?);
        let (first, second) = means.split_at(weights.len());
        let parts = weights.par_chunks_mut(TASK).zip(first.par_chunks(TASK)).zip(second.par_chunks(TASK));
        parts.for_each(|((weights, first), second)| {
            for ((w, m), v) in weights.iter_mut().zip(first).zip(second) {
                *w = *w * self.keep - self.rate * m / (v.sqrt() * self.scale + EPS as f32);
            }
        });
        Ok(())
    }
}

/// Adds gradients to gradients.
pub(super) struct Add;

impl InplaceOp2 for Add {
    fn name(&self) -> &'static str {
        "sum of gradients"
    }

    fn cpu_fwd(&self, sum: &mut CpuStorage, at: &Layout, more: &CpuStorage, more_at: &Layout) -> Result<()> {
        let (sum, more) = (values_mut(sum, at)?, values(more, more_at)?);
        sum.par_chunks_mut(TASK).zip(more.par_chunks(TASK)).for_each(|(sum, more)| {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        });
        Ok(())
    }
}

/// The Euclidean norm of all `gradients` together; the order of the sums does not depend on threads.
pub(super) fn norm(gradients: &[Tensor]) -> Result<f64> {
    let square = |x: &f32| f64::from(*x) * f64::from(*x);
    let mut total = 0.0;
    for gradient in gradients {
        let sums: Vec<f64> = with_values(gradient, |values| {
            values.par_chunks(TASK).map(|part| part.iter().map(square).sum()).collect()
        })?;
        total += sums.iter().sum::<f64>();
    }
    Ok(total.sqrt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;
    use crate::random::Random;

    /// Written from the paper, in `f64`, a weight at a time.
    #[test]
    fn steps_are_those_of_a_plain_reference() {
        let (shapes, mut random) = ([vec![300, 251], vec![7]], Random::new(1));
        let mut normal = |n: usize| -> Vec<f32> { (0..n).map(|_| (0.1 * random.normal()) as f32).collect() };
        let start: Vec<Vec<f32>> = shapes.iter().map(|shape| normal(shape.iter().product())).collect();
        let vars: Vec<Var> = shapes
            .iter()
            .zip(&start)
            .map(|(shape, values)| Var::from_slice(values, shape.as_slice(), &Device::Cpu).unwrap())
            .collect();
        let mut adamw = AdamW::new(vars.iter().cloned(), 0.3).unwrap();
        let mut expected: Vec<Vec<(f64, f64, f64)>> =
            start.iter().map(|all| all.iter().map(|w| (f64::from(*w), 0.0, 0.0)).collect()).collect();
        for step in 1..=20 {
            let gradients: Vec<Vec<f32>> = start.iter().map(|all| normal(all.len())).collect();
            let (factor, rate) = (if step % 3 == 0 { 0.25 } else { 1.0 }, 0.02 / f64::from(step));
            for ((all, new), decay) in expected.iter_mut().zip(&gradients).zip([0.3, 0.0]) {
                for ((w, m, v), g) in all.iter_mut().zip(new) {
                    let g = f64::from(*g) * factor;
                    *m = 0.9 * *m + 0.1 * g;
                    *v = 0.999 * *v + 0.001 * g * g;
                    let (m, v) = (*m / (1.0 - 0.9f64.powi(step)), *v / (1.0 - 0.999f64.powi(step)));
                    *w -= rate * (m / (v.sqrt() + 1e-8) + decay * *w);
                }
            }
            let tensor = |(values, shape): (&Vec<f32>, &Vec<usize>)| {
                Tensor::from_slice(values, shape.as_slice(), &Device::Cpu).unwrap()
            };
            let gradients: Vec<Tensor> = gradients.iter().zip(&shapes).map(tensor).collect();
            adamw.step(&gradients, factor, rate).unwrap();
        }
        for (var, expected) in vars.iter().zip(&expected) {
            let found = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (found, (expected, ..)) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    #[test]
    fn the_rate_rises_and_falls_in_straight_lines() {
        let rates: Vec<f64> = (0..10).map(|step| schedule(step, 10, 4)).collect();
        let expected = [0.0, 0.25, 0.5, 0.75, 1.0, 5.0 / 6.0, 4.0 / 6.0, 0.5, 2.0 / 6.0, 1.0 / 6.0];
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
        assert_eq!((schedule(0, 3, 0), schedule(2, 3, 5)), (1.0, 0.4));
    }

    #[test]
    fn the_norm_is_that_of_all_gradients() {
        let gradient = |value: f32, n: usize| Tensor::full(value, n, &Device::Cpu).unwrap();
        let long = norm(&[gradient(3.0, 100_000), gradient(-4.0, 100_000)]).unwrap();
        assert!((long - 2.5e6f64.sqrt()).abs() < 1e-9, "{long}");
    }
}
