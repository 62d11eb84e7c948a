//! Exact residuals: words by predicted words.

use super::entropy::{Bits, Bytes, read_model};

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
    let contexts = input.u8();
    let mut firsts = vec![0];
    for context in 1..contexts {
        firsts.push(firsts[usize::from(context) - 1] + input.varint());
    }
    let models: Vec<_> = (0..contexts).map(|_| read_model(&mut input)).collect();
    let number = |word: &[u8]| word.iter().rev().fold(0u128, |n, &byte| n << 8 | u128::from(byte));
    for piece in prediction.chunks(bytes << 18) {
        let words: Vec<u128> = piece.chunks(bytes).map(number).collect();
        let context_of = |p: u128| {
            let exponent = (p % (1 << (width - 1))) >> mantissa;
            firsts.iter().filter(|&&first| u128::from(first) <= exponent).count() - 1
        };
        let mut streams = Vec::new();
        for (context, model) in models.iter().enumerate() {
            let count = words.iter().filter(|&&p| context_of(p) == context).count();
            streams.push(model.decode(input.bytes(), count).into_iter());
        }
        let mut extra = Bits::new(input.bytes());
        for p in words {
            let symbol = streams[context_of(p)].next().unwrap();
            let word = word(width, p, symbol, |len| extra.take(len));
            out.extend(&word.to_le_bytes()[..bytes]);
        }
    }
    assert!(input.0.is_empty());
    out
}

/// The word of a symbol; `extra` gives the bits that belong to it.
fn word(width: u32, p: u128, symbol: u8, extra: impl FnOnce(u32) -> u64) -> u128 {
    let kept = if width == 64 { 1 } else { 2 };
    let top = 1i128 << (width - 1);
    let token = i128::from(symbol / 2);
    let len = 0.max((token >> kept) - 1);
    let magnitude = ((token - (len << kept)) << len) + i128::from(extra(len as u32));
    let difference = if symbol % 2 == 0 { magnitude } else { -1 - magnitude };
    let p = p as i128;
    let order = (p % top + difference).rem_euclid(2 * top);
    let word = if order < top { order } else { top + (2 * top - 1 - order) };
    (if p < top { word } else { (word + top) % (2 * top) }) as u128
}
