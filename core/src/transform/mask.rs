//! Method `dare` (arXiv:2311.03099): keep a random share of the weights and scale them up by its inverse. The
//! mask is never stored: it follows from a seed.
//!
//! Specification. All words are u32, sums and products modulo 2^32. For a word x,
//!
//! ```text
//! m(x, key):  x ^= x >> 17;  x *= 0xed5ad4bb;  x ^= x >> 11;  x += key;
//!             x *= 0xac4c1b51;  x ^= x >> 15;  x *= 0x31848bab;  x ^= x >> 14
//! ```
//!
//! For the weight with index i in its matrix (row-major, 64 bits: high and low word) and a seed of 64 bits,
//!
//! ```text
//! a = m(m(seed_low + 0x9e3779b9, 0) + seed_high, 0)
//! b = m(a + i_high, 0)
//! c = m(b + 0x9e3779b9, 0)
//! h = m(i_low + b, c)
//! ```
//!
//! and the weight is kept iff h <= limit, where limit + 1 = round(keep * 2^32) (halves up), at least 1.

use crate::error::Result;
use crate::transform::top::{Positions, gather, scatter, set_bits};

/// Which weights a seeded random mask keeps, each with probability `keep`, and with which gain they come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mask {
    /// Probability that a weight is kept, in (0, 1].
    pub(crate) keep: f32,
    /// Any number; give every tensor its own.
    pub(crate) seed: u64,
}

impl Mask {
    /// Positions, ascending, of the weights that are kept among the `n` from `first_index` on (index in the
    /// tensor); replaces the content of `positions`, which count from 0. At most 2^32 weights at once.
    pub(crate) fn kept(&self, first_index: u64, n: usize, positions: &mut Vec<u32>) {
        let mut positions = Positions { list: positions, used: 0 };
        let limit = self.limit();
        let mut done = 0;
        while done < n {
            // The keys change with the high word of the index, hardly ever within a chunk.
            let index = first_index.wrapping_add(done as u64);
            let run = ((n - done) as u64).min((1 << 32) - u64::from(index as u32)) as usize;
            let (keys, low, first) = (self.keys(index), index as u32, done as u32);
            pulp::Arch::new().dispatch(Run { keys, low, limit, first, n: run, positions: &mut positions });
            done += run;
        }
        positions.finish();
    }

    /// The values at the kept `positions` of a chunk; replaces the content of `values`.
    pub(crate) fn forward(&self, delta: &[f32], positions: &[u32], values: &mut Vec<f32>) {
        gather(delta, positions, values);
    }

    /// Inverse of [`Self::forward`]: `delta = 0`, then `delta[position] = value * (1 / keep)`, all in f32.
    ///
    /// Errors: Corrupt when the counts differ or a position lies outside of the chunk.
    pub(crate) fn inverse(&self, positions: &[u32], values: &[f32], delta: &mut [f32]) -> Result<()> {
        scatter(positions, values, self.gain(), delta)
    }

    /// The gain of the weights that are kept.
    pub(crate) fn gain(&self) -> f32 {
        1.0 / self.keep
    }

    fn limit(&self) -> u32 {
        // An f32 times a power of two is exact in f64; the cast saturates.
        let share = (f64::from(self.keep) * 4_294_967_296.0 + 0.5) as u64;
        (share.clamp(1, 1 << 32) - 1) as u32
    }

    /// The words b and c of the specification.
    fn keys(&self, index: u64) -> (u32, u32) {
        let a =
            mix(mix((self.seed as u32).wrapping_add(GOLDEN), 0).wrapping_add((self.seed >> 32) as u32), 0);
        let b = mix(a.wrapping_add((index >> 32) as u32), 0);
        (b, mix(b.wrapping_add(GOLDEN), 0))
    }
}

/// Pushes the kept ones of `n` weights whose low index words start at `low` and do not wrap, as `first + i`.
struct Run<'a, 'b> {
    keys: (u32, u32),
    low: u32,
    limit: u32,
    first: u32,
    n: usize,
    positions: &'a mut Positions<'b>,
}

// Not a closure: those are compiled for the vector instruction set only where the compiler chooses to inline them.
impl pulp::NullaryFnOnce for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // Hashes first, in a loop without guesses: how many follow in a word is hard to guess.
        const WORDS: usize = 32;
        let start = self.low.wrapping_add(self.keys.0);
        for from in (0..self.n).step_by(64 * WORDS) {
            let mut words = [0; WORDS];
            for (word, at) in words.iter_mut().zip((from..self.n).step_by(64)) {
                let beyond = 64usize.saturating_sub(self.n - at);
                *word =
                    kept_block(start.wrapping_add(at as u32), self.keys.1, self.limit) << beyond >> beyond;
            }
            for (&word, at) in words.iter().zip((from..self.n).step_by(64)) {
                self.positions.push(self.first + at as u32, word);
            }
        }
    }
}

#[inline(always)]
fn kept_block(start: u32, key: u32, limit: u32) -> u64 {
    let mut hashes = [0; 64];
    for (i, hash) in (0u32..).zip(&mut hashes) {
        *hash = mix(start.wrapping_add(i), key);
    }
    set_bits(&hashes, limit)
}

const GOLDEN: u32 = 0x9e37_79b9;

/// The function m of the specification: a bijection of x for every key.
#[inline(always)]
fn mix(mut x: u32, key: u32) -> u32 {
    x ^= x >> 17;
    x = x.wrapping_mul(0xed5a_d4bb);
    x ^= x >> 11;
    x = x.wrapping_add(key);
    x = x.wrapping_mul(0xac4c_1b51);
    x ^= x >> 15;
    x = x.wrapping_mul(0x3184_8bab);
    x ^ x >> 14
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn flags(mask: Mask, first: u64, n: usize) -> Vec<f64> {
        let (mut positions, mut flags) = (vec![5], vec![0.0; n]);
        mask.kept(first, n, &mut positions);
        assert!(positions.is_sorted_by(|a, b| a < b));
        positions.iter().for_each(|p| flags[*p as usize] = 1.0);
        flags
    }

    #[test]
    fn the_mask_never_changes() {
        let mut found = Vec::new();
        Mask { keep: 0.1, seed: 1 }.kept(0, 100, &mut found);
        assert_eq!(found, GOLDEN_SMALL);
        Mask { keep: 0.1, seed: 0xfeed_5eed_0000_0007 }.kept((7 << 32) - 50, 100, &mut found);
        assert_eq!(found, GOLDEN_WRAP);
    }
    const GOLDEN_SMALL: [u32; 10] = [15, 31, 37, 42, 56, 61, 64, 79, 80, 86];
    const GOLDEN_WRAP: [u32; 10] = [2, 3, 11, 21, 31, 32, 38, 53, 68, 72];

    #[test]
    fn any_chunking_gives_the_same_mask() {
        let mask = Mask { keep: 0.3, seed: 42 };
        let first = (1u64 << 33) - 500;
        let whole = flags(mask, first, 1000);
        for len in [1, 63, 64, 65, 127, 999] {
            let parts: Vec<f64> = (0..1000usize)
                .step_by(len)
                .flat_map(|at| flags(mask, first + at as u64, len.min(1000 - at)))
                .collect();
            assert_eq!(parts, whole, "chunks of {len}");
        }
    }

    #[test]
    fn the_share_is_met_within_five_sigma() {
        let n = 1 << 20;
        for (seed, keep) in [(0, 0.5), (1, 0.25), (2, 1.0 / 16.0), (3, 1.0 / 64.0), (u64::MAX, 0.9)] {
            for first in [0, 3 << 32] {
                let count: f64 = flags(Mask { keep, seed }, first, n).iter().sum();
                let (p, n) = (f64::from(keep), n as f64);
                assert!((count - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(), "{seed} {keep}: {count}");
            }
        }
        assert_eq!(flags(Mask { keep: 1.0, seed: 9 }, 0, 100_000).iter().sum::<f64>(), 100_000.0);
        assert_eq!(flags(Mask { keep: 1e-30, seed: 9 }, 0, 1000).iter().sum::<f64>(), 0.0);
    }

    /// Correlation of two 0/1 sequences of mean p, in standard deviations.
    fn sigmas(a: &[f64], b: &[f64], p: f64) -> f64 {
        let n = a.len().min(b.len()) as f64;
        a.iter().zip(b).map(|(x, y)| (x - p) * (y - p)).sum::<f64>() / (n.sqrt() * p * (1.0 - p))
    }

    #[test]
    fn neighbours_rows_seeds_and_high_words_are_independent() {
        let (n, keep) = (1 << 19, 0.25);
        let base = flags(Mask { keep, seed: 1 }, 0, n);
        for lag in (1..=64).chain([127, 128, 255, 256, 384, 512, 768, 1024, 2048, 4096, 65_536]) {
            let z = sigmas(&base, &base[lag..], keep.into());
            assert!(z.abs() < 5.0, "lag {lag}: {z} sigma");
        }
        for seed in [0, 2, 3, 1 << 31, 1 | 1 << 32, 1 << 63] {
            let z = sigmas(&base, &flags(Mask { keep, seed }, 0, n), keep.into());
            assert!(z.abs() < 5.0, "seed {seed}: {z} sigma");
        }
        let z = sigmas(&base, &flags(Mask { keep, seed: 1 }, 1 << 32, n), keep.into());
        assert!(z.abs() < 5.0, "high word: {z} sigma");
    }

    #[test]
    fn counts_per_block_vary_as_a_binomial() {
        // 64-weight blocks at keep 1/4: chi-square of the block counts' variance, about 2^13 blocks.
        let (n, keep) = (1 << 19, 0.25);
        for seed in 0..8 {
            let all = flags(Mask { keep, seed }, 0, n);
            let counts: Vec<f64> = all.chunks(64).map(|c| c.iter().sum()).collect();
            let variance = counts.iter().map(|c| (c - 16.0).powi(2)).sum::<f64>() / counts.len() as f64;
            let sigma = 12.0 * (2.0 / counts.len() as f64).sqrt();
            assert!((variance - 12.0).abs() < 5.0 * sigma, "seed {seed}: {variance}");
        }
    }

    #[test]
    fn inverse_restores_the_kept_weights_scaled() {
        let delta: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        let mask = Mask { keep: 0.3, seed: 5 };
        let (mut positions, mut values, mut back) = (Vec::new(), Vec::new(), vec![1.0; 1000]);
        mask.kept(77, 1000, &mut positions);
        mask.forward(&delta, &positions, &mut values);
        mask.inverse(&positions, &values, &mut back).unwrap();
        for (i, b) in back.iter().enumerate() {
            let expected = if positions.contains(&(i as u32)) { delta[i] * (1.0 / 0.3f32) } else { 0.0 };
            assert_eq!(b.to_bits(), expected.to_bits());
        }
        assert!(mask.inverse(&positions, &values[1..], &mut back).is_err());
        assert!(mask.inverse(&positions, &values, &mut back[..10]).is_err());
    }
}
