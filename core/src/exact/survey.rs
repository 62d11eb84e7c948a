//! What a look at a tensor tells: which exponents there are, and which low bits are always zero.

use super::words::{self, Layout};
use crate::tensor::Dtype;

/// What a look at a tensor tells.
pub(super) struct Survey {
    /// How often the prediction has each exponent.
    pub(super) exponents: Vec<u32>,
    /// How many words differ from their prediction and have so many zero bits at their low end.
    changed: [i64; 65],
    /// The same of all words.
    all: [i64; 65],
}

impl Survey {
    pub(super) fn new(layout: Layout) -> Self {
        Self { exponents: vec![0; layout.exponents()], changed: [0; 65], all: [0; 65] }
    }

    pub(super) fn add<const N: usize>(&mut self, layout: Layout, prediction: &[[u8; N]], words: &[[u8; N]]) {
        // Every so many words: few numbers are needed.
        const STEP: usize = 7;
        for (&p, &y) in prediction.iter().zip(words).step_by(STEP) {
            self.exponents[layout.exponent(p) as usize] += 1;
            let zeros = words::low_zeros(y);
            self.all[zeros] += 1;
            self.changed[zeros] += i64::from(p != y);
        }
    }

    /// How many low bits of words of `dtype` are best left out.
    pub(super) fn low_zeros(&self, dtype: Dtype) -> u32 {
        let (bytes, mantissa) = Layout::widths(dtype);
        // What an escape costs more than another word, in bits.
        let escape = 8 * bytes as i64 + 8;
        let gain = |dropped: u32| {
            let (fewer, enough) = (&self.all[..dropped as usize], &self.changed[dropped as usize..]);
            i64::from(dropped) * enough.iter().sum::<i64>() - escape * fewer.iter().sum::<i64>()
        };
        (0..=mantissa).max_by_key(|&dropped| (gain(dropped), std::cmp::Reverse(dropped))).unwrap_or(0)
    }
}
