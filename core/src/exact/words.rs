//! The words of a tensor: what is coded of one, given what was predicted.
//!
//! A word `p` was predicted and is `y`, both of `W` bits, the highest one the sign. The sign of `p` is taken off both. Then
//! `m = p`, and `c = y` where `y` has no sign, else `-1 - (y without it)`: numbers in the order of the floats. The difference
//! `v = c - m`, modulo `2^W` and in the range of a signed number, has the magnitude `a = v`, or `-1 - v` below zero. With
//! `e` the number of bits of `a` beyond its leading `1 + K` ones, the symbol is `2 (e 2^K + floor(a / 2^e))`, 1 more below
//! zero, and the low `e` bits of `a` are kept as they are.

use crate::tensor::Dtype;

/// How the words of a dtype are built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Bytes of a word.
    pub(super) bytes: usize,
    /// Bits under the exponent.
    mantissa: u32,
    /// `K`: bits under the leading one that are part of the symbol.
    kept: u32,
}

/// What is coded of one word.
pub(super) struct Split {
    pub(super) symbol: u8,
    pub(super) extra: u64,
    /// How many bits `extra` has.
    pub(super) len: u32,
}

impl Layout {
    pub(super) fn of(dtype: Dtype) -> Self {
        let (bytes, mantissa) = match dtype {
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
        };
        Self { bytes, mantissa, kept: if bytes == 8 { 1 } else { 2 } }
    }

    /// Number of exponents that a word can have.
    pub(super) fn exponents(self) -> usize {
        1 << (8 * self.bytes as u32 - 1 - self.mantissa)
    }

    /// The exponent of a word.
    #[inline(always)]
    pub(super) fn exponent<const N: usize>(self, word: [u8; N]) -> usize {
        ((number(word) & (top::<N>() - 1)) >> self.mantissa) as usize
    }

    /// What is coded of `word`.
    #[inline(always)]
    pub(super) fn split<const N: usize>(self, predicted: [u8; N], word: [u8; N]) -> Split {
        let (p, y) = (number(predicted), number(word));
        let order = ordered::<N>(y ^ (p & top::<N>()));
        let unused = 64 - 8 * N as u32;
        let v = (order.wrapping_sub(p & (top::<N>() - 1)) << unused) as i64 >> unused;
        let a = (v ^ v >> 63) as u64;
        let len = (a | 1 << self.kept).ilog2() - self.kept;
        let token = (u64::from(len) << self.kept) + (a >> len);
        Split { symbol: (2 * token) as u8 | u8::from(v < 0), extra: a & ((1 << len) - 1), len }
    }

    /// For each symbol, the magnitude without its extra bits, and how many of those there are.
    pub(super) fn magnitudes(self) -> [(u64, u32); 256] {
        std::array::from_fn(|symbol| {
            let token = symbol as u64 >> 1;
            let len = (token >> self.kept).saturating_sub(1);
            ((token - (len << self.kept)) << len, len as u32)
        })
    }
}

/// The word of a magnitude, negative where the symbol is odd.
#[inline(always)]
pub(super) fn join<const N: usize>(predicted: [u8; N], symbol: u8, magnitude: u64) -> [u8; N] {
    let p = number(predicted);
    let v = magnitude ^ u64::from(symbol & 1).wrapping_neg();
    let order = v.wrapping_add(p & (top::<N>() - 1));
    bytes(ordered::<N>(order) ^ (p & top::<N>()))
}

/// The sign bit.
const fn top<const N: usize>() -> u64 {
    1 << (8 * N - 1)
}

/// Flips the bits under a sign: from bit patterns to two's complement, and back.
#[inline(always)]
fn ordered<const N: usize>(word: u64) -> u64 {
    let signed = (word >> (8 * N - 1) & 1).wrapping_neg();
    word ^ (signed & (top::<N>() - 1))
}

#[inline(always)]
fn number<const N: usize>(word: [u8; N]) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&word);
    u64::from_le_bytes(wide)
}

#[inline(always)]
fn bytes<const N: usize>(word: u64) -> [u8; N] {
    let mut narrow = [0; N];
    narrow.copy_from_slice(&word.to_le_bytes()[..N]);
    narrow
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const N: usize>(dtype: Dtype) {
        let layout = Layout::of(dtype);
        let magnitudes = layout.magnitudes();
        let edges = (0..8 * N as u32)
            .flat_map(|k| [1u64 << k, (1 << k) - 1, 3 << k >> 1, 0x9e37_79b9_7f4a_7c15 >> k]);
        let edges: Vec<[u8; N]> = edges.map(bytes).chain([bytes(u64::MAX), bytes(top::<N>() - 1)]).collect();
        for &p in &edges {
            assert!(layout.exponent(p) < layout.exponents());
            for &y in &edges {
                let Split { symbol, extra, len } = layout.split(p, y);
                let (magnitude, bits) = magnitudes[usize::from(symbol)];
                assert!(bits == len && extra >> len == 0);
                assert_eq!(join(p, symbol, magnitude | extra), y, "{dtype} {p:?} {y:?}");
                assert_eq!(symbol == 0, p == y);
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
        let layout = Layout::of(Dtype::F32);
        let steps = [(1.0f32, 2), (-1.0, 2), (-1.5e-40, 2), (0.0, 2)];
        for (x, away) in steps {
            let next = f32::from_bits(x.to_bits() + 1);
            assert_eq!(layout.split(x.to_le_bytes(), next.to_le_bytes()).symbol, away);
            assert_eq!(layout.split(next.to_le_bytes(), x.to_le_bytes()).symbol, 1);
        }
        assert_eq!(layout.split(0f32.to_le_bytes(), (-0f32).to_le_bytes()).symbol, 1);
    }
}
