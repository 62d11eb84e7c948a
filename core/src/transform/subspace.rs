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

    /// The leading right singular vectors, at most `rank`, of unit length, the strongest first. `scale` brings the
    /// largest weight near 1, so that squares neither vanish nor overflow.
    pub(super) fn leading_directions(&self, rank: usize, rows: usize, scale: f32) -> Vec<Vec<f32>> {
        /// More directions than asked for: the subspace of the leading ones converges much faster.
        const OVERSAMPLING: usize = 8;
        const ITERATIONS: usize = 4;
        let k = rank.saturating_add(OVERSAMPLING).min(rows).min(self.cols);
        let mut v = DMatrix::from_fn(self.cols, k, |i, j| noise((i * k + j) as u64)).qr().q();
        for _ in 0..ITERATIONS {
            let v_t = v.transpose();
            // W = D^T (D V)
            let w = self.sum(scale, DMatrix::<f32>::zeros(self.cols, k), |w, d_t| {
                w.gemm(1.0, d_t, &(&v_t * d_t).transpose(), 1.0);
            });
            v = w.qr().q();
        }
        let v_t = v.transpose();
        // (D V)^T (D V)
        let gram = self.sum(scale, DMatrix::<f64>::zeros(k, k), |gram, d_t| {
            let y_t = (&v_t * d_t).map(f64::from);
            gram.gemm(1.0, &y_t, &y_t.transpose(), 1.0);
        });
        principal_axes(&v, gram, rank)
    }

    /// Adds up `add(sum, D^T)` over panels D of consecutive rows, scaled.
    ///
    /// Runs in parallel over groups whose number depends on the shape only and whose sums are added in order, so
    /// that rounding does not depend on the number of threads.
    fn sum<T: nalgebra::Scalar + nalgebra::ClosedAddAssign + Send + Sync>(
        &self,
        scale: f32,
        zero: DMatrix<T>,
        add: impl Fn(&mut DMatrix<T>, &DMatrixView<'_, f32>) + Sync,
    ) -> DMatrix<T> {
        /// Together the partial sums take at most 64 MiB of f32, or what one takes.
        const ELEMENTS: usize = 1 << 24;
        let groups = (ELEMENTS / zero.len().max(1)).clamp(1, 16).min(self.chunk_count.max(1));
        let group = |g: usize| {
            let mut sum = zero.clone();
            let chunks = g * self.chunk_count / groups..(g + 1) * self.chunk_count / groups;
            self.panels(chunks, scale, |d_t| add(&mut sum, d_t));
            sum
        };
        let parts: Vec<_> = (0..groups).into_par_iter().map(group).collect();
        parts.into_iter().fold(zero.clone(), |sum, part| sum + part)
    }

    /// Calls `visit(D^T)` (cols x rows of the panel) for panels D made of a few chunks: products of taller panels
    /// are faster.
    fn panels(&self, chunks: Range<usize>, scale: f32, mut visit: impl FnMut(&DMatrixView<'_, f32>)) {
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

/// Rotates the orthonormal columns of `v` (cols x k) to the axes of D's energy, given `gram = (D V)^T (D V)`, and
/// returns the leading ones, at most `rank`.
fn principal_axes(v: &DMatrix<f32>, gram: DMatrix<f64>, rank: usize) -> Vec<Vec<f32>> {
    let eigen = SymmetricEigen::new(gram);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let smallest = eigen.eigenvalues.max() * 1e-12;
    order.retain(|i| eigen.eigenvalues[*i] > smallest);
    let axis = |i: &usize| {
        let mut axis = v * eigen.eigenvectors.column(*i).map(|e| e as f32);
        // The sign is arbitrary: the largest entry is made positive.
        if axis[axis.icamax()] < 0.0 {
            axis.neg_mut();
        }
        axis.iter().copied().collect()
    };
    order.iter().take(rank).map(axis).collect()
}

/// Noise of mean 0, nearly Gaussian, a function of the index alone.
pub(super) fn noise(index: u64) -> f32 {
    let mut x = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (0..4).map(|i| (x >> (16 * i) & 0xffff) as f32 - 32767.5).sum()
}
