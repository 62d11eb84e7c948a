//! Stage 2: two tensors to their difference and back, element by element, in any mix of the coded dtypes.
//!
//! Elements are little-endian and need no alignment. Everything is exact integer work or one correctly rounded
//! `+ - *` at a time, so that the decoded bits are the same on every machine; the loops are plain, and
//! vectorised by the compiler for the instruction set that `pulp` finds at run time.

use crate::error::{Error, Result};
use crate::tensor::Dtype;

/// Difference of `n = delta.len()` elements: `delta = f32(finetuned) - f32(base)`.
///
/// Where either side is F64 the difference is taken in f64 and rounded to f32 once.
/// Both sides are (dtype, bytes of the n elements). Errors: Mismatch when a length is not n elements,
/// Unsupported when a dtype is not coded.
pub(crate) fn diff(base: (Dtype, &[u8]), finetuned: (Dtype, &[u8]), delta: &mut [f32]) -> Result<()> {
    with_element!(base.0, B => with_element!(finetuned.0, F => diff_as::<B, F, _, _>(base.1, finetuned.1, delta)))
}

/// Inverse of [`diff`]: `out = round_to_dtype(widen(base) + factor * delta)` for `delta.len()` elements.
///
/// The product is rounded to f32. The sum is taken in f32, or in f64 where the base or `dtype` is F64, and then
/// rounded to `dtype`, to nearest, ties to even. Errors as for [`diff`].
pub(crate) fn apply(
    base: (Dtype, &[u8]),
    delta: &[f32],
    factor: f32,
    dtype: Dtype,
    out: &mut [u8],
) -> Result<()> {
    with_element!(base.0, B => with_element!(dtype, O => apply_as::<B, O, _, _>(base.1, delta, factor, out)))
}

/// The elements of `base` in `dtype`: a copy when the dtypes agree, else rounded to nearest, ties to even.
///
/// This is [`apply`] with no delta. Errors: Mismatch when the two lengths differ in elements, Unsupported when a
/// dtype is not coded.
pub(crate) fn cast(base: (Dtype, &[u8]), dtype: Dtype, out: &mut [u8]) -> Result<()> {
    if base.0 == dtype {
        check_len("the base", base.1.len(), out.len())?;
        out.copy_from_slice(base.1);
        return Ok(());
    }
    with_element!(base.0, B => with_element!(dtype, O => cast_as::<B, O, _, _>(base.1, out)))
}

/// Whether no element is NaN or infinite; true for dtypes that have no such values.
pub(crate) fn all_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    match dtype {
        Dtype::F64 => finite_as::<f64, _>(bytes),
        Dtype::F32 => finite_as::<f32, _>(bytes),
        Dtype::F16 => finite_as::<F16, _>(bytes),
        Dtype::BF16 => finite_as::<Bf16, _>(bytes),
        _ => true,
    }
}

/// Runs an expression with the type parameter `$t` bound to the element type of a coded dtype.
macro_rules! with_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            Dtype::F64 => {
                type $t = f64;
                $body
            }
            Dtype::F32 => {
                type $t = f32;
                $body
            }
            Dtype::F16 => {
                type $t = F16;
                $body
            }
            Dtype::BF16 => {
                type $t = Bf16;
                $body
            }
            other => Err(Error::unsupported(format!("{other} has no deltas: carry such tensors whole"))),
        }
    };
}
use with_element;

fn check_len(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::mismatch(format!("{what} has {found} bytes where this chunk needs {expected}")))
}

fn diff_as<B: Element<M>, F: Element<N>, const M: usize, const N: usize>(
    base: &[u8],
    finetuned: &[u8],
    delta: &mut [f32],
) -> Result<()> {
    check_len("the base", base.len(), delta.len() * M)?;
    check_len("the fine-tuned tensor", finetuned.len(), delta.len() * N)?;
    let (base, finetuned) = (base.as_chunks::<M>().0, finetuned.as_chunks::<N>().0);
    pulp::Arch::new().dispatch(|| {
        for ((d, b), f) in delta.iter_mut().zip(base).zip(finetuned) {
            *d = if B::WIDE || F::WIDE {
                (F::to_f64(*f) - B::to_f64(*b)) as f32
            } else {
                F::to_f32(*f) - B::to_f32(*b)
            };
        }
    });
    Ok(())
}

fn apply_as<B: Element<M>, O: Element<N>, const M: usize, const N: usize>(
    base: &[u8],
    delta: &[f32],
    factor: f32,
    out: &mut [u8],
) -> Result<()> {
    check_len("the base", base.len(), delta.len() * M)?;
    check_len("the output", out.len(), delta.len() * N)?;
    let (base, out) = (base.as_chunks::<M>().0, out.as_chunks_mut::<N>().0);
    pulp::Arch::new().dispatch(|| {
        for ((o, b), d) in out.iter_mut().zip(base).zip(delta) {
            let change = factor * d;
            *o = if B::WIDE || O::WIDE {
                O::from_f64(B::to_f64(*b) + f64::from(change))
            } else {
                O::from_f32(B::to_f32(*b) + change)
            };
        }
    });
    Ok(())
}

fn cast_as<B: Element<M>, O: Element<N>, const M: usize, const N: usize>(
    base: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let (base, rest) = base.as_chunks::<M>();
    check_len("the base", base.len() * M + rest.len(), out.len() / N * M)?;
    check_len("the output", out.len(), base.len() * N)?;
    let out = out.as_chunks_mut::<N>().0;
    pulp::Arch::new().dispatch(|| {
        for (o, b) in out.iter_mut().zip(base) {
            *o = if B::WIDE || O::WIDE { O::from_f64(B::to_f64(*b)) } else { O::from_f32(B::to_f32(*b)) };
        }
    });
    Ok(())
}

fn finite_as<E: Element<N>, const N: usize>(bytes: &[u8]) -> bool {
    // No early exit: almost every tensor is finite, and a loop without branches vectorises.
    pulp::Arch::new().dispatch(|| bytes.as_chunks::<N>().0.iter().fold(true, |all, e| all & E::is_finite(*e)))
}

/// A coded element of N little-endian bytes. Narrowing rounds to nearest, ties to even; NaN stays NaN.
trait Element<const N: usize> {
    /// Whether sums with this type are taken in f64.
    const WIDE: bool = false;
    fn is_finite(bytes: [u8; N]) -> bool;
    /// Exact, except from F64.
    fn to_f32(bytes: [u8; N]) -> f32;
    fn from_f32(value: f32) -> [u8; N];
    #[inline(always)]
    fn to_f64(bytes: [u8; N]) -> f64 {
        f64::from(Self::to_f32(bytes))
    }
    #[inline(always)]
    fn from_f64(value: f64) -> [u8; N] {
        Self::from_f32(round_to_odd(value))
    }
}

/// IEEE binary16: 1 sign, 5 exponent and 10 mantissa bits.
struct F16;
/// The upper half of an f32: 1 sign, 8 exponent and 7 mantissa bits.
struct Bf16;

impl Element<8> for f64 {
    const WIDE: bool = true;
    #[inline(always)]
    fn is_finite(bytes: [u8; 8]) -> bool {
        const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
        u64::from_le_bytes(bytes) & EXPONENT != EXPONENT
    }
    #[inline(always)]
    fn to_f32(bytes: [u8; 8]) -> f32 {
        f64::from_le_bytes(bytes) as f32
    }
    #[inline(always)]
    fn from_f32(value: f32) -> [u8; 8] {
        f64::from(value).to_le_bytes()
    }
    #[inline(always)]
    fn to_f64(bytes: [u8; 8]) -> f64 {
        f64::from_le_bytes(bytes)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> [u8; 8] {
        value.to_le_bytes()
    }
}

impl Element<4> for f32 {
    #[inline(always)]
    fn is_finite(bytes: [u8; 4]) -> bool {
        u32::from_le_bytes(bytes) & F32_INFINITY != F32_INFINITY
    }
    #[inline(always)]
    fn to_f32(bytes: [u8; 4]) -> f32 {
        f32::from_le_bytes(bytes)
    }
    #[inline(always)]
    fn from_f32(value: f32) -> [u8; 4] {
        value.to_le_bytes()
    }
    #[inline(always)]
    fn from_f64(value: f64) -> [u8; 4] {
        (value as f32).to_le_bytes()
    }
}

impl Element<2> for Bf16 {
    #[inline(always)]
    fn is_finite(bytes: [u8; 2]) -> bool {
        u16::from_le_bytes(bytes) & 0x7f80 != 0x7f80
    }
    #[inline(always)]
    fn to_f32(bytes: [u8; 2]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
    }
    #[inline(always)]
    fn from_f32(value: f32) -> [u8; 2] {
        let bits = value.to_bits();
        // Adding just under half of the last kept place, and one more if that place is odd, carries exactly
        // when nearest-even rounds up; past the largest value it carries into infinity.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet_nan = bits >> 16 | 0x40;
        (if bits & !SIGN > F32_INFINITY { quiet_nan } else { rounded } as u16).to_le_bytes()
    }
}

impl Element<2> for F16 {
    #[inline(always)]
    fn is_finite(bytes: [u8; 2]) -> bool {
        u16::from_le_bytes(bytes) & 0x7c00 != 0x7c00
    }
    #[inline(always)]
    fn to_f32(bytes: [u8; 2]) -> f32 {
        const INFINITY: u32 = 0x7c00 << 13;
        let half = u32::from(u16::from_le_bytes(bytes));
        let sign = (half & 0x8000) << 16;
        let bits = (half & 0x7fff) << 13;
        // Exponent bias 15 to 127; infinity and NaN keep the top exponent.
        let normal = bits + if bits >= INFINITY { (255 - 31) << 23 } else { (127 - 15) << 23 };
        // A subnormal is m * 2^-24: as (1 + m / 2^10) * 2^-14 less 2^-14 the subtraction is exact.
        let subnormal = f32::from_bits(bits + (113 << 23)) - f32::from_bits(113 << 23);
        f32::from_bits(sign | if bits < 1 << 23 { subnormal.to_bits() } else { normal })
    }
    #[inline(always)]
    fn from_f32(value: f32) -> [u8; 2] {
        const TOO_LARGE: u32 = (127 + 16) << 23; // 2^16
        const SMALLEST_NORMAL: u32 = (127 - 14) << 23; // 2^-14
        let bits = value.to_bits() & !SIGN;
        let sign = value.to_bits() >> 16 & 0x8000;
        // Added to 0.5, the last place of an f32 is 2^-24, that of a binary16 subnormal: the sum rounds for us.
        let subnormal = (f32::from_bits(bits) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let rebiased = bits.wrapping_sub((127 - 15) << 23);
        let normal = rebiased.wrapping_add(0xfff + (bits >> 13 & 1)) >> 13;
        let special = if bits > F32_INFINITY { 0x7e00 } else { 0x7c00 };
        let finite = if bits < SMALLEST_NORMAL { subnormal } else { normal };
        ((sign | if bits >= TOO_LARGE { special } else { finite }) as u16).to_le_bytes()
    }
}

const SIGN: u32 = 1 << 31;
const F32_INFINITY: u32 = 0x7f80_0000;

/// `value` as an f32 whose last bit is 1 unless the conversion is exact: rounding that once more, to a type with
/// at least two bits less, gives what rounding `value` directly would.
#[inline(always)]
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    let bits = nearest.to_bits();
    if back == value || bits & 1 == 1 || value.is_nan() {
        return nearest;
    }
    f32::from_bits(if back.abs() < value.abs() { bits + 1 } else { bits - 1 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use half::{bf16, f16};

    const DTYPES: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16];

    /// Specials, ties, the edges of every exponent range, and plain values.
    fn values() -> Vec<f64> {
        let mut all = vec![0.0, 1.0, 0.1, 1e-3, 65504.0, 65519.9, 65520.0, 1e5, 3.4e38, 3.39e38, 1e39, 1e300];
        all.extend([
            2f64.powi(-14),
            2f64.powi(-24),
            2f64.powi(-25),
            2f64.powi(-25) * 1.0001,
            2f64.powi(-126),
        ]);
        all.extend([
            2f64.powi(-133),
            2f64.powi(-134),
            2f64.powi(-149),
            2f64.powi(-150),
            2f64.powi(-151),
            1e-310,
        ]);
        all.extend([1.0 + 2f64.powi(-11), 1.0 + 3.0 * 2f64.powi(-11), 1.0 + 2f64.powi(-11) + 2f64.powi(-40)]);
        all.extend([1.0 + 2f64.powi(-8), 1.0 + 3.0 * 2f64.powi(-8), 1.0 + 2f64.powi(-8) + 2f64.powi(-45)]);
        all.extend([f64::INFINITY, f64::NAN, f64::from(f32::MAX), 1023.5 * 2f64.powi(-24)]);
        all.extend((1..200).map(|i| (f64::from(i) * 0.7).sin() * 2f64.powi(i % 60 - 30)));
        all.iter().flat_map(|v| [*v, -*v]).collect()
    }

    /// Nearest-even rounding of an f64 to a grid of `mantissa` bits and exponents `min..=max`, in f64 arithmetic.
    fn round_naive(v: f64, mantissa: i32, min: i32, max: i32) -> f64 {
        if !v.is_finite() || v == 0.0 {
            return v;
        }
        let exponent =
            if v.abs() < f64::MIN_POSITIVE { -1022 } else { (v.to_bits() >> 52 & 0x7ff) as i32 - 1023 };
        let place = exponent.max(min) - mantissa;
        // Two steps: 2^-place alone may overflow.
        let scaled = v * 2f64.powi(-place / 2) * 2f64.powi(-place - -place / 2);
        let rounded = scaled.round_ties_even() * 2f64.powi(place / 2) * 2f64.powi(place - place / 2);
        let limit = 2f64.powi(max) * (2.0 - 2f64.powi(-mantissa));
        if rounded.abs() > limit { f64::INFINITY.copysign(v) } else { rounded }
    }

    fn rounded(dtype: Dtype, v: f64) -> f64 {
        match dtype {
            Dtype::F32 => round_naive(v, 23, -126, 127),
            Dtype::F16 => round_naive(v, 10, -14, 15),
            Dtype::BF16 => round_naive(v, 7, -126, 127),
            _ => v,
        }
    }

    /// Bytes of values that are exact in `dtype`, through the half crate.
    fn bytes_of(dtype: Dtype, values: &[f64]) -> Vec<u8> {
        let one = |v: &f64| match dtype {
            Dtype::F64 => v.to_le_bytes().to_vec(),
            Dtype::F32 => (*v as f32).to_le_bytes().to_vec(),
            Dtype::F16 => f16::from_f64(*v).to_le_bytes().to_vec(),
            _ => bf16::from_f64(*v).to_le_bytes().to_vec(),
        };
        values.iter().flat_map(one).collect()
    }

    fn values_of(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
        match dtype {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect(),
        }
    }

    fn assert_same(found: &[f64], expected: &[f64], context: &str) {
        assert_eq!(found.len(), expected.len());
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(same, "{context}, element {i}: {a:e} instead of {b:e}");
        }
    }

    fn size(dtype: Dtype) -> usize {
        dtype.bitsize() / 8
    }

    #[test]
    fn every_16_bit_pattern_converts_like_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16::to_f32(bits.to_le_bytes()), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "f16 {bits:#x}");
            let (ours, theirs) = (Bf16::to_f32(bits.to_le_bytes()), bf16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "bf16 {bits:#x}");
        }
    }

    #[test]
    fn f32_narrows_like_the_half_crate() {
        // 1 << 21 patterns over the whole range, low bits included.
        for i in 0..1u32 << 21 {
            let v = f32::from_bits((i << 11).wrapping_add(i.wrapping_mul(0x9e37_79b9) >> 19));
            let (ours, theirs) = (u16::from_le_bytes(F16::from_f32(v)), f16::from_f32(v));
            assert!(ours == theirs.to_bits() || v.is_nan() && f16::from_bits(ours).is_nan(), "{v:e}");
            let (ours, theirs) = (u16::from_le_bytes(Bf16::from_f32(v)), bf16::from_f32(v));
            assert!(ours == theirs.to_bits() || v.is_nan() && bf16::from_bits(ours).is_nan(), "{v:e}");
        }
    }

    #[test]
    fn cast_rounds_once_for_every_dtype_pair() {
        for from in DTYPES {
            let exact: Vec<f64> = values().iter().map(|v| rounded(from, *v)).collect();
            let base = bytes_of(from, &exact);
            for to in DTYPES {
                let mut out = vec![0; exact.len() * size(to)];
                cast((from, &base), to, &mut out).unwrap();
                let expected: Vec<f64> = exact.iter().map(|v| rounded(to, *v)).collect();
                assert_same(&values_of(to, &out), &expected, &format!("{from} to {to}"));
            }
        }
    }

    #[test]
    fn diff_and_apply_equal_naive_loops_for_every_dtype_pair() {
        for from in DTYPES {
            let base: Vec<f64> = values().iter().map(|v| rounded(from, *v)).collect();
            for to in DTYPES {
                let wide = from == Dtype::F64 || to == Dtype::F64;
                let mut tuned: Vec<f64> = values().iter().map(|v| rounded(to, *v)).collect();
                tuned.rotate_left(7);
                let base_bytes = bytes_of(from, &base);
                let mut delta = vec![0.0; base.len()];
                diff((from, &base_bytes), (to, &bytes_of(to, &tuned)), &mut delta).unwrap();
                // An f64 difference of two f32 is rounded to f32 as the f32 difference is: one rounding after an
                // (at 53 bits: innocuous) other one.
                let expected: Vec<f64> =
                    base.iter().zip(&tuned).map(|(b, t)| rounded(Dtype::F32, t - b)).collect();
                let found: Vec<f64> = delta.iter().map(|d| f64::from(*d)).collect();
                assert_same(&found, &expected, &format!("diff {from} {to}"));

                let mut out = vec![0; base.len() * size(to)];
                apply((from, &base_bytes), &delta, 0.7, to, &mut out).unwrap();
                let sum = |(b, d): (&f64, &f32)| match wide {
                    true => rounded(to, b + f64::from(0.7f32 * d)),
                    false => rounded(to, rounded(Dtype::F32, b + f64::from(0.7f32 * d))),
                };
                let expected: Vec<f64> = base.iter().zip(&delta).map(sum).collect();
                assert_same(&values_of(to, &out), &expected, &format!("apply {from} {to}"));
            }
        }
    }

    #[test]
    fn unaligned_bytes_work_and_every_length_is_exact() {
        for n in 0..70 {
            let values: Vec<f64> = (0..n).map(|i| f64::from(i) * 0.5).collect();
            for dtype in DTYPES {
                let mut bytes = vec![0xff];
                bytes.extend(bytes_of(dtype, &values));
                let mut delta = vec![9.0; n as usize];
                diff((dtype, &bytes[1..]), (dtype, &bytes[1..]), &mut delta).unwrap();
                assert!(delta.iter().all(|d| *d == 0.0));
                let mut out = vec![0xff; bytes.len()];
                apply((dtype, &bytes[1..]), &delta, 1.0, dtype, &mut out[1..]).unwrap();
                assert_eq!(out, bytes);
            }
        }
    }

    #[test]
    fn finite_means_neither_nan_nor_infinite() {
        for dtype in DTYPES {
            let mut values = vec![1.0; 1000];
            values[17] = rounded(dtype, 60000.0);
            assert!(all_finite(dtype, &bytes_of(dtype, &values)));
            for special in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
                values[999] = special;
                assert!(!all_finite(dtype, &bytes_of(dtype, &values)), "{dtype} {special}");
            }
        }
        assert!(all_finite(Dtype::I32, &[0xff; 8]));
    }

    #[test]
    fn wrong_lengths_and_dtypes_are_errors() {
        let bytes = [0u8; 16];
        assert!(diff((Dtype::F32, &bytes), (Dtype::F32, &bytes), &mut [0.0; 5]).is_err());
        assert!(diff((Dtype::F32, &bytes), (Dtype::F16, &bytes), &mut [0.0; 4]).is_err());
        assert!(diff((Dtype::I32, &bytes), (Dtype::F32, &bytes), &mut [0.0; 4]).is_err());
        assert!(apply((Dtype::F32, &bytes), &[0.0; 4], 1.0, Dtype::F32, &mut [0; 15]).is_err());
        assert!(apply((Dtype::F32, &bytes), &[0.0; 4], 1.0, Dtype::U8, &mut [0; 4]).is_err());
        assert!(cast((Dtype::F32, &bytes), Dtype::F16, &mut [0; 9]).is_err());
        assert!(cast((Dtype::F32, &bytes[1..]), Dtype::F16, &mut [0; 8]).is_err());
        assert!(cast((Dtype::F32, &bytes), Dtype::F32, &mut [0; 12]).is_err());
        assert!(cast((Dtype::I64, &bytes), Dtype::F32, &mut [0; 8]).is_err());
    }
}
