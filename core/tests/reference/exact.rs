//! Exact residuals: words by predicted words.

use super::entropy::{Bits, Bytes, read_frequencies};

/// Bits of a word, and of its mantissa.
fn layout(dtype: &str) -> (u32, u32) {
    match dtype {
        "F64" => (64, 52),
        "F32" | "C64" => (32, 23),
        "F16" => (16, 10),
        "BF16" => (16, 7),
        "F8_E4M3" | "F8_E4M3FNUZ" => (8, 3),
        "F8_E5M2" | "F8_E5M2FNUZ" => (8, 2),
        "I64" | "U64" => (64, 63),
        "I32" | "U32" => (32, 31),
        "I16" | "U16" => (16, 15),
        _ => (8, 7),
    }
}

/// The bytes that `packed` makes of the prediction.
pub fn decode(packed: &[u8], dtype: &str, prediction: &[u8]) -> Vec<u8> {
    let mut input = Bytes(packed);
    let (width, mantissa) = layout(dtype);
    let bytes = width as usize / 8;
    let mut out = Vec::new();
    if prediction.is_empty() {
        assert!(packed.is_empty());
        return out;
    }
    let dropped = u32::from(input.u8());
    assert!(dropped <= mantissa);
    let contexts = input.u8();
    let mut firsts = vec![0];
    for context in 1..contexts {
        firsts.push(firsts[usize::from(context) - 1] + input.varint());
    }
    let tables: Vec<_> = (0..contexts).map(|_| moves(&read_frequencies(&mut input, 1024))).collect();
    let number = |word: &[u8]| word.iter().rev().fold(0u128, |n, &byte| n << 8 | u128::from(byte));
    for piece in prediction.chunks(bytes << 17) {
        let words: Vec<u128> = piece.chunks(bytes).map(number).collect();
        let table_of = |p: u128| {
            let exponent = (p % (1 << (width - 1))) >> mantissa;
            &tables[firsts.iter().filter(|&&first| u128::from(first) <= exponent).count() - 1]
        };
        let mut piece = Bytes(input.bytes());
        let lanes = if words.len() < 4096 { 1 } else { 4 };
        let lens: Vec<usize> = (1..lanes).map(|_| piece.varint() as usize).collect();
        let mut lanes: Vec<Lane<'_>> = lens.iter().map(|&len| Lane::new(piece.take(len))).collect();
        lanes.push(Lane::new(piece.0));
        for (i, p) in words.into_iter().enumerate() {
            let count = lanes.len();
            let lane = &mut lanes[i / 2 % count];
            let symbol = lane.symbol(table_of(p));
            let word = word((width, dropped), p, symbol, |len| lane.bits.take(len));
            out.extend(&word.to_le_bytes()[..bytes]);
        }
        for lane in lanes {
            assert_eq!((lane.bits.used(), lane.state), (lane.len, 0));
        }
    }
    assert!(input.0.is_empty());
    out
}

struct Lane<'a> {
    bits: Bits<'a>,
    len: usize,
    state: usize,
}

impl<'a> Lane<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut bits = Bits::new(bytes);
        while bits.take(1) == 0 {}
        let state = bits.take(10) as usize;
        Self { bits, len: bytes.len(), state }
    }

    /// The next symbol, which moves the state on.
    fn symbol(&mut self, moves: &[Move]) -> u8 {
        let Move { symbol, next, len } = moves[self.state];
        self.state = next + self.bits.take(len) as usize;
        symbol
    }
}

#[derive(Clone, Copy)]
struct Move {
    symbol: u8,
    next: usize,
    len: u32,
}

/// The move from each state of a context.
fn moves(frequencies: &[u32; 256]) -> Vec<Move> {
    let mut owners = [0; 1024];
    let mut at = 0;
    for (symbol, &f) in frequencies.iter().enumerate() {
        for _ in 0..f {
            owners[at] = symbol;
            at = (at + 643) % 1024;
        }
    }
    let one = |(state, &symbol): (usize, &usize)| {
        let before = owners[..state].iter().filter(|&&owner| owner == symbol).count();
        let x = frequencies[symbol] as usize + before;
        let len = 10 - x.ilog2();
        Move { symbol: symbol as u8, next: (x << len) - 1024, len }
    };
    owners.iter().enumerate().map(one).collect()
}

/// The word of a symbol; `extra` gives the bits that belong to it.
fn word((width, dropped): (u32, u32), p: u128, symbol: u8, extra: impl FnOnce(u32) -> u64) -> u128 {
    let kept = match width - dropped {
        ..=16 => 2,
        17..=32 => 1,
        _ => 0,
    };
    let p = (p >> dropped << dropped) as i128;
    let difference = if symbol == 255 {
        i128::from(extra(width))
    } else {
        let token = i128::from(symbol / 4);
        let len = 0.max((token >> kept) - 1);
        let least = (token - (len << kept)) << len;
        let base = if symbol % 2 == 0 { least } else { -least - (1 << len) };
        let sign = if symbol % 4 < 2 { 0 } else { 1 << (width - dropped - 1) };
        (base + sign + i128::from(extra(len as u32))) << dropped
    };
    (p + difference).rem_euclid(1 << width) as u128
}
