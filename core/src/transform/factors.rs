//! Method `auto`: the delta D (rows x cols) as coarse singular factors, and, where the rate allows, the rest.
//!
//! ```text
//! D'[i, j] = 0 + c[0] a[0, i] * b[0, j] + c[1] a[1, i] * b[1, j] + ...   (from left to right, no fused multiply-add)
//! ```
//!
//! in `f32`, with small integers a (rank x rows) and b (rank x cols), mostly -1, 0 and 1, and a gain c[k]; the product
//! `c[k] a[k, i]` is rounded first. For the singular triple s, u, v of D, a and b are s u and s v in units of one step,
//! so that strong components get fine values, and weak ones none at all.
//!
//! The integers are values of a trellis (`quantize/trellis.rs`), one for each a and each b. Values that coarse shrink
//! each component. Its gain gives it back its full projection on D, `c = s / (<u, a> <v, b>)`: a model feels a direction
//! that is missing far more than noise in all of them. Where too little of a component is left (the squared cosine with
//! its values is small) the noise would outweigh it, and it is dropped. What the values of one that is kept add along the
//! u and v of those that follow, these make up for, as far as it is to be trusted: by the square of its squared cosine.
//! The first that is no stronger than noise of that energy would be ends the list.
//!
//! Rows with next to no energy take no part: their a are 0. A table of words has many, of words that no example had.
//!
//! Wire form: rank (varint), then a byte length and an adaptive stream (`entropy/adaptive.rs`): for every row a decision whether
//! it is coded, in the context 17, or 18 behind one that is and for the first (nothing of this at rank 0); then for every
//! component its gain, the levels of a in the rows that are coded, and those of b. A gain is positive and a bfloat16: the difference of its 16 bits from those of
//! the gain before (0 at first), in the context 16. The context of a level is `8 t + 4 q + n`, t = 0 for a and 1 for b, q
//! the quantiser that it is from, n = how many of 2, 8 and 32 the average m of the values at the same place in the
//! components before reaches: m = 0 at first, then `m = m - floor(m / 8) + 2 |value|`, sixteenths of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};

use super::low_rank::expand_rows;
use super::subspace::{Search, Source, Triple};
use crate::entropy::adaptive::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::plan::energy;
use crate::quantize::trellis::{self, MAX_LEVEL, State};
use crate::wire::{Reader, Writer};

/// The least squared cosine between a component and its levels, for a heavy delta; the second where the rest is coded as
/// well, which then takes over what is dropped.
const MIN_COS2: [f64; 2] = [0.15, 0.68];
/// A component counts from so many times the energy on that the strongest one of noise has, `(sqrt(rows) + sqrt(cols))^2`
/// of its variances (Marchenko and Pastur 1967).
const ABOVE_NOISE: f64 = 1.1;
/// Rows with less than this of the mean energy of a row take no part.
const WEAK: f64 = 1.0 / 1024.0;
/// Less trust than this changes nothing worth the time.
const NEGLIGIBLE: f32 = 0.02;
/// What a bit may cost at most, in squares of the values' unit.
const PRICE: f32 = 0.15;
/// From this part of the weights on a delta is coded as faithfully as its bits allow: then noise is what harms. The
/// noise of a smaller one harms less than values that are drawn to 0, and its bits may cost less in proportion.
const HEAVY: f32 = 0.25;
/// So many components in turn are dropped before the weaker ones are given up.
const TRIES: usize = 3;
/// From these averages on a place is of the next kind.
const KINDS_FROM: [u16; 3] = [2, 8, 32];
const KINDS: usize = KINDS_FROM.len() + 1;
const GAIN_CONTEXT: usize = 4 * KINDS;
/// Whether a row is coded, behind one that is not; the next, behind one that is.
const ROW_CONTEXT: usize = GAIN_CONTEXT + 1;
const CONTEXTS: usize = ROW_CONTEXT + 2;

/// Integer factors with their gains, ready to decode with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Factors {
    rows: usize,
    cols: usize,
    rank: usize,
    /// `c[k] a[k, i]`, and b, as they are multiplied, component-major.
    coefficients: Vec<f32>,
    basis: Vec<f32>,
    /// The adaptive stream.
    stream: Vec<u8>,
}

impl Factors {
    /// Of a delta without any.
    fn none(rows: usize, cols: usize) -> Self {
        Self { rows, cols, rank: 0, coefficients: Vec::new(), basis: Vec::new(), stream: Vec::new() }
    }

    /// Puts D' from row `first_row` on in the place of `delta`.
    pub(crate) fn expand(&self, first_row: usize, delta: &mut [f32]) {
        let coefficients = self.coefficients.get(first_row..).unwrap_or_default();
        expand_rows(&self.basis, self.cols, coefficients, self.rows, delta);
    }

    /// Appends the wire form.
    pub(crate) fn write(&self, out: &mut Writer) {
        out.varint(self.rank as u64);
        out.bytes(&self.stream);
    }

    /// Inverse of [`Self::write`]. Errors: Limit above `limit` levels, Corrupt, Truncated.
    pub(crate) fn read(input: &mut Reader<'_>, rows: usize, cols: usize, limit: usize) -> Result<Self> {
        let rank = input.varint_to(rows.min(cols) as u64, "number of components")?;
        let count = rank.saturating_mul(rows.saturating_add(cols));
        if count > limit {
            return Err(Error::limit(format!("factors of {count} numbers")));
        }
        let stream = input.bytes("levels of the factors")?;
        let mut decoder = Decoder::new(stream, CONTEXTS);
        let (mut coded, mut is_coded) = (Vec::new(), true);
        for row in 0..if rank > 0 { rows } else { 0 } {
            is_coded = decoder.take_bit(ROW_CONTEXT + usize::from(is_coded))?;
            coded.extend(is_coded.then_some(row));
        }
        let (mut coefficients, mut basis) = (vec![0.0; rank * rows], Vec::with_capacity(rank * cols));
        let mut values = [vec![0; coded.len()], vec![0; cols]];
        let mut places = places(coded.len(), cols);
        let mut key = 0i32;
        for k in 0..rank {
            key = key.saturating_add(decoder.take(GAIN_CONTEXT)?);
            let gain = gain(key).ok_or_else(|| Error::corrupt("a gain that is not a positive number"))?;
            for (side, (values, places)) in values.iter_mut().zip(&mut places).enumerate() {
                let mut state = State::default();
                for (value, place) in values.iter_mut().zip(places) {
                    let level = decoder.take(context(side, state.quantizer(), place.kind()))?;
                    if level.unsigned_abs() > MAX_LEVEL.into() {
                        return Err(Error::corrupt("a level of a factor is too large"));
                    }
                    *value = state.value(level);
                    place.push(*value);
                }
            }
            let coefficients = &mut coefficients[k * rows..];
            coded.iter().zip(&values[0]).for_each(|(&row, &a)| coefficients[row] = gain * a as f32);
            basis.extend(values[1].iter().map(|&b| b as f32));
        }
        if !decoder.is_used_up() {
            return Err(Error::corrupt("bytes left over behind the levels of the factors"));
        }
        Ok(Self { rows, cols, rank, coefficients, basis, stream: stream.to_vec() })
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

/// A row, or a column: how large the values of the components before are there, newer ones counting for more, in
/// sixteenths. Those of the next one are likely to be as large.
#[derive(Clone, Copy, Debug, Default)]
struct Place(u16);

impl Place {
    #[inline(always)]
    fn kind(self) -> usize {
        KINDS_FROM.iter().map(|&from| usize::from(self.0 >= from)).sum()
    }

    #[inline(always)]
    fn push(&mut self, value: i32) {
        // At most 16 times the largest value.
        self.0 = self.0 - self.0 / 8 + 2 * value.unsigned_abs() as u16;
    }
}

/// Those of a and b, before the first component.
fn places(rows: usize, cols: usize) -> [Vec<Place>; 2] {
    [rows, cols].map(|n| vec![Place::default(); n])
}

/// The context of a level from quantiser `q` at a place of that kind.
#[inline(always)]
fn context(side: usize, q: usize, kind: usize) -> usize {
    (2 * side + q) * KINDS + kind
}

/// Leading singular triples of the deltas of a model: the part of the work that does not depend on the step, for those
/// who try several. By the name of the tensor and how many were asked for.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<(String, usize), Triples>>);

type Triples = Arc<Vec<Triple>>;

impl Memory {
    /// What `find` gives for the tensor `name` with so many triples asked for, once.
    fn recall(&self, name: &str, rank: usize, find: impl FnOnce() -> Vec<Triple>) -> Triples {
        /// Numbers that are kept, 512 MiB; what comes when there are more is found again each time.
        const ROOM: usize = 1 << 27;
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), rank);
        if let Some(triples) = known().get(&key) {
            return Arc::clone(triples);
        }
        let found = Arc::new(find());
        let numbers =
            |triples: &[Triple]| triples.iter().map(|(image, v)| image.len() + v.len()).sum::<usize>();
        let mut known = known();
        if known.values().map(|triples| numbers(triples)).sum::<usize>() + numbers(&found) <= ROOM {
            known.insert(key, Arc::clone(&found));
        }
        found
    }
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
    /// Root mean square of the delta.
    pub(crate) rms: f32,
    /// The same in root mean squares of the base.
    pub(crate) relative: f32,
}

impl Fit {
    /// The factors of the matrix that `source` gives in chunks, all finite; `memory` may know it by a name. Does not
    /// depend on the number of threads.
    pub(crate) fn run(self, source: Source<'_>, memory: Option<(&Memory, &str)>) -> Factors {
        /// Components looked at first, and how many times more where those do not suffice.
        const FIRST_RANK: usize = 32;
        const GROWTH: usize = 2;
        /// More change bytes and error by a hundredth.
        const ITERATIONS: usize = 1;
        let cols = source.cols;
        let search = Search::new(source, WEAK);
        let rows = search.takes_part();
        if search.largest == 0.0 {
            return Factors::none(rows.len(), cols);
        }
        let most = self.rank.min(rows.len()).min(cols);
        let mut rank = FIRST_RANK.min(most);
        let mut triples = Triples::default();
        let mut before: Option<Found> = None;
        loop {
            let wanted = if rank == most { rank } else { rank / 2 + 1 };
            let find = || search.leading_triples(&triples, rank, wanted, ITERATIONS);
            triples = match memory {
                Some((memory, name)) => memory.recall(name, rank, find),
                None => Arc::new(find()),
            };
            let are_all = rank == most || triples.len() < rank && triples.len() != wanted;
            // The last ones are not exact enough to tell whether weaker ones are worth keeping.
            let enough = if are_all { usize::MAX } else { rank / 2 };
            // Beside the components of an earlier rank, a single one tells whether to look for more at once.
            let is_worth_it = |found: &Found| self.component(&triples[enough], found).is_some();
            if are_all || !before.as_ref().is_some_and(is_worth_it) {
                let (found, weaker) = self.components(&triples, &rows, cols, enough);
                if !weaker || are_all {
                    return found.ready();
                }
                before = Some(found);
            }
            rank = most.min(GROWTH * rank);
        }
    }

    /// What is worth keeping of `triples` (images and right singular vectors), strongest first, and whether weaker ones may
    /// be, for which those beyond `enough` count.
    fn components(
        self,
        triples: &[Triple],
        takes_part: &[bool],
        cols: usize,
        enough: usize,
    ) -> (Found, bool) {
        let rows = takes_part.len();
        let mut found = Found::new(takes_part, cols, triples.len().min(enough));
        let mut dropped = 0;
        let edge = ABOVE_NOISE * ((rows as f64).sqrt() + (cols as f64).sqrt()).powi(2);
        // What is not in the components so far, for each weight.
        let mut variance = f64::from(self.rms).powi(2);
        for triple in triples {
            let energy = energy(&triple.0);
            if energy < edge * variance {
                dropped = TRIES;
                break;
            }
            variance -= energy / (rows * cols) as f64;
            let Some(component) = self.component(triple, &found) else {
                dropped += 1;
                if dropped == TRIES {
                    break;
                }
                continue;
            };
            dropped = 0;
            found.push(component);
            if found.trusts.len() > enough {
                break;
            }
        }
        (found, dropped < TRIES)
    }

    /// The component after those `found`, with the right singular vector `v` and its `image` D v = s u; none where too
    /// little is left of it.
    fn component(self, (image, v): &Triple, found: &Found) -> Option<Component> {
        let s = energy(image).sqrt();
        let weight = (self.relative / HEAVY).min(1.0);
        let quantize = |side: usize, x: &[f32]| {
            let of_kind = |kind| [0, 1].map(|q| found.encoder.prices(context(side, q, kind)));
            let prices: [_; KINDS] = std::array::from_fn(of_kind);
            let kinds = found.places[side].iter().map(|place| place.kind());
            let mut values = Vec::new();
            trellis::quantize(x, self.step, PRICE * weight, &prices, kinds, &mut values);
            values
        };
        let image = found.coded_rows(image);
        let mut wanted = [image.to_vec(), v.iter().map(|&x| x * s as f32).collect()];
        pulp::Arch::new().dispatch(Feedback { image: &image, v, s: s as f32, found, wanted: &mut wanted });
        let (a, b) = (quantize(0, &wanted[0]), quantize(1, &wanted[1]));
        let along = |x: &[f32], values: &[i32]| -> f64 {
            x.iter().zip(values).map(|(&x, &value)| f64::from(x) * f64::from(value)).sum()
        };
        let size = |values: &[i32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        let (ua, vb) = (along(&image, &a) / s, along(v, &b));
        let cos2 = (ua * ua / size(&a)) * (vb * vb / size(&b));
        // The nearest bfloat16.
        let gain = gain((((s / (ua * vb)) as f32).to_bits() as i32 + 0x8000) >> 16)?;
        let least = MIN_COS2[usize::from(self.rest)] * f64::from(weight).sqrt();
        // Not a number where all values of a side are 0.
        (cos2 >= least).then_some(Component { gain, values: [a, b], trust: (cos2 * cos2) as f32 })
    }
}

/// One that is kept.
struct Component {
    gain: f32,
    values: [Vec<i32>; 2],
    /// What part of its errors those that follow make up for.
    trust: f32,
}

/// What the encoder has of a matrix so far.
struct Found {
    /// Either just these rows are coded, or all.
    takes_part: Vec<bool>,
    cols: usize,
    /// `c[k] a[k, i]` of the rows that are coded, and b, component-major.
    coefficients: Vec<f32>,
    basis: Vec<f32>,
    /// That of each component.
    trusts: Vec<f32>,
    /// Those that are coded.
    places: [Vec<Place>; 2],
    /// Its prices at each component are those of the stream so far.
    encoder: Encoder,
    /// That of the last gain, or 0.
    key: i32,
}

impl Found {
    /// Before the first of about so many components as are `expected`.
    fn new(takes_part: &[bool], cols: usize, expected: usize) -> Self {
        /// What each component costs, about, in each row where neither it nor one before it has anything, in bits: where
        /// that comes to more than to tell which rows those are, they are told.
        const NOTHING: f64 = 0.012;
        let (rows, weak) = (takes_part.len(), takes_part.iter().filter(|takes_part| !**takes_part).count());
        let mut coded = rows - weak;
        let mut encoder = Self::tell(takes_part.iter().copied());
        if (expected * weak) as f64 * NOTHING <= 8.0 * encoder.len() as f64 {
            coded = rows;
            encoder = Self::tell(iter::repeat_n(true, rows));
        }
        Self {
            takes_part: takes_part.to_vec(),
            cols,
            coefficients: Vec::new(),
            basis: Vec::new(),
            trusts: Vec::new(),
            places: places(coded, cols),
            encoder,
            key: 0,
        }
    }

    /// An encoder that has been told which rows are coded.
    fn tell(coded: impl Iterator<Item = bool>) -> Encoder {
        let (mut encoder, mut before) = (Encoder::new(CONTEXTS), true);
        for is_coded in coded {
            encoder.put_bit(ROW_CONTEXT + usize::from(before), is_coded);
            before = is_coded;
        }
        encoder
    }

    /// From the numbers of the rows that take part those of the rows that are coded.
    fn coded_rows<'a>(&self, numbers: &'a [f32]) -> Cow<'a, [f32]> {
        if numbers.len() == self.places[0].len() {
            Cow::Borrowed(numbers)
        } else {
            Cow::Owned(self.all_rows(numbers))
        }
    }

    /// The numbers of all rows, from those of the rows that take part.
    fn all_rows(&self, numbers: &[f32]) -> Vec<f32> {
        let mut numbers = numbers.iter().copied();
        let mut number = |takes_part: &bool| if *takes_part { numbers.next() } else { None };
        self.takes_part.iter().map(|takes_part| number(takes_part).unwrap_or(0.0)).collect()
    }

    fn push(&mut self, Component { gain, values, trust }: Component) {
        self.encoder.put(GAIN_CONTEXT, gain_key(gain) - self.key);
        self.key = gain_key(gain);
        for (side, (values, places)) in values.iter().zip(&mut self.places).enumerate() {
            let mut state = State::default();
            for (&value, place) in values.iter().zip(places) {
                self.encoder.put(context(side, state.quantizer(), place.kind()), state.level(value));
                place.push(value);
            }
        }
        let [a, b] = values;
        self.coefficients.extend(a.iter().map(|&a| gain * a as f32));
        self.basis.extend(b.iter().map(|&b| b as f32));
        self.trusts.push(trust);
    }

    fn ready(self) -> Factors {
        let (rows, rank) = (self.takes_part.len(), self.trusts.len());
        if rank == 0 {
            return Factors::none(rows, self.cols);
        }
        let coefficients = match self.places[0].len() {
            coded if coded == rows => self.coefficients,
            coded => self.coefficients.chunks(coded).flat_map(|numbers| self.all_rows(numbers)).collect(),
        };
        Factors {
            rows,
            cols: self.cols,
            rank,
            coefficients,
            basis: self.basis,
            stream: self.encoder.finish(),
        }
    }
}

/// Takes from what is `wanted` of a component, s u (the `image`) and s v, what those `found` before have along u and v, where
/// they should have nothing, as far as they are to be trusted. A struct, so that its body is compiled for the vector unit.
struct Feedback<'a> {
    image: &'a [f32],
    v: &'a [f32],
    s: f32,
    found: &'a Found,
    wanted: &'a mut [Vec<f32>; 2],
}

impl pulp::NullaryFnOnce for Feedback<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let [to_a, to_b] = self.wanted;
        let Found { cols, coefficients, basis, .. } = self.found;
        let sides = coefficients.chunks_exact(self.image.len()).zip(basis.chunks_exact(*cols));
        for ((a, b), &trust) in sides.zip(&self.found.trusts).filter(|(_, trust)| **trust > NEGLIGIBLE) {
            let (along_u, along_v) = (dot(self.image, a) / self.s, dot(self.v, b));
            subtract(trust * along_v, a, to_a);
            subtract(trust * along_u, b, to_b);
        }
    }
}

/// Scalar product, in sums that the compiler can make vectors of.
#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    const SUMS: usize = 16;
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<SUMS>(), y.as_chunks::<SUMS>());
    let mut sums = [0.0; SUMS];
    for (x, y) in x.iter().zip(y) {
        (0..SUMS).for_each(|i| sums[i] += x[i] * y[i]);
    }
    for half in [8, 4, 2, 1] {
        (0..half).for_each(|i| sums[i] += sums[half + i]);
    }
    x_rest.iter().zip(y_rest).fold(sums[0], |sum, (x, y)| sum + x * y)
}

#[inline(always)]
fn subtract(factor: f32, values: &[f32], from: &mut [f32]) {
    from.iter_mut().zip(values).for_each(|(x, value)| *x -= factor * value);
}
