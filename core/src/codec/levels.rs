//! One chunk's delta to levels and back: transform and quantiser together, block by block.

use super::Scratch;
use crate::error::Result;
use crate::plan::{self, Moments, Rescale};
use crate::quantize::{MinMax, Quantizer, dequantize_band, quantize_band, rest, uniform};
use crate::transform::{Band, Blocks, Chunk, Fitted, Grid};

/// All that both directions need to know of one tensor, apart from the levels.
#[derive(Debug)]
pub(crate) struct Coding {
    pub(crate) grid: Grid,
    pub(crate) transform: Fitted,
    pub(crate) quantizer: Quantizer,
    /// Class of each block of the matrix; empty when there is one class only.
    pub(crate) classes: Vec<u8>,
    /// The step of the uniform quantiser, or of the means of blocks without bits.
    pub(crate) step: f32,
}

/// What quantising a chunk leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    /// Levels of the min-max and sign quantisers: one vector a context. Then two lists of tokens: see
    /// `Levels::tokenize`.
    pub(crate) symbols: Vec<Vec<u8>>,
    /// Levels of the uniform quantiser, or values of the trellis.
    pub(crate) integers: Vec<i32>,
    /// Encoder only: sums of coefficient times level, and of level squared, over the values of the trellis; over blocks without
    /// bits, of weight times level, and of level squared.
    pub(crate) fit: (f64, f64),
    /// Positions of the weights that a selecting transform keeps.
    pub(crate) positions: Vec<u32>,
    /// (lo, hi) of each coded band.
    pub(crate) ranges: Vec<(f32, f32)>,
    /// Mean of each block without bits: a multiple of the step, or the value itself in predecessor mode.
    pub(crate) means: Vec<f32>,
}

impl Coding {
    pub(crate) fn new(
        grid: Grid,
        transform: Fitted,
        quantizer: Quantizer,
        classes: Vec<u8>,
        rms: f32,
    ) -> Self {
        let step = match &quantizer {
            Quantizer::Uniform(uniform) => uniform.step * rms,
            Quantizer::Rest => transform.transform().rest_step() * rms,
            _ => rms / (2.0 * grid.side() as f32),
        };
        // An underflow to 0 would make levels of NaN.
        Self { grid, transform, quantizer, classes, step: step.max(f32::MIN_POSITIVE) }
    }

    /// Whether [`Self::refine`] changes anything.
    pub(crate) fn is_refined(&self) -> bool {
        self.quantizer == Quantizer::Rest && !self.transform.says_all()
    }

    /// Puts the gain of least error for the levels of all chunks in the place of the step they were made with.
    pub(crate) fn refine(&mut self, fits: impl Iterator<Item = (f64, f64)>) {
        if !self.is_refined() {
            return;
        }
        let (products, squares) = fits.fold((0.0, 0.0), |sum, fit| (sum.0 + fit.0, sum.1 + fit.1));
        let gain = (products / squares) as f32;
        if gain.is_finite() && gain > 0.0 {
            self.step = gain;
        }
    }

    /// Number of symbol contexts: one a class, and one for the detail bands of a wavelet.
    pub(crate) fn contexts(&self) -> usize {
        self.quantizer.classes().len() + 1
    }

    /// Class of block `i` of the matrix.
    #[inline(always)]
    pub(crate) fn class(&self, i: usize) -> u8 {
        self.classes.get(i).copied().unwrap_or(0)
    }

    /// Bits of `band` in a block of `class`, and the context of its levels.
    pub(crate) fn width(&self, class: u8, band: Band) -> (u8, usize) {
        let classes = self.quantizer.classes();
        let bits = classes.get(usize::from(class)).map_or(0, |&(bits, _)| bits);
        match &self.quantizer {
            Quantizer::MinMax(min_max) if band.detail => {
                let details = if min_max.predecessor { 1 } else { min_max.details };
                (if bits > 0 || min_max.predecessor { details } else { 0 }, classes.len())
            }
            _ => (bits, usize::from(class)),
        }
    }

    /// Whether the reconstruction of the block goes through the transform; the others are constant.
    pub(crate) fn is_transformed(&self, class: u8) -> bool {
        let bits = self.quantizer.classes().get(usize::from(class)).map_or(0, |&(bits, _)| bits);
        bits > 0 || self.predecessor()
    }

    /// Whether no block has bits, as where a share of few blocks rounds to none. A factor that made their means as
    /// large as the whole delta would multiply noise.
    pub(crate) fn keeps_means_alone(&self) -> bool {
        !(0..self.grid.blocks()).any(|block| self.is_transformed(self.class(block)))
    }

    pub(crate) fn predecessor(&self) -> bool {
        matches!(&self.quantizer, Quantizer::MinMax(MinMax { predecessor: true, .. }))
    }

    /// The blocks of `chunk` (counted in the chunk) that go through the transform.
    fn transformed(&self, chunk: &Chunk) -> Vec<usize> {
        // Blocks are many, classes are few.
        let by_class: [bool; 256] = std::array::from_fn(|class| self.is_transformed(class as u8));
        let is_transformed = |block: usize| by_class[usize::from(self.class(block))];
        let mut which = vec![0; chunk.blocks.len() + 1];
        let mut found = 0;
        // Written always, kept only if `found` moves on: which blocks follow is hard to guess.
        for (i, block) in chunk.blocks.clone().enumerate() {
            which[found] = i;
            found += usize::from(is_transformed(block));
        }
        which.truncate(found);
        which
    }

    /// Forward: the levels of a chunk's `delta`; replaces the content of `levels`. `coeffs` is scratch.
    pub(crate) fn quantize(&self, delta: &[f32], chunk: &Chunk, coeffs: &mut Vec<f32>, levels: &mut Levels) {
        let which = self.transformed(chunk);
        let coeffs = self.transform.forward(delta, chunk, &which, &mut levels.positions, coeffs);
        let kept = levels.positions.len();
        levels.reset(&self.counts(chunk, kept));
        let bands = self.transform.bands(chunk, kept);
        pulp::Arch::new().dispatch(Quantize { coding: self, coeffs, bands: &bands, chunk, delta, levels });
    }

    /// Inverse: the reconstruction of a chunk in `delta`; `coeffs` is scratch.
    ///
    /// Lists that are too short for the chunk leave zeros behind; the reader has checked their lengths.
    pub(crate) fn dequantize(
        &self,
        levels: &Levels,
        chunk: &Chunk,
        coeffs: &mut Vec<f32>,
        delta: &mut Vec<f32>,
    ) -> Result<()> {
        let which = self.transformed(chunk);
        let bands = self.transform.bands(chunk, levels.positions.len());
        coeffs.resize(which.len() * bands.iter().map(|band| band.len).sum::<usize>(), 0.0);
        delta.resize(chunk.len(), 0.0);
        let others = Some(&mut delta[..]);
        pulp::Arch::new().dispatch(Dequantize { coding: self, levels, bands: &bands, chunk, coeffs, others });
        self.transform.inverse(coeffs, &levels.positions, chunk, &which, delta)
    }

    /// The sums that `rescale` needs over a chunk's `delta` and what its `levels` restore, after [`Self::quantize`] has
    /// put its coefficients into `coeffs`; `restored` is scratch. `energy` is the delta's, if it is known.
    pub(super) fn moments(
        &self,
        rescale: Rescale,
        chunk: &Chunk,
        energy: Option<f64>,
        Scratch { delta, restored, coeffs, levels }: &mut Scratch,
    ) -> Result<Moments> {
        match (rescale, self.transform.gain_of_transpose()) {
            (Rescale::None, _) => Ok(Moments::of(rescale, delta, &[])),
            _ if self.quantizer == Quantizer::Sign && matches!(self.transform, Fitted::None) => {
                Ok(Moments::of_signs(delta))
            }
            // No inverse then, only what it is made of.
            (Rescale::Unbiased, Some(gain)) => {
                restored.resize(coeffs.len(), 0.0);
                let bands = &self.transform.bands(chunk, levels.positions.len());
                let values =
                    Dequantize { coding: self, levels, bands, chunk, coeffs: restored, others: None };
                pulp::Arch::new().dispatch(values);
                let sums = Moments::of(rescale, coeffs, restored);
                let (gain, step) = (f64::from(gain), f64::from(self.step));
                let dr = gain * sums.dr + step * levels.fit.0;
                let rr = gain * gain * sums.rr + step * step * levels.fit.1;
                Ok(Moments { dd: energy.unwrap_or_else(|| plan::energy(delta)), dr, rr, ..sums })
            }
            _ => {
                self.dequantize(levels, chunk, coeffs, restored)?;
                Ok(Moments::of(rescale, delta, restored))
            }
        }
    }
}

impl Levels {
    /// Makes room for as many symbols in each stream, and forgets all else but the positions.
    fn reset(&mut self, counts: &[usize]) {
        self.symbols.resize_with(counts.len(), Vec::new);
        self.symbols.iter_mut().zip(counts).for_each(|(symbols, &count)| symbols.resize(count, 0));
        self.integers.clear();
        self.ranges.clear();
        self.means.clear();
        self.fit = (0.0, 0.0);
    }
}

/// [`Coding::quantize`] after the transform. A struct, so that its body is compiled for the vector unit.
struct Quantize<'a> {
    coding: &'a Coding,
    coeffs: &'a [f32],
    bands: &'a [Band],
    chunk: &'a Chunk,
    delta: &'a [f32],
    levels: &'a mut Levels,
}

impl pulp::NullaryFnOnce for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { coding, mut coeffs, bands, chunk, delta, levels } = self;
        let mut symbols: Vec<&mut [u8]> = levels.symbols.iter_mut().map(Vec::as_mut_slice).collect();
        let blocks = Blocks::new(chunk, coding.grid.side());
        let block_mean = |block: usize| blocks.mean(delta, block - chunk.blocks.start);
        for block in chunk.blocks.clone() {
            let class = coding.class(block);
            if !coding.is_transformed(class) {
                // Adding 0 makes a negative zero a positive one: an integer has but one.
                let mean = block_mean(block);
                let level = (mean / coding.step).round_ties_even() + 0.0;
                levels.means.push(level);
                let (area, wide) = ((blocks.side * blocks.side) as f64, f64::from(level));
                levels.fit.0 += area * f64::from(mean) * wide;
                levels.fit.1 += blocks.weights(block - chunk.blocks.start) as f64 * wide * wide;
                continue;
            }
            for &band in bands {
                let values = take(&mut coeffs, band.len);
                let (bits, context) = coding.width(class, band);
                match &coding.quantizer {
                    Quantizer::Uniform(_) => uniform::quantize(values, coding.step, &mut levels.integers),
                    Quantizer::Rest => {
                        let sums = rest::quantize(values, coding.step, &mut levels.integers);
                        levels.fit = (levels.fit.0 + sums.0, levels.fit.1 + sums.1);
                    }
                    Quantizer::Sign => {
                        let signs = take_mut(&mut symbols[context], band.len);
                        signs.iter_mut().zip(values).for_each(|(s, &x)| *s = u8::from(x >= 0.0));
                    }
                    Quantizer::MinMax(_) if bits == 0 => {
                        let wavelet = matches!(coding.transform, Fitted::Dwt(..));
                        levels.means.push(if wavelet { mean(values) } else { block_mean(block) });
                    }
                    Quantizer::MinMax(min_max) => {
                        let to = take_mut(&mut symbols[context], band.len);
                        levels.ranges.push(quantize_band(values, bits, min_max.predecessor, to));
                    }
                }
            }
        }
    }
}

/// [`Coding::dequantize`] before the transform's inverse; likewise.
struct Dequantize<'a> {
    coding: &'a Coding,
    levels: &'a Levels,
    bands: &'a [Band],
    chunk: &'a Chunk,
    coeffs: &'a mut [f32],
    /// Where to put the weights of blocks that do not go through the transform.
    others: Option<&'a mut [f32]>,
}

impl pulp::NullaryFnOnce for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { coding, levels, bands, chunk, mut coeffs, mut others } = self;
        let mut symbols: Vec<&[u8]> = levels.symbols.iter().map(Vec::as_slice).collect();
        let mut integers = levels.integers.as_slice();
        let blocks = Blocks::new(chunk, coding.grid.side());
        let (mut ranges, mut means) = (levels.ranges.iter(), levels.means.iter());
        for block in chunk.blocks.clone() {
            let class = coding.class(block);
            if !coding.is_transformed(class) {
                let mean = means.next().copied().unwrap_or(0.0) * coding.step;
                if let Some(delta) = others.as_deref_mut() {
                    blocks.fill(block - chunk.blocks.start, mean, delta);
                }
                continue;
            }
            for &band in bands {
                let Some((values, rest)) = coeffs.split_at_mut_checked(band.len) else { return };
                coeffs = rest;
                let (bits, context) = coding.width(class, band);
                match &coding.quantizer {
                    Quantizer::Uniform(_) | Quantizer::Rest => {
                        uniform::dequantize(take(&mut integers, band.len), coding.step, values)
                    }
                    Quantizer::Sign => {
                        let signs = take(&mut symbols[context], band.len);
                        for (x, &sign) in values.iter_mut().zip(signs) {
                            *x = if sign == 0 { -1.0 } else { 1.0 };
                        }
                    }
                    Quantizer::MinMax(_) if bits == 0 => values.fill(means.next().copied().unwrap_or(0.0)),
                    Quantizer::MinMax(_) => {
                        let range = ranges.next().copied().unwrap_or((0.0, 0.0));
                        dequantize_band(take(&mut symbols[context], band.len), bits, range, values);
                    }
                }
            }
        }
    }
}

/// The first `n` items, or as many as there are, taken off the front of `list`.
#[inline(always)]
fn take<'a, T>(list: &mut &'a [T], n: usize) -> &'a [T] {
    let (head, tail) = list.split_at(n.min(list.len()));
    *list = tail;
    head
}

/// [`take`] of places to write to.
#[inline(always)]
fn take_mut<'a, T>(list: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let n = n.min(list.len());
    let (head, tail) = std::mem::take(list).split_at_mut(n);
    *list = tail;
    head
}

/// Mean of some coefficients, summed in `f64`.
fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len().max(1) as f64) as f32
}
