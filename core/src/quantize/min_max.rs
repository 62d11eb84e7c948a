//! Uniform levels between the smallest and the largest coefficient of a band (Delta-DCT, arXiv:2503.06676).
//!
//! With `n = 2^bits - 1`, in `f32` and in this order of operations:
//!
//! ```text
//! level = round_half_even((x - lo) / (hi - lo) * n)          (0 when lo = hi)
//! value = level / n * (hi - lo) + lo
//! ```
//!
//! `lo` and `hi` are the extremes of the band rounded outward to bfloat16. With one bit the extremes would be the
//! only values, far outside of most coefficients: there `lo` and `hi` are the means of the coefficients below zero
//! and of the others, and `level = (x >= 0)`.

use std::fmt;

use super::strategy::Strategy;
use crate::error::{Error, Result};
use crate::text::Fields;
use crate::wire::{Reader, Writer};

/// Parameters of the min-max quantiser; text form `minmax bits=2:0.5,0:0.5 importance=pre details=1`.
#[derive(Clone, Debug, PartialEq)]
pub struct MinMax {
    /// Bits for each share of the blocks. A block of 0 bits keeps its mean alone.
    pub bits: Strategy,
    /// What ranks the blocks.
    pub importance: Importance,
    /// Bits of the detail bands of a wavelet, 1..=8.
    pub details: u8,
    /// Follow the Python predecessor to the letter (FORMAT.md, "Predecessor mode").
    pub predecessor: bool,
}

/// What ranks the blocks of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// Frobenius norm of the block, before the transform; text form `pre`.
    Pre,
    /// Norm of the `corner` x `corner` coefficients of lowest frequency; text form `post4`.
    Post(u8),
}

impl MinMax {
    pub(crate) fn from_fields(fields: &mut Fields<'_>) -> Result<Self> {
        let min_max = Self {
            bits: fields.take("bits", Strategy::flat(2))?,
            importance: fields.take("importance", Importance::Pre)?,
            details: fields.take("details", 1)?,
            predecessor: fields.take("predecessor", false)?,
        };
        min_max.check()
    }

    fn check(self) -> Result<Self> {
        let too_wide = |&(bits, _): &(u8, f64)| bits > 7;
        if !(1..=8).contains(&self.details) {
            return Err(Error::invalid(format!("details={}: detail bands take 1 to 8 bits", self.details)));
        }
        if self.predecessor && self.bits.classes().iter().any(too_wide) {
            return Err(Error::invalid(
                "the predecessor kept levels in signed bytes: at most 7 bits in its mode",
            ));
        }
        Ok(self)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        self.bits.write(out);
        out.u8(match self.importance {
            Importance::Pre => 0,
            Importance::Post(corner) => corner,
        });
        out.u8(self.details);
        out.u8(u8::from(self.predecessor));
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self> {
        let bits = Strategy::read(input)?;
        let importance = match input.u8("importance")? {
            0 => Importance::Pre,
            corner => Importance::Post(corner),
        };
        let details = input.u8("detail bits")?;
        let predecessor = input.u8("predecessor flag")? != 0;
        let min_max = Self { bits, importance, details, predecessor };
        min_max.check().map_err(|e| Error::corrupt(e.to_string()))
    }
}

impl fmt::Display for MinMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "minmax bits={} importance={} details={}", self.bits, self.importance, self.details)?;
        if self.predecessor { f.write_str(" predecessor=true") } else { Ok(()) }
    }
}

impl fmt::Display for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pre => f.write_str("pre"),
            Self::Post(corner) => write!(f, "post{corner}"),
        }
    }
}

impl std::str::FromStr for Importance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let corner = match text {
            "pre" => return Ok(Self::Pre),
            "post" => Ok(4),
            _ => text.strip_prefix("post").unwrap_or_default().parse(),
        };
        match corner {
            Ok(corner @ 1..=128) => Ok(Self::Post(corner)),
            _ => Err(Error::invalid("importance is pre, or post and the size of the corner, as in post4")),
        }
    }
}

/// The levels of one band into `levels` (one per element of `coeffs`); gives (lo, hi). `exact` keeps the extremes in full
/// precision, even with one bit.
#[inline(always)]
pub(crate) fn quantize_band(coeffs: &[f32], bits: u8, exact: bool, levels: &mut [u8]) -> (f32, f32) {
    // Adding 0 makes a negative zero a positive one: a file knows only that.
    let positive = |(lo, hi): (f32, f32)| (lo + 0.0, hi + 0.0);
    let levels_and_coeffs = levels.iter_mut().zip(coeffs);
    if bits == 1 && !exact {
        levels_and_coeffs.for_each(|(level, &x)| *level = u8::from(x >= 0.0));
        return positive(halves(coeffs, levels.iter().map(|&level| usize::from(level)).sum()));
    }
    let (lo, hi) = match (extremes(coeffs), exact) {
        (range, true) => positive(range),
        ((lo, hi), false) => positive((outward(lo, f32::NEG_INFINITY), outward(hi, f32::INFINITY))),
    };
    let n = ((1u32 << bits) - 1) as f32;
    let width = hi - lo;
    match width == 0.0 {
        true => levels.fill(0),
        false => levels_and_coeffs.for_each(|(level, &x)| *level = nearest((x - lo) / width * n)),
    }
    (lo, hi)
}

/// `x` of 0 to 255 rounded half to even. The sum has no room for a fraction, and its lowest bits are the integer:
/// unlike `round_ties_even` this is one vector instruction everywhere.
#[inline(always)]
fn nearest(x: f32) -> u8 {
    const SHIFT: f32 = (3 << 22) as f32;
    (x + SHIFT).to_bits() as u8
}

/// The values of `levels` (one per element of `coeffs`).
#[inline(always)]
pub(crate) fn dequantize_band(levels: &[u8], bits: u8, (lo, hi): (f32, f32), coeffs: &mut [f32]) {
    let n = ((1u32 << bits) - 1) as f32;
    let width = hi - lo;
    let levels_and_values = coeffs.iter_mut().zip(levels);
    match bits {
        // A division by 1 changes nothing but takes its time.
        1 => levels_and_values.for_each(|(value, &level)| *value = f32::from(level) * width + lo),
        _ => levels_and_values.for_each(|(value, &level)| *value = f32::from(level) / n * width + lo),
    }
}

/// Values that are looked at together.
const LANES: usize = 8;

/// Smallest and largest value; (0, 0) of nothing.
#[inline(always)]
fn extremes(values: &[f32]) -> (f32, f32) {
    let Some(&first) = values.first() else { return (0.0, 0.0) };
    let (mut lo, mut hi) = ([first; LANES], [first; LANES]);
    let (runs, rest) = values.as_chunks::<LANES>();
    for run in runs {
        for i in 0..LANES {
            lo[i] = if run[i] < lo[i] { run[i] } else { lo[i] };
            hi[i] = if run[i] > hi[i] { run[i] } else { hi[i] };
        }
    }
    // Halves upon halves, since one after the other they would wait for each other.
    for half in [4, 2, 1] {
        for i in 0..half {
            lo[i] = lo[i].min(lo[i + half]);
            hi[i] = hi[i].max(hi[i + half]);
        }
    }
    rest.iter().fold((lo[0], hi[0]), |(lo, hi), &x| (lo.min(x), hi.max(x)))
}

/// Means of the values below zero and of the others, `above` of them, rounded to bfloat16 (0 where there are none).
#[inline(always)]
fn halves(values: &[f32], above: usize) -> (f32, f32) {
    let (mut sums, mut sizes) = ([0.0f32; LANES], [0.0f32; LANES]);
    let mut add = |i: usize, x: f32| {
        sums[i] += x;
        sizes[i] += x.abs();
    };
    let (runs, rest) = values.as_chunks::<LANES>();
    for run in runs {
        (0..LANES).for_each(|i| add(i, run[i]));
    }
    rest.iter().enumerate().for_each(|(i, &x)| add(i, x));
    let total = |lanes: [f32; LANES]| lanes.iter().sum::<f32>();
    let (sum, size) = (total(sums), total(sizes));
    let mean = |sum: f32, n: usize| half::bf16::from_f32(if n == 0 { 0.0 } else { sum / n as f32 }).to_f32();
    (mean((sum - size) / 2.0, values.len() - above), mean((sum + size) / 2.0, above))
}

/// The bfloat16 next to `x` on the side of `limit` (an infinity); `x` itself if it is one. Stays finite.
#[inline(always)]
fn outward(x: f32, limit: f32) -> f32 {
    let cut = f32::from_bits(x.to_bits() & 0xffff_0000);
    let away = (x < 0.0) == (limit < 0.0);
    if cut == x || !away {
        return cut;
    }
    let next = f32::from_bits(cut.to_bits().wrapping_add(0x1_0000));
    if next.is_finite() { next } else { cut }
}
