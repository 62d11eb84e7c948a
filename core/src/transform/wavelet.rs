//! One level of a wavelet along one axis, on vectors of independent columns.
//!
//! # Specification
//!
//! A level turns n values x into `ceil(n/2)` low values and `floor(n/2)` high values. Arithmetic is f32, every sum,
//! difference and product rounded; sums are taken from left to right as written. A constant given as a decimal
//! number stands for the f32 nearest to it.
//!
//! **Filters** (`haar`, `db2`, `db3`, `db4`, `sym4`, `learned`) have L taps `h` and `g[k] = (-1)^k h[L-1-k]`. With
//! `e = n - n % 2`, for i < e/2:
//!
//! * forward: `low_i = sum_{k<L} h[k] x[(2i+k) mod e]`, `high_i = sum_{k<L} g[k] x[(2i+k) mod e]`, k ascending;
//! * inverse, p = 0 and 1, `m_j = (i - j) mod e/2`:
//!   `x_{2i+p} = sum_{j<L/2} (h[2j+p] low[m_j], then g[2j+p] high[m_j])`, j ascending, every product a term of its own.
//!
//! For odd n the last value is the last low value, unchanged. The transform is orthonormal.
//!
//! **Lifting** (`cdf5/3`, `cdf9/7`): low starts as the values of even index, high as those of odd index; an index
//! outside `low` or `high` means the nearest one inside. For every pair (a, b) in turn, first
//! `high_i = high_i + a (low_i + low_{i+1})` for all i, then `low_i = low_i + b (high_{i-1} + high_i)` for all i; last,
//! `low_i = K low_i`, `high_i = k high_i`. The inverse starts with `low_i = k low_i`, `high_i = K high_i` and then undoes
//! the steps from last to first, with a difference in place of the first sum. Nearly orthonormal.

use std::fmt;
use std::str::FromStr;

use pulp::Simd;

use super::lattice::Lattice;
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// A wavelet; the text form is its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wavelet {
    /// Two taps.
    Haar,
    /// Daubechies, 4 taps.
    Db2,
    /// Daubechies, 6 taps.
    Db3,
    /// Daubechies, 8 taps.
    Db4,
    /// Daubechies' least asymmetric, 8 taps.
    Sym4,
    /// Cohen-Daubechies-Feauveau 5/3 (LeGall), in floating point.
    Cdf53,
    /// Cohen-Daubechies-Feauveau 9/7.
    Cdf97,
    /// Fitted to the data; parsed from text it is the Haar wavelet, until [`Lattice::fit`] replaces it.
    Learned(Lattice),
}

const NAMES: [(&str, Wavelet); 7] = [
    ("haar", Wavelet::Haar),
    ("db2", Wavelet::Db2),
    ("db3", Wavelet::Db3),
    ("db4", Wavelet::Db4),
    ("sym4", Wavelet::Sym4),
    ("cdf5/3", Wavelet::Cdf53),
    ("cdf9/7", Wavelet::Cdf97),
];

impl fmt::Display for Wavelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, wavelet)| wavelet == self).map_or("learned", |(name, _)| name))
    }
}

impl FromStr for Wavelet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "learned" {
            return Ok(Self::Learned(Lattice::default()));
        }
        let known = NAMES.iter().find(|(name, _)| *name == text).map(|(_, wavelet)| wavelet.clone());
        known.ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            Error::invalid(format!("wavelet {text:?}: use {} or learned", names.join(", ")))
        })
    }
}

impl Wavelet {
    /// The wavelet to use for `blocks` (each `block` x `block`): itself, unless it is one that has to be fitted.
    pub(crate) fn fit(self, block: usize, blocks: impl FnOnce() -> Vec<f32>) -> Self {
        match self {
            Self::Learned(_) => Self::Learned(Lattice::fit(&blocks(), block)),
            fixed => fixed,
        }
    }

    /// Its number in a file: the place in the list of names, or 7 and the parameters of a fitted one.
    pub(crate) fn write(&self, out: &mut Writer) {
        let id = NAMES.iter().position(|(_, wavelet)| wavelet == self).unwrap_or(NAMES.len());
        out.u8(id as u8);
        if let Self::Learned(lattice) = self {
            out.u8(lattice.params().len() as u8);
            lattice.params().iter().for_each(|&q| out.0.extend(q.to_le_bytes()));
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self> {
        let id = usize::from(input.u8("wavelet id")?);
        if let Some((_, wavelet)) = NAMES.get(id) {
            return Ok(wavelet.clone());
        }
        if id > NAMES.len() {
            return Err(Error::unsupported(format!("wavelet id {id} is not known to this version")));
        }
        let n = usize::from(input.u8("number of rotations")?);
        let (params, _) = input.take(2 * n, "rotations")?.as_chunks::<2>();
        let params: Vec<i16> = params.iter().map(|&bytes| i16::from_le_bytes(bytes)).collect();
        Ok(Self::Learned(Lattice::from_params(&params)?))
    }

    /// How one level is computed.
    pub(super) fn level(&self) -> Level {
        match self {
            Self::Haar => Level::Filter(HAAR.to_vec()),
            Self::Db2 => Level::Filter(DB2.to_vec()),
            Self::Db3 => Level::Filter(DB3.to_vec()),
            Self::Db4 => Level::Filter(DB4.to_vec()),
            Self::Sym4 => Level::Filter(SYM4.to_vec()),
            Self::Cdf53 => Level::Lifting(&CDF53),
            Self::Cdf97 => Level::Lifting(&CDF97),
            Self::Learned(lattice) => Level::Filter(lattice.taps()),
        }
    }
}

const HAAR: [f32; 2] = [0.70710677, 0.70710677];
const DB2: [f32; 4] = [0.482_962_91, 0.836_516_3, 0.224_143_87, -0.129_409_52];
const DB3: [f32; 6] = [0.332_670_55, 0.806_891_5, 0.459_877_5, -0.135_011_02, -0.085_441_27, 0.035_226_292];
#[rustfmt::skip]
const DB4: [f32; 8] = [
    0.230_377_81, 0.714_846_57, 0.630_880_77, -0.027_983_769, -0.187_034_81, 0.030_841_382, 0.032_883_012, -0.010_597_402,
];
#[rustfmt::skip]
const SYM4: [f32; 8] = [
    0.032_223_1, -0.012_603_967, -0.099_219_54, 0.297_857_8, 0.803_738_75, 0.497_618_67, -0.029_635_528, -0.075_765_714,
];
const CDF53: Lifting = Lifting { steps: &[[-0.5, 0.25]], gain: [1.414_213_6, 0.707_106_77] };
const CDF97: Lifting = Lifting {
    steps: &[[-1.586_134_3, -0.052_980_12], [0.882_911_1, 0.443_506_85]],
    gain: [1.149_604_4, 0.869_864_45],
};

/// The lifting steps of a wavelet.
#[derive(Debug)]
pub(super) struct Lifting {
    /// Pairs `[a, b]`.
    steps: &'static [[f32; 2]],
    /// `[K, k]`.
    gain: [f32; 2],
}

/// How one level along one axis is computed.
#[derive(Clone, Debug)]
pub(super) enum Level {
    /// The low-pass taps `h`: 2, 4, 6 or 8.
    Filter(Vec<f32>),
    Lifting(&'static Lifting),
}

/// One row of the columns that are transformed at once: `W` vectors.
type Row<S, const W: usize> = [<S as Simd>::f32s; W];

impl Level {
    /// `x` to `out`: the low values, then the high values. Both are equally long.
    #[inline(always)]
    pub(super) fn forward<S: Simd, const W: usize>(&self, simd: S, x: &[Row<S, W>], out: &mut [Row<S, W>]) {
        match self {
            Self::Filter(taps) => match taps.len() {
                2 => analyse::<S, W, 2>(simd, taps, x, out),
                4 => analyse::<S, W, 4>(simd, taps, x, out),
                6 => analyse::<S, W, 6>(simd, taps, x, out),
                _ => analyse::<S, W, 8>(simd, taps, x, out),
            },
            Self::Lifting(lifting) => lifting.forward(simd, x, out),
        }
    }

    /// The low values and then the high values in `bands` to `x`. Both are equally long; `bands` is overwritten.
    #[inline(always)]
    pub(super) fn inverse<S: Simd, const W: usize>(
        &self,
        simd: S,
        bands: &mut [Row<S, W>],
        x: &mut [Row<S, W>],
    ) {
        match self {
            Self::Filter(taps) => match taps.len() {
                2 => synthesize::<S, W, 2, 1>(simd, taps, bands, x),
                4 => synthesize::<S, W, 4, 2>(simd, taps, bands, x),
                6 => synthesize::<S, W, 6, 3>(simd, taps, bands, x),
                _ => synthesize::<S, W, 8, 4>(simd, taps, bands, x),
            },
            Self::Lifting(lifting) => lifting.inverse(simd, bands, x),
        }
    }
}

/// Taps as vectors; missing ones are 0.
#[inline(always)]
fn splat<S: Simd, const L: usize>(simd: S, taps: &[f32]) -> [S::f32s; L] {
    let mut h = [simd.splat_f32s(0.0); L];
    for (h, &tap) in h.iter_mut().zip(taps) {
        *h = simd.splat_f32s(tap);
    }
    h
}

#[inline(always)]
fn analyse<S: Simd, const W: usize, const L: usize>(
    simd: S,
    taps: &[f32],
    x: &[Row<S, W>],
    out: &mut [Row<S, W>],
) {
    let h = splat::<S, L>(simd, taps);
    let (x, last) = x.split_at(x.len() - x.len() % 2);
    let (low, high) = out.split_at_mut(x.len() / 2 + last.len());
    if let (Some(low), Some(&last)) = (low.last_mut(), last.first()) {
        *low = last;
    }
    for (i, (low, high)) in low.iter_mut().zip(high).enumerate() {
        let inside = x[2 * i..].first_chunk::<L>();
        for w in 0..W {
            let mut terms = [h[0]; L];
            for k in 0..L {
                terms[k] = inside.map_or_else(|| x[(2 * i + k) % x.len()][w], |rows| rows[k][w]);
            }
            let mut sums = [simd.mul_f32s(h[0], terms[0]), simd.mul_f32s(h[L - 1], terms[0])];
            for k in 1..L {
                sums[0] = simd.add_f32s(sums[0], simd.mul_f32s(h[k], terms[k]));
                let term = simd.mul_f32s(h[L - 1 - k], terms[k]);
                sums[1] =
                    if k % 2 == 0 { simd.add_f32s(sums[1], term) } else { simd.sub_f32s(sums[1], term) };
            }
            (low[w], high[w]) = (sums[0], sums[1]);
        }
    }
}

#[inline(always)]
fn synthesize<S: Simd, const W: usize, const L: usize, const H: usize>(
    simd: S,
    taps: &[f32],
    bands: &[Row<S, W>],
    x: &mut [Row<S, W>],
) {
    let h = splat::<S, L>(simd, taps);
    let half = bands.len() / 2;
    let (low, high) = bands.split_at(bands.len() - half);
    if let ([.., last], [.., to]) = (low, &mut *x) {
        // Overwritten below where the length is even.
        *to = *last;
    }
    for (i, [even, odd]) in x.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let mut rows = [i; H];
        for j in 1..H {
            rows[j] = if j <= i { i - j } else { (i + j * half - j) % half };
        }
        for w in 0..W {
            let (l, g) = (low[i][w], high[i][w]);
            let mut sums = [simd.mul_f32s(h[0], l), simd.mul_f32s(h[1], l)];
            sums[0] = simd.add_f32s(sums[0], simd.mul_f32s(h[L - 1], g));
            sums[1] = simd.sub_f32s(sums[1], simd.mul_f32s(h[L - 2], g));
            for j in 1..H {
                let (l, g) = (low[rows[j]][w], high[rows[j]][w]);
                sums[0] = simd.add_f32s(sums[0], simd.mul_f32s(h[2 * j], l));
                sums[0] = simd.add_f32s(sums[0], simd.mul_f32s(h[L - 1 - 2 * j], g));
                sums[1] = simd.add_f32s(sums[1], simd.mul_f32s(h[2 * j + 1], l));
                sums[1] = simd.sub_f32s(sums[1], simd.mul_f32s(h[L - 2 - 2 * j], g));
            }
            (even[w], odd[w]) = (sums[0], sums[1]);
        }
    }
}

impl Lifting {
    #[inline(always)]
    fn forward<S: Simd, const W: usize>(&self, simd: S, x: &[Row<S, W>], out: &mut [Row<S, W>]) {
        let (low, high) = out.split_at_mut(x.len() - x.len() / 2);
        for (low, x) in low.iter_mut().zip(x.iter().step_by(2)) {
            *low = *x;
        }
        for (high, x) in high.iter_mut().zip(x.iter().skip(1).step_by(2)) {
            *high = *x;
        }
        for &[a, b] in self.steps {
            step_high(simd, a, low, high);
            step_low(simd, b, low, high);
        }
        multiply(simd, self.gain[0], low);
        multiply(simd, self.gain[1], high);
    }

    #[inline(always)]
    fn inverse<S: Simd, const W: usize>(&self, simd: S, bands: &mut [Row<S, W>], x: &mut [Row<S, W>]) {
        let (low, high) = bands.split_at_mut(x.len() - x.len() / 2);
        multiply(simd, self.gain[1], low);
        multiply(simd, self.gain[0], high);
        for &[a, b] in self.steps.iter().rev() {
            // x + (-b) y is x - b y, to the bit.
            step_low(simd, -b, low, high);
            step_high(simd, -a, low, high);
        }
        for (low, x) in low.iter().zip(x.iter_mut().step_by(2)) {
            *x = *low;
        }
        for (high, x) in high.iter().zip(x.iter_mut().skip(1).step_by(2)) {
            *x = *high;
        }
    }
}

/// `high_i = high_i + a (low_i + low_{i+1})`
#[inline(always)]
fn step_high<S: Simd, const W: usize>(simd: S, a: f32, low: &[Row<S, W>], high: &mut [Row<S, W>]) {
    let a = simd.splat_f32s(a);
    for (i, high) in high.iter_mut().enumerate() {
        let (here, after) = (&low[i], &low[(i + 1).min(low.len() - 1)]);
        for w in 0..W {
            high[w] = simd.add_f32s(high[w], simd.mul_f32s(a, simd.add_f32s(here[w], after[w])));
        }
    }
}

/// `low_i = low_i + b (high_{i-1} + high_i)`
#[inline(always)]
fn step_low<S: Simd, const W: usize>(simd: S, b: f32, low: &mut [Row<S, W>], high: &[Row<S, W>]) {
    let b = simd.splat_f32s(b);
    for (i, low) in low.iter_mut().enumerate() {
        let (before, here) = (&high[i.saturating_sub(1)], &high[i.min(high.len() - 1)]);
        for w in 0..W {
            low[w] = simd.add_f32s(low[w], simd.mul_f32s(b, simd.add_f32s(before[w], here[w])));
        }
    }
}

#[inline(always)]
fn multiply<S: Simd, const W: usize>(simd: S, factor: f32, rows: &mut [Row<S, W>]) {
    let factor = simd.splat_f32s(factor);
    for row in rows {
        for w in 0..W {
            row[w] = simd.mul_f32s(factor, row[w]);
        }
    }
}
