//! How the block transforms reach their vectors: the columns of a block, as they lie or transposed.
//!
//! A transform along axis 0 of a row-major block acts on one vector per row, whose lanes are neighbouring columns.
//! The other axis is reached by loading the same vectors transposed. Every lane goes through the same operations,
//! so the number of lanes never shows in a result.

use bytemuck::{cast_slice, cast_slice_mut};
use pulp::Simd;

/// Reads a group of columns: `column[i]` is vector `at` of row `i` of a matrix with `stride` vectors a row.
#[inline(always)]
pub(super) fn load<V: Copy>(rows: &[V], stride: usize, at: usize, column: &mut [V]) {
    for (value, row) in column.iter_mut().zip(rows.chunks_exact(stride)) {
        *value = row[at];
    }
}

/// Writes a group of columns, the inverse of [`load`].
#[inline(always)]
pub(super) fn store<V: Copy>(column: &[V], rows: &mut [V], stride: usize, at: usize) {
    for (value, row) in column.iter().zip(rows.chunks_exact_mut(stride)) {
        row[at] = *value;
    }
}

/// Reads a group of rows as columns: lane `l` of `column[i]` is element `i` of row `at * L + l`, for vectors of `L`
/// lanes. `column` is at most as long as a row.
#[inline(always)]
pub(super) fn load_transposed<S: Simd>(
    simd: S,
    rows: &[S::f32s],
    stride: usize,
    at: usize,
    column: &mut [S::f32s],
) {
    let rows: &[f32] = cast_slice(&rows[at * S::F32_LANES * stride..][..S::F32_LANES * stride]);
    let (lanes, stride) = (S::F32_LANES, S::F32_LANES * stride);
    let whole = transpose_tiles(simd, rows, stride, cast_slice_mut(column));
    for (i, value) in column.iter_mut().enumerate().skip(whole) {
        let value: &mut [f32] = cast_slice_mut(std::slice::from_mut(value));
        for l in 0..lanes {
            value[l] = rows[l * stride + i];
        }
    }
}

/// Transposes as many columns as the vector unit has fast shuffles for, and returns their number.
#[inline(always)]
fn transpose_tiles<S: Simd>(simd: S, rows: &[f32], stride: usize, column: &mut [f32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V3>() {
        return avx2::transpose_tiles(*v3, rows, stride, column);
    }
    let _ = (simd, rows, stride, column);
    0
}

/// Transposition in tiles of 8 x 8; the compiler turns the portable loop into 64 scalar moves, several times as slow.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::__m256;

    use bytemuck::cast;
    use pulp::x86::V3;

    #[inline(always)]
    pub(super) fn transpose_tiles(v3: V3, rows: &[f32], stride: usize, column: &mut [f32]) -> usize {
        for (tile, to) in column.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let mut from = [v3.avx._mm256_setzero_ps(); 8];
            for l in 0..8 {
                let mut row = [0f32; 8];
                row.copy_from_slice(&rows[l * stride + tile * 8..][..8]);
                from[l] = cast(row);
            }
            // 4 x 4 transposes inside each half of four rows, then the halves change places.
            let [a, b, c, d, e, f, g, h] = from;
            let (top, bottom) = (quads(v3, [a, b, c, d]), quads(v3, [e, f, g, h]));
            for i in 0..4 {
                let left: [f32; 8] = cast(v3.avx._mm256_permute2f128_ps::<0x20>(top[i], bottom[i]));
                let right: [f32; 8] = cast(v3.avx._mm256_permute2f128_ps::<0x31>(top[i], bottom[i]));
                to[8 * i..][..8].copy_from_slice(&left);
                to[8 * (i + 4)..][..8].copy_from_slice(&right);
            }
        }
        column.len() / 64 * 8
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

#[cfg(test)]
mod tests {
    use pulp::{Arch, Scalar, WithSimd};

    use super::*;

    /// Transposes a square of `side` x `side`, which lies in a matrix of whole vectors.
    struct Transpose {
        side: usize,
    }

    impl WithSimd for Transpose {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            let n = self.side;
            let stride = n.div_ceil(S::F32_LANES);
            let width = stride * S::F32_LANES;
            let values: Vec<f32> = (0..width * width).map(|i| i as f32).collect();
            for at in 0..stride {
                let mut column = vec![simd.splat_f32s(-1.0); n];
                load_transposed(simd, S::as_simd_f32s(&values).0, stride, at, &mut column);
                for (i, value) in column.iter().enumerate() {
                    for (l, x) in bytemuck::cast_slice::<_, f32>(&[*value]).iter().enumerate() {
                        assert_eq!(*x, values[(at * S::F32_LANES + l) * width + i], "side {n}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        for side in 1..=40 {
            Transpose { side }.with_simd(Scalar);
            Arch::new().dispatch(Transpose { side });
        }
    }
}
