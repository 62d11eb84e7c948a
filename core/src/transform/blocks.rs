//! Square blocks of a chunk: gather and scatter, with zero padding at the right and the bottom.

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

    /// Height and width of the part of block `i` that lies inside the matrix, and the index of its first weight.
    #[inline(always)]
    fn inside(&self, i: usize) -> (usize, usize, usize) {
        let (row, col) = (i / self.across * self.side, i % self.across * self.side);
        (self.side.min(self.rows - row), self.side.min(self.cols - col), row * self.cols + col)
    }

    /// Copies blocks `which` (indices in the chunk) out of `chunk`, one after the other, row-major.
    pub(crate) fn gather(&self, chunk: &[f32], which: &[usize]) -> Vec<f32> {
        let side = self.side;
        let mut blocks = Vec::with_capacity(which.len() * side * side);
        for &i in which {
            let (height, width, first) = self.inside(i);
            for row in 0..height {
                let start = first + row * self.cols;
                blocks.extend_from_slice(&chunk[start..start + width]);
                blocks.resize(blocks.len() + side - width, 0.0);
            }
            blocks.resize(blocks.len() + (side - height) * side, 0.0);
        }
        blocks
    }

    /// Copies blocks `which` back into `chunk`, without the padding.
    pub(crate) fn scatter(&self, blocks: &[f32], which: &[usize], chunk: &mut [f32]) {
        for (&i, block) in which.iter().zip(blocks.chunks_exact(self.side * self.side)) {
            let (height, width, first) = self.inside(i);
            for (row, values) in block.chunks_exact(self.side).take(height).enumerate() {
                let start = first + row * self.cols;
                chunk[start..start + width].copy_from_slice(&values[..width]);
            }
        }
    }

    /// Sets every weight of block `i` to `value`.
    pub(crate) fn fill(&self, i: usize, value: f32, chunk: &mut [f32]) {
        let (height, width, first) = self.inside(i);
        for row in 0..height {
            let start = first + row * self.cols;
            chunk[start..start + width].fill(value);
        }
    }

    /// Mean over the padded block `i`, in `f32` as the predecessor computes it, and its energy (sum of squares).
    pub(crate) fn mean_and_energy(&self, chunk: &[f32], i: usize) -> (f32, f64) {
        const LANES: usize = 8;
        let (height, width, first) = self.inside(i);
        let (mut sums, mut squares) = ([0.0f64; LANES], [0.0f64; LANES]);
        for row in 0..height {
            let start = first + row * self.cols;
            let (chunks, rest) = chunk[start..start + width].as_chunks::<LANES>();
            for values in chunks {
                for lane in 0..LANES {
                    let x = f64::from(values[lane]);
                    sums[lane] += x;
                    squares[lane] += x * x;
                }
            }
            for (lane, &value) in rest.iter().enumerate() {
                let x = f64::from(value);
                sums[lane] += x;
                squares[lane] += x * x;
            }
        }
        let area = (self.side * self.side) as f64;
        ((sums.iter().sum::<f64>() / area) as f32, squares.iter().sum())
    }
}
