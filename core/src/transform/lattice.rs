//! Learned wavelets: an orthonormal filter built from a few rotations, whose angles are fitted to the data.

use std::f64::consts::FRAC_1_SQRT_2;

use crate::error::{Error, Result};

/// Rotations of a fitted wavelet, and so half the length of its filter.
const ROTATIONS: usize = 3;
/// Weights that a fit looks at, at most; more of them change nothing that can be measured.
const SAMPLE: usize = 1 << 16;

/// An orthonormal filter made of 2 or 3 rotations.
///
/// A parameter `q` (i16) stands for the rotation with `t = q / 16384` (the tangent of half its angle),
/// `c = (1 - t t) / (1 + t t)`, `s = 2 t / (1 + t t)`. The filter starts as `low = (r, r)`, `high = (r, -r)` with
/// `r = sqrt(1/2)`; the first parameter turns the pair, `low' = c low + s high`, `high' = c high - s low`, and every
/// further one first delays `high` by two samples (both get longer by two zeros: `high` in front, `low` at the end)
/// and then turns the pair in the same way. The taps are `low`, rounded to f32; all else is f64, each operation
/// rounded. With all parameters 0 it is the Haar wavelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lattice {
    params: Vec<i16>,
}

impl Default for Lattice {
    /// The Haar wavelet, from which a fit starts.
    fn default() -> Self {
        Self { params: vec![0; ROTATIONS] }
    }
}

impl Lattice {
    /// The wavelet of stored parameters; an error unless there are 2 or 3.
    pub(crate) fn from_params(params: &[i16]) -> Result<Self> {
        if !(2..=3).contains(&params.len()) {
            return Err(Error::corrupt(format!(
                "a learned wavelet of {} rotations: 2 or 3 are defined",
                params.len()
            )));
        }
        Ok(Self { params: params.to_vec() })
    }

    /// The parameters as they are stored, one per rotation.
    pub(crate) fn params(&self) -> &[i16] {
        &self.params
    }

    /// The taps of the low-pass filter, two per rotation.
    pub(crate) fn taps(&self) -> Vec<f32> {
        self.low().into_iter().map(|tap| tap as f32).collect()
    }

    fn low(&self) -> Vec<f64> {
        let (mut low, mut high) = (vec![FRAC_1_SQRT_2; 2], vec![FRAC_1_SQRT_2, -FRAC_1_SQRT_2]);
        for (stage, &q) in self.params.iter().enumerate() {
            if stage > 0 {
                low.extend([0.0; 2]);
                high.splice(0..0, [0.0; 2]);
            }
            let t = f64::from(q) / 16384.0;
            let (c, s) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
            for (low, high) in low.iter_mut().zip(&mut high) {
                (*low, *high) = (c * *low + s * *high, c * *high - s * *low);
            }
        }
        low
    }

    /// The wavelet that suits some blocks (each `block` x `block`, row-major, one after the other) best: a local
    /// minimum of the sum over the four bands of log2(band energy) after one level, which is what the bands cost at a
    /// fine step, and never worse than Haar. Deterministic.
    pub(crate) fn fit(blocks: &[f32], block: usize) -> Self {
        let statistics = Statistics::of(blocks, block);
        let mut best = Self::default();
        let mut cost = statistics.cost(&best);
        let mut step = 8192i16;
        while step >= 16 {
            let mut improved = false;
            for at in 0..ROTATIONS {
                for change in [step, -step] {
                    let mut candidate = best.clone();
                    candidate.params[at] = candidate.params[at].saturating_add(change);
                    let candidate_cost = statistics.cost(&candidate);
                    if candidate_cost < cost {
                        (best, cost, improved) = (candidate, candidate_cost, true);
                    }
                }
            }
            if !improved {
                step /= 2;
            }
        }
        best
    }
}

/// Length of the longest filter, and of the side of the squares whose statistics decide.
const TAPS: usize = 2 * ROTATIONS;
const SQUARE: usize = TAPS * TAPS;

/// Second moments of the squares of 6 x 6 at even positions (wrapping round): a band's energy is a quadratic form in
/// them, so that a candidate costs microseconds, whatever the number of blocks.
struct Statistics {
    moments: Vec<[f64; SQUARE]>,
}

impl Statistics {
    /// The moments of at most [`SAMPLE`] weights, taken from evenly spaced blocks.
    fn of(blocks: &[f32], block: usize) -> Self {
        let size = block * block;
        let every = (blocks.len() / SAMPLE).max(1);
        let mut moments = vec![[0.0; SQUARE]; SQUARE];
        for values in blocks.chunks_exact(size.max(1)).step_by(every) {
            // An odd side's last sample is not filtered (`wavelet.rs`).
            let even = block - block % 2;
            for i in (0..even).step_by(2) {
                for j in (0..even).step_by(2) {
                    let square: [f64; SQUARE] = std::array::from_fn(|at| {
                        let (k, l) = ((i + at / TAPS) % even, (j + at % TAPS) % even);
                        f64::from(values[k * block + l])
                    });
                    accumulate(&mut moments, &square);
                }
            }
        }
        Self { moments }
    }

    /// The sum over LL, LH, HL, HH of log2 of the band's energy.
    fn cost(&self, lattice: &Lattice) -> f64 {
        let low = lattice.low();
        let flip = |k: usize| if k.is_multiple_of(2) { low[TAPS - 1 - k] } else { -low[TAPS - 1 - k] };
        let high: Vec<f64> = (0..TAPS).map(flip).collect();
        let bands = [(&low, &low), (&high, &low), (&low, &high), (&high, &high)];
        bands.iter().map(|(down, across)| self.energy(down, across).max(f64::MIN_POSITIVE).log2()).sum()
    }

    /// The energy of the band filtered by `down` along axis 0 and by `across` along axis 1.
    fn energy(&self, down: &[f64], across: &[f64]) -> f64 {
        let weights: [f64; SQUARE] = std::array::from_fn(|at| down[at / TAPS] * across[at % TAPS]);
        let dot = |row: &[f64; SQUARE]| row.iter().zip(&weights).map(|(m, w)| m * w).sum::<f64>();
        self.moments.iter().zip(&weights).map(|(row, w)| w * dot(row)).sum()
    }
}

/// Adds the products of all pairs of values.
fn accumulate(moments: &mut [[f64; SQUARE]], square: &[f64; SQUARE]) {
    for (row, a) in moments.iter_mut().zip(square) {
        for (moment, b) in row.iter_mut().zip(square) {
            *moment += a * b;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::transform::Blocks;
    use crate::transform::dwt::{Dwt, Keep};
    use crate::transform::wavelet::Wavelet;

    /// Blocks that a filter of the given taps would have made: rows and columns of correlated noise.
    fn correlated(block: usize, count: usize, taps: &[f32]) -> Vec<f32> {
        let mut state = 3u64;
        let mut noise = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let mut blocks = Vec::new();
        for _ in 0..count {
            let white: Vec<f32> = (0..block * block).map(|_| noise()).collect();
            blocks.extend((0..block * block).map(|at| {
                let (i, j) = (at / block, at % block);
                let term = |k: usize, l: usize| white[(i + k) % block * block + (j + l) % block];
                (0..taps.len())
                    .flat_map(|k| (0..taps.len()).map(move |l| (k, l)))
                    .map(|(k, l)| taps[k] * taps[l] * term(k, l))
                    .sum::<f32>()
            }));
        }
        blocks
    }

    /// The objective by its definition.
    fn objective(blocks: &[f32], block: usize, lattice: &Lattice) -> f64 {
        let dwt = Dwt::new(block, &Wavelet::Learned(lattice.clone()), 1, Keep::All).unwrap();
        let mut coeffs = vec![0.0; blocks.len()];
        let (column, which) = Blocks::column(block, blocks);
        dwt.forward(&column, blocks, &which, &mut coeffs);
        let mut energies = [0.0; 4];
        for values in coeffs.chunks(block * block) {
            let mut rest = values;
            for (energy, band) in energies.iter_mut().zip(dwt.bands()) {
                let (values, after) = rest.split_at(band.rows * band.cols);
                *energy += values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
                rest = after;
            }
        }
        energies.iter().map(|energy| energy.log2()).sum()
    }

    #[test]
    fn no_rotation_is_haar() {
        let haar = Lattice::default().taps();
        assert_eq!(haar, [0.70710677, 0.70710677, 0.0, 0.0, 0.0, 0.0]);
        assert!(Lattice::from_params(&[0]).is_err() && Lattice::from_params(&[0; 4]).is_err());
    }

    #[test]
    fn every_set_of_parameters_is_orthonormal() {
        for params in [vec![1, 2], vec![-32768, 32767, 5], vec![16384, -16384, 12345], vec![-20000, 77]] {
            let h = Lattice::from_params(&params).unwrap().taps();
            for shift in 0..params.len() {
                let product: f64 =
                    h[2 * shift..].iter().zip(&h).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                assert!((product - if shift == 0 { 1.0 } else { 0.0 }).abs() < 3e-7, "{params:?}");
            }
        }
    }

    #[test]
    fn a_fit_is_never_worse_than_haar() {
        for (block, taps) in
            [(8, vec![1.0, 0.9, 0.3]), (16, vec![1.0, -0.8]), (32, vec![1.0]), (4, vec![1.0, 0.0, 0.7])]
        {
            let blocks = correlated(block, 300, &taps);
            let fitted = Lattice::fit(&blocks, block);
            let (ours, haar) =
                (objective(&blocks, block, &fitted), objective(&blocks, block, &Lattice::default()));
            assert!(ours <= haar + 1e-6, "{block} {taps:?}: {ours} {haar}");
            assert_eq!(fitted, Lattice::fit(&blocks, block));
            assert_eq!(Lattice::from_params(fitted.params()).unwrap(), fitted);
        }
    }

    #[test]
    fn statistics_give_the_energies_of_the_bands() {
        let blocks = correlated(16, 20, &[1.0, 0.5, 0.2]);
        let statistics = Statistics::of(&blocks, 16);
        for params in [[0, 0, 0], [4000, -9000, 2000]] {
            let lattice = Lattice::from_params(&params).unwrap();
            assert!((statistics.cost(&lattice) - objective(&blocks, 16, &lattice)).abs() < 1e-4);
        }
    }

    #[test]
    fn nothing_to_learn_is_haar() {
        assert_eq!(Lattice::fit(&[], 8), Lattice::default());
        assert_eq!(Lattice::fit(&[0.0; 640], 8), Lattice::default());
        let constant = vec![0.5; 64 * 20];
        assert_eq!(Lattice::fit(&constant, 8).taps(), Lattice::default().taps());
    }
}
