//! The two-dimensional DCT of square blocks, and the JPEG table that some methods divide by.
//!
//! # Specification
//!
//! For a block `X` of `n` x `n` the coefficients are `Y = C X C'`, with the orthonormal DCT-II matrix
//! `C[k][i] = c_k cos(pi (2i+1) k / 2n)`, `c_0 = sqrt(1/n)`, `c_k = sqrt(2/n)`. Coefficient `Y[u][v]` (`u` is the
//! frequency along axis 0, down the columns; `v` along axis 1) is stored at `v * n + u`: column by column.
//!
//! Arithmetic is f32, every sum, difference and product rounded. A constant written as a formula stands for the
//! f32 nearest to its exact value. Forward: `II` on every column, then `II` on every row, then one product with
//! the scale. Inverse: one product with the scale, then `IIt` on every row, then `IIt` on every column. The scale
//! is `1/n` for `u = v = 0`, `sqrt(2)/n` where just one of them is 0, and `2/n` elsewhere.
//!
//! `II` and `IIt` are in `cosine.rs`.

use std::mem::take;

use bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Arch, NullaryFnOnce, Simd, WithSimd};

use super::cosine::{Constants, Kind, any_length, unrolled};
use super::transpose::transpose;
use crate::error::{Error, Result};

/// The DCT of blocks of one size.
#[derive(Clone, Debug)]
pub(crate) struct Dct {
    block: usize,
    /// Constants for sides `block`, `block / 2`, ... down to the first odd one.
    sizes: Vec<Constants>,
}

impl Dct {
    /// The DCT of `block` x `block` values; an error unless `block` is 4 to 128.
    pub(crate) fn new(block: usize) -> Result<Self> {
        if !(4..=128).contains(&block) {
            return Err(Error::invalid(format!("block size {block}: the DCT takes 4 to 128")));
        }
        Ok(Self { block, sizes: Constants::halving(block) })
    }

    /// Side of a block.
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// How many blocks to transform at once, so that they stay in the nearest cache, and the number of their values.
    pub(crate) fn blocks_at_once(&self) -> (usize, usize) {
        const VALUES: usize = 1 << 12;
        let area = self.block * self.block;
        let blocks = VALUES.div_ceil(area);
        (blocks, blocks * area)
    }

    /// Replaces every block (`block` x `block`, row-major, one after the other) by its coefficients, stored column
    /// by column. `blocks` holds a whole number of blocks.
    pub(crate) fn forward(&self, blocks: &mut [f32]) {
        Arch::new().dispatch(Pass { dct: self, blocks, inverse: false });
    }

    /// Replaces the coefficients of every block by its values, the inverse of [`Dct::forward`].
    pub(crate) fn inverse(&self, blocks: &mut [f32]) {
        Arch::new().dispatch(Pass { dct: self, blocks, inverse: true });
    }
}

/// One direction over all blocks.
struct Pass<'a> {
    dct: &'a Dct,
    blocks: &'a mut [f32],
    inverse: bool,
}

impl WithSimd for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scratch = Scratch::new(simd, self.dct);
        let (blocks, unroll) = (self.blocks, !S::IS_SCALAR);
        match (self.dct.block, self.inverse) {
            (4, false) if unroll => simd.vectorize(Run::<S, 4, false> { scratch, blocks }),
            (4, true) if unroll => simd.vectorize(Run::<S, 4, true> { scratch, blocks }),
            (8, false) if unroll => simd.vectorize(Run::<S, 8, false> { scratch, blocks }),
            (8, true) if unroll => simd.vectorize(Run::<S, 8, true> { scratch, blocks }),
            (16, false) if unroll => simd.vectorize(Run::<S, 16, false> { scratch, blocks }),
            (16, true) if unroll => simd.vectorize(Run::<S, 16, true> { scratch, blocks }),
            (32, false) if unroll => simd.vectorize(Run::<S, 32, false> { scratch, blocks }),
            (32, true) if unroll => simd.vectorize(Run::<S, 32, true> { scratch, blocks }),
            (_, false) => simd.vectorize(Run::<S, 0, false> { scratch, blocks }),
            (_, true) => simd.vectorize(Run::<S, 0, true> { scratch, blocks }),
        }
    }
}

/// The loop over the blocks, compiled on its own for every common side `N` (0: any) and direction.
struct Run<'a, S: Simd, const N: usize, const INVERSE: bool> {
    scratch: Scratch<'a, S>,
    blocks: &'a mut [f32],
}

impl<S: Simd, const N: usize, const INVERSE: bool> NullaryFnOnce for Run<'_, S, N, INVERSE> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { mut scratch, blocks } = self;
        let n = if N == 0 { scratch.dct.block } else { N };
        if n % S::F32_LANES == 0 {
            for block in blocks.chunks_exact_mut(n * n) {
                scratch.transform::<N>(S::as_mut_simd_f32s(block).0, INVERSE);
            }
            return;
        }
        let mut padded = vec![scratch.simd.splat_f32s(0.0); scratch.turned.len()];
        let width = scratch.stride * S::F32_LANES;
        for block in blocks.chunks_exact_mut(n * n) {
            for (row, to) in block.chunks_exact(n).zip(cast_slice_mut(&mut padded).chunks_exact_mut(width)) {
                to[..n].copy_from_slice(row);
            }
            scratch.transform::<N>(&mut padded, INVERSE);
            for (row, from) in block.chunks_exact_mut(n).zip(cast_slice(&padded).chunks_exact(width)) {
                row.copy_from_slice(&from[..n]);
            }
        }
    }
}

/// What the transform of one block works with; a row of it has `stride` vectors.
struct Scratch<'a, S: Simd> {
    simd: S,
    dct: &'a Dct,
    stride: usize,
    /// The block between its two passes.
    turned: Vec<S::f32s>,
    /// The scale of row 0, then that of every other row.
    scale: Vec<S::f32s>,
    column: Vec<S::f32s>,
    spare: Vec<S::f32s>,
}

impl<'a, S: Simd> Scratch<'a, S> {
    #[inline(always)]
    fn new(simd: S, dct: &'a Dct) -> Self {
        let n = dct.block;
        let stride = n.div_ceil(S::F32_LANES);
        let column = vec![simd.splat_f32s(0.0); stride * S::F32_LANES];
        let mut scale = vec![simd.splat_f32s((2.0 / n as f64) as f32); 2 * stride];
        let values: &mut [f32] = cast_slice_mut(&mut scale);
        let (first, rest) = values.split_at_mut(stride * S::F32_LANES);
        first.fill((2f64.sqrt() / n as f64) as f32);
        first[0] = (1.0 / n as f64) as f32;
        rest[0] = (2f64.sqrt() / n as f64) as f32;
        let turned = vec![simd.splat_f32s(0.0); stride * S::F32_LANES * stride];
        Self { simd, dct, stride, turned, scale, spare: column.clone(), column }
    }

    /// Transforms one block, whose rows are whole vectors, in place. `N` is its side, or 0 for any.
    #[inline(always)]
    fn transform<const N: usize>(&mut self, block: &mut [S::f32s], inverse: bool) {
        if N == 0 {
            return self.any_length(block, inverse);
        }
        // Never otherwise; it tells the compiler how long the slices are.
        let stride = N.div_ceil(S::F32_LANES);
        let len = stride * stride * S::F32_LANES;
        if (self.stride, self.turned.len(), block.len()) == (stride, len, len) {
            self.unrolled_pass::<N>(block, false, inverse);
            self.unrolled_pass::<N>(block, true, inverse);
        }
    }

    #[inline(always)]
    fn unrolled_pass<const N: usize>(&mut self, block: &mut [S::f32s], second: bool, inverse: bool) {
        let kind = if inverse { Kind::IiT } else { Kind::Ii };
        for at in 0..N.div_ceil(S::F32_LANES) {
            let mut column = [self.simd.splat_f32s(0.0); N];
            self.load(block, second, inverse, at, &mut column);
            unrolled(self.simd, kind, &self.dct.sizes, &mut column);
            self.store(block, second, inverse, at, &mut column);
        }
    }

    /// Any other length.
    #[inline(always)]
    fn any_length(&mut self, block: &mut [S::f32s], inverse: bool) {
        let (mut column, mut spare) = (take(&mut self.column), take(&mut self.spare));
        let kind = if inverse { Kind::IiT } else { Kind::Ii };
        for second in [false, true] {
            for at in 0..self.stride {
                self.load(block, second, inverse, at, &mut column);
                any_length(self.simd, kind, &self.dct.sizes, &mut column[..self.dct.block], &mut spare);
                self.store(block, second, inverse, at, &mut column);
            }
        }
        (self.column, self.spare) = (column, spare);
    }

    /// Reads group `at` of columns: of the block in the first pass, of the transposed half-way result in the second.
    #[inline(always)]
    fn load(&self, block: &[S::f32s], second: bool, inverse: bool, at: usize, column: &mut [S::f32s]) {
        if second {
            let (width, count) = (self.stride * S::F32_LANES, column.len());
            let rows = &cast_slice(&self.turned)[at * S::F32_LANES * width..];
            transpose(self.simd, rows, width, cast_slice_mut(column), S::F32_LANES, count);
        } else {
            for (value, row) in column.iter_mut().zip(block.chunks_exact(self.stride)) {
                *value = row[at];
            }
        }
        if inverse && !second {
            self.scale(at, column);
        }
    }

    /// Writes group `at` of columns: half-way in the first pass, the result in the second.
    #[inline(always)]
    fn store(
        &mut self,
        block: &mut [S::f32s],
        second: bool,
        inverse: bool,
        at: usize,
        column: &mut [S::f32s],
    ) {
        if second && !inverse {
            self.scale(at, column);
        }
        let rows = if second { block } else { &mut self.turned };
        for (value, row) in column.iter().zip(rows.chunks_exact_mut(self.stride)) {
            row[at] = *value;
        }
    }

    /// Multiplies vector `at` of every row by its scale.
    #[inline(always)]
    fn scale(&self, at: usize, column: &mut [S::f32s]) {
        let (first, rest) = (self.scale[at], self.scale[self.stride + at]);
        for (k, value) in column.iter_mut().enumerate() {
            *value = self.simd.mul_f32s(*value, if k == 0 { first } else { rest });
        }
    }
}

/// The luminance table of the JPEG standard (ITU-T T.81, table K.1).
#[rustfmt::skip]
const JPEG_LUMINANCE: [f32; 64] = [
    16., 11., 10., 16.,  24.,  40.,  51.,  61.,
    12., 12., 14., 19.,  26.,  58.,  60.,  55.,
    14., 13., 16., 24.,  40.,  57.,  69.,  56.,
    14., 17., 22., 29.,  51.,  87.,  80.,  62.,
    18., 22., 37., 56.,  68., 109., 103.,  77.,
    24., 35., 55., 64.,  81., 104., 113.,  92.,
    49., 64., 78., 87., 103., 121., 120., 101.,
    72., 92., 95., 98., 112., 100., 103.,  99.,
];

/// The JPEG table for the DCT of `size` x `size` blocks: element `(u, v)` at `u * size + v`, so *row-major*, while
/// coefficients are stored column by column.
///
/// The 8 x 8 luminance table is resized by linear interpolation between pixel centres, in f32: output index `i`
/// lies at `p = max((i + 0.5) * (8 / size) - 0.5, 0)`, `a = floor(p)`, `b = min(a + 1, 7)`, `w = p - a`; the value is
/// `(1 - w_u) * ((1 - w_v) T[a_u][a_v] + w_v T[a_u][b_v]) + w_u * ((1 - w_v) T[b_u][a_v] + w_v T[b_u][b_v])`, at least 1.
pub(crate) fn jpeg_table(size: usize) -> Vec<f32> {
    let mut table = resize(&JPEG_LUMINANCE, 8, size);
    table.iter_mut().for_each(|value| *value = value.max(1.0));
    table
}

/// The JPEG table for the bands of a one-level wavelet of `block` x `block` blocks: [`jpeg_table`] of `block`, resized
/// by the same rule to `block / 2` (row-major).
pub(crate) fn jpeg_band_table(block: usize) -> Vec<f32> {
    resize(&jpeg_table(block), block, block / 2)
}

fn resize(table: &[f32], from: usize, to: usize) -> Vec<f32> {
    let place = |i: usize| {
        let p = ((i as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0);
        let a = (p as usize).min(from - 1);
        (a, (a + 1).min(from - 1), p - a as f32)
    };
    let at = |row: usize, (a, b, w): (usize, usize, f32)| {
        (1.0 - w) * table[row * from + a] + w * table[row * from + b]
    };
    let value = |u, v| {
        let ((a, b, w), across) = (place(u), place(v));
        (1.0 - w) * at(a, across) + w * at(b, across)
    };
    (0..to).flat_map(|u| (0..to).map(move |v| (u, v))).map(|(u, v)| value(u, v)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::f64::consts::PI;

    use super::*;
    use crate::transform::fixture;

    /// Deterministic values in -1..1.
    fn noise(len: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// The coefficients of one block by definition, column by column.
    fn naive(block: &[f32], n: usize) -> Vec<f64> {
        let matrix: Vec<f64> = (0..n * n)
            .map(|at| {
                let (k, i) = (at / n, at % n);
                let c = if k == 0 { 1.0 } else { 2.0 } / n as f64;
                c.sqrt() * (PI * ((2 * i + 1) * k) as f64 / (2 * n) as f64).cos()
            })
            .collect();
        let dot = |a: &[f64], b: &dyn Fn(usize) -> f64| (0..n).map(|i| a[i] * b(i)).sum::<f64>();
        let rows: Vec<f64> = (0..n * n)
            .map(|at| dot(&matrix[at / n * n..][..n], &|i| f64::from(block[i * n + at % n])))
            .collect();
        (0..n * n).map(|at| dot(&matrix[at / n * n..][..n], &|j| rows[at % n * n + j])).collect()
    }

    fn worst(a: &[f32], b: &[f64]) -> f64 {
        let largest = b.iter().fold(0f64, |m, x| m.max(x.abs()));
        a.iter().zip(b).fold(0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs())) / largest
    }

    #[test]
    fn equals_the_definition_and_inverts() {
        for n in 4..=128 {
            let dct = Dct::new(n).unwrap();
            let count = if n > 64 { 1 } else { 64 / n + 2 };
            let values = noise(count * n * n);
            let mut blocks = values.clone();
            dct.forward(&mut blocks);
            for (block, coefficients) in values.chunks(n * n).zip(blocks.chunks(n * n)).take(2) {
                let error = worst(coefficients, &naive(block, n));
                assert!(error < 5e-7, "forward, block {n}: {error:e}");
            }
            dct.inverse(&mut blocks);
            let error = worst(&blocks, &values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
            assert!(error < 1e-6, "forward and inverse, block {n}: {error:e}");
        }
    }

    #[test]
    fn every_block_is_coded_alone() {
        for n in [5, 8, 12, 32] {
            let dct = Dct::new(n).unwrap();
            let values = noise(21 * n * n);
            let mut together = values.clone();
            dct.forward(&mut together);
            for (block, expected) in values.chunks(n * n).zip(together.chunks(n * n)) {
                let mut alone = block.to_vec();
                dct.forward(&mut alone);
                assert_eq!(alone, expected);
            }
        }
    }

    #[test]
    fn vector_units_agree_to_the_bit() {
        for n in [4, 7, 8, 12, 16, 32, 48, 64] {
            let dct = Dct::new(n).unwrap();
            let values = noise(9 * n * n);
            for inverse in [false, true] {
                let (mut scalar, mut vector) = (values.clone(), values.clone());
                Pass { dct: &dct, blocks: &mut scalar, inverse }.with_simd(pulp::Scalar);
                Arch::new().dispatch(Pass { dct: &dct, blocks: &mut vector, inverse });
                assert!(scalar.iter().zip(&vector).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for n in [0, 3, 129] {
            assert!(Dct::new(n).is_err());
        }
        Dct::new(8).unwrap().forward(&mut []);
    }

    #[test]
    fn equals_the_predecessor() {
        for input in
            ["gaussian", "heavy", "rank4", "constant", "tiny", "half_ties", "row", "sparse_rows", "zero"]
        {
            let Some(stages) = fixture::tensors(&format!("stages_{input}.safetensors")) else { return };
            for (name, (shape, patches)) in stages.iter().filter(|(name, _)| name.ends_with(".patches")) {
                let n = shape[2];
                let Some((_, expected)) = stages.get(&name.replace("patches", "dct")) else { continue };
                let largest = expected.iter().fold(1e-30f32, |m, x| m.max(x.abs()));
                let mut blocks = patches.clone();
                Dct::new(n).unwrap().forward(&mut blocks);
                for (at, &value) in expected.iter().enumerate() {
                    let (block, u, v) = (at / (n * n), at / n % n, at % n);
                    let ours = blocks[block * n * n + v * n + u];
                    assert!(
                        (ours - value).abs() <= 1e-6 * largest,
                        "{input} {name} ({u}, {v}): {ours} {value}"
                    );
                }
            }
        }
    }

    #[test]
    fn jpeg_tables_equal_the_predecessors() {
        let Some(tables) = fixture::tensors("tables.safetensors") else { return };
        for size in [8, 16, 32, 64] {
            assert_eq!(jpeg_table(size), tables[&format!("jpeg.p{size}")].1, "jpeg.p{size}");
            assert_eq!(jpeg_band_table(size), tables[&format!("jpeg_dwt.p{size}")].1, "jpeg_dwt.p{size}");
        }
        assert!((4..=128).all(|size| jpeg_table(size).iter().all(|&q| (1.0..=121.0).contains(&q))));
    }
}
