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
    let tables: Vec<_> = (0..contexts).map(|_| read_frequencies(&mut input)).collect();
    let number = |word: &[u8]| word.iter().rev().fold(0u128, |n, &byte| n << 8 | u128::from(byte));
    for piece in prediction.chunks(bytes << 17) {
        let words: Vec<u128> = piece.chunks(bytes).map(number).collect();
        let table_of = |p: u128| {
            let exponent = (p % (1 << (width - 1))) >> mantissa;
            &tables[firsts.iter().filter(|&&first| u128::from(first) <= exponent).count() - 1]
        };
        let symbols = symbols(input.bytes(), &words.iter().map(|&p| table_of(p)).collect::<Vec<_>>());
        let stream = input.bytes();
        let mut extra = Bits::new(stream);
        for (p, symbol) in words.into_iter().zip(symbols) {
            let word = word((width, dropped), p, symbol, |len| extra.take(len));
            out.extend(&word.to_le_bytes()[..bytes]);
        }
        assert_eq!(extra.used(), stream.len());
    }
    assert!(input.0.is_empty());
    out
}

/// The symbols of a stream, each of a table of its own.
fn symbols(stream: &[u8], tables: &[&[u32; 256]]) -> Vec<u8> {
    let lanes = if tables.len() < 4096 { 1 } else { 4 };
    let (states, words) = stream.split_at(8 * lanes);
    let mut states: Vec<u64> =
        states.chunks(8).map(|state| u64::from_le_bytes(state.try_into().unwrap())).collect();
    let mut words = words.chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())));
    let mut symbols = Vec::new();
    for (i, frequencies) in tables.iter().enumerate() {
        let x = &mut states[i / 2 % lanes];
        let slot = *x % 4096;
        let (mut symbol, mut start) = (0, 0);
        while slot >= start + u64::from(frequencies[symbol]) {
            start += u64::from(frequencies[symbol]);
            symbol += 1;
        }
        *x = u64::from(frequencies[symbol]) * (*x / 4096) + slot - start;
        if *x < 1 << 31 && (i % 2 == 1 || i == tables.len() - 1) {
            *x = *x << 32 | words.next().unwrap();
        }
        symbols.push(symbol as u8);
    }
    assert!(words.next().is_none() && states.iter().all(|&x| x == 1 << 31));
    symbols
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
