//! How the block transforms lay out their blocks and reach the second axis.
//!
//! A transform along axis 0 of a row-major block acts on one vector per row, whose lanes are neighbouring columns;
//! the other axis is reached by loading the same vectors transposed. Every lane goes through the same operations, so
//! the number of lanes never shows in a result.

use bytemuck::{cast_slice, cast_slice_mut};
use pulp::Simd;

/// `dst[i][l] = src[l][i]` for i < `count` and every lane l; the rows of `src` and `dst` are `src_stride` and
/// `dst_stride` values apart.
#[inline(always)]
pub(super) fn transpose<S: Simd>(
    simd: S,
    src: &[f32],
    src_stride: usize,
    dst: &mut [f32],
    dst_stride: usize,
    count: usize,
) {
    let done = transpose_tiles(simd, src, src_stride, dst, dst_stride, count);
    for i in done..count {
        for l in 0..S::F32_LANES {
            dst[i * dst_stride + l] = src[l * src_stride + i];
        }
    }
}

/// [`transpose`] for as many `i` as the vector unit has fast shuffles for; returns their number.
#[inline(always)]
fn transpose_tiles<S: Simd>(
    simd: S,
    src: &[f32],
    src_stride: usize,
    dst: &mut [f32],
    dst_stride: usize,
    count: usize,
) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V3>() {
        for i in (0..count / 8 * 8).step_by(8) {
            avx2::transpose_tile(*v3, &src[i..], src_stride, &mut dst[i * dst_stride..], dst_stride);
        }
        return count / 8 * 8;
    }
    let _ = (simd, src, src_stride, dst, dst_stride, count);
    0
}

/// A tile of 8 x 8; the compiler turns the portable loop into 64 scalar moves, several times as slow.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::__m256;

    use bytemuck::cast;
    use pulp::x86::V3;

    #[inline(always)]
    pub(super) fn transpose_tile(v3: V3, src: &[f32], src_stride: usize, dst: &mut [f32], dst_stride: usize) {
        let src = &src[..7 * src_stride + 8];
        let dst = &mut dst[..7 * dst_stride + 8];
        let mut rows = [v3.avx._mm256_setzero_ps(); 8];
        for l in 0..8 {
            let mut row = [0f32; 8];
            row.copy_from_slice(&src[l * src_stride..][..8]);
            rows[l] = cast(row);
        }
        // 4 x 4 transposes inside each half of four rows, then the halves change places.
        let [a, b, c, d, e, f, g, h] = rows;
        let (top, bottom) = (quads(v3, [a, b, c, d]), quads(v3, [e, f, g, h]));
        for i in 0..4 {
            let left: [f32; 8] = cast(v3.avx._mm256_permute2f128_ps::<0x20>(top[i], bottom[i]));
            let right: [f32; 8] = cast(v3.avx._mm256_permute2f128_ps::<0x31>(top[i], bottom[i]));
            dst[i * dst_stride..][..8].copy_from_slice(&left);
            dst[(i + 4) * dst_stride..][..8].copy_from_slice(&right);
        }
    }

    /// Transposes the left and the right 4 x 4 square of four rows.
    #[inline(always)]
    fn quads(v3: V3, [a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        let avx = v3.avx;
        let (ab, ab_high) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpackhi_ps(a, b));
        let (cd, cd_high) = (avx._mm256_unpacklo_ps(c, d), avx._mm256_unpackhi_ps(c, d));
        [
            avx._mm256_shuffle_ps::<0x44>(ab, cd),
            avx._mm256_shuffle_ps::<0xee>(ab, cd),
            avx._mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            avx._mm256_shuffle_ps::<0xee>(ab_high, cd_high),
        ]
    }
}

/// How the squares of one level lie in scratch memory: as a strip of some squares side by side, row-major. A square
/// takes `width` columns, its side rounded up to whole vectors, and the strip has as many rows, so that it can hold
/// the same squares transposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip {
    pub(super) side: usize,
    pub(super) width: usize,
    pub(super) blocks: usize,
}

impl Strip {
    /// Values per row.
    pub(super) fn row(&self) -> usize {
        self.width * self.blocks
    }

    /// Transposes the top left part of every square of `src` (a strip like `from`), as large as a square of this
    /// strip, into the squares of `dst`; with its padding, since whole tiles are what is fast.
    #[inline(always)]
    pub(super) fn turn<S: Simd>(&self, simd: S, from: &Self, src: &[S::f32s], dst: &mut [S::f32s]) {
        let (src, dst): (&[f32], &mut [f32]) = (cast_slice(src), cast_slice_mut(dst));
        for block in 0..self.blocks {
            for first in (0..self.width).step_by(S::F32_LANES) {
                let src = &src[first * from.row() + block * from.width..];
                let dst = &mut dst[block * self.width + first..];
                transpose(simd, src, from.row(), dst, self.row(), self.width);
            }
        }
    }
}

/// Copies `rows`, each of `length` values, into a matrix with `stride` values a row.
#[inline(always)]
pub(super) fn spread(rows: &[f32], length: usize, matrix: &mut [f32], stride: usize) {
    match length {
        2 if stride.is_multiple_of(2) => spread_fixed::<2>(rows, matrix, stride),
        4 if stride.is_multiple_of(4) => spread_fixed::<4>(rows, matrix, stride),
        8 if stride.is_multiple_of(8) => spread_fixed::<8>(rows, matrix, stride),
        16 if stride.is_multiple_of(16) => spread_fixed::<16>(rows, matrix, stride),
        32 if stride.is_multiple_of(32) => spread_fixed::<32>(rows, matrix, stride),
        _ => {
            for (i, row) in rows.chunks_exact(length).enumerate() {
                matrix[i * stride..][..length].copy_from_slice(row);
            }
        }
    }
}

/// [`spread`] of a length that the compiler knows and that divides `stride`, which spares a call per row.
#[inline(always)]
fn spread_fixed<const N: usize>(rows: &[f32], matrix: &mut [f32], stride: usize) {
    let (rows, matrix) = (rows.as_chunks::<N>().0, matrix.as_chunks_mut::<N>().0);
    for (i, row) in rows.iter().enumerate() {
        matrix[i * (stride / N)] = *row;
    }
}

/// Fills `rows`, each of `length` values, from a matrix with `stride` values a row: the inverse of [`spread`].
#[inline(always)]
pub(super) fn collect(matrix: &[f32], stride: usize, rows: &mut [f32], length: usize) {
    match length {
        2 if stride.is_multiple_of(2) => collect_fixed::<2>(matrix, stride, rows),
        4 if stride.is_multiple_of(4) => collect_fixed::<4>(matrix, stride, rows),
        8 if stride.is_multiple_of(8) => collect_fixed::<8>(matrix, stride, rows),
        16 if stride.is_multiple_of(16) => collect_fixed::<16>(matrix, stride, rows),
        32 if stride.is_multiple_of(32) => collect_fixed::<32>(matrix, stride, rows),
        _ => {
            for (i, row) in rows.chunks_exact_mut(length).enumerate() {
                row.copy_from_slice(&matrix[i * stride..][..length]);
            }
        }
    }
}

#[inline(always)]
fn collect_fixed<const N: usize>(matrix: &[f32], stride: usize, rows: &mut [f32]) {
    let (matrix, rows) = (matrix.as_chunks::<N>().0, rows.as_chunks_mut::<N>().0);
    for (i, row) in rows.iter_mut().enumerate() {
        *row = matrix[i * (stride / N)];
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, Scalar, WithSimd};

    use super::*;

    struct Transpose {
        count: usize,
    }

    impl WithSimd for Transpose {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            let (count, lanes) = (self.count, S::F32_LANES);
            let (from, to) = (count + 3, lanes + 2);
            let src: Vec<f32> = (0..from * lanes).map(|i| i as f32).collect();
            let mut dst = vec![-1.0; to * count];
            transpose(simd, &src, from, &mut dst, to, count);
            for (at, value) in dst.iter().enumerate() {
                let (i, l) = (at / to, at % to);
                assert_eq!(*value, if l < lanes { src[l * from + i] } else { -1.0 }, "count {count}");
            }
        }
    }

    #[test]
    fn rows_become_columns_and_nothing_else_changes() {
        for count in 1..=40 {
            Transpose { count }.with_simd(Scalar);
            Arch::new().dispatch(Transpose { count });
        }
    }
}
