//! Integers with adaptive probabilities, for the few numbers that say much: no tables are stored.
//!
//! A binary range coder (after Martin 1979, in the form of LZMA) codes one decision at a time. State of the decoder:
//! `range` (32 bits, at first 2^32 - 1) and `code` (at first the first 4 bytes, most significant first). Bytes that are
//! not there count as 0.
//!
//! ```text
//! a decision with the context c (p, at first 2^15, and n, at first 0), where r = 2^17 div (2 n + 3):
//!     bound = (range >> 12) * max(1, p >> 4)
//!     code < bound:  bit 0, range = bound,                         p += (2^16 - p) r >> 16
//!     otherwise:     bit 1, code -= bound, range -= bound,         p -= p r >> 16
//!     n = min(n + 1, 40)
//! a plain bit:  range >>= 1;  bit 0 if code < range, otherwise bit 1 and code -= range
//! after either, while range < 2^24:  range <<= 8,  code = code << 8 | next byte
//! ```
//!
//! An integer in the context k (below the number of contexts): is it not 0? then its sign (a plain bit, 1 for below 0),
//! then for i = 1, 2 ... 14 whether the magnitude exceeds i, each a decision of its own context; beyond 14, the rest
//! `m - 15` in Elias-gamma code of `m - 14`: as many plain 1 bits as it has bits after the first, a plain 0, those bits.
//! A single decision is the first of a context that has no integers.

use crate::error::{Error, Result};

/// Decisions of one context of integers: not zero, and exceeds 1 to 14.
const DECISIONS: usize = 15;
/// Bits after the first of the largest rest.
const MAX_REST_BITS: u32 = 24;
/// Below this the range is refilled.
const REFILL: u32 = 1 << 24;

/// After so many decisions the next one counts like one in that many and a half, since what they are about changes.
const MAX_SEEN: u8 = 40;

/// The probability that a decision is 0: an average over those seen, and how many that were.
#[derive(Clone, Copy)]
struct Probability {
    zero: u16,
    seen: u8,
}

impl Probability {
    fn bound(self, range: u32) -> u32 {
        (range >> 12) * u32::from(self.zero >> 4).max(1)
    }

    fn update(&mut self, bit: bool) {
        /// The weight of the next decision, `1 / (seen + 1.5)`, in parts of 2^16.
        const WEIGHTS: [u32; MAX_SEEN as usize + 1] = {
            let (mut weights, mut seen) = ([0; MAX_SEEN as usize + 1], 0);
            while seen < weights.len() {
                weights[seen] = (1 << 17) / (2 * seen as u32 + 3);
                seen += 1;
            }
            weights
        };
        let weight = WEIGHTS[usize::from(self.seen)];
        let part = |of: u32| ((of * weight) >> 16) as u16;
        if bit {
            self.zero -= part(self.zero.into());
        } else {
            self.zero += part((1 << 16) - u32::from(self.zero));
        }
        self.seen = MAX_SEEN.min(self.seen + 1);
    }
}

/// The probabilities of each context of integers.
type Probabilities = Vec<[Probability; DECISIONS]>;

fn fresh(contexts: usize) -> Probabilities {
    vec![[Probability { zero: 1 << 15, seen: 0 }; DECISIONS]; contexts]
}

/// Writes integers.
pub(crate) struct Encoder {
    probabilities: Probabilities,
    coder: RangeEncoder,
}

struct RangeEncoder {
    low: u64,
    range: u32,
    /// The last byte, which a carry may still change, and how many bytes of 255 follow it.
    cache: Option<u8>,
    pending: usize,
    out: Vec<u8>,
}

impl Encoder {
    /// For integers in `contexts` contexts.
    pub(crate) fn new(contexts: usize) -> Self {
        let coder = RangeEncoder { low: 0, range: u32::MAX, cache: None, pending: 0, out: Vec::new() };
        Self { probabilities: fresh(contexts), coder }
    }

    /// Appends `value` in `context`.
    pub(crate) fn put(&mut self, context: usize, value: i32) {
        let Some([not_zero, larger @ ..]) = self.probabilities.get_mut(context) else { return };
        let (magnitude, coder) = (value.unsigned_abs(), &mut self.coder);
        coder.decide(not_zero, magnitude > 0);
        if magnitude == 0 {
            return;
        }
        coder.plain(value < 0);
        for (probability, i) in larger.iter_mut().zip(1..) {
            coder.decide(probability, magnitude > i);
            if magnitude <= i {
                return;
            }
        }
        let rest = magnitude - (DECISIONS as u32 - 1);
        let bits = rest.ilog2();
        (0..bits).for_each(|_| coder.plain(true));
        coder.plain(false);
        (0..bits).rev().for_each(|bit| coder.plain(rest >> bit & 1 == 1));
    }

    /// Appends a single decision, in a `context` that has no integers.
    pub(crate) fn put_bit(&mut self, context: usize, bit: bool) {
        let Some([probability, ..]) = self.probabilities.get_mut(context) else { return };
        self.coder.decide(probability, bit);
    }

    /// What an integer of magnitude 0, 1 ... 15 would cost now in `context`, in bits; the last says nothing of the rest.
    pub(crate) fn prices(&self, context: usize) -> [f32; DECISIONS + 1] {
        let mut so_far = 0.0;
        let mut prices = [0.0; DECISIONS + 1];
        for (i, probability) in self.probabilities[context].iter().enumerate() {
            let no = f32::from(probability.zero) / (1 << 16) as f32;
            prices[i] = so_far - no.log2();
            // The sign.
            so_far += if i == 0 { 1.0 } else { 0.0 } - (1.0 - no).log2();
        }
        prices[DECISIONS] = so_far;
        prices
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.coder.out.len() + self.coder.pending
    }

    /// All bytes, but for zeros at the end.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut coder = self.coder;
        (0..5).for_each(|_| coder.shift());
        let used = coder.out.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        coder.out.truncate(used);
        coder.out
    }
}

impl RangeEncoder {
    #[inline(always)]
    fn decide(&mut self, probability: &mut Probability, bit: bool) {
        let bound = probability.bound(self.range);
        probability.update(bit);
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        self.refill();
    }

    fn plain(&mut self, bit: bool) {
        self.range >>= 1;
        if bit {
            self.low += u64::from(self.range);
        }
        self.refill();
    }

    fn refill(&mut self) {
        while self.range < REFILL {
            self.range <<= 8;
            self.shift();
        }
    }

    /// Moves the top byte of `low` out, once it is known whether a carry reaches it.
    fn shift(&mut self) {
        let (carry, top) = ((self.low >> 32) as u8, (self.low >> 24) as u8);
        if carry == 0 && top == u8::MAX {
            self.pending += 1;
        } else {
            self.out.extend(self.cache.map(|byte| byte.wrapping_add(carry)));
            self.out.extend(std::iter::repeat_n(u8::MAX.wrapping_add(carry), self.pending));
            (self.cache, self.pending) = (Some(top), 0);
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }
}

fn missing(context: usize) -> Error {
    Error::corrupt(format!("there is no context {context}"))
}

/// Reads what an [`Encoder`] wrote.
pub(crate) struct Decoder<'a> {
    probabilities: Probabilities,
    coder: RangeDecoder<'a>,
}

struct RangeDecoder<'a> {
    range: u32,
    code: u32,
    rest: std::slice::Iter<'a, u8>,
}

impl<'a> Decoder<'a> {
    /// Of integers in `contexts` contexts.
    pub(crate) fn new(bytes: &'a [u8], contexts: usize) -> Self {
        let mut coder = RangeDecoder { range: u32::MAX, code: 0, rest: bytes.iter() };
        (0..4).for_each(|_| coder.next_byte());
        Self { probabilities: fresh(contexts), coder }
    }

    /// The next integer, in `context`. Errors: Corrupt for one that no encoder writes.
    #[inline(always)]
    pub(crate) fn take(&mut self, context: usize) -> Result<i32> {
        let [not_zero, larger @ ..] = self.probabilities.get_mut(context).ok_or_else(|| missing(context))?;
        if self.coder.decide(not_zero) { self.coder.not_zero(larger) } else { Ok(0) }
    }

    /// The next single decision, in a `context` that has no integers. Errors: Corrupt where there is no such context.
    pub(crate) fn take_bit(&mut self, context: usize) -> Result<bool> {
        let [probability, ..] = self.probabilities.get_mut(context).ok_or_else(|| missing(context))?;
        Ok(self.coder.decide(probability))
    }

    /// Whether all bytes have been looked at: an encoder writes none beyond.
    pub(crate) fn is_used_up(&self) -> bool {
        self.coder.rest.len() == 0
    }
}

impl RangeDecoder<'_> {
    #[inline(always)]
    fn decide(&mut self, probability: &mut Probability) -> bool {
        let bound = probability.bound(self.range);
        let bit = self.code >= bound;
        probability.update(bit);
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        self.refill();
        bit
    }

    /// An integer that is not 0, behind that decision.
    fn not_zero(&mut self, larger: &mut [Probability]) -> Result<i32> {
        let negative = self.plain();
        let sign = |magnitude: i32| if negative { -magnitude } else { magnitude };
        for (probability, i) in larger.iter_mut().zip(1..) {
            if !self.decide(probability) {
                return Ok(sign(i));
            }
        }
        let mut bits = 0;
        while self.plain() {
            bits += 1;
            if bits > MAX_REST_BITS {
                return Err(Error::corrupt("an integer of an adaptive stream is out of range"));
            }
        }
        let rest = (0..bits).fold(1, |rest, _| rest << 1 | i32::from(self.plain()));
        Ok(sign(rest + DECISIONS as i32 - 1))
    }

    fn plain(&mut self) -> bool {
        self.range >>= 1;
        let bit = self.code >= self.range;
        if bit {
            self.code -= self.range;
        }
        self.refill();
        bit
    }

    fn refill(&mut self) {
        while self.range < REFILL {
            self.range <<= 8;
            self.next_byte();
        }
    }

    fn next_byte(&mut self) {
        self.code = self.code << 8 | u32::from(self.rest.next().copied().unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn round_trip(values: &[(usize, i32)], contexts: usize) -> usize {
        let mut encoder = Encoder::new(contexts);
        values.iter().for_each(|&(context, value)| encoder.put(context, value));
        let bytes = encoder.finish();
        let mut decoder = Decoder::new(&bytes, contexts);
        for &(context, value) in values {
            assert_eq!(decoder.take(context).unwrap(), value);
        }
        bytes.len()
    }

    fn noise(n: u64) -> u64 {
        let x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
    }

    #[test]
    fn all_magnitudes_come_back() {
        let values = (-40..40).chain([1000, -70_000, (1 << 24) - 1, -(1 << 24)]).map(|v| (v as usize & 1, v));
        round_trip(&values.collect::<Vec<_>>(), 2);
        assert_eq!(round_trip(&[], 1), 0);
    }

    #[test]
    fn single_decisions_come_back_between_integers() {
        let bit = |i: u64| noise(i) % 10 < 3;
        let mut encoder = Encoder::new(2);
        for i in 0..1000 {
            encoder.put_bit(0, bit(i));
            encoder.put(1, (noise(i) % 5) as i32 - 2);
        }
        let length = encoder.len();
        let bytes = encoder.finish();
        assert!(bytes.len() >= length && bytes.len() <= length + 5, "{} {length}", bytes.len());
        let mut decoder = Decoder::new(&bytes, 2);
        for i in 0..1000 {
            assert_eq!(decoder.take_bit(0).unwrap(), bit(i));
            assert_eq!(decoder.take(1).unwrap(), (noise(i) % 5) as i32 - 2);
        }
        assert!(decoder.take_bit(2).is_err());
    }

    /// Against the entropy of the source.
    #[test]
    fn rare_values_cost_little() {
        let values: Vec<_> = (0..20_000).map(|i| (0, i32::from(noise(i) % 100 < 5))).collect();
        let p: f64 = 0.05;
        let entropy = 20_000.0 * (-p * p.log2() - (1.0 - p) * (1.0 - p).log2() + p) / 8.0;
        let bytes = round_trip(&values, 1) as f64;
        assert!(bytes < 1.06 * entropy && bytes > 0.94 * entropy, "{bytes} {entropy}");
    }

    #[test]
    fn long_carries_come_back() {
        let values: Vec<_> =
            (0..50_000).map(|i| (0, if noise(i).is_multiple_of(1000) { -1 } else { 1 })).collect();
        round_trip(&values, 1);
        let values: Vec<_> =
            (0..50_000).map(|i| ((noise(i) % 3) as usize, (noise(i * 7) % 9) as i32 - 4)).collect();
        round_trip(&values, 3);
    }

    #[test]
    fn any_bytes_give_integers_or_an_error() {
        for seed in 0..200 {
            let bytes: Vec<u8> = (0..64).map(|i| noise(seed * 64 + i) as u8).collect();
            let mut decoder = Decoder::new(&bytes, 1);
            let _ = (0..1000).try_for_each(|_| decoder.take(0).map(drop));
        }
        let mut decoder = Decoder::new(&[255; 100], 1);
        assert!((0..10).any(|_| decoder.take(0).is_err()));
    }
}
