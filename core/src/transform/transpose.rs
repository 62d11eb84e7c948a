//! Moving blocks between memory and the row-major scratch that the block transforms work on.
//!
//! A *strip* holds some blocks side by side: row `i` of the strip is row `i` of every block, one after the
//! other. A transform along axis 0 then acts on long rows of independent columns, which is what vector units
//! want; the other axis is reached by transposing every block of the strip in between.

use pulp::Simd;

/// Side of the tiles that are transposed at once; row lengths of a strip are multiples of it, and every vector
/// length that is used divides it.
pub(super) const LANES: usize = 8;

/// How many blocks of side `block` lie side by side in one strip: about 64 columns.
pub(super) fn blocks_per_strip(block: usize) -> usize {
    (64 / block).max(1)
}

/// Copies a `rows` x `cols` rectangle; both sides are row-major with their own distance between rows.
#[inline(always)]
pub(super) fn copy(
    src: &[f32],
    src_stride: usize,
    dst: &mut [f32],
    dst_stride: usize,
    [rows, cols]: [usize; 2],
) {
    match cols {
        4 => copy_fixed::<4>(src, src_stride, dst, dst_stride, rows),
        8 => copy_fixed::<8>(src, src_stride, dst, dst_stride, rows),
        16 => copy_fixed::<16>(src, src_stride, dst, dst_stride, rows),
        32 => copy_fixed::<32>(src, src_stride, dst, dst_stride, rows),
        _ => {
            for i in 0..rows {
                dst[i * dst_stride..][..cols].copy_from_slice(&src[i * src_stride..][..cols]);
            }
        }
    }
}

/// [`copy`] with a length known to the compiler, which spares a call per row.
#[inline(always)]
fn copy_fixed<const N: usize>(
    src: &[f32],
    src_stride: usize,
    dst: &mut [f32],
    dst_stride: usize,
    rows: usize,
) {
    for i in 0..rows {
        dst[i * dst_stride..][..N].copy_from_slice(&src[i * src_stride..][..N]);
    }
}

/// Writes the transpose of a square of `side` x `side`: `dst[j][i] = src[i][j]`.
#[inline(always)]
pub(super) fn transpose<S: Simd>(
    simd: S,
    src: &[f32],
    src_stride: usize,
    dst: &mut [f32],
    dst_stride: usize,
    side: usize,
) {
    let whole = side - side % LANES;
    for i in (0..whole).step_by(LANES) {
        for j in (0..whole).step_by(LANES) {
            let from = &src[i * src_stride + j..];
            let to = &mut dst[j * dst_stride + i..];
            transpose_tile(simd, from, src_stride, to, dst_stride);
        }
    }
    for i in 0..side {
        let start = if i < whole { whole } else { 0 };
        for j in start..side {
            dst[j * dst_stride + i] = src[i * src_stride + j];
        }
    }
}

/// Transposes one square of [`LANES`] x [`LANES`].
#[inline(always)]
fn transpose_tile<S: Simd>(simd: S, src: &[f32], src_stride: usize, dst: &mut [f32], dst_stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V3>() {
        return avx2::transpose_tile(*v3, src, src_stride, dst, dst_stride);
    }
    let _ = simd;
    let rows: [&[f32]; LANES] = std::array::from_fn(|i| &src[i * src_stride..][..LANES]);
    for j in 0..LANES {
        let to = &mut dst[j * dst_stride..][..LANES];
        for (to, row) in to.iter_mut().zip(rows) {
            *to = row[j];
        }
    }
}

/// The tile on AVX2: the compiler makes 64 scalar moves of the portable loop, three times as slow.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::__m256;
    use std::array::from_fn;

    use bytemuck::cast;
    use pulp::x86::V3;

    use super::LANES;

    #[inline(always)]
    pub(super) fn transpose_tile(v3: V3, src: &[f32], src_stride: usize, dst: &mut [f32], dst_stride: usize) {
        let rows: [__m256; LANES] = from_fn(|i| {
            let mut row = [0f32; LANES];
            row.copy_from_slice(&src[i * src_stride..][..LANES]);
            cast(row)
        });
        // 4 x 4 transposes inside each half of four rows, then the halves change places.
        let [a, b, c, d] = quads(v3, [rows[0], rows[1], rows[2], rows[3]]);
        let [e, f, g, h] = quads(v3, [rows[4], rows[5], rows[6], rows[7]]);
        let low = |x, y| v3.avx._mm256_permute2f128_ps::<0x20>(x, y);
        let high = |x, y| v3.avx._mm256_permute2f128_ps::<0x31>(x, y);
        let columns =
            [low(a, e), low(b, f), low(c, g), low(d, h), high(a, e), high(b, f), high(c, g), high(d, h)];
        for (j, column) in columns.into_iter().enumerate() {
            let column: [f32; LANES] = cast(column);
            dst[j * dst_stride..][..LANES].copy_from_slice(&column);
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

/// Reads vector `at` of every row: `column[i]` holds columns `at * L ..` of row `i`, for vectors of `L` lanes.
#[inline(always)]
pub(super) fn load<S: Simd>(_: S, rows: &[f32], stride: usize, at: usize, column: &mut [S::f32s]) {
    for (i, value) in column.iter_mut().enumerate() {
        let (vectors, _) = S::as_simd_f32s(&rows[i * stride + at * S::F32_LANES..][..S::F32_LANES]);
        *value = vectors[0];
    }
}

/// Writes vector `at` of every row, the inverse of [`load`].
#[inline(always)]
pub(super) fn store<S: Simd>(_: S, column: &[S::f32s], rows: &mut [f32], stride: usize, at: usize) {
    for (i, value) in column.iter().enumerate() {
        let (vectors, _) = S::as_mut_simd_f32s(&mut rows[i * stride + at * S::F32_LANES..][..S::F32_LANES]);
        vectors[0] = *value;
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Both<'a>(&'a [f32], &'a mut [f32], usize);

    impl WithSimd for Both<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            transpose(simd, self.0, self.2 + 3, self.1, self.2 + 1, self.2);
        }
    }

    #[test]
    fn transposes_every_size_and_leaves_the_rest_alone() {
        for n in 1..=40 {
            let src: Vec<f32> = (0..n * (n + 3)).map(|i| i as f32).collect();
            let mut portable = vec![-1.0; n * (n + 1)];
            let mut fast = portable.clone();
            Both(&src, &mut portable, n).with_simd(pulp::Scalar);
            Arch::new().dispatch(Both(&src, &mut fast, n));
            for j in 0..n {
                for i in 0..n {
                    assert_eq!(fast[j * (n + 1) + i], src[i * (n + 3) + j], "side {n}");
                }
                assert_eq!(fast[j * (n + 1) + n], -1.0);
            }
            assert_eq!(fast, portable);
        }
    }
}
