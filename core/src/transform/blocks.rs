//! Square blocks of a chunk: gather and scatter, with zero padding at the right and the bottom.

use std::iter::Sum;
use std::ops::AddAssign;

use super::grid::Chunk;

/// The blocks of one chunk, each `side` x `side`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    pub(crate) side: usize,
    rows: usize,
    cols: usize,
    across: usize,
}

impl Blocks {
    pub(crate) fn new(chunk: &Chunk, side: usize) -> Self {
        Self { side, rows: chunk.rows.len(), cols: chunk.cols, across: chunk.cols.div_ceil(side) }
    }

    /// Blocks that lie one under the other in `values`, and their indices.
    #[cfg(test)]
    pub(super) fn column(side: usize, values: &[f32]) -> (Self, Vec<usize>) {
        let rows = values.len() / side;
        (Self { side, rows, cols: side, across: 1 }, (0..rows / side).collect())
    }

    /// Height and width of the part of block `i` that lies inside the matrix, and the index of its first weight.
    #[inline(always)]
    fn inside(&self, i: usize) -> (usize, usize, usize) {
        let (row, col) = (i / self.across * self.side, i % self.across * self.side);
        (self.side.min(self.rows - row), self.side.min(self.cols - col), row * self.cols + col)
    }

    /// Copies blocks `which` (indices in the chunk) out of `chunk`, one after the other, row-major, into `blocks`.
    pub(crate) fn gather(&self, chunk: &[f32], which: &[usize], blocks: &mut [f32]) {
        for (&i, block) in which.iter().zip(blocks.chunks_exact_mut(self.side * self.side)) {
            self.load(chunk, i, block, self.side);
        }
    }

    /// Copies blocks `which` back into `chunk`, without the padding.
    pub(crate) fn scatter(&self, blocks: &[f32], which: &[usize], chunk: &mut [f32]) {
        for (&i, block) in which.iter().zip(blocks.chunks_exact(self.side * self.side)) {
            self.store(block, self.side, i, chunk);
        }
    }

    /// Copies block `i` into the first columns of a matrix with `stride` values a row.
    #[inline(always)]
    pub(super) fn load(&self, chunk: &[f32], i: usize, matrix: &mut [f32], stride: usize) {
        let (height, width, first) = self.inside(i);
        if height.min(width) < self.side {
            matrix.chunks_mut(stride).take(self.side).for_each(|row| row[..self.side].fill(0.0));
        }
        for row in 0..height {
            copy(&chunk[first + row * self.cols..][..width], &mut matrix[row * stride..][..width]);
        }
    }

    /// Inverse of [`Self::load`], without the padding.
    #[inline(always)]
    pub(super) fn store(&self, matrix: &[f32], stride: usize, i: usize, chunk: &mut [f32]) {
        let (height, width, first) = self.inside(i);
        for row in 0..height {
            copy(&matrix[row * stride..][..width], &mut chunk[first + row * self.cols..][..width]);
        }
    }

    /// Sets every weight of block `i` to `value`.
    #[inline(always)]
    pub(crate) fn fill(&self, i: usize, value: f32, chunk: &mut [f32]) {
        let (height, width, first) = self.inside(i);
        for row in 0..height {
            set(&mut chunk[first + row * self.cols..][..width], value);
        }
    }

    /// Number of weights of block `i`, without the padding.
    #[inline(always)]
    pub(crate) fn weights(&self, i: usize) -> usize {
        let (height, width, _) = self.inside(i);
        height * width
    }

    /// Mean over the padded block `i`.
    #[inline(always)]
    pub(crate) fn mean(&self, chunk: &[f32], i: usize) -> f32 {
        let sum = self.sum(chunk, i, f64::from);
        (sum / (self.side * self.side) as f64) as f32
    }

    /// Sum of squares of each of the first `n` blocks.
    pub(crate) fn energies(&self, chunk: &[f32], n: usize) -> Vec<f64> {
        pulp::Arch::new().dispatch(Energies { blocks: *self, chunk, n })
    }

    /// Sum of `f(x)` over block `i`, row by row in as many lanes.
    #[inline(always)]
    fn sum<T: Copy + Default + AddAssign + Sum>(&self, chunk: &[f32], i: usize, f: impl Fn(f32) -> T) -> T {
        const LANES: usize = 8;
        let (height, width, first) = self.inside(i);
        let mut sums = [T::default(); LANES];
        for row in 0..height {
            let start = first + row * self.cols;
            let (runs, rest) = chunk[start..start + width].as_chunks::<LANES>();
            for run in runs {
                for lane in 0..LANES {
                    sums[lane] += f(run[lane]);
                }
            }
            for (sum, &x) in sums.iter_mut().zip(rest) {
                *sum += f(x);
            }
        }
        sums.into_iter().sum()
    }
}

/// Copies a row; the usual widths without a call.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    #[inline(always)]
    fn fixed<const N: usize>(from: &[f32], to: &mut [f32]) {
        if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
            *to = *from;
        }
    }
    match from.len() {
        4 => fixed::<4>(from, to),
        8 => fixed::<8>(from, to),
        16 => fixed::<16>(from, to),
        32 => fixed::<32>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// Fills a row; the usual widths without a loop.
#[inline(always)]
fn set(row: &mut [f32], value: f32) {
    #[inline(always)]
    fn fixed<const N: usize>(row: &mut [f32], value: f32) {
        if let Some(row) = row.first_chunk_mut::<N>() {
            *row = [value; N];
        }
    }
    match row.len() {
        8 => fixed::<8>(row, value),
        16 => fixed::<16>(row, value),
        32 => fixed::<32>(row, value),
        _ => row.fill(value),
    }
}

/// [`Blocks::energies`], compiled for the vector unit.
struct Energies<'a> {
    blocks: Blocks,
    chunk: &'a [f32],
    n: usize,
}

impl pulp::NullaryFnOnce for Energies<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn call(self) -> Vec<f64> {
        let mut energies = Vec::with_capacity(self.n);
        for i in 0..self.n {
            let narrow = self.blocks.sum(self.chunk, i, |x| x * x);
            // Squares of the smallest and the largest deltas are numbers in f64 only.
            energies.push(match (1e-24..1e30).contains(&narrow) {
                true => f64::from(narrow),
                false => self.blocks.sum(self.chunk, i, |x| f64::from(x) * f64::from(x)),
            });
        }
        energies
    }
}
