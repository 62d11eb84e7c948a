//! The probabilities of a model: how they are stored and how this encoder chooses them.
//!
//! A table gives every symbol `s` a frequency `f(s)`, an integer in parts of `2^B`, with `B = 12` for rANS and 10 for tANS: the
//! sum is exactly `2^B`, and at least two symbols have one above zero (so none is as much). It is stored as one bit
//! stream (`bits.rs`):
//!
//! | bits | what |
//! |---|---|
//! | 4 | `m`: how many bits under the leading one each frequency keeps, 0 to `B - 1` |
//! | 8 | `rest`: the symbol that gets what the others leave of `2^B` |
//! | 8 | `last`: no symbol above it, other than `rest`, has a frequency |
//! | | then, for the symbols 0 to `last` without `rest`, in rising order, and with `c' = 8` at first: |
//! | gamma | `v`. If `v = 4`, this symbol has `f = 0`; else the bit length of `f` is `c = c' + d`, 1 to `B`, where `zigzag(d)` is `v - 1` for `v < 4` and `v - 2` for `v > 4`; then `c' = c` |
//! | gamma | only where `v = 4`: how many symbols in turn, this one included, have `f = 0`; the others of them are skipped |
//! | `k` | only where `v` is not 4, with `k = min(m, c - 1)`: `j`; then `f = 2^(c-1) + j 2^(c-1-k)` |
//!
//! The last byte is filled up with zeros. (`zigzag(d)` is `2d` where `d >= 0`, else `-2d - 1`; the gamma code is
//! that of `bits.rs`.) A decoder needs no more than that. This encoder chooses the frequencies with integers alone:
//!
//! 1. `f = max(1, floor((2^B h + floor(total / 2)) / total))` for each symbol that occurs `h > 0` times.
//! 2. While the sum is above `2^B`, the symbol with `f > 1` and the smallest `h / (2f - 1)` gives one up; while it is
//!    below, the symbol with the largest `h / (2f + 1)` gets one (in both cases the first such symbol).
//! 3. `rest` is the first symbol of the largest frequency. For each `m`, all other frequencies are rounded to `m` bits
//!    under the leading one (halves up). The `m` of the fewest bits, table and symbols, is taken; of equals the smallest.

use super::bits::{BitReader, BitWriter};
use crate::error::{Error, Result};
use std::cmp::Ordering;

/// The most bits of a frequency.
const MOST_BITS: u32 = 12;
/// The bit length that the first one is coded against.
const FIRST_CLASS: u32 = 8;
/// Stands for absent symbols among the codes of bit lengths, behind those for a difference of at most one.
const ABSENT: u64 = 4;
const WHAT: &str = "a table of symbol frequencies";

/// The frequencies of the 256 symbols, in parts of `2^BITS`, with what their stored form needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frequencies<const BITS: u32> {
    pub(super) of: [u32; 256],
    precision: u32,
    rest: usize,
}

impl<const BITS: u32> Frequencies<BITS> {
    /// What all frequencies add up to.
    pub(super) const SCALE: u32 = 1 << BITS;
    /// Enough bits under the leading one for every frequency to be exact.
    const EXACT: u32 = BITS - 1;

    /// The best table for `histogram` (at least two symbols, at most 2^40 in total), and how many bits it and the
    /// symbols take together.
    pub(super) fn fit(histogram: &[u64; 256]) -> (Self, u64) {
        let occurring: Vec<usize> = (0..256).filter(|&s| histogram[s] > 0).collect();
        let exact = Self::normalized(histogram, &occurring);
        // Backwards, because the last of equal maxima is taken.
        let rest = (0..256).rev().max_by_key(|&s| exact[s]).unwrap_or(0);
        let price = |table: &Self| {
            let bits = |s: usize| u64::from(BITS_OF[(table.of[s] << (MOST_BITS - BITS)) as usize]);
            let symbols: u64 = occurring.iter().map(|&s| histogram[s] * bits(s)).sum();
            table.stored_len(&occurring) * 8 + (symbols >> BITS_POINT)
        };
        let best = Self { of: exact, precision: Self::EXACT, rest };
        let bits = price(&best);
        let rounded = (0..Self::EXACT).rev().filter_map(|m| Self::rounded(&exact, &occurring, m, rest));
        rounded.fold((best, bits), |best, table| {
            let bits = price(&table);
            if bits <= best.1 { (table, bits) } else { best }
        })
    }

    /// `exact`, whose symbols are `present`, with `precision` bits under the leading ones; `None` if that leaves nothing for
    /// `rest`.
    fn rounded(exact: &[u32; 256], present: &[usize], precision: u32, rest: usize) -> Option<Self> {
        let mut of = *exact;
        let mut left = Self::SCALE;
        for &s in present.iter().filter(|&&s| s != rest) {
            let drop = class(of[s]).saturating_sub(1 + precision);
            of[s] = (of[s] + (1 << drop >> 1)) >> drop << drop;
            left = left.checked_sub(of[s])?;
        }
        of[rest] = left;
        (left > 0).then_some(Self { of, precision, rest })
    }

    /// The stored form.
    pub(super) fn stored(&self) -> Vec<u8> {
        let present: Vec<usize> = (0..256).filter(|&s| self.of[s] > 0).collect();
        let mut bits = BitWriter::default();
        self.fields(&present, |value, len| match len {
            Some(len) => bits.put(value, len),
            None => bits.put_gamma(value),
        });
        bits.finish()
    }

    /// How many bytes the stored form has; `present` are the symbols with a frequency.
    fn stored_len(&self, present: &[usize]) -> u64 {
        let mut bits = 0;
        self.fields(present, |value, len| bits += u64::from(len.unwrap_or_else(|| 2 * value.ilog2() + 1)));
        bits.div_ceil(8)
    }

    /// Calls `field` for each field of the stored form, with its number of bits, or without where it is in gamma code; `present`
    /// are the symbols with a frequency.
    fn fields(&self, present: &[usize], mut field: impl FnMut(u64, Option<u32>)) {
        let others = present.iter().copied().filter(|&s| s != self.rest);
        let last = others.clone().next_back().unwrap_or(0);
        field(u64::from(self.precision), Some(4));
        field(self.rest as u64, Some(8));
        field(last as u64, Some(8));
        let (mut next, mut previous) = (0, FIRST_CLASS);
        for s in others {
            let absent = s - next - usize::from((next..s).contains(&self.rest));
            if absent > 0 {
                field(ABSENT, None);
                field(absent as u64, None);
            }
            next = s + 1;
            let f = self.of[s];
            let class = class(f);
            let difference = class as i32 - previous as i32;
            let zigzag = (difference << 1 ^ difference >> 31) as u64;
            field(zigzag + if zigzag + 1 < ABSENT { 1 } else { 2 }, None);
            previous = class;
            let kept = self.precision.min(class - 1);
            field(u64::from((f ^ 1 << (class - 1)) >> (class - 1 - kept)), Some(kept));
        }
    }

    /// The table at the front of `bytes`, and how many bytes it took.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, usize)> {
        let mut bits = BitReader::new(bytes);
        let precision = bits.take(4, WHAT)? as u32;
        let rest = bits.take(8, WHAT)? as usize;
        let last = bits.take(8, WHAT)? as usize;
        if precision > Self::EXACT {
            return Err(Error::corrupt(format!("{WHAT}: a precision of {precision} bits")));
        }
        let mut of = [0; 256];
        let mut previous = FIRST_CLASS;
        let mut others = (0..=last).filter(|&s| s != rest);
        while let Some(symbol) = others.next() {
            let value = bits.take_gamma(WHAT)?;
            if value == ABSENT {
                let run = bits.take_gamma(WHAT)? as usize;
                if run > 1 && others.nth(run - 2).is_none() {
                    return Err(Error::corrupt(format!("{WHAT}: {run} absent symbols are too many")));
                }
                continue;
            }
            let zigzag = value - if value < ABSENT { 1 } else { 2 };
            previous = next_class(previous, zigzag, BITS)?;
            let kept = precision.min(previous - 1);
            let under = (bits.take(kept, WHAT)? as u32) << (previous - 1 - kept);
            of[symbol] = 1 << (previous - 1) | under;
        }
        let sum: u32 = of.iter().sum();
        if sum == 0 || sum >= Self::SCALE {
            let message = format!("{WHAT}: {sum} of {} parts leave no room for the rest", Self::SCALE);
            return Err(Error::corrupt(message));
        }
        of[rest] = Self::SCALE - sum;
        Ok((Self { of, precision, rest }, bits.used(WHAT)?))
    }

    /// Steps 1 and 2 of the module's text; `occurring` are the symbols that the histogram has.
    fn normalized(histogram: &[u64; 256], occurring: &[usize]) -> [u32; 256] {
        let total: u64 = histogram.iter().sum();
        let mut of = histogram.map(|h| match h {
            0 => 0,
            _ => ((h * u64::from(Self::SCALE) + total / 2) / total).max(1) as u32,
        });
        // Compares h(a) / (2 f(a) + odd) with the same of b; `odd` is 1 or -1.
        let compare = |of: &[u32; 256], a: usize, b: usize, odd: u64| -> Ordering {
            let weight = |s: usize| (2 * u64::from(of[s])).wrapping_add(odd);
            (histogram[a] * weight(b)).cmp(&(histogram[b] * weight(a)))
        };
        let mut sum: u32 = of.iter().sum();
        while sum > Self::SCALE {
            let several = occurring.iter().copied().filter(|&s| of[s] > 1);
            let given = several.min_by(|&a, &b| compare(&of, a, b, u64::MAX)).unwrap_or(0);
            of[given] -= 1;
            sum -= 1;
        }
        while sum < Self::SCALE {
            let got = occurring.iter().copied().min_by(|&a, &b| compare(&of, b, a, 1)).unwrap_or(0);
            of[got] += 1;
            sum += 1;
        }
        of
    }
}

/// The bit length, of at most `most`, that differs from `previous` by what `zigzag` stands for.
fn next_class(previous: u32, zigzag: u64, most: u32) -> Result<u32> {
    let class = i64::from(previous) + ((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
    if (1..=i64::from(most)).contains(&class) {
        return Ok(class as u32);
    }
    Err(Error::corrupt(format!("{WHAT}: a frequency of {class} bits")))
}

/// The bit length of a frequency.
fn class(frequency: u32) -> u32 {
    u32::BITS - frequency.leading_zeros()
}

/// Fraction bits of [`BITS_OF`].
const BITS_POINT: u32 = 16;

/// What a symbol of each frequency costs: `log2(4096 / f)` bits, rounded up in 2^16ths. Integers, so that the
/// encoder chooses the same everywhere.
static BITS_OF: [u32; (1 << MOST_BITS) + 1] = {
    let mut table = [0; (1 << MOST_BITS) + 1];
    let mut f = 1;
    while f <= 1 << MOST_BITS {
        table[f as usize] = (MOST_BITS << BITS_POINT) - log2(f);
        f += 1;
    }
    table
};

/// What `histogram` (at most 2^40 symbols) costs in a model of its own, its table included: an estimate in 2^16ths of a bit.
pub(crate) fn cost(histogram: &[u64; 256]) -> u64 {
    const HEAD: u64 = 28;
    const ENTRY: u64 = 5;
    let weighted = |n: u64| n * scaled_log2(n);
    let occurring = histogram.iter().filter(|&&h| h > 0);
    let (total, count) = occurring.clone().fold((0, 0), |(total, count), h| (total + h, count + 1));
    let symbols = weighted(total) - occurring.map(|&h| weighted(h)).sum::<u64>().min(weighted(total));
    symbols + ((HEAD + ENTRY * count) << BITS_POINT)
}

/// About `log2(value) 2^16`; 0 for 0.
fn scaled_log2(value: u64) -> u64 {
    let drop = (value | 1).ilog2().saturating_sub(MOST_BITS - 1);
    let log = u64::from((MOST_BITS << BITS_POINT) - BITS_OF[(value >> drop).max(1) as usize]);
    log + (u64::from(drop) << BITS_POINT)
}

/// `floor(log2(value) 2^16)`, bit by bit: squaring doubles a logarithm.
const fn log2(value: u32) -> u32 {
    let whole = value.ilog2();
    let mut mantissa = (value as u64) << (31 - whole);
    let mut result = whole;
    let mut bit = 0;
    while bit < BITS_POINT {
        mantissa = (mantissa * mantissa) >> 31;
        let carry = (mantissa >> 32) as u32;
        mantissa >>= carry;
        result = result << 1 | carry;
        bit += 1;
    }
    result
}
