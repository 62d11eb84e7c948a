//! Method `lowrank`: the delta D (rows x cols) as coefficients C (rows x rank) on a fitted basis V' (cols x rank).
//!
//! The basis approximates the leading right singular vectors of D (see `subspace`) and is quantised once.
//! Coefficients are then the least-squares fit to that quantised basis, `C = D V' (V'^T V')^-1`, which repairs most
//! of its rounding, and need only a chunk of rows:
//!
//! ```text
//! D'[i, j] = 0 + C[i, 0] * V'[j, 0] + C[i, 1] * V'[j, 1] + ...  (f32, from left to right, no fused multiply-add)
//! V'[j, k] = lo[k] + level[j, k] * step[k],  step[k] = (hi[k] - lo[k]) / (2^bits - 1)                      (f32)
//! ```

use nalgebra::{DMatrix, SymmetricEigen};
use std::array;

use crate::error::{Error, Result};
use crate::transform::subspace::{Search, Source};
use crate::wire::{Reader, Writer};

/// A quantised basis, ready to decode with: rank components of cols values each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LowRank {
    params: Params,
    levels: Vec<u8>,
    /// Dequantised, component-major: rank x cols.
    basis: Vec<f32>,
}

/// Everything about a basis but its levels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Params {
    cols: usize,
    /// Bits of a level, 1 to 8.
    bits: u8,
    /// (lo, hi) of each component.
    ranges: Vec<(f32, f32)>,
}

/// The encoder's half of a basis: `V' (V'^T V')^-1`, component-major (rank x cols).
#[derive(Debug)]
pub(crate) struct Projector {
    cols: usize,
    dual: Vec<f32>,
}

impl Projector {
    /// Coefficients of a chunk (row-major, whole rows of cols weights): component 0 of each row, then component 1
    /// of each row ... (rank x chunk_rows); replaces the content of `coefficients`.
    pub(crate) fn forward(&self, chunk: &[f32], coefficients: &mut Vec<f32>) {
        coefficients.clear();
        pulp::Arch::new().dispatch(Projection { projector: self, chunk, coefficients });
    }
}

/// [`Projector::forward`], with explicit vectors: the order of the sums is free in an encoder, but the compiler must
/// not choose it.
struct Projection<'a> {
    projector: &'a Projector,
    chunk: &'a [f32],
    coefficients: &'a mut Vec<f32>,
}

impl pulp::WithSimd for Projection<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let cols = self.projector.cols.max(1);
        for component in self.projector.dual.chunks_exact(cols) {
            for row in self.chunk.chunks_exact(cols) {
                self.coefficients.push(dot(simd, row, component));
            }
        }
    }
}

/// Scalar product of two slices of one length, in four vectors of sums.
#[inline(always)]
fn dot<S: pulp::Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = simd.add_f32s(*sum, simd.mul_f32s(*a, *b));
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum = simd.add_f32s(*sum, simd.mul_f32s(*a, *b));
    }
    let [p, q, r, s] = sums;
    let sum = simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(p, q), simd.add_f32s(r, s)));
    a_tail.iter().zip(b_tail).fold(sum, |sum, (a, b)| sum + a * b)
}

/// Components that the inverse adds at once, so that a weight is loaded and stored less often.
const TOGETHER: usize = 4;

impl LowRank {
    /// Inverse of [`Projector::forward`]: the rows of `delta` (chunk_rows x cols, row-major) from their
    /// coefficients (rank x chunk_rows), by the formula at the top of this file. Rank 0 gives zeros.
    ///
    /// Errors: Corrupt when the two lengths do not agree.
    pub(crate) fn inverse(&self, coefficients: &[f32], delta: &mut [f32]) -> Result<()> {
        let (cols, rank) = (self.params.cols, self.rank());
        let rows = delta.len().checked_div(cols).unwrap_or(0);
        if delta.len() != rows * cols || coefficients.len() != rows * rank {
            let (c, n) = (coefficients.len(), delta.len());
            return Err(Error::corrupt(format!(
                "{c} coefficients of rank {rank} do not make {n} weights in rows of {cols}"
            )));
        }
        expand_rows(&self.basis, cols, coefficients, rows, delta);
        Ok(())
    }

    /// Number of components, at most the rank asked for.
    pub(crate) fn rank(&self) -> usize {
        self.params.ranges.len()
    }

    /// Levels, component-major (rank x cols), each below 2^bits.
    pub(crate) fn levels(&self) -> &[u8] {
        &self.levels
    }

    /// Everything else that a file needs to hold.
    pub(crate) fn params(&self) -> &Params {
        &self.params
    }

    /// A basis from the two parts of its wire form. Errors: Corrupt when there are not exactly
    /// [`Params::level_count`] levels, or one has too many bits.
    pub(crate) fn new(params: Params, levels: Vec<u8>) -> Result<Self> {
        let (found, expected) = (levels.len(), params.level_count());
        if found != expected {
            return Err(Error::corrupt(format!("{found} levels where the low-rank basis has {expected}")));
        }
        let max = max_level(params.bits);
        if let Some(level) = levels.iter().find(|level| **level > max) {
            return Err(Error::corrupt(format!("level {level} of a low-rank basis of {} bits", params.bits)));
        }
        let mut basis = Vec::with_capacity(levels.len());
        for ((lo, hi), levels) in params.ranges.iter().zip(levels.chunks(params.cols.max(1))) {
            let step = (hi - lo) / f32::from(max);
            basis.extend(levels.iter().map(|level| lo + f32::from(*level) * step));
        }
        Ok(Self { params, levels, basis })
    }

    /// What the encoder needs to find coefficients on this basis.
    pub(crate) fn projector(&self) -> Projector {
        let (cols, rank) = (self.params.cols, self.rank());
        if rank == 0 {
            return Projector { cols, dual: Vec::new() };
        }
        let v = DMatrix::from_iterator(cols, rank, self.basis.iter().map(|b| f64::from(*b)));
        let eigen = SymmetricEigen::new(v.transpose() * &v);
        // The pseudo-inverse: very coarse levels can make components equal.
        let smallest = eigen.eigenvalues.amax() * 1e-9;
        let inverse = eigen.eigenvalues.map(|e| if e > smallest { 1.0 / e } else { 0.0 });
        let gram_inverse =
            &eigen.eigenvectors * DMatrix::from_diagonal(&inverse) * eigen.eigenvectors.transpose();
        Projector { cols, dual: (v * gram_inverse).iter().map(|d| *d as f32).collect() }
    }
}

/// Weights of some rows (of `cols` weights, `delta` as a whole) as sums of the components of `basis` (component-major);
/// coefficient k of row i is `coefficients[k * rows + i]`. No component gives zeros.
pub(super) fn expand_rows(basis: &[f32], cols: usize, coefficients: &[f32], rows: usize, delta: &mut [f32]) {
    if basis.is_empty() || cols == 0 {
        delta.fill(0.0);
        return;
    }
    pulp::Arch::new().dispatch(Expansion { basis, cols, coefficients, rows, delta });
}

/// [`expand_rows`], compiled for the vector instruction set.
struct Expansion<'a> {
    basis: &'a [f32],
    cols: usize,
    coefficients: &'a [f32],
    rows: usize,
    delta: &'a mut [f32],
}

// Not a closure: those are compiled for the vector instruction set only where the compiler chooses to inline them.
impl pulp::NullaryFnOnce for Expansion<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        /// Columns whose basis values stay in the first-level cache while the rows pass by.
        const TILE: usize = 512;
        for start in (0..self.cols).step_by(TILE) {
            let tile = start..self.cols.min(start + TILE);
            for (i, row) in self.delta.chunks_exact_mut(self.cols).enumerate() {
                expand(
                    &mut row[tile.clone()],
                    self.basis,
                    self.cols,
                    start,
                    &self.coefficients[i..],
                    self.rows,
                );
            }
        }
    }
}

/// Weights of one row from column `start` on; coefficient k of that row is `coefficients[k * rows]`.
#[inline(always)]
fn expand(out: &mut [f32], basis: &[f32], cols: usize, start: usize, coefficients: &[f32], rows: usize) {
    // Nothing that is added to a zero of positive sign makes it a negative one, so that products with 0 can be left out.
    out.fill(0.0);
    let components = basis.chunks_exact(cols).zip(coefficients.iter().step_by(rows));
    let mut components = components.filter(|(_, c)| **c != 0.0).map(|(v, &c)| (c, &v[start..]));
    while let Some(first) = components.next() {
        let mut rest = || components.next().unwrap_or((0.0, first.1));
        let together: [_; TOGETHER] = array::from_fn(|k| if k == 0 { first } else { rest() });
        add_products(out, together);
    }
}

/// `out += c * v` for each (c, v) in turn, element by element.
#[inline(always)]
fn add_products(out: &mut [f32], products: [(f32, &[f32]); TOGETHER]) {
    let products = products.map(|(c, v)| (c, &v[..out.len()]));
    for (j, out) in out.iter_mut().enumerate() {
        for (c, v) in products {
            *out += c * v[j];
        }
    }
}

/// Fits a basis of at most `rank` components with levels of `bits` bits to the tensor whose chunks `chunk(i, buffer)`
/// puts into the buffer (replacing its content; whole rows of `cols` weights, row-major, finite), i in
/// 0..`chunk_count`.
///
/// Each chunk is asked for six times, so that the whole delta need not be in memory. Components that hold less
/// than 1e-12 of the energy of the first are left out; a zero delta has rank 0. Does not depend on the number of
/// threads. Errors: InvalidArgument for a rank of 0, bits outside of 1 to 8, or a delta that is not finite.
pub(crate) fn fit(
    cols: usize,
    rank: usize,
    bits: u8,
    chunk_count: usize,
    chunk: &(dyn Fn(usize, &mut Vec<f32>) + Sync),
) -> Result<LowRank> {
    if rank == 0 || !(1..=8).contains(&bits) {
        return Err(Error::invalid(format!(
            "a low-rank basis needs rank 1 or more and 1 to 8 bits, not rank {rank} and {bits} bits"
        )));
    }
    let search = Search::new(Source { cols, chunk_count, chunk }, 0.0);
    if !search.largest.is_finite() {
        return Err(Error::invalid(
            "a delta that is not finite has no low-rank basis: carry the tensor whole",
        ));
    }
    let mut params = Params { cols, bits, ranges: Vec::new() };
    if search.largest == 0.0 {
        return LowRank::new(params, Vec::new());
    }
    const ITERATIONS: usize = 4;
    let mut levels = Vec::new();
    for (_, component) in search.leading_triples(&[], rank, rank, |_| ITERATIONS) {
        params.ranges.push(quantize(&component, bits, &mut levels));
    }
    LowRank::new(params, levels)
}

/// Appends the levels of `component` and returns its range (lo, hi).
///
/// With few bits the whole range is a poor choice: a narrower one, to which outliers are clamped, is taken where
/// it keeps the direction better.
fn quantize(component: &[f32], bits: u8, levels: &mut Vec<u8>) -> (f32, f32) {
    let min = component.iter().copied().fold(f32::INFINITY, f32::min);
    let max = component.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = |shrink: f32| (min * shrink, max * shrink);
    let steps = f32::from(max_level(bits));
    let level = |(lo, hi): (f32, f32), x: f32| {
        // Where all values are equal there is one level: the cast takes NaN to 0.
        (((x - lo) / ((hi - lo) / steps)).clamp(0.0, steps) + 0.5) as u8
    };
    // Squared cosine between the component, of unit length, and its quantised self.
    let fidelity = |range: (f32, f32)| {
        let step = (range.1 - range.0) / steps;
        let (mut product, mut energy) = (0.0, f32::MIN_POSITIVE);
        for x in component {
            let y = range.0 + f32::from(level(range, *x)) * step;
            product += x * y;
            energy += y * y;
        }
        product * product / energy
    };
    let candidates = (4..=20).rev().map(|i| range(i as f32 / 20.0)).map(|r| (fidelity(r), r));
    let (_, best) = candidates.reduce(|a, b| if b.0 > a.0 { b } else { a }).unwrap_or((0.0, (min, max)));
    levels.extend(component.iter().map(|x| level(best, *x)));
    best
}

fn max_level(bits: u8) -> u8 {
    (255u16 >> (8 - bits.clamp(1, 8))) as u8
}

impl Params {
    /// Number of levels that belong to these parameters: rank x cols.
    pub(crate) fn level_count(&self) -> usize {
        self.ranges.len() * self.cols
    }

    /// Bits of a level, 1 to 8.
    pub(crate) fn bits(&self) -> u8 {
        self.bits
    }

    /// Rank (varint), bits (u8), then lo and hi (f32) of each component.
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.varint(self.ranges.len() as u64);
        writer.u8(self.bits);
        for (lo, hi) in &self.ranges {
            writer.f32(*lo);
            writer.f32(*hi);
        }
    }

    /// Inverse of [`Self::write`] for a tensor of rows x cols, whose size the caller has checked against its
    /// limits: [`Self::level_count`] is at most rows * cols.
    ///
    /// Errors: Truncated; Corrupt for a rank above the smaller dimension, bits outside of 1 to 8, or a range that
    /// is not finite.
    pub(crate) fn read(reader: &mut Reader<'_>, rows: usize, cols: usize) -> Result<Self> {
        let rank = reader.varint_to(rows.min(cols) as u64, "the rank of a low-rank basis")?;
        let bits = reader.u8("the bits of a low-rank basis")?;
        if !(1..=8).contains(&bits) {
            return Err(Error::corrupt(format!("a low-rank basis with levels of {bits} bits")));
        }
        let mut ranges = Vec::new();
        for _ in 0..rank {
            let what = "the ranges of a low-rank basis";
            let (lo, hi) = (reader.f32(what)?, reader.f32(what)?);
            if !lo.is_finite() || !hi.is_finite() || !(hi - lo).is_finite() {
                return Err(Error::corrupt(format!("a low-rank component with the range {lo} to {hi}")));
            }
            ranges.push((lo, hi));
        }
        Ok(Self { cols, bits, ranges })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::transform::subspace::noise;

    /// A rows x cols matrix (row-major) of the given singular values plus `floor` times noise.
    fn matrix(rows: usize, cols: usize, singular: &[f32], floor: f32) -> Vec<f32> {
        let k = singular.len();
        let factor =
            |n: usize, seed: usize| DMatrix::from_fn(n, k, |i, j| noise((seed + i * k + j) as u64)).qr().q();
        let (u, v) = (factor(rows, 1 << 30), factor(cols, 1 << 31));
        let mut d = vec![0.0; rows * cols];
        for (i, row) in d.chunks_mut(cols).enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                *value = (0..k).map(|r| u[(i, r)] * singular[r] * v[(j, r)]).sum();
                *value += floor * noise((1 << 40) + (i * cols + j) as u64) / 37837.0;
            }
        }
        d
    }

    fn fit_rows(d: &[f32], cols: usize, rank: usize, bits: u8, chunk_rows: usize) -> LowRank {
        let chunks: Vec<&[f32]> = d.chunks(cols * chunk_rows).collect();
        fit(cols, rank, bits, chunks.len(), &|i, out| {
            out.clear();
            out.extend(chunks[i]);
        })
        .unwrap()
    }

    /// Forward and inverse, chunk by chunk.
    fn reconstruct(model: &LowRank, d: &[f32], cols: usize, chunk_rows: usize) -> Vec<f32> {
        let (projector, mut coefficients) = (model.projector(), vec![1.0]);
        let mut all = Vec::new();
        for chunk in d.chunks(cols * chunk_rows) {
            projector.forward(chunk, &mut coefficients);
            assert_eq!(coefficients.len(), model.rank() * chunk.len() / cols);
            let mut back = vec![9.0; chunk.len()];
            model.inverse(&coefficients, &mut back).unwrap();
            all.extend(back);
        }
        all
    }

    /// ||a - b||^2 / ||a||^2
    fn error(a: &[f32], b: &[f32]) -> f64 {
        assert_eq!(a.len(), b.len());
        let difference: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        difference / a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>()
    }

    #[test]
    fn an_exactly_low_rank_matrix_is_recovered() {
        for (rows, cols, chunk_rows) in [(200, 96, 7), (64, 301, 64), (31, 700, 3)] {
            let d = matrix(rows, cols, &[3.0, 2.0, 1.0, 0.1], 0.0);
            let model = fit_rows(&d, cols, 9, 8, chunk_rows);
            assert_eq!(model.rank(), 4, "the other five components are rounding noise");
            let e = error(&d, &reconstruct(&model, &d, cols, chunk_rows));
            // Levels 1/256 of a range of about 6 standard deviations: at most (6 / 256)^2 / 12 = 4.6e-5.
            assert!(e < 5e-5, "{rows} x {cols}: {e:e}");
        }
    }

    #[test]
    fn any_scale_of_the_delta_works() {
        for scale in [1e-38f32, 1e-30, 1e-3, 1e30, 1e37] {
            let d: Vec<f32> = matrix(50, 60, &[1.0, 0.5], 0.0).iter().map(|x| x * scale).collect();
            let model = fit_rows(&d, 60, 2, 8, 50);
            let back = reconstruct(&model, &d, 60, 50);
            let unscale = |x: &[f32]| x.iter().map(|x| x / scale).collect::<Vec<_>>();
            assert!(error(&unscale(&d), &unscale(&back)) < 5e-5, "{scale:e}");
        }
    }

    #[test]
    fn the_error_is_close_to_the_optimum() {
        let singular: Vec<f32> = (0..40).map(|i| 4.0 * 0.85f32.powi(i)).collect();
        for (rows, cols) in [(160, 200), (200, 90)] {
            let d = matrix(rows, cols, &singular, 0.02);
            let full = DMatrix::from_row_slice(rows, cols, &d).map(f64::from);
            let values = full.svd(false, false).singular_values;
            let total = values.norm_squared();
            for rank in [1, 4, 16] {
                let optimum = values.iter().skip(rank).map(|s| s * s).sum::<f64>() / total;
                let found = |bits| {
                    let model = fit_rows(&d, cols, rank, bits, 11);
                    error(&d, &reconstruct(&model, &d, cols, 11))
                };
                let (fine, coarse) = (found(8), found(3));
                assert!(fine > optimum * 0.999 && fine < optimum * 1.002 + 5e-5, "{rank}: {fine} {optimum}");
                assert!(coarse < optimum + 0.06, "rank {rank}, 3 bits: {coarse} {optimum}");
            }
        }
    }

    #[test]
    fn inverse_equals_naive_loops_bit_for_bit() {
        for (rows, cols, rank) in [(1, 1, 1), (3, 64, 2), (5, 63, 5), (2, 1200, 3), (17, 513, 16)] {
            let bytes = |n: usize, seed: u64| (0..n as u64).map(move |i| noise(i + seed));
            let ranges = (0..rank).map(|k| (-0.1 - k as f32, 0.3 + k as f32)).collect();
            let levels = bytes(rank * cols, 7).map(|x| (x.abs() as u32 % 64) as u8).collect();
            let model = LowRank::new(Params { cols, bits: 6, ranges }, levels).unwrap();
            let mut coefficients: Vec<f32> = bytes(rows * rank, 1 << 20).collect();
            coefficients[0] = -0.0;
            let mut found = vec![9.0; rows * cols];
            model.inverse(&coefficients, &mut found).unwrap();
            for i in 0..rows {
                for j in 0..cols {
                    let value = |k: usize| {
                        let (lo, hi) = model.params.ranges[k];
                        lo + f32::from(model.levels[k * cols + j]) * ((hi - lo) / 63.0)
                    };
                    let mut expected = 0.0;
                    for k in 0..rank {
                        expected += coefficients[k * rows + i] * value(k);
                    }
                    assert_eq!(found[i * cols + j].to_bits(), expected.to_bits(), "{rows} {cols} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let d = matrix(700, 130, &[3.0, 2.0, 1.5, 1.0], 0.05);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit_rows(&d, 130, 6, 4, 9))
        };
        assert_eq!(with(1), with(2));
        assert_eq!(with(3), with(2));
    }

    #[test]
    fn degenerate_matrices_work() {
        let zero = fit_rows(&[0.0; 12], 4, 2, 3, 2);
        assert_eq!((zero.rank(), reconstruct(&zero, &[0.0; 12], 4, 2)), (0, vec![0.0; 12]));
        assert_eq!(fit_rows(&[], 4, 2, 3, 1).rank(), 0);
        // An empty chunk among others.
        let model = fit(3, 1, 8, 3, &|i, out| *out = if i == 1 { vec![1.0, 2.0, 3.0] } else { Vec::new() });
        assert_eq!(model.unwrap().rank(), 1);
        assert_eq!(fit(0, 2, 3, 1, &|_, out| out.clear()).unwrap().rank(), 0);
        // Constant components, a single row, a single column, more rank than there is.
        for (d, cols) in
            [(vec![2.5; 24], 6), (vec![1.0, -2.0, 3.0], 3), (vec![1.0, -2.0, 3.0], 1), (vec![-7.0], 1)]
        {
            for bits in 1..=8 {
                let model = fit_rows(&d, cols, 100, bits, 1);
                assert_eq!(model.rank(), 1);
                let e = error(&d, &reconstruct(&model, &d, cols, 1));
                assert!(e < if bits == 8 { 1e-4 } else { 0.3 }, "{d:?}, {bits} bits: {e}");
            }
        }
        // Full rank at one bit: components coincide, and the fit must stay finite.
        let d = matrix(9, 4, &[1.0, 1.0, 1.0, 1.0], 0.0);
        let back = reconstruct(&fit_rows(&d, 4, 4, 1, 9), &d, 4, 9);
        assert!(error(&d, &back) < 1.0 + 1e-6);
    }

    #[test]
    fn the_wire_form_holds_everything_and_is_checked() {
        let d = matrix(40, 50, &[3.0, 2.0, 1.0], 0.1);
        let model = fit_rows(&d, 50, 3, 5, 8);
        let mut writer = Writer::default();
        model.params().write(&mut writer);
        let mut reader = Reader(&writer.0);
        let params = Params::read(&mut reader, 40, 50).unwrap();
        reader.finish("basis").unwrap();
        assert_eq!((params.level_count(), params.bits()), (150, 5));
        assert_eq!(LowRank::new(params.clone(), model.levels().to_vec()).unwrap(), model);
        assert!(LowRank::new(params.clone(), vec![0; 149]).is_err());
        assert!(LowRank::new(params, vec![32; 150]).is_err());
        assert!(Params::read(&mut Reader(&writer.0), 2, 50).is_err());
        for n in 0..writer.0.len() {
            assert!(Params::read(&mut Reader(&writer.0[..n]), 40, 50).is_err());
        }
        let mut bad = writer.0.clone();
        bad[1] = 9;
        assert!(Params::read(&mut Reader(&bad), 40, 50).is_err());
        bad = writer.0;
        bad[2..6].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(Params::read(&mut Reader(&bad), 40, 50).is_err());
        assert!(model.inverse(&[0.0; 6], &mut [0.0; 99]).is_err());
        assert!(model.inverse(&[0.0; 5], &mut [0.0; 100]).is_err());
    }

    #[test]
    fn impossible_requests_are_refused() {
        for (rank, bits) in [(0, 4), (1, 0), (1, 9)] {
            assert!(fit(3, rank, bits, 1, &|_, out| out.extend([1.0; 3])).is_err());
        }
        for special in [f32::NAN, f32::INFINITY] {
            assert!(fit(3, 1, 4, 1, &|_, out| *out = vec![1.0, special, 2.0]).is_err());
        }
    }
}
