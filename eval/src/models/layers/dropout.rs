//! Dropout: training sets random values to zero, so that a network does not rely on any of them.

use std::cell::RefCell;

use candle_core::Tensor;

use crate::error::Result;
use crate::random::Random;

thread_local! {
    /// What is dropped, while this thread is training.
    static NOISE: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// Does `work` as training does: on this thread the sequence `noise` says what is dropped. Elsewhere, and without
/// noise, nothing is.
pub(crate) fn training<T>(noise: Option<Random>, work: impl FnOnce() -> T) -> T {
    NOISE.replace(noise);
    let result = work();
    NOISE.take();
    result
}

/// Drops this share of the values, and scales the others up so that the mean stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dropout(pub(crate) f64);

impl Dropout {
    /// `x` itself, except in [`training`].
    pub(crate) fn forward(self, x: Tensor) -> Result<Tensor> {
        let shape = x.dims().to_vec();
        self.masked(x, shape)
    }

    /// The same for whole examples, which lie in the first dimension: stochastic depth (Huang et al. 2016).
    pub(crate) fn forward_examples(self, x: Tensor) -> Result<Tensor> {
        let mut shape = vec![1; x.rank()];
        shape.iter_mut().zip(x.dims()).take(1).for_each(|(own, n)| *own = *n);
        self.masked(x, shape)
    }

    /// `x` times a mask of `shape`, each of whose sides is that of `x`, or 1.
    fn masked(self, x: Tensor, shape: Vec<usize>) -> Result<Tensor> {
        if self.0 == 0.0 {
            return Ok(x);
        }
        NOISE.with_borrow_mut(|noise| {
            let Some(noise) = noise else { return Ok(x) };
            let scale = (1.0 / (1.0 - self.0)) as f32;
            let count = shape.iter().product();
            let mask: Vec<f32> =
                (0..count).map(|_| if noise.uniform() > self.0 { scale } else { 0.0 }).collect();
            Ok(x.broadcast_mul(&Tensor::from_vec(mask, shape, x.device())?)?)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn a_share_is_dropped_and_the_mean_stays() {
        let ones = Tensor::ones((100, 200), DType::F32, &Device::Cpu).unwrap();
        let drop =
            |x: &Tensor| Dropout(0.2).forward(x.clone()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let seen: Vec<f32> = training(Some(Random::new(5)), || drop(&ones));
        let dropped = seen.iter().filter(|x| **x == 0.0).count();
        assert!(dropped.abs_diff(4000) < 200, "{dropped}");
        assert!(seen.iter().all(|x| *x == 0.0 || *x == 1.25));
        assert_eq!(training(Some(Random::new(5)), || drop(&ones)), seen);
        assert!(drop(&ones).iter().all(|x| *x == 1.0), "dropped after training");
    }

    #[test]
    fn stochastic_depth_drops_whole_examples() {
        let ones = Tensor::ones((1000, 2, 3), DType::F32, &Device::Cpu).unwrap();
        let drop = || Dropout(0.2).forward_examples(ones.clone()).unwrap().flatten(1, 2).unwrap();
        let seen: Vec<Vec<f32>> = training(Some(Random::new(5)), || drop().to_vec2().unwrap());
        assert!(seen.iter().all(|example| *example == [0.0; 6] || *example == [1.25; 6]));
        let dropped = seen.iter().filter(|example| example[0] == 0.0).count();
        assert!(dropped.abs_diff(200) < 50, "{dropped}");
    }
}
