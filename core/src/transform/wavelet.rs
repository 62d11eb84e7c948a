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
//! **Lifting** (`cdf5/3`, `cdf9/7`) changes x in place; `x_{-1}` means `x_1` and `x_n` means `x_{n-2}`. Forward: for
//! every pair (a, b) in turn, first `x_i = x_i + a (x_{i-1} + x_{i+1})` for every odd i, then
//! `x_i = x_i + b (x_{i-1} + x_{i+1})` for every even i; last, `low_i = K x_{2i}`, `high_i = k x_{2i+1}`. The inverse starts
//! with `x_{2i} = k low_i`, `x_{2i+1} = K high_i`, and then undoes the steps from last to first, with a difference in
//! place of the sum outside the brackets. Nearly orthonormal.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
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

    /// Whether the inverse is the transpose, as exactly as `f32` allows.
    pub(super) fn is_orthonormal(&self) -> bool {
        !matches!(self, Self::Cdf53 | Self::Cdf97)
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

const HAAR: [f32; 2] = [FRAC_1_SQRT_2; 2];
const DB2: [f32; 4] = [0.482_962_9, 0.836_516_3, 0.224_143_87, -0.129_409_52];
const DB3: [f32; 6] = [0.332_670_55, 0.806_891_5, 0.459_877_5, -0.135_011_02, -0.085_441_28, 0.035_226_292];
#[rustfmt::skip]
const DB4: [f32; 8] = [
    0.230_377_81, 0.714_846_57, 0.630_880_8, -0.027_983_77, -0.187_034_81, 0.030_841_382, 0.032_883_01, -0.010_597_402,
];
#[rustfmt::skip]
const SYM4: [f32; 8] = [
    0.032_223_1, -0.012_603_967, -0.099_219_546, 0.297_857_8, 0.803_738_8, 0.497_618_67, -0.029_635_528, -0.075_765_714,
];
const CDF53: Lifting = Lifting { steps: &[[-0.5, 0.25]], gain: [SQRT_2, FRAC_1_SQRT_2] };
const CDF97: Lifting = Lifting {
    steps: &[[-1.586_134_3, -0.052_980_117], [0.882_911_1, 0.443_506_87]],
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

/// Row `i` of a matrix with `stride` vectors a row.
macro_rules! row {
    ($rows:expr, $i:expr, $stride:expr) => {
        $rows[$i * $stride..][..$stride]
    };
}

impl Level {
    /// The `n` rows of `x` to the rows of `out`: the low values, then the high values. A row of either has `stride`
    /// vectors; `x` is overwritten.
    #[inline(always)]
    pub(super) fn forward<S: Simd>(
        &self,
        simd: S,
        n: usize,
        x: &mut [S::f32s],
        out: &mut [S::f32s],
        stride: usize,
    ) {
        let (x, out) = (&mut x[..n * stride], &mut out[..n * stride]);
        let (low, high) = out.split_at_mut((n - n / 2) * stride);
        match self {
            Self::Filter(taps) => match taps.len() {
                2 => analyse::<S, 2>(simd, taps, x, low, high, stride),
                4 => analyse::<S, 4>(simd, taps, x, low, high, stride),
                6 => analyse::<S, 6>(simd, taps, x, low, high, stride),
                _ => analyse::<S, 8>(simd, taps, x, low, high, stride),
            },
            Self::Lifting(lifting) => lifting.forward(simd, x, low, high, stride),
        }
    }

    /// The `n` rows of low values and then of high values in `bands` to the rows of `x`.
    #[inline(always)]
    pub(super) fn inverse<S: Simd>(
        &self,
        simd: S,
        n: usize,
        bands: &[S::f32s],
        x: &mut [S::f32s],
        stride: usize,
    ) {
        let (bands, x) = (&bands[..n * stride], &mut x[..n * stride]);
        let (low, high) = bands.split_at((n - n / 2) * stride);
        match self {
            Self::Filter(taps) => match taps.len() {
                2 => synthesize::<S, 2, 1>(simd, taps, low, high, x, stride),
                4 => synthesize::<S, 4, 2>(simd, taps, low, high, x, stride),
                6 => synthesize::<S, 6, 3>(simd, taps, low, high, x, stride),
                _ => synthesize::<S, 8, 4>(simd, taps, low, high, x, stride),
            },
            Self::Lifting(lifting) => lifting.inverse(simd, low, high, x, stride),
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
fn analyse<S: Simd, const L: usize>(
    simd: S,
    taps: &[f32],
    x: &[S::f32s],
    low: &mut [S::f32s],
    high: &mut [S::f32s],
    stride: usize,
) {
    let h = splat::<S, L>(simd, taps);
    let (half, even) = (high.len() / stride, 2 * high.len() / stride);
    low[half * stride..].copy_from_slice(&x[even * stride..]);
    for i in 0..half {
        let (low, high) = (&mut row!(low, i, stride), &mut row!(high, i, stride));
        let mut rows = [x; L];
        for (k, row) in rows.iter_mut().enumerate() {
            let at = 2 * i + k;
            *row = &row!(x, if at < even { at } else { at % even }, stride);
        }
        for v in 0..stride {
            let mut sums = [simd.mul_f32s(h[0], rows[0][v]), simd.mul_f32s(h[L - 1], rows[0][v])];
            for k in 1..L {
                sums[0] = simd.add_f32s(sums[0], simd.mul_f32s(h[k], rows[k][v]));
                let term = simd.mul_f32s(h[L - 1 - k], rows[k][v]);
                sums[1] =
                    if k % 2 == 0 { simd.add_f32s(sums[1], term) } else { simd.sub_f32s(sums[1], term) };
            }
            (low[v], high[v]) = (sums[0], sums[1]);
        }
    }
}

#[inline(always)]
fn synthesize<S: Simd, const L: usize, const H: usize>(
    simd: S,
    taps: &[f32],
    low: &[S::f32s],
    high: &[S::f32s],
    x: &mut [S::f32s],
    stride: usize,
) {
    let h = splat::<S, L>(simd, taps);
    let half = high.len() / stride;
    let (x, last) = x.split_at_mut(2 * half * stride);
    last.copy_from_slice(&low[half * stride..]);
    for (i, pair) in x.chunks_exact_mut(2 * stride).enumerate() {
        let (even, odd) = pair.split_at_mut(stride);
        let (mut lows, mut highs) = ([low; H], [high; H]);
        for j in 0..H {
            let at = if j <= i { i - j } else { (i + j * half - j) % half };
            (lows[j], highs[j]) = (&row!(low, at, stride), &row!(high, at, stride));
        }
        for v in 0..stride {
            let (l, g) = (lows[0][v], highs[0][v]);
            let mut sums = [simd.mul_f32s(h[0], l), simd.mul_f32s(h[1], l)];
            sums[0] = simd.add_f32s(sums[0], simd.mul_f32s(h[L - 1], g));
            sums[1] = simd.sub_f32s(sums[1], simd.mul_f32s(h[L - 2], g));
            for j in 1..H {
                let (l, g) = (lows[j][v], highs[j][v]);
                sums[0] = simd.add_f32s(sums[0], simd.mul_f32s(h[2 * j], l));
                sums[0] = simd.add_f32s(sums[0], simd.mul_f32s(h[L - 1 - 2 * j], g));
                sums[1] = simd.add_f32s(sums[1], simd.mul_f32s(h[2 * j + 1], l));
                sums[1] = simd.sub_f32s(sums[1], simd.mul_f32s(h[L - 2 - 2 * j], g));
            }
            (even[v], odd[v]) = (sums[0], sums[1]);
        }
    }
}

impl Lifting {
    #[inline(always)]
    fn forward<S: Simd>(
        &self,
        simd: S,
        x: &mut [S::f32s],
        low: &mut [S::f32s],
        high: &mut [S::f32s],
        stride: usize,
    ) {
        for &[a, b] in self.steps {
            lift(simd, a, 1, x, stride);
            lift(simd, b, 0, x, stride);
        }
        for (i, low) in low.chunks_exact_mut(stride).enumerate() {
            multiply(simd, self.gain[0], &row!(x, 2 * i, stride), low);
        }
        for (i, high) in high.chunks_exact_mut(stride).enumerate() {
            multiply(simd, self.gain[1], &row!(x, 2 * i + 1, stride), high);
        }
    }

    #[inline(always)]
    fn inverse<S: Simd>(&self, simd: S, low: &[S::f32s], high: &[S::f32s], x: &mut [S::f32s], stride: usize) {
        for (i, low) in low.chunks_exact(stride).enumerate() {
            multiply(simd, self.gain[1], low, &mut row!(x, 2 * i, stride));
        }
        for (i, high) in high.chunks_exact(stride).enumerate() {
            multiply(simd, self.gain[0], high, &mut row!(x, 2 * i + 1, stride));
        }
        for &[a, b] in self.steps.iter().rev() {
            // x + (-b) y is x - b y, to the bit.
            lift(simd, -b, 0, x, stride);
            lift(simd, -a, 1, x, stride);
        }
    }
}

/// `x_i = x_i + factor (x_{i-1} + x_{i+1})` for every other row i, from row `first` on.
#[inline(always)]
fn lift<S: Simd>(simd: S, factor: f32, first: usize, x: &mut [S::f32s], stride: usize) {
    let factor = simd.splat_f32s(factor);
    for i in (first..x.len() / stride).step_by(2) {
        let (above, rest) = x.split_at_mut(i * stride);
        let (row, below) = rest.split_at_mut(stride);
        let (before, after) = match (i > 0, !below.is_empty()) {
            (true, true) => (&row!(above, (i - 1), stride), &below[..stride]),
            (true, false) => (&row!(above, (i - 1), stride), &row!(above, (i - 1), stride)),
            (false, _) => (&below[..stride], &below[..stride]),
        };
        for v in 0..stride {
            row[v] = simd.add_f32s(row[v], simd.mul_f32s(factor, simd.add_f32s(before[v], after[v])));
        }
    }
}

/// `out = factor x`
#[inline(always)]
fn multiply<S: Simd>(simd: S, factor: f32, x: &[S::f32s], out: &mut [S::f32s]) {
    let factor = simd.splat_f32s(factor);
    for v in 0..x.len().min(out.len()) {
        out[v] = simd.mul_f32s(factor, x[v]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_the_nearest_f32() {
        let taps: [(&[f32], &[f64]); 7] = [
            (&HAAR, &[0.5f64.sqrt(), 0.5f64.sqrt()]),
            (&DB2, &[0.482962913144690, 0.836516303737469, 0.224143868041857, -0.129409522550921]),
            (
                &DB3,
                &[
                    0.332670552950957,
                    0.806891509313339,
                    0.459877502119331,
                    -0.135011020010391,
                    -0.0854412738822415,
                    0.0352262918821007,
                ],
            ),
            (
                &DB4,
                &[
                    0.230377813308855,
                    0.714846570552542,
                    0.630880767929590,
                    -0.0279837694169839,
                    -0.187034811718881,
                    0.0308413818359870,
                    0.0328830116669829,
                    -0.0105974017849973,
                ],
            ),
            (
                &SYM4,
                &[
                    0.0322231006040427,
                    -0.0126039672620378,
                    -0.0992195435768472,
                    0.297857795605277,
                    0.803738751805916,
                    0.497618667632015,
                    -0.0296355276459985,
                    -0.0757657147892733,
                ],
            ),
            (&CDF53.gain, &[2f64.sqrt(), 0.5f64.sqrt()]),
            (&CDF97.gain, &[1.149604398860241, 1.0 / 1.149604398860241]),
        ];
        for (ours, exact) in taps {
            assert_eq!(ours, exact.iter().map(|&tap| tap as f32).collect::<Vec<_>>());
        }
        let steps = [[-1.586134342059924, -0.052980118572961], [0.882911075530934, 0.443506852043971]];
        assert_eq!(CDF97.steps, steps.map(|pair| pair.map(|step: f64| step as f32)));
    }
}
