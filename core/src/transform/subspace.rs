//! The leading right singular vectors of a matrix that comes in chunks of rows, by randomised subspace iteration
//! (arXiv:0909.4061, algorithm 4.4) and a Rayleigh-Ritz step. Encoder only: no decoded bit depends on this.

use nalgebra::{DMatrix, DMatrixView, SymmetricEigen};
use rayon::prelude::*;
use std::ops::Range;

/// A matrix D of whole rows of `cols` values, which `chunk(i, buffer)` puts into the buffer (replacing its content)
/// for i in 0..`chunk_count`: the whole of it never has to be in memory.
pub(super) struct Source<'a> {
    pub(super) cols: usize,
    pub(super) chunk_count: usize,
    pub(super) chunk: &'a (dyn Fn(usize, &mut Vec<f32>) + Sync),
}

/// `s u` and `v` of a singular triple s, u, v.
pub(super) type Triple = (Vec<f32>, Vec<f32>);

impl Source<'_> {
    /// Number of weights and the largest magnitude (NaN if there is one).
    pub(super) fn survey(&self) -> (usize, f32) {
        let one = |buffer: &mut Vec<f32>, i| {
            (self.chunk)(i, buffer);
            // The bits of magnitudes are ordered as they are, and NaN comes last.
            (buffer.len(), buffer.iter().fold(0, |largest, d| largest.max(d.abs().to_bits())))
        };
        let all = (0..self.chunk_count).into_par_iter().map_init(Vec::new, one);
        let (len, largest) = all.reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1.max(b.1)));
        (len, f32::from_bits(largest))
    }

    /// The leading singular triples, at most `rank`, the strongest first, v of unit length. `scale`
    /// brings the largest weight near 1, so that squares neither vanish nor overflow; 4 iterations come within a
    /// hundredth of the optimum.
    pub(super) fn leading_triples(
        &self,
        rank: usize,
        rows: usize,
        scale: f32,
        iterations: usize,
    ) -> Vec<Triple> {
        /// More directions than asked for: the subspace of the leading ones converges much faster.
        const OVERSAMPLING: usize = 8;
        let k = rank.saturating_add(OVERSAMPLING).min(rows).min(self.cols);
        let mut v = DMatrix::from_fn(self.cols, k, |i, j| noise((i * k + j) as u64));
        for _ in 0..iterations {
            let v_t = v.transpose();
            // W = D^T (D V)
            let add =
                |w: &mut DMatrix<f32>, d_t: &Panel<'_>| w.gemm(1.0, d_t, &(&v_t * d_t).transpose(), 1.0);
            let zero = DMatrix::zeros(self.cols, k);
            v = self.sum(scale, zero, self.cols * k, add, |sum, part| sum + part).qr().q();
        }
        let v_t = v.transpose();
        // (D V)^T (D V), and (D V)^T itself.
        let add = |(gram, images): &mut (DMatrix<f64>, Vec<f32>), d_t: &Panel<'_>| {
            let y_t = &v_t * d_t;
            images.extend_from_slice(y_t.as_slice());
            let y_t = y_t.map(f64::from);
            gram.gemm(1.0, &y_t, &y_t.transpose(), 1.0);
        };
        let join = |(sum, mut all): (DMatrix<f64>, Vec<f32>), (gram, images): (DMatrix<f64>, Vec<f32>)| {
            all.extend_from_slice(&images);
            (sum + gram, all)
        };
        let (gram, images) = self.sum(scale, (DMatrix::zeros(k, k), Vec::new()), k * k, add, join);
        let axes = principal_axes(gram, rank);
        let mut directions = &v * &axes;
        let images = DMatrixView::from_slice(&images, k, images.len() / k.max(1));
        let mut images = (axes.transpose() * images) / scale;
        (0..axes.ncols())
            .map(|i| {
                // The sign is arbitrary: the largest entry is made positive.
                if directions[(directions.column(i).icamax(), i)] < 0.0 {
                    directions.column_mut(i).neg_mut();
                    images.row_mut(i).neg_mut();
                }
                (images.row(i).iter().copied().collect(), directions.column(i).iter().copied().collect())
            })
            .collect()
    }

    /// Adds up `add(sum, D^T)` over panels D of consecutive rows, scaled; a sum has about `len` numbers at first.
    ///
    /// Runs in parallel over groups whose number depends on the shape only and whose sums are joined in order, so
    /// that rounding does not depend on the number of threads.
    fn sum<T: Clone + Send + Sync>(
        &self,
        scale: f32,
        zero: T,
        len: usize,
        add: impl Fn(&mut T, &Panel<'_>) + Sync,
        join: impl Fn(T, T) -> T,
    ) -> T {
        /// Together the partial sums take at most 64 MiB of f32, or what one takes.
        const ELEMENTS: usize = 1 << 24;
        let groups = (ELEMENTS / len.max(1)).clamp(1, 16).min(self.chunk_count.max(1));
        let group = |g: usize| {
            let mut sum = zero.clone();
            let chunks = g * self.chunk_count / groups..(g + 1) * self.chunk_count / groups;
            self.panels(chunks, scale, |d_t| add(&mut sum, d_t));
            sum
        };
        let parts: Vec<T> = (0..groups).into_par_iter().map(group).collect();
        parts.into_iter().fold(zero, join)
    }

    /// Calls `visit(D^T)` (cols x rows of the panel) for panels D made of a few chunks: products of taller panels
    /// are faster.
    fn panels(&self, chunks: Range<usize>, scale: f32, mut visit: impl FnMut(&Panel<'_>)) {
        let enough = (1 << 18).max(8 * self.cols);
        let (mut panel, mut buffer) = (Vec::new(), Vec::new());
        let last = chunks.end.saturating_sub(1);
        for i in chunks {
            (self.chunk)(i, &mut buffer);
            panel.extend(buffer.iter().map(|d| d * scale));
            if panel.len() >= enough || i == last && !panel.is_empty() {
                visit(&DMatrixView::from_slice(&panel, self.cols, panel.len() / self.cols));
                panel.clear();
            }
        }
    }
}

/// The transpose of consecutive rows: cols x rows.
type Panel<'a> = DMatrixView<'a, f32>;

/// The leading axes of D's energy, at most `rank`, as columns in the basis V with `gram = (D V)^T (D V)`.
fn principal_axes(gram: DMatrix<f64>, rank: usize) -> DMatrix<f32> {
    let eigen = SymmetricEigen::new(gram);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let smallest = eigen.eigenvalues.max() * 1e-12;
    order.retain(|i| eigen.eigenvalues[*i] > smallest);
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
