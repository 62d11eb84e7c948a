//! The two-dimensional wavelet transform of square blocks.
//!
//! # Specification
//!
//! One level (`wavelet.rs`) is applied to every column (axis 0), then to every row (axis 1) of a square of side n,
//! which gives four bands: LL, LH (high-pass along axis 0), HL (high-pass along axis 1), HH. With `a = ceil(n/2)` and
//! `b = floor(n/2)` they have `a x a`, `b x a`, `a x b` and `b x b` coefficients (rows x columns). The next level does the same
//! to LL. The inverse undoes the levels from last to first, each along axis 1, then along axis 0.
//!
//! The bands that are kept are stored one after the other: LL of the last level, then LH, HL, HH of the last level,
//! of the one before, and so on. Inside a band coefficients are stored column by column: `(i, j)` at `j * rows + i`.
//! Bands that are not kept are 0 in the inverse.

use std::fmt;
use std::str::FromStr;

use bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Arch, Simd, WithSimd};

use super::Blocks;
use super::transpose::{Strip, collect, spread};
use super::wavelet::{Level, Wavelet};
use crate::error::{Error, Result};

/// Which bands are kept, of every level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Every band.
    All,
    /// All but HH.
    LlLhHl,
    /// LL of the last level only.
    LlOnly,
}

const KEEPS: [(&str, Keep); 3] = [("all", Keep::All), ("ll_lh_hl", Keep::LlLhHl), ("ll_only", Keep::LlOnly)];

impl Keep {
    /// Its number in a file.
    pub(crate) fn id(self) -> u8 {
        KEEPS.iter().position(|(_, keep)| *keep == self).unwrap_or(0) as u8
    }

    pub(crate) fn from_id(id: u8) -> Result<Self> {
        let unknown = || Error::unsupported(format!("kept bands of id {id} are not known to this version"));
        KEEPS.get(usize::from(id)).map(|(_, keep)| *keep).ok_or_else(unknown)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KEEPS.iter().find(|(_, keep)| keep == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Keep {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = KEEPS.iter().find(|(name, _)| *name == text).map(|(_, keep)| *keep);
        known.ok_or_else(|| Error::invalid(format!("kept bands {text:?}: use all, ll_lh_hl or ll_only")))
    }
}

/// What a band holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BandKind {
    /// LL of the last level.
    Approximation,
    /// LH, HL or HH of any level.
    Detail,
}

/// One kept band of a block: `rows` x `cols` coefficients, stored column by column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Band {
    pub(crate) kind: BandKind,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Band {
    pub(crate) fn is_detail(&self) -> bool {
        self.kind == BandKind::Detail
    }
}

/// The wavelet transform of blocks of one size.
#[derive(Clone, Debug)]
pub(crate) struct Dwt {
    block: usize,
    level: Level,
    wavelet: Wavelet,
    keep: Keep,
    bands: Vec<Band>,
    /// Kept coefficients per block.
    coefficients: usize,
    /// Where the kept bands lie while a block is transformed, in stored order.
    places: Vec<Place>,
    /// Sides of the squares that are transformed, first level first.
    sides: Vec<usize>,
}

/// A band as part of the transposed square of its level.
#[derive(Clone, Copy, Debug)]
struct Place {
    level: usize,
    /// First row of the transposed square: 0, or the number of low values along axis 1.
    row: usize,
    /// First column: 0, or the number of low values along axis 0.
    col: usize,
}

impl Dwt {
    /// The transform of `block` x `block` values by `levels` levels; an error unless `block` is 4 to 128 and every
    /// level leaves an LL band of side 2 at least.
    pub(crate) fn new(block: usize, wavelet: &Wavelet, levels: usize, keep: Keep) -> Result<Self> {
        if !(4..=128).contains(&block) {
            return Err(Error::invalid(format!("block size {block}: wavelets take 4 to 128")));
        }
        let halving = |side: &usize| Some(side.div_ceil(2));
        let sides: Vec<usize> =
            std::iter::successors(Some(block), halving).take_while(|&side| side > 2).collect();
        let Some(sides) = sides.get(..levels).filter(|sides| !sides.is_empty()) else {
            return Err(Error::invalid(format!(
                "{levels} wavelet levels: a block of side {block} takes 1 to {}",
                sides.len()
            )));
        };
        let mut dwt = Self {
            block,
            level: wavelet.level(),
            wavelet: wavelet.clone(),
            keep,
            bands: vec![],
            coefficients: 0,
            places: vec![],
            sides: sides.to_vec(),
        };
        dwt.place_bands(keep);
        dwt.coefficients = dwt.bands.iter().map(|band| band.rows * band.cols).sum();
        Ok(dwt)
    }

    /// Fills `bands` and `places` in stored order.
    fn place_bands(&mut self, keep: Keep) {
        // Per band: whether it is high-pass along axis 0 and along axis 1.
        let details: &[(bool, bool)] = match keep {
            Keep::All => &[(true, false), (false, true), (true, true)],
            Keep::LlLhHl => &[(true, false), (false, true)],
            Keep::LlOnly => &[],
        };
        for (level, &side) in self.sides.iter().enumerate().rev() {
            let low = side.div_ceil(2);
            let place = |high: bool| if high { (low, side - low) } else { (0, low) };
            let approximation = (level + 1 == self.sides.len()).then_some((false, false));
            for &(down, across) in approximation.iter().chain(details) {
                let ((col, rows), (row, cols)) = (place(down), place(across));
                let kind = if down || across { BandKind::Detail } else { BandKind::Approximation };
                self.bands.push(Band { kind, rows, cols });
                self.places.push(Place { level, row, col });
            }
        }
    }

    /// The kept bands of a block, in stored order.
    pub(crate) fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// Number of kept coefficients of a block.
    pub(crate) fn coefficients(&self) -> usize {
        self.coefficients
    }

    /// How many blocks lie side by side in one strip: as many as the nearest cache has room for.
    fn blocks_at_once(&self) -> usize {
        (2048 / self.block.next_multiple_of(8).pow(2)).max(1)
    }

    /// Side of a block.
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// Number of levels.
    pub(crate) fn levels(&self) -> usize {
        self.sides.len()
    }

    /// Which bands are kept.
    pub(crate) fn keep(&self) -> Keep {
        self.keep
    }

    /// The filters.
    pub(crate) fn wavelet(&self) -> &Wavelet {
        &self.wavelet
    }

    /// The kept coefficients of blocks `which` of a chunk, one block after the other ([`Dwt::coefficients`] each).
    pub(crate) fn forward(&self, blocks: &Blocks, chunk: &[f32], which: &[usize], coeffs: &mut [f32]) {
        Arch::new().dispatch(Forward { dwt: self, blocks, chunk, which, coeffs });
    }

    /// The inverse of [`Dwt::forward`]: writes blocks `which` of a chunk.
    pub(crate) fn inverse(&self, coeffs: &[f32], blocks: &Blocks, which: &[usize], chunk: &mut [f32]) {
        Arch::new().dispatch(Inverse { dwt: self, coeffs, blocks, which, chunk });
    }
}

/// What the transform of a strip of blocks works with.
struct Scratch<'a, S: Simd> {
    simd: S,
    dwt: &'a Dwt,
    /// Per level.
    strips: Vec<Strip>,
    /// The squares of a level.
    squares: Vec<S::f32s>,
    /// The squares between their two passes.
    half: Vec<S::f32s>,
    /// The transposed squares of every level: its bands.
    bands: Vec<Vec<S::f32s>>,
}

impl<'a, S: Simd> Scratch<'a, S> {
    #[inline(always)]
    fn new(simd: S, dwt: &'a Dwt) -> Self {
        let width = |side: usize| side.next_multiple_of(S::F32_LANES);
        let strip = |&side| Strip { side, width: width(side), blocks: dwt.blocks_at_once() };
        let strips: Vec<Strip> = dwt.sides.iter().map(strip).collect();
        let zeros = |strip: &Strip| vec![simd.splat_f32s(0.0); strip.width * strip.row() / S::F32_LANES];
        let bands: Vec<Vec<S::f32s>> = strips.iter().map(zeros).collect();
        let largest = bands.first().cloned().unwrap_or_default();
        Self { simd, dwt, strips, squares: largest.clone(), half: largest, bands }
    }

    #[inline(always)]
    fn forward(&mut self, blocks: &Blocks, chunk: &[f32], which: &[usize], coeffs: &mut [f32]) {
        let strip = self.strips[0];
        for (b, &i) in which.iter().enumerate() {
            let square = &mut cast_slice_mut(&mut self.squares)[b * strip.width..];
            blocks.load(chunk, i, square, strip.row());
        }
        for at in 0..self.strips.len() {
            self.analyse(at);
        }
        self.write(coeffs);
    }

    /// The bands of level `at` from its squares, or from LL of the level before, which lies transposed.
    #[inline(always)]
    fn analyse(&mut self, at: usize) {
        let Self { simd, dwt, strips, squares, half, bands } = self;
        let strip = strips[at];
        if at > 0 {
            strip.turn(*simd, &strips[at - 1], &bands[at - 1], squares);
        }
        let stride = strip.row() / S::F32_LANES;
        dwt.level.forward(*simd, strip.side, squares, half, stride);
        strip.turn(*simd, &strip, half, squares);
        dwt.level.forward(*simd, strip.side, squares, &mut bands[at], stride);
    }

    #[inline(always)]
    fn write(&self, coeffs: &mut [f32]) {
        let mut offset = 0;
        for (band, place) in self.dwt.bands.iter().zip(&self.dwt.places) {
            let (strip, [rows, cols]) = (self.strips[place.level], [band.rows, band.cols]);
            let squares = &cast_slice(&self.bands[place.level])[place.row * strip.row() + place.col..];
            for (b, coeffs) in coeffs.chunks_exact_mut(self.dwt.coefficients).enumerate() {
                let to = &mut coeffs[offset..][..rows * cols];
                collect(&squares[b * strip.width..], strip.row(), to, rows);
            }
            offset += rows * cols;
        }
    }

    #[inline(always)]
    fn inverse(&mut self, coeffs: &[f32], blocks: &Blocks, which: &[usize], chunk: &mut [f32]) {
        self.read(coeffs);
        for at in (0..self.strips.len()).rev() {
            self.synthesize(at);
        }
        let strip = self.strips[0];
        for (b, &i) in which.iter().enumerate() {
            blocks.store(&cast_slice(&self.squares)[b * strip.width..], strip.row(), i, chunk);
        }
    }

    /// Puts the kept bands in their places; the others stay 0.
    #[inline(always)]
    fn read(&mut self, coeffs: &[f32]) {
        let mut offset = 0;
        for (band, place) in self.dwt.bands.iter().zip(&self.dwt.places) {
            let (strip, [rows, cols]) = (self.strips[place.level], [band.rows, band.cols]);
            let squares =
                &mut cast_slice_mut(&mut self.bands[place.level])[place.row * strip.row() + place.col..];
            for (b, coeffs) in coeffs.chunks_exact(self.dwt.coefficients).enumerate() {
                let from = &coeffs[offset..][..rows * cols];
                spread(from, rows, &mut squares[b * strip.width..], strip.row());
            }
            offset += rows * cols;
        }
    }

    /// The squares of level `at` from its bands, and from them LL of the level before, transposed.
    #[inline(always)]
    fn synthesize(&mut self, at: usize) {
        let Self { simd, dwt, strips, squares, half, bands } = self;
        let strip = strips[at];
        let stride = strip.row() / S::F32_LANES;
        dwt.level.inverse(*simd, strip.side, &bands[at], half, stride);
        strip.turn(*simd, &strip, half, squares);
        dwt.level.inverse(*simd, strip.side, squares, half, stride);
        if at == 0 {
            std::mem::swap(squares, half);
            return;
        }
        let before = strips[at - 1];
        strip.turn(*simd, &strip, half, squares);
        let (from, to): (&[f32], &mut [f32]) = (cast_slice(squares), cast_slice_mut(&mut bands[at - 1]));
        for block in 0..strip.blocks {
            for i in 0..strip.side {
                let to = &mut to[i * before.row() + block * before.width..];
                to[..strip.side]
                    .copy_from_slice(&from[i * strip.row() + block * strip.width..][..strip.side]);
            }
        }
    }
}

/// [`Dwt::forward`] for one vector unit.
struct Forward<'a> {
    dwt: &'a Dwt,
    blocks: &'a Blocks,
    chunk: &'a [f32],
    which: &'a [usize],
    coeffs: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dwt, blocks, chunk, which, coeffs } = self;
        let mut scratch = Scratch::new(simd, dwt);
        let strip = dwt.blocks_at_once();
        for (which, coeffs) in which.chunks(strip).zip(coeffs.chunks_mut(strip * dwt.coefficients)) {
            scratch.forward(blocks, chunk, which, coeffs);
        }
    }
}

/// [`Dwt::inverse`] for one vector unit.
struct Inverse<'a> {
    dwt: &'a Dwt,
    coeffs: &'a [f32],
    blocks: &'a Blocks,
    which: &'a [usize],
    chunk: &'a mut [f32],
}

impl WithSimd for Inverse<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dwt, coeffs, blocks, which, chunk } = self;
        let mut scratch = Scratch::new(simd, dwt);
        let strip = dwt.blocks_at_once();
        for (which, coeffs) in which.chunks(strip).zip(coeffs.chunks(strip * dwt.coefficients)) {
            scratch.inverse(coeffs, blocks, which, chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::transform::fixture;
    use crate::transform::lattice::Lattice;

    const SIDES: [usize; 12] = [4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 64, 128];

    fn wavelets() -> Vec<Wavelet> {
        let mut all: Vec<Wavelet> = ["haar", "db2", "db3", "db4", "sym4", "cdf5/3", "cdf9/7"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        all.push(Wavelet::Learned(Lattice::from_params(&[900, -7000, 3000]).unwrap()));
        all.push(Wavelet::Learned(Lattice::from_params(&[-32768, 32767]).unwrap()));
        all
    }

    /// Deterministic values in -1..1.
    fn noise(len: usize) -> Vec<f32> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn forward(dwt: &Dwt, values: &[f32], coeffs: &mut [f32]) {
        let (blocks, which) = Blocks::column(dwt.block, values);
        dwt.forward(&blocks, values, &which, coeffs);
    }

    fn inverse(dwt: &Dwt, coeffs: &[f32], values: &mut [f32]) {
        let (blocks, which) = Blocks::column(dwt.block, values);
        dwt.inverse(coeffs, &blocks, &which, values);
    }

    /// Low and high values by the textbook, in f64.
    fn naive_level(wavelet: &Wavelet, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n = x.len();
        let taps: Vec<f64> = match wavelet.level() {
            Level::Filter(taps) => taps.iter().map(|&tap| f64::from(tap)).collect(),
            Level::Lifting(_) => return naive_lifting(wavelet, x),
        };
        let even = n - n % 2;
        let filter = |taps: &dyn Fn(usize) -> f64, i: usize| {
            (0..even)
                .map(|at| {
                    x[at] * (0..8).map(|k| if (2 * i + k) % even == at { taps(k) } else { 0.0 }).sum::<f64>()
                })
                .sum()
        };
        let length = taps.len();
        let h = |k: usize| if k < length { taps[k] } else { 0.0 };
        let g = |k: usize| if k < length { (-1f64).powi(k as i32) * taps[length - 1 - k] } else { 0.0 };
        let mut low: Vec<f64> = (0..even / 2).map(|i| filter(&h, i)).collect();
        low.extend(&x[even..]);
        (low, (0..even / 2).map(|i| filter(&g, i)).collect())
    }

    /// In place on the signal, mirrored at both ends.
    fn naive_lifting(wavelet: &Wavelet, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (steps, gain): (&[f64], f64) = match wavelet {
            Wavelet::Cdf53 => (&[-0.5, 0.25], 2f64.sqrt()),
            _ => (
                &[-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971],
                1.149604398860241,
            ),
        };
        let (mut x, last) = (x.to_vec(), x.len() as i64 - 1);
        let mirror = |i: i64| (last - (last - i.abs()).abs()) as usize;
        for (at, step) in steps.iter().enumerate() {
            for i in (1 - at as i64 % 2..=last).step_by(2) {
                x[i as usize] += step * (x[mirror(i - 1)] + x[mirror(i + 1)]);
            }
        }
        let half = |start: usize, gain: f64| x.iter().skip(start).step_by(2).map(|v| v * gain).collect();
        (half(0, gain), half(1, 1.0 / gain))
    }

    /// All bands of one block in stored order, in f64.
    fn naive(wavelet: &Wavelet, block: &[f64], n: usize, levels: usize) -> Vec<f64> {
        if levels == 0 {
            return (0..n * n).map(|at| block[at % n * n + at / n]).collect();
        }
        let low = n.div_ceil(2);
        let columns =
            (0..n).map(|j| naive_level(wavelet, &(0..n).map(|i| block[i * n + j]).collect::<Vec<_>>()));
        let columns: Vec<Vec<f64>> = columns.map(|(low, high)| [low, high].concat()).collect();
        // rows[i]: coefficients of row i along axis 1.
        let rows =
            (0..n).map(|i| naive_level(wavelet, &columns.iter().map(|column| column[i]).collect::<Vec<_>>()));
        let rows: Vec<Vec<f64>> = rows.map(|(low, high)| [low, high].concat()).collect();
        let band = |down: std::ops::Range<usize>, across: std::ops::Range<usize>| {
            across.flat_map(|j| rows[down.clone()].iter().map(move |row| row[j])).collect::<Vec<_>>()
        };
        let ll: Vec<f64> = rows[..low].iter().flat_map(|row| row[..low].to_vec()).collect();
        let mut all = naive(wavelet, &ll, low, levels - 1);
        all.extend([band(low..n, 0..low), band(0..low, low..n), band(low..n, low..n)].concat());
        all
    }

    fn energy(values: &[f32]) -> f64 {
        values.iter().map(|&x| f64::from(x).powi(2)).sum()
    }

    #[test]
    fn equals_the_textbook_inverts_and_keeps_energy() {
        for (wavelet, n) in wavelets().iter().flat_map(|w| SIDES.map(|n| (w, n))) {
            let blocks = noise(3 * n * n);
            for levels in 1.. {
                let Ok(dwt) = Dwt::new(n, wavelet, levels, Keep::All) else { break };
                assert_eq!(dwt.coefficients(), n * n);
                let mut coeffs = vec![0.0; blocks.len()];
                forward(&dwt, &blocks, &mut coeffs);
                let block: Vec<f64> = blocks[n * n..2 * n * n].iter().map(|&x| f64::from(x)).collect();
                for (ours, exact) in coeffs[n * n..].iter().zip(naive(wavelet, &block, n, levels)) {
                    assert!(
                        (f64::from(*ours) - exact).abs() < 2e-5,
                        "{wavelet} {n} {levels}: {ours} {exact}"
                    );
                }
                let mut back = vec![0.0; blocks.len()];
                inverse(&dwt, &coeffs, &mut back);
                let worst = blocks.iter().zip(&back).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(worst < 5e-6, "{wavelet} {n} {levels}: {worst:e}");
                if !matches!(wavelet, Wavelet::Cdf53 | Wavelet::Cdf97) {
                    let gain = energy(&coeffs) / energy(&blocks);
                    assert!((gain - 1.0).abs() < 1e-5, "{wavelet} {n} {levels}: energy {gain}");
                    continue;
                }
                forward(&dwt, &vec![1.0; n * n], &mut coeffs[..n * n]);
                let ll = dwt.bands()[0].rows * dwt.bands()[0].cols;
                let expected = |at| if at < ll { 2f32.powi(levels as i32) } else { 0.0 };
                assert!(
                    (0..n * n).all(|at| (coeffs[at] - expected(at)).abs() < 1e-4),
                    "{wavelet} {n} {levels}"
                );
            }
        }
    }

    #[test]
    fn filters_are_orthonormal_and_have_vanishing_moments() {
        for (name, moments) in [("haar", 1), ("db2", 2), ("db3", 3), ("db4", 4), ("sym4", 4)] {
            let Level::Filter(h) = name.parse::<Wavelet>().unwrap().level() else { panic!() };
            let h: Vec<f64> = h.iter().map(|&tap| f64::from(tap)).collect();
            assert_eq!(h.len(), 2 * moments);
            assert!((h.iter().sum::<f64>() - 2f64.sqrt()).abs() < 2e-7, "{name}");
            for shift in 0..moments {
                let product: f64 = h[2 * shift..].iter().zip(&h).map(|(a, b)| a * b).sum();
                assert!((product - if shift == 0 { 1.0 } else { 0.0 }).abs() < 2e-7, "{name} {shift}");
            }
            for p in 0..moments as i32 {
                let moment: f64 = h
                    .iter()
                    .enumerate()
                    .map(|(k, h)| (-1f64).powi(k as i32) * (k as f64 - 3.5).powi(p) * h)
                    .sum();
                assert!(moment.abs() < 1e-5, "{name}: moment {p} is {moment:e}");
            }
        }
    }

    #[test]
    fn bands_that_are_not_kept_are_zero() {
        for (wavelet, n) in wavelets().iter().flat_map(|w| [5, 8, 33].map(|n| (w, n))) {
            let blocks = noise(2 * n * n);
            for (keep, levels) in [(Keep::LlLhHl, 1), (Keep::LlLhHl, 2), (Keep::LlOnly, 1), (Keep::LlOnly, 2)]
            {
                let all = Dwt::new(n, wavelet, levels, Keep::All).unwrap();
                let some = Dwt::new(n, wavelet, levels, keep).unwrap();
                let mut full = vec![0.0; blocks.len()];
                forward(&all, &blocks, &mut full);
                let mut coeffs = vec![0.0; 2 * some.coefficients()];
                forward(&some, &blocks, &mut coeffs);
                // Take the kept bands out of the full set, and clear the others there.
                let mut kept = vec![];
                for block in full.chunks_mut(n * n) {
                    let mut at = 0;
                    for (i, band) in all.bands().iter().enumerate() {
                        let len = band.rows * band.cols;
                        let keeps = if keep == Keep::LlOnly { i == 0 } else { i % 3 != 0 || i == 0 };
                        if keeps {
                            kept.extend_from_slice(&block[at..at + len]);
                        } else {
                            block[at..at + len].fill(0.0);
                        }
                        at += len;
                    }
                }
                assert!(coeffs == kept, "{wavelet} {n} {keep} {levels}");
                let (mut a, mut b) = (vec![1.0; blocks.len()], vec![2.0; blocks.len()]);
                inverse(&all, &full, &mut a);
                inverse(&some, &coeffs, &mut b);
                assert!(a == b, "{wavelet} {n} {keep} {levels}");
            }
        }
    }

    #[test]
    fn vector_units_agree_to_the_bit() {
        for (wavelet, n) in wavelets().iter().flat_map(|w| [4, 7, 8, 17, 32].map(|n| (w, n))) {
            let dwt = Dwt::new(n, wavelet, 1, Keep::All).unwrap();
            let blocks = noise(5 * n * n);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let (mut scalar, mut vector) = (vec![0.0; blocks.len()], vec![0.0; blocks.len()]);
            let (column, which) = Blocks::column(n, &blocks);
            let (dwt, column, which) = (&dwt, &column, &which[..]);
            Forward { dwt, blocks: column, chunk: &blocks, which, coeffs: &mut scalar }
                .with_simd(pulp::Scalar);
            forward(dwt, &blocks, &mut vector);
            assert!(bits(&scalar) == bits(&vector), "{wavelet} {n}");
            Inverse { dwt, coeffs: &blocks, blocks: column, which, chunk: &mut scalar }
                .with_simd(pulp::Scalar);
            inverse(dwt, &blocks, &mut vector);
            assert!(bits(&scalar) == bits(&vector), "{wavelet} {n}");
        }
    }

    #[test]
    fn haar_equals_the_predecessor_to_the_bit() {
        for input in
            ["gaussian", "heavy", "rank4", "constant", "tiny", "half_ties", "row", "sparse_rows", "zero"]
        {
            let Some(stages) = fixture::tensors(&format!("stages_{input}.safetensors")) else { return };
            for (name, (shape, patches)) in stages.iter().filter(|(name, _)| name.ends_with(".patches")) {
                let (n, half) = (shape[2], shape[2] / 2);
                let Some((_, expected)) = stages.get(&name.replace("patches", "dwt")) else { continue };
                let dwt = Dwt::new(n, &Wavelet::Haar, 1, Keep::All).unwrap();
                let mut coeffs = vec![0.0; patches.len()];
                forward(&dwt, patches, &mut coeffs);
                for (at, value) in expected.iter().enumerate() {
                    let (band, i, j) = (at / (half * half), at / half % half, at % half);
                    let ours = coeffs[band * half * half + j * half + i];
                    assert_eq!(ours.to_bits(), value.to_bits(), "{input} {name} {band} ({i}, {j})");
                }
            }
        }
    }

    #[test]
    fn senseless_requests_are_refused() {
        for (block, levels) in [(3, 1), (129, 1), (8, 0), (4, 2), (8, 3), (usize::MAX, 1)] {
            assert!(Dwt::new(block, &Wavelet::Haar, levels, Keep::All).is_err(), "{block} {levels}");
        }
        assert_eq!(Dwt::new(128, &Wavelet::Haar, 6, Keep::All).unwrap().bands()[0].rows, 2);
        assert!("db5".parse::<Wavelet>().is_err() && "hh".parse::<Keep>().is_err());
        for wavelet in wavelets() {
            assert_eq!(wavelet.to_string().parse::<Wavelet>().unwrap().to_string(), wavelet.to_string());
        }
        for keep in ["all", "ll_lh_hl", "ll_only"] {
            assert_eq!(keep.parse::<Keep>().unwrap().to_string(), keep);
        }
    }
}
