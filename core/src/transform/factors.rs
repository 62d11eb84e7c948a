//! Method `auto`: the delta D (rows x cols) as coarse singular factors, and, where the rate allows, a rotated rest.
//!
//! ```text
//! D'[i, j] = c[0] a[0, i] * b[0, j] + c[1] a[1, i] * b[1, j] + ...       (from left to right, no fused multiply-add)
//! ```
//!
//! in `f32`, with small integers a (rank x rows) and b (rank x cols), mostly -1, 0 and 1, and a gain c[k]; the product
//! `c[k] a[k, i]` is rounded first. For the singular triple s, u, v of D, a and b are s u and s v in units of one step,
//! so that strong components get fine values, and weak ones none at all.
//!
//! The integers are values of a trellis (`quantize/trellis.rs`), one for each a and each b. Values that coarse shrink
//! each component. Its gain gives it back its full projection on D, `c = s / (<u, a> <v, b>)`: a model feels a direction
//! that is missing far more than noise in all of them. For the same reason each component makes up for half of the error
//! that those before it have along its u and v. Where too little of a component is left (the squared cosine with
//! its values is small) the noise would outweigh it, and it is dropped.
//!
//! Wire form: rank (varint), then a byte length and an adaptive stream (`entropy/adaptive.rs`) with, for every
//! component, its gain, the levels of a and those of b. A gain is positive and a bfloat16: the difference of its 16 bits
//! from those of the gain before (0 at first), in the context 16. The context of a level is `8 t + 4 q + n`, t = 0 for
//! a and 1 for b, q the quantiser that it is from, n = how many of the three components before have a value other than 0
//! at the same place (0 to 3).

use super::low_rank::expand_rows;
use super::subspace::Source;
use crate::entropy::adaptive::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::quantize::trellis::{self, MAX_LEVEL, State};
use crate::wire::{Reader, Writer};

/// The least squared cosine between a component and its levels, for a heavy delta; the second where the rest is coded as
/// well, which then takes over what is dropped.
const MIN_COS2: [f64; 2] = [0.15, 0.75];
/// How much of the errors before a component makes up for: all of them would cost more bits than it is worth.
const FEEDBACK: f64 = 0.5;
/// What a bit may cost at most, in squares of the values' unit.
const PRICE: f32 = 0.15;
/// From this part of the weights on a delta is coded as faithfully as its bits allow: then noise is what harms. The
/// noise of a smaller one harms less than values that are drawn to 0, and its bits may cost less in proportion.
const HEAVY: f32 = 0.25;
/// Components before that make the context of a level.
const MEMORY: usize = 3;
/// So many components in turn are dropped before the weaker ones are given up.
const TRIES: usize = 3;
/// Contexts of each quantiser's levels on either side.
const CONTEXTS: usize = MEMORY + 1;
const GAIN_CONTEXT: usize = 4 * CONTEXTS;

/// Integer factors with their gains, ready to decode with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Factors {
    rows: usize,
    cols: usize,
    gains: Vec<f32>,
    /// a and b, component-major.
    left: Vec<i16>,
    right: Vec<i16>,
    /// `c[k] a[k, i]`, and b, as they are multiplied.
    coefficients: Vec<f32>,
    basis: Vec<f32>,
}

impl Factors {
    /// Puts D' from row `first_row` on in the place of `delta`.
    pub(crate) fn expand(&self, first_row: usize, delta: &mut [f32]) {
        let coefficients = self.coefficients.get(first_row..).unwrap_or_default();
        expand_rows(&self.basis, self.cols, coefficients, self.rows, delta);
    }

    /// Number of components.
    pub(crate) fn rank(&self) -> usize {
        self.gains.len()
    }

    fn new(rows: usize, cols: usize, gains: Vec<f32>, left: Vec<i16>, right: Vec<i16>) -> Self {
        let component = left.chunks_exact(rows.max(1)).zip(&gains);
        let coefficients =
            component.flat_map(|(a, &gain)| a.iter().map(move |&a| gain * f32::from(a))).collect();
        let basis = right.iter().map(|&b| f32::from(b)).collect();
        Self { rows, cols, gains, left, right, coefficients, basis }
    }

    /// Appends the wire form.
    pub(crate) fn write(&self, out: &mut Writer) {
        out.varint(self.gains.len() as u64);
        let mut encoder = Encoder::new(GAIN_CONTEXT + 1);
        (0..self.rank()).for_each(|k| self.put(k, &mut encoder));
        out.bytes(&encoder.finish());
    }

    /// Appends component `k`.
    fn put(&self, k: usize, encoder: &mut Encoder) {
        encoder.forget();
        let before = k.checked_sub(1).map_or(0, |k| gain_key(self.gains[k]));
        encoder.put(GAIN_CONTEXT, gain_key(self.gains[k]) - before);
        for (side, (values, n)) in [(&self.left, self.rows), (&self.right, self.cols)].into_iter().enumerate()
        {
            let mut state = State::default();
            for i in 0..n {
                let context = context(side, state.quantizer(), values, n, k, i);
                encoder.put(context, state.level(values[k * n + i].into()));
            }
        }
    }

    /// Inverse of [`Self::write`]. Errors: Limit above `limit` levels, Corrupt, Truncated.
    pub(crate) fn read(input: &mut Reader<'_>, rows: usize, cols: usize, limit: usize) -> Result<Self> {
        let rank = input.varint_to(rows.min(cols) as u64, "number of components")?;
        let count = rank.saturating_mul(rows.saturating_add(cols));
        if count > limit {
            return Err(Error::limit(format!("factors of {count} numbers")));
        }
        let mut decoder = Decoder::new(input.bytes("levels of the factors")?, GAIN_CONTEXT + 1);
        let (mut left, mut right) = (Vec::with_capacity(rank * rows), Vec::with_capacity(rank * cols));
        let (mut gains, mut key) = (Vec::with_capacity(rank), 0i32);
        for k in 0..rank {
            decoder.forget();
            key = key.saturating_add(decoder.take(GAIN_CONTEXT)?);
            gains.push(gain(key).ok_or_else(|| Error::corrupt("a gain that is not a positive number"))?);
            for (side, (values, n)) in [(&mut left, rows), (&mut right, cols)].into_iter().enumerate() {
                let mut state = State::default();
                for i in 0..n {
                    let level = decoder.take(context(side, state.quantizer(), values, n, k, i))?;
                    if level.unsigned_abs() > MAX_LEVEL.into() {
                        return Err(Error::corrupt("a level of a factor is too large"));
                    }
                    values.push(state.value(level) as i16);
                }
            }
        }
        if !decoder.is_used_up() {
            return Err(Error::corrupt("bytes left over behind the levels of the factors"));
        }
        Ok(Self::new(rows, cols, gains, left, right))
    }
}

/// The upper 16 bits of a gain.
fn gain_key(gain: f32) -> i32 {
    (gain.to_bits() >> 16) as i32
}

/// Inverse of [`gain_key`].
fn gain(key: i32) -> Option<f32> {
    let gain = f32::from_bits(u32::from(u16::try_from(key).ok()?) << 16);
    (gain.is_finite() && gain > 0.0).then_some(gain)
}

/// The context of level `i` of component `k` from quantiser `q`, given all before it.
#[inline(always)]
fn context(side: usize, q: usize, values: &[i16], n: usize, k: usize, i: usize) -> usize {
    let before = (1..=MEMORY.min(k)).filter(|back| values[(k - back) * n + i] != 0).count();
    (2 * side + q) * CONTEXTS + before
}

/// How a delta becomes factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    /// The unit of s u and s v, absolute.
    pub(crate) step: f32,
    /// No more components than this.
    pub(crate) rank: usize,
    /// Whether the rest is coded as well.
    pub(crate) rest: bool,
    /// Root mean square of the delta in those of the base.
    pub(crate) relative: f32,
}

impl Fit {
    /// The factors of the matrix that `source` gives in chunks, all finite. Does not depend on the number of threads.
    pub(crate) fn run(self, source: &Source<'_>) -> Factors {
        /// Components looked at first, and how many times more where those do not suffice.
        const FIRST_RANK: usize = 64;
        const GROWTH: usize = 4;
        /// More change bytes and error by a hundredth.
        const ITERATIONS: usize = 1;
        let (len, largest) = source.survey();
        let cols = source.cols;
        let rows = len.checked_div(cols).unwrap_or(0);
        if largest == 0.0 || rows == 0 {
            return Factors::new(rows, cols, Vec::new(), Vec::new(), Vec::new());
        }
        let scale = 1.0 / largest.max(f32::MIN_POSITIVE);
        let mut rank = FIRST_RANK.min(self.rank);
        loop {
            let triples = source.leading_triples(rank, rows, scale, ITERATIONS);
            let (found, weaker) = self.components(&triples, rows, cols);
            // The last ones of them are not exact enough to tell whether weaker ones are worth keeping.
            if !weaker && found.rank() <= rank / 2 || triples.len() < rank || rank == self.rank {
                return found;
            }
            rank = self.rank.min(GROWTH * rank);
        }
    }

    /// What is worth keeping of `triples` (images and right singular vectors), strongest first, and whether weaker ones may
    /// be.
    fn components(self, triples: &[(Vec<f32>, Vec<f32>)], rows: usize, cols: usize) -> (Factors, bool) {
        let mut found = Factors::new(rows, cols, Vec::new(), Vec::new(), Vec::new());
        // Runs along for its prices.
        let mut encoder = Encoder::new(GAIN_CONTEXT + 1);
        let mut dropped = 0;
        for (image, v) in triples {
            let Some((gain, a, b)) = self.component(image, v, &found, &encoder) else {
                dropped += 1;
                if dropped == TRIES {
                    break;
                }
                continue;
            };
            dropped = 0;
            found.gains.push(gain);
            found.left.extend(a);
            found.right.extend(b);
            found.put(found.rank() - 1, &mut encoder);
        }
        (Factors::new(rows, cols, found.gains, found.left, found.right), dropped < TRIES)
    }

    /// Gain and values of the component after those `found`, with the right singular vector `v` and its `image`
    /// D v = s u; none where too little is left of it.
    fn component(
        self,
        image: &[f32],
        v: &[f32],
        found: &Factors,
        encoder: &Encoder,
    ) -> Option<(f32, Vec<i16>, Vec<i16>)> {
        let (rows, cols) = (found.rows, found.cols);
        let s = energy(image).sqrt();
        let prices: Vec<_> = (0..GAIN_CONTEXT).map(|context| encoder.prices(context)).collect();
        let weight = (self.relative / HEAVY).min(1.0);
        let quantize = |side: usize, x: &[f32], before: &[i16]| {
            let prices = |i| {
                let context = context(side, 0, before, x.len(), found.rank(), i);
                [&prices[context], &prices[context + CONTEXTS]]
            };
            let mut values = Vec::new();
            trellis::quantize(x, self.step, PRICE * weight, prices, &mut values);
            values.into_iter().map(|value| value as i16).collect::<Vec<_>>()
        };
        let mut wanted = [image.to_vec(), v.iter().map(|&x| x * s as f32).collect()];
        for (k, &gain) in found.gains.iter().enumerate() {
            let before = [&found.left[k * rows..][..rows], &found.right[k * cols..][..cols]];
            // What is there of u, and of v, in component k, where it should have nothing.
            let leaks = [along(image, before[0]) / s, along(v, before[1])];
            for side in 0..2 {
                let part = (FEEDBACK * f64::from(gain) * leaks[1 - side]) as f32;
                wanted[side].iter_mut().zip(before[side]).for_each(|(x, &y)| *x -= part * f32::from(y));
            }
        }
        let a = quantize(0, &wanted[0], &found.left);
        let b = quantize(1, &wanted[1], &found.right);
        let size = |values: &[i16]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        let (ua, vb) = (along(image, &a) / s, along(v, &b));
        let cos2 = (ua * ua / size(&a)) * (vb * vb / size(&b));
        // The nearest bfloat16.
        let gain = gain((((s / (ua * vb)) as f32).to_bits() as i32 + 0x8000) >> 16)?;
        // Not a number where all values of a side are 0.
        let least = if self.rest { MIN_COS2[1] } else { MIN_COS2[0] * f64::from(weight).sqrt() };
        (cos2 >= least).then_some((gain, a, b))
    }
}

fn along(x: &[f32], values: &[i16]) -> f64 {
    x.iter().zip(values).map(|(&x, &value)| f64::from(x) * f64::from(value)).sum()
}

fn energy(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}
