//! The words of a tensor: what is coded of one, given what was predicted.
//!
//! Of words of `8 N` bits the lowest `z` are left out; the prediction's are taken as zero. Let `W = 8 N - z`, and `p` and `y` what is
//! left of the predicted word and of the word, the highest bit being the sign. Without the signs, both are numbers in the order of
//! the floats. Their difference `v`, that of `y` less that of `p`, has the magnitude `a = v`, or `-1 - v` below zero. With `e` the
//! number of bits of `a` beyond its leading `1 + K` ones, the symbol is `4 (e 2^K + floor(a / 2^e))`, 2 more where the signs differ,
//! 1 more where `v` is below zero. So, modulo `2^W`, `y = p + base + extra`, where `base` depends on the symbol alone, and `extra` is a
//! number of `e` bits that is kept as it is.
//!
//! Where a symbol cannot be had, or the `z` bits are not all zero, the word is an *escape*: symbol 255, base 0, and the
//! difference of the whole words as the extra bits.

use crate::tensor::Dtype;

/// The symbol of a word whose difference is kept as it is.
pub(super) const ESCAPE: u8 = 255;

/// How the words of a tensor are built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// `z`.
    pub(super) dropped: u32,
    /// `K`: bits under the leading one that are part of the symbol.
    kept: u32,
    /// The sign bit of what is left.
    top: u64,
    /// Bits under the exponent of a whole word.
    fraction: u32,
    /// Exponents that there are.
    exponents: usize,
}

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meaning {
    /// In its place in the whole word.
    pub(super) base: u64,
    /// How many extra bits there are.
    pub(super) len: u8,
}

/// The symbol by arithmetic of `$unsigned` numbers, which hold a word.
macro_rules! symbol {
    ($unsigned:ty, $signed:ty, $layout:ident, $p:ident, $y:ident) => {{
        let (top, dropped, kept) = ($layout.top as $unsigned, $layout.dropped, $layout.kept);
        let (p, y) = ($p as $unsigned >> dropped, $y as $unsigned >> dropped);
        let v = (y & (top - 1)).wrapping_sub(p & (top - 1)) as $signed;
        let a = (v ^ v >> (<$signed>::BITS - 1)) as $unsigned;
        let token = if N > 2 {
            let len = (a | 1 << kept).ilog2() - kept;
            (<$unsigned>::from(len) << kept) + (a >> len)
        } else if a >> kept == 0 {
            a
        } else {
            // A float of `a` has them at hand, exponent and leading bits, one after the other.
            (((a as i32 as f32).to_bits() >> (23 - kept)) - ((126 + kept) << kept)) as $unsigned
        };
        let symbol = 4 * token as u8 + 2 * u8::from((p ^ y) & top != 0) + u8::from(v < 0);
        if y << dropped == $y as $unsigned { symbol } else { ESCAPE }
    }};
}

impl Meaning {
    /// What a decoder keeps of it: its base where that is short, else the symbol.
    pub(super) fn attached(self, symbol: u8, bytes: usize) -> (u32, u8) {
        (if bytes < 8 { self.base as u32 } else { symbol.into() }, self.len)
    }
}

impl Layout {
    /// Of words of `dtype`, of which the lowest `dropped` bits are left out; `None` if these are more than the mantissa has.
    pub(super) fn of(dtype: Dtype, dropped: u32) -> Option<Self> {
        let (bytes, mantissa) = Self::widths(dtype);
        if dropped > mantissa {
            return None;
        }
        let width = 8 * bytes as u32 - dropped;
        // As many as symbols of 8 bits leave room for.
        let kept = match width {
            ..=16 => 2,
            17..=32 => 1,
            _ => 0,
        };
        let top = 1 << (width - 1);
        let exponents = 1 << (8 * bytes as u32 - 1 - mantissa);
        Some(Self { dropped, kept, top, fraction: mantissa, exponents })
    }

    /// Bytes of a word, and bits under its exponent.
    pub(super) fn widths(dtype: Dtype) -> (usize, u32) {
        match dtype {
            Dtype::F64 => (8, 52),
            Dtype::F32 | Dtype::C64 => (4, 23),
            Dtype::F16 => (2, 10),
            Dtype::BF16 => (2, 7),
            Dtype::F8_E4M3 | Dtype::F8_E4M3FNUZ => (1, 3),
            Dtype::F8_E5M2 | Dtype::F8_E5M2FNUZ => (1, 2),
            Dtype::I64 | Dtype::U64 => (8, 63),
            Dtype::I32 | Dtype::U32 => (4, 31),
            Dtype::I16 | Dtype::U16 => (2, 15),
            _ => (1, 7),
        }
    }

    /// Number of exponents that a word can have.
    pub(super) fn exponents(self) -> usize {
        self.exponents
    }

    /// The exponent of a word.
    #[inline(always)]
    pub(super) fn exponent<const N: usize>(self, word: [u8; N]) -> u32 {
        let word = number(word);
        // Vectors hold more of the smaller numbers.
        match N {
            8 => ((word & (u64::MAX >> 1)) >> self.fraction) as u32,
            _ => (word as u32 & (u32::MAX >> (33 - 8 * N))) >> self.fraction,
        }
    }

    /// The symbol of `word`.
    #[inline(always)]
    pub(super) fn symbol<const N: usize>(self, predicted: [u8; N], word: [u8; N]) -> u8 {
        let (p, y) = (number(predicted), number(word));
        if N == 8 { symbol!(u64, i64, self, p, y) } else { symbol!(u32, i32, self, p, y) }
    }

    /// What each symbol stands for, in words of `bytes` bytes.
    pub(super) fn meanings(self, bytes: usize) -> [Meaning; 256] {
        std::array::from_fn(|symbol| {
            if symbol == usize::from(ESCAPE) {
                return Meaning { base: 0, len: 8 * bytes as u8 };
            }
            let token = symbol as u64 >> 2;
            let len = (token >> self.kept).saturating_sub(1);
            let least = (token - (len << self.kept)) << len;
            let v = if symbol & 1 == 0 { least } else { (least + (1 << len)).wrapping_neg() };
            let sign = if symbol & 2 == 0 { 0 } else { self.top };
            Meaning { base: v.wrapping_add(sign) << self.dropped, len: len as u8 }
        })
    }

    /// A predicted word without the bits that are left out.
    #[inline(always)]
    fn rounded<const N: usize>(self, predicted: [u8; N]) -> u64 {
        number(predicted) >> self.dropped << self.dropped
    }

    /// What a word has more than its prediction, of which its extra bits are some.
    #[inline(always)]
    pub(super) fn difference<const N: usize>(self, predicted: [u8; N], word: [u8; N]) -> [u8; N] {
        narrow(number(word).wrapping_sub(self.rounded(predicted)))
    }

    /// The `len` extra bits of a word with this difference, and others above them.
    #[inline(always)]
    pub(super) fn extra<const N: usize>(self, difference: [u8; N], len: u32) -> u64 {
        number(difference) >> self.shift::<N>(len)
    }

    /// How many bits are left out under `len` extra bits.
    #[inline(always)]
    fn shift<const N: usize>(self, len: u32) -> u32 {
        // Of an escape none are, and nothing else has so many extra bits.
        if self.dropped == 0 || len == 8 * N as u32 { 0 } else { self.dropped }
    }

    /// The word of a symbol that means `base` and `len` extra bits, which are `extra`.
    #[inline(always)]
    pub(super) fn join<const N: usize>(self, predicted: [u8; N], base: u64, len: u32, extra: u64) -> [u8; N] {
        narrow(self.rounded(predicted).wrapping_add(base).wrapping_add(extra << self.shift::<N>(len)))
    }
}

/// The low `len` bits of a number, at most `8 N` of them.
#[inline(always)]
pub(super) fn low_bits<const N: usize>(number: u64, len: u32) -> u64 {
    match N {
        8 => number & u64::MAX.checked_shr(64 - len).unwrap_or(0),
        _ => number & ((1 << len) - 1),
    }
}

/// How many bits are zero under the lowest one of a word.
#[inline(always)]
pub(super) fn low_zeros<const N: usize>(word: [u8; N]) -> usize {
    number(word).trailing_zeros() as usize
}

#[inline(always)]
fn number<const N: usize>(word: [u8; N]) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&word);
    u64::from_le_bytes(wide)
}

/// The word of the low bits of a number.
#[inline(always)]
fn narrow<const N: usize>(number: u64) -> [u8; N] {
    let mut narrow = [0; N];
    narrow.copy_from_slice(&number.to_le_bytes()[..N]);
    narrow
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check<const N: usize>(dtype: Dtype) {
        let edges = (0..8 * N as u32)
            .flat_map(|k| [1u64 << k, (1 << k) - 1, 3 << k >> 1, 0x9e37_79b9_7f4a_7c15 >> k])
            .chain([u64::MAX, (1 << (8 * N - 1)) - 1]);
        let edges: Vec<[u8; N]> = edges.map(|x| *x.to_le_bytes().first_chunk().unwrap()).collect();
        for layout in (0..64).map_while(|dropped| Layout::of(dtype, dropped)) {
            let meanings = layout.meanings(N);
            for &p in &edges {
                assert!((layout.exponent(p) as usize) < layout.exponents());
                for &y in &edges {
                    let symbol = layout.symbol(p, y);
                    assert!(p != y || symbol == 0 || symbol == ESCAPE);
                    for symbol in [symbol, ESCAPE] {
                        let meaning = meanings[usize::from(symbol)];
                        let len = u32::from(meaning.len);
                        let extra = low_bits::<8>(layout.extra(layout.difference(p, y), len), len);
                        assert_eq!(layout.join(p, meaning.base, len, extra), y, "{dtype} {p:?} {y:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_word_comes_back_from_every_prediction() {
        check::<8>(Dtype::F64);
        check::<8>(Dtype::U64);
        check::<4>(Dtype::F32);
        check::<2>(Dtype::F16);
        check::<2>(Dtype::BF16);
        check::<1>(Dtype::F8_E4M3);
        check::<1>(Dtype::U8);
    }

    #[test]
    fn neighbours_in_the_order_of_floats_differ_by_one() {
        let layout = Layout::of(Dtype::F32, 0).unwrap();
        for x in [1.0f32, -1.0, -1.5e-40, 0.0] {
            let next = f32::from_bits(x.to_bits() + 1);
            assert_eq!(layout.symbol(x.to_le_bytes(), next.to_le_bytes()), 4);
            assert_eq!(layout.symbol(next.to_le_bytes(), x.to_le_bytes()), 1);
            assert_eq!(layout.symbol(x.to_le_bytes(), (-x).to_le_bytes()), 2);
        }
    }
}
