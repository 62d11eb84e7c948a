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
//! The integers are values of a trellis (`quantize/trellis.rs`), one for each a and each b. How they and the gains are found
//! is in `fit.rs`.
//!
//! Wire form: rank (varint), then a byte length and an adaptive stream (`entropy/adaptive.rs`): for every row a decision whether
//! it is coded, in the context 17, or 18 behind one that is and for the first; then for every
//! component its gain, the levels of a in the rows that are coded, and those of b. A gain is positive and a bfloat16: the difference of its 16 bits from those of
//! the gain before (0 at first), in the context 16. The context of a level is `8 t + 4 q + n`, t = 0 for a and 1 for b, q
//! the quantiser that it is from, n = how many of 2, 8 and 32 the average m of the values at the same place in the
//! components before reaches: m = 0 at first, then `m = m - floor(m / 8) + 2 |value|`, sixteenths of them.

mod fit;

use std::borrow::Cow;
use std::ops::Range;

pub(crate) use fit::{Fit, Memory};

use super::low_rank::expand_rows;
use crate::entropy::adaptive::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::quantize::trellis::{MAX_LEVEL, State};
use crate::wire::{Reader, Writer};

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
    /// Whether each row is coded: in the others D' is 0, and they have no rest.
    coded: Vec<bool>,
    /// `c[k] a[k, i]`, and b, as they are multiplied, component-major.
    coefficients: Vec<f32>,
    basis: Vec<f32>,
    /// The adaptive stream.
    stream: Vec<u8>,
}

impl Factors {
    /// Of a delta without any, nor a rest.
    fn none(rows: usize, cols: usize) -> Self {
        let coded = vec![false; rows];
        Self { rows, cols, rank: 0, coded, coefficients: Vec::new(), basis: Vec::new(), stream: Vec::new() }
    }

    /// Puts D' from row `first_row` on in the place of `delta`.
    pub(crate) fn expand(&self, first_row: usize, delta: &mut [f32]) {
        let coefficients = self.coefficients.get(first_row..).unwrap_or_default();
        expand_rows(&self.basis, self.cols, coefficients, self.rows, delta);
    }

    /// How many of `rows` are coded.
    pub(crate) fn coded_rows(&self, rows: &Range<usize>) -> usize {
        self.coded.get(rows.clone()).unwrap_or_default().iter().filter(|coded| **coded).count()
    }

    /// Leaves of `values`, whole rows from `first_row` on, those of the rows that are coded.
    pub(crate) fn gather_coded(&self, first_row: usize, values: &mut Vec<f32>) {
        let rows = self.coded.get(first_row..).unwrap_or_default();
        let mut len = 0;
        for row in (0..values.len() / self.cols.max(1)).filter(|&row| rows[row]) {
            values.copy_within(row * self.cols..(row + 1) * self.cols, len);
            len += self.cols;
        }
        values.truncate(len);
    }

    /// Adds `values`, of the rows that are coded, to those of all rows from `first_row` on.
    pub(crate) fn add_to_coded(&self, first_row: usize, values: &[f32], delta: &mut [f32]) {
        let cols = self.cols.max(1);
        let rows = delta.chunks_exact_mut(cols).zip(self.coded.get(first_row..).unwrap_or_default());
        let coded = rows.filter_map(|(row, coded)| coded.then_some(row));
        for (row, values) in coded.zip(values.chunks_exact(cols)) {
            row.iter_mut().zip(values).for_each(|(d, x)| *d += x);
        }
    }

    /// Appends the wire form.
    pub(crate) fn write(&self, out: &mut Writer) {
        out.varint(self.rank as u64);
        out.bytes(&self.stream);
    }

    /// Inverse of [`Self::write`]. Errors: Limit above `limit` levels, Corrupt, Truncated.
    pub(crate) fn read(input: &mut Reader<'_>, rows: usize, cols: usize, limit: usize) -> Result<Self> {
        let rank = input.varint_to(rows.min(cols) as u64, "number of components")?;
        let count = rank.saturating_mul(rows.saturating_add(cols)).saturating_add(rows);
        if count > limit {
            return Err(Error::limit(format!("factors of {count} numbers")));
        }
        let stream = input.bytes("levels of the factors")?;
        let mut decoder = Decoder::new(stream, CONTEXTS);
        let (mut coded, mut is_coded) = (Vec::with_capacity(rows), true);
        for _ in 0..rows {
            is_coded = decoder.take_bit(ROW_CONTEXT + usize::from(is_coded))?;
            coded.push(is_coded);
        }
        let numbers: Vec<usize> = (0..rows).filter(|&row| coded[row]).collect();
        let (mut coefficients, mut basis) = (vec![0.0; rank * rows], Vec::with_capacity(rank * cols));
        let mut values = [vec![0; numbers.len()], vec![0; cols]];
        let mut places = places(numbers.len(), cols);
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
            numbers.iter().zip(&values[0]).for_each(|(&row, &a)| coefficients[row] = gain * a as f32);
            basis.extend(values[1].iter().map(|&b| b as f32));
        }
        if !decoder.is_used_up() {
            return Err(Error::corrupt("bytes left over behind the levels of the factors"));
        }
        Ok(Self { rows, cols, rank, coded, coefficients, basis, stream: stream.to_vec() })
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
    takes_part: Vec<bool>,
    /// Either just the rows that take part, or all.
    coded: Vec<bool>,
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
    /// Before the first component. Each row will have about so many numbers as are `expected`.
    fn new(takes_part: &[bool], cols: usize, expected: usize) -> Self {
        /// What each number costs, about, in a row where neither it nor one before it is anything but 0, in bits: where
        /// that comes to more than to tell which rows those are, they are told.
        const NOTHING: f64 = 0.012;
        let weak = takes_part.iter().filter(|takes_part| !**takes_part).count();
        let mut coded = takes_part.to_vec();
        let mut encoder = Self::tell(&coded);
        if (expected * weak) as f64 * NOTHING <= 8.0 * encoder.len() as f64 {
            coded.fill(true);
            encoder = Self::tell(&coded);
        }
        Self {
            takes_part: takes_part.to_vec(),
            cols,
            coefficients: Vec::new(),
            basis: Vec::new(),
            trusts: Vec::new(),
            places: places(coded.iter().filter(|coded| **coded).count(), cols),
            coded,
            encoder,
            key: 0,
        }
    }

    /// An encoder that has been told which rows are coded.
    fn tell(coded: &[bool]) -> Encoder {
        let (mut encoder, mut before) = (Encoder::new(CONTEXTS), true);
        for &is_coded in coded {
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
        let rows = self.coded.len();
        let coefficients = match self.places[0].len() {
            coded if coded == rows => self.coefficients,
            coded => self.coefficients.chunks(coded).flat_map(|numbers| self.all_rows(numbers)).collect(),
        };
        Factors {
            rows,
            cols: self.cols,
            rank: self.trusts.len(),
            coded: self.coded,
            coefficients,
            basis: self.basis,
            stream: self.encoder.finish(),
        }
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
