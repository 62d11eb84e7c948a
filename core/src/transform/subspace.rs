//! The leading right singular vectors of a matrix D that comes in chunks of rows, by randomised subspace iteration
//! (arXiv:0909.4061, algorithm 4.4) and a Rayleigh-Ritz step; for many of them with D^T D, once that is known. Encoder
//! only: no decoded bit depends on this.

use nalgebra::{DMatrix, DMatrixView, SymmetricEigen};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;

use crate::plan::energy;

/// A matrix D of whole rows of `cols` values, which `chunk(i, buffer)` puts into the buffer (replacing its content)
/// for i in 0..`chunk_count`: the whole of it never has to be in memory.
pub(super) struct Source<'a> {
    pub(super) cols: usize,
    pub(super) chunk_count: usize,
    pub(super) chunk: &'a (dyn Fn(usize, &mut Vec<f32>) + Sync),
}

/// `s u` and `v` of a singular triple s, u, v.
pub(super) type Triple = (Vec<f32>, Vec<f32>);

/// What a first look at a matrix shows, and the search for its directions.
pub(super) struct Search<'a> {
    source: Source<'a>,
    /// The largest magnitude; NaN if there is one.
    pub(super) largest: f32,
    /// Whether each row takes part, by chunk.
    takes_part: Vec<Vec<bool>>,
    /// How many do.
    rows: usize,
    /// Sum of squares in those.
    energy: f64,
    /// Root mean square of the weights in the others, 0 without any.
    pub(super) weak: f32,
    /// Brings the largest weight near 1, so that squares neither vanish nor overflow.
    scale: f32,
    /// D^T D, once it was asked for.
    square: OnceLock<DMatrix<f32>>,
}

impl<'a> Search<'a> {
    /// Rows whose energy (sum of squares) is less than `least` of the mean take no part.
    pub(super) fn new(source: Source<'a>, least: f64) -> Self {
        let look = |buffer: &mut Vec<f32>, i| {
            (source.chunk)(i, buffer);
            let energies: Vec<f64> = buffer.chunks_exact(source.cols.max(1)).map(energy).collect();
            // The bits of magnitudes are ordered as they are, and NaN comes last.
            (energies, buffer.iter().fold(0, |largest, d| largest.max(d.abs().to_bits())))
        };
        let chunks: Vec<_> = (0..source.chunk_count).into_par_iter().map_init(Vec::new, look).collect();
        let largest = f32::from_bits(chunks.iter().map(|(_, largest)| *largest).max().unwrap_or(0));
        let energies = || chunks.iter().flat_map(|(energies, _)| energies);
        let least = least * energies().sum::<f64>() / energies().count() as f64;
        let energy = energies().filter(|e| **e >= least).sum();
        let (weak, sum) = energies().filter(|e| **e < least).fold((0, 0.0), |(n, sum), e| (n + 1, sum + e));
        let weak = (sum / (weak * source.cols).max(1) as f64).sqrt() as f32;
        let takes_part: Vec<Vec<bool>> =
            chunks.iter().map(|(energies, _)| energies.iter().map(|e| *e >= least).collect()).collect();
        let rows = takes_part.iter().flatten().filter(|takes_part| **takes_part).count();
        let scale = 1.0 / largest.max(f32::MIN_POSITIVE);
        Self { source, largest, takes_part, rows, energy, weak, scale, square: OnceLock::new() }
    }

    /// Whether each row takes part.
    pub(super) fn takes_part(&self) -> Vec<bool> {
        self.takes_part.concat()
    }

    /// The leading singular triples of the rows that take part, at most `rank`, the strongest first, v of unit length. Where
    /// that spares work, only the first `wanted`. Those `known` from a lower rank spare their part of it. The number of
    /// `iterations` is asked for by the effective rank: 4 come within a hundredth of the optimum.
    pub(super) fn leading_triples(
        &self,
        known: &[Triple],
        rank: usize,
        wanted: usize,
        iterations: impl Fn(f64) -> usize,
    ) -> Vec<Triple> {
        /// More directions than asked for: the subspace of the leading ones converges much faster.
        const OVERSAMPLING: usize = 8;
        let cols = self.source.cols;
        let k = rank.saturating_add(OVERSAMPLING).min(self.rows).min(cols);
        let new = k.saturating_sub(known.len());
        let known_basis = known.iter().flat_map(|(_, v)| v).copied().collect();
        let mut basis = DMatrix::from_vec(cols, known.len(), known_basis);
        let mut v = DMatrix::from_fn(cols, new, |i, j| noise((i * k + known.len() + j) as u64));
        // From so many on, products with all rows would take longer than D^T D does.
        if 3 * k >= cols && self.rows >= cols {
            let square = self.square();
            basis.extend(v.column_iter());
            for _ in 0..iterations(self.effective_rank(energy(square.as_slice()))) {
                basis = (square * basis).qr().q();
            }
            let gram = (basis.transpose() * (square * &basis)).map(f64::from);
            let directions = basis * principal_axes(gram, wanted);
            return self.triples(self.images(&directions), directions);
        }
        let (mut done, mut enough) = (0, 1);
        while done < enough {
            let v_t = v.transpose();
            // W = D^T (D V)
            let add =
                |w: &mut DMatrix<f32>, d_t: &Panel<'_>| w.gemm(1.0, d_t, &(&v_t * d_t).transpose(), 1.0);
            v = self.sum(DMatrix::zeros(cols, new), cols * new, add, |sum, part| sum + part);
            if done == 0 {
                // Of random directions the images have the energy of D^T D, by chance.
                let squares = energy(v.as_slice()) * cols as f64 / energy(v_t.as_slice());
                enough = iterations(self.effective_rank(squares));
            }
            done += 1;
            // Twice, since little but rounding may be left the first time.
            for _ in 0..if known.is_empty() { 1 } else { 2 } {
                v = (&v - &basis * (basis.transpose() * &v)).qr().q();
            }
        }
        // D V, a column for each direction, and the directions.
        let mut images = Vec::with_capacity(self.rows * k);
        known.iter().for_each(|(image, _)| images.extend(image.iter().map(|x| x * self.scale)));
        images.extend_from_slice(self.images(&v).as_slice());
        let images = DMatrix::from_vec(self.rows, k, images);
        basis.extend(v.column_iter());
        let axes = principal_axes(gram(&images, known.len()), rank);
        self.triples(images * &axes, basis * axes)
    }

    /// How many directions of one strength have the energy E of D, and S of `D^T D` as it is scaled: `E^2 / S`.
    fn effective_rank(&self, squares: f64) -> f64 {
        (self.energy * f64::from(self.scale).powi(2)).powi(2) / squares
    }

    /// D V, scaled.
    fn images(&self, v: &DMatrix<f32>) -> DMatrix<f32> {
        let v_t = v.transpose();
        let add = |images: &mut Vec<f32>, d_t: &Panel<'_>| images.extend_from_slice((&v_t * d_t).as_slice());
        let join = |mut all: Vec<f32>, images: Vec<f32>| {
            all.extend_from_slice(&images);
            all
        };
        let images = self.sum(Vec::new(), 0, add, join);
        DMatrixView::from_slice(&images, v.ncols(), images.len() / v.ncols().max(1)).transpose()
    }

    /// D^T D, scaled.
    fn square(&self) -> &DMatrix<f32> {
        /// Columns at a time: what is below the diagonal need not be computed.
        const COLS: usize = 96;
        let cols = self.source.cols;
        let add = |square: &mut DMatrix<f32>, d_t: &Panel<'_>| {
            let d = d_t.transpose();
            for first in (0..cols).step_by(COLS) {
                let n = COLS.min(cols - first);
                let mut part = square.view_mut((0, first), (first + n, n));
                part.gemm(1.0, &d_t.rows(0, first + n), &d.columns(first, n), 1.0);
            }
        };
        self.square.get_or_init(|| {
            let mut square = self.sum(DMatrix::zeros(cols, cols), cols * cols, add, |sum, part| sum + part);
            square.fill_lower_triangle_with_upper_triangle();
            square
        })
    }

    /// From images and directions, which are orthogonal, the strongest first.
    fn triples(&self, mut images: DMatrix<f32>, mut directions: DMatrix<f32>) -> Vec<Triple> {
        // Below this there is nothing but rounding.
        let least = 1e-12 * images.column_iter().map(|image| image.norm_squared()).fold(0.0, f32::max);
        for i in 0..directions.ncols() {
            // The sign is arbitrary: the largest entry is made positive.
            if directions[(directions.column(i).icamax(), i)] < 0.0 {
                directions.column_mut(i).neg_mut();
                images.column_mut(i).neg_mut();
            }
        }
        let columns = images.column_iter().zip(directions.column_iter());
        let there = columns.filter(|(image, _)| image.norm_squared() > least);
        let unscaled = |image: &[f32]| image.iter().map(|x| x / self.scale).collect();
        there.map(|(image, v)| (unscaled(image.as_slice()), v.as_slice().to_vec())).collect()
    }

    /// Adds up `add(sum, D^T)` over panels D of consecutive rows, scaled; a sum has about `len` numbers at first.
    ///
    /// Runs in parallel over groups whose number depends on the shape only and whose sums are joined in order, so
    /// that rounding does not depend on the number of threads.
    fn sum<T: Clone + Send + Sync>(
        &self,
        zero: T,
        len: usize,
        add: impl Fn(&mut T, &Panel<'_>) + Sync,
        join: impl Fn(T, T) -> T,
    ) -> T {
        /// Together the partial sums take at most 64 MiB of f32, or what one takes.
        const ELEMENTS: usize = 1 << 24;
        let chunk_count = self.source.chunk_count;
        let groups = (ELEMENTS / len.max(1)).clamp(1, 16).min(chunk_count.max(1));
        let group = |g: usize| {
            let mut sum = zero.clone();
            let chunks = g * chunk_count / groups..(g + 1) * chunk_count / groups;
            self.panels(chunks, |d_t| add(&mut sum, d_t));
            sum
        };
        let parts: Vec<T> = (0..groups).into_par_iter().map(group).collect();
        parts.into_iter().fold(zero, join)
    }

    /// Calls `visit(D^T)` (cols x rows of the panel) for panels D made of a few chunks: products of taller panels
    /// are faster.
    fn panels(&self, chunks: Range<usize>, mut visit: impl FnMut(&Panel<'_>)) {
        let cols = self.source.cols;
        let enough = (1 << 18).max(8 * cols);
        let (mut values, mut buffer) = (Vec::new(), Vec::new());
        let last = chunks.end.saturating_sub(1);
        for i in chunks {
            (self.source.chunk)(i, &mut buffer);
            let rows = buffer.chunks_exact(cols).zip(&self.takes_part[i]);
            for (row, _) in rows.filter(|(_, takes_part)| **takes_part) {
                values.extend(row.iter().map(|d| d * self.scale));
            }
            if values.len() >= enough || i == last && !values.is_empty() {
                visit(&DMatrixView::from_slice(&values, cols, values.len() / cols));
                values.clear();
            }
        }
    }
}

/// The transpose of consecutive rows: cols x rows.
type Panel<'a> = DMatrixView<'a, f32>;

/// `images^T images`, of which the first `known` are orthogonal to each other.
fn gram(images: &DMatrix<f32>, known: usize) -> DMatrix<f64> {
    /// Rows at a time: the order of the sums does not depend on the number of threads.
    const ROWS: usize = 4096;
    let (n, k) = images.shape();
    let part = |i: usize| {
        let part = images.rows(i, ROWS.min(n - i));
        let mut gram = DMatrix::zeros(k, k);
        for i in 0..known {
            gram[(i, i)] = f64::from(part.column(i).norm_squared());
        }
        let products = part.transpose() * part.columns_range(known..);
        gram.columns_range_mut(known..).copy_from(&products.map(f64::from));
        gram
    };
    let parts: Vec<_> = (0..n).into_par_iter().step_by(ROWS).map(part).collect();
    let mut gram = parts.into_iter().fold(DMatrix::zeros(k, k), |sum, part| sum + part);
    gram.fill_lower_triangle_with_upper_triangle();
    gram
}

/// The leading axes of D's energy, at most `rank`, as columns in the basis V with `gram = (D V)^T (D V)`.
fn principal_axes(gram: DMatrix<f64>, rank: usize) -> DMatrix<f32> {
    let eigen = SymmetricEigen::new(gram);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    order.truncate(rank);
    eigen.eigenvectors.select_columns(&order).map(|e| e as f32)
}

/// Noise of mean 0, nearly Gaussian, a function of the index alone.
pub(super) fn noise(index: u64) -> f32 {
    let mut x = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (0..4).map(|i| (x >> (16 * i) & 0xffff) as f32 - 32767.5).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Triples that are added to others are as good as those found together, also where no more than rounding is left to
    /// find; with the square of the matrix, and without it. The effective rank is about that of the strengths.
    #[test]
    fn known_triples_change_little() {
        let strengths = [vec![3.0, 2.0], (0..60).map(|k| 0.9f32.powi(k)).collect::<Vec<_>>()];
        for (strength, cols) in strengths.iter().flat_map(|strength| [(strength, 80), (strength, 100)]) {
            let rows = 90;
            let component =
                |k: usize, i: usize, n: usize| noise((k * 1000 + i) as u64) / (65536.0 * (n as f32).sqrt());
            let weight = |i: usize, j: usize| -> f32 {
                let one =
                    |(k, s): (usize, &f32)| s * component(2 * k, i, rows) * component(2 * k + 1, j, cols);
                strength.iter().enumerate().map(one).sum()
            };
            let chunk = |i: usize, out: &mut Vec<f32>| {
                *out = (30 * i..30 * i + 30)
                    .flat_map(|i| (0..cols).map(move |j| (i, j)))
                    .map(|(i, j)| weight(i, j))
                    .collect();
            };
            let search = Search::new(Source { cols, chunk_count: rows / 30, chunk: &chunk }, 0.0);
            let sum = |power| strength.iter().map(|s| f64::from(*s).powi(power)).sum::<f64>();
            let effective_rank = sum(2).powi(2) / sum(4);
            let iterations = |found: f64| {
                assert!((0.6..1.6).contains(&(found / effective_rank)), "{found} {effective_rank}");
                2
            };
            let triples = |known: &[Triple], rank| search.leading_triples(known, rank, rank, iterations);
            let at_once = triples(&[], 40);
            let in_parts = triples(&triples(&triples(&[], 10), 20), 40);
            let energy = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
            for (k, (a, b)) in at_once.iter().zip(&in_parts).take(30.min(strength.len())).enumerate() {
                let (s, t) = (energy(&a.0).sqrt(), energy(&b.0).sqrt());
                assert!((s - t).abs() < 0.02 * s && (energy(&b.1) - 1.0).abs() < 1e-3, "{k}: {s} {t}");
            }
        }
    }
}
