//! How a matrix is cut: into chunks of whole rows, coded independently, and chunks into square blocks.

use std::ops::Range;

/// Weights that a chunk holds at least, where the matrix has them: small enough for a core's cache, large enough
/// that a chunk's overhead of some bytes does not count.
const CHUNK_WEIGHTS: usize = 1 << 16;

/// The cutting of a `rows` x `cols` matrix. Blocks run row by row over the zero-padded matrix; without a block size
/// each chunk is one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    block: Option<usize>,
    chunk_rows: usize,
}

/// One chunk of a [`Grid`].
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// Rows of the matrix.
    pub(crate) rows: Range<usize>,
    pub(crate) cols: usize,
    /// Its blocks, counted over the whole matrix.
    pub(crate) blocks: Range<usize>,
}

impl Grid {
    pub(crate) fn new(rows: usize, cols: usize, block: Option<usize>) -> Self {
        let unit = block.unwrap_or(1);
        let strip = unit.saturating_mul(cols).max(1);
        let chunk_rows = unit * CHUNK_WEIGHTS.div_ceil(strip);
        Self { rows, cols, block, chunk_rows }
    }

    /// Side of a block; 1 without blocks.
    pub(crate) fn side(&self) -> usize {
        self.block.unwrap_or(1)
    }

    pub(crate) fn chunks(&self) -> usize {
        self.rows.div_ceil(self.chunk_rows)
    }

    /// Number of blocks in the whole matrix.
    pub(crate) fn blocks(&self) -> usize {
        match self.block {
            Some(block) => self.rows.div_ceil(block).saturating_mul(self.cols.div_ceil(block)),
            None => self.chunks(),
        }
    }

    /// Some chunks from all over the matrix, for what a sample tells.
    pub(crate) fn sample(&self) -> impl Iterator<Item = Chunk> {
        const CHUNKS: usize = 16;
        (0..self.chunks()).step_by(self.chunks().div_ceil(CHUNKS).max(1)).map(|i| self.chunk(i))
    }

    /// Chunk `i < chunks()`.
    pub(crate) fn chunk(&self, i: usize) -> Chunk {
        let rows = i * self.chunk_rows..((i + 1) * self.chunk_rows).min(self.rows);
        let blocks = match self.block {
            Some(block) => {
                let across = self.cols.div_ceil(block);
                rows.start / block * across..rows.end.div_ceil(block) * across
            }
            None => i..i + 1,
        };
        Chunk { rows, cols: self.cols, blocks }
    }
}

impl Chunk {
    /// Number of weights.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() * self.cols
    }

    /// Row-major index of the first weight in the matrix.
    pub(crate) fn first(&self) -> u64 {
        self.rows.start as u64 * self.cols as u64
    }

    /// The chunk's part of a tensor's bytes.
    pub(crate) fn bytes(&self, element_size: usize) -> Range<usize> {
        let row = self.cols * element_size;
        self.rows.start * row..self.rows.end * row
    }
}
