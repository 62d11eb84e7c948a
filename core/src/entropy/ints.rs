//! Integers of any size, small ones cheap.
//!
//! An integer `v` is first made unsigned: `u = 2v` where `v >= 0`, else `u = -2v - 1` (zigzag). Then it becomes
//! a *token*, one symbol of a [`Model`], and *extra bits*:
//!
//! | `u` | token | extra bits (lowest first) |
//! |---|---|---|
//! | 0 to 15 | `u` | none |
//! | from 16, with `n = floor(log2 u)` | `16 + 2 (n - 4) + b`, `b` = bit `n - 1` of `u` | the low `n - 1` bits of `u` |
//!
//! So a token `t >= 16` has `n = 4 + floor((t - 16) / 2)` and `u = 2^n + b 2^(n-1) + extra`; the largest is 135
//! (`n = 63`). The extra bits of all values follow each other in one bit stream (see `bits.rs`).
//!
//! A list of `count` integers, where `count` is known from elsewhere: nothing at all if `count` is 0, else
//!
//! | bytes | what |
//! |---|---|
//! | see `mod.rs` | the model of the tokens |
//! | varint | byte length of the token stream; only where the model is rANS |
//! | so many | the token stream |
//! | `ceil(sum of the extra bits / 8)` | the extra bits |

use super::bits::{BitReader, BitWriter};
use super::{Model, histogram};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// The smallest unsigned value that is split into token and extra bits; also the token of it.
const FIRST_SPLIT: u8 = 16;
const WHAT: &str = "a list of integers";

/// Appends one token per value to `tokens` and the extra bits to `extra`.
pub(crate) fn tokenize<T: Copy + Into<i64>>(values: &[T], tokens: &mut Vec<u8>, extra: &mut BitWriter) {
    tokens.extend(values.iter().map(|&value| {
        let value: i64 = value.into();
        let unsigned = (value << 1 ^ value >> 63) as u64;
        if unsigned < u64::from(FIRST_SPLIT) {
            return unsigned as u8;
        }
        let under = unsigned.ilog2() - 1;
        extra.put(unsigned & ((1 << under) - 1), under);
        (10 + 2 * u64::from(under) + (unsigned >> under & 1)) as u8
    }));
}

/// Fills `values` from as many tokens. Fails on a token that does not exist, on extra bits that are missing, and
/// on values that `T` does not hold; the caller checks that the extra bits are used up.
pub(crate) fn detokenize<T: TryFrom<i64>>(
    tokens: &[u8],
    extra: &mut BitReader,
    values: &mut [T],
) -> Result<()> {
    if tokens.len() != values.len() {
        return Err(Error::corrupt(format!("{} tokens for {} integers", tokens.len(), values.len())));
    }
    let mut bits = *extra;
    for (to, &token) in values.iter_mut().zip(tokens) {
        let value = join(token, &mut bits).ok_or_else(|| broken(token))?;
        *to = T::try_from(value).map_err(|_| Error::corrupt(format!("{WHAT}: {value} is out of range")))?;
    }
    *extra = bits;
    Ok(())
}

/// What each token stands for: the value without its extra bits, and how many of those there are.
static PARTS: [(u64, u32); 136] = {
    let mut parts = [(0, 0); 136];
    let mut token = 0;
    while token < parts.len() {
        parts[token] = (token as u64, 0);
        if token >= FIRST_SPLIT as usize {
            let under = 3 + (token as u32 - FIRST_SPLIT as u32) / 2;
            parts[token] = ((2 | token as u64 & 1) << under, under);
        }
        token += 1;
    }
    parts
};

/// The value of one token and its extra bits, if both exist.
#[inline(always)]
fn join(token: u8, extra: &mut BitReader) -> Option<i64> {
    let &(base, under) = PARTS.get(token as usize)?;
    let unsigned = if under == 0 { base } else { base | extra.next(under)? };
    Some((unsigned >> 1) as i64 ^ -((unsigned & 1) as i64))
}

/// Why [`join`] gave nothing.
#[cold]
fn broken(token: u8) -> Error {
    if (token as usize) < PARTS.len() {
        return Error::truncated(WHAT);
    }
    Error::corrupt(format!("{WHAT}: there is no token {token}"))
}

/// Appends a list of integers that carries everything but its length.
pub(crate) fn encode_ints(values: &[i64], out: &mut Writer) {
    if values.is_empty() {
        return;
    }
    let (mut tokens, mut extra) = (Vec::with_capacity(values.len()), BitWriter::default());
    tokenize(values, &mut tokens, &mut extra);
    let model = Model::fit(&histogram(&tokens), 1);
    model.write(out);
    let mut stream = Vec::new();
    model.encode(&tokens, &mut stream);
    match model.stream_len(tokens.len()) {
        Some(_) => out.0.extend(stream),
        None => out.bytes(&stream),
    }
    out.0.extend(extra.finish());
}

/// The next list of `count` integers. Memory is only taken for a count that the bytes can hold; a list whose
/// tokens are all one and the same takes no bytes, so `count` must be limited by the caller.
pub(crate) fn decode_ints(input: &mut Reader, count: usize) -> Result<Vec<i64>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let model = Model::read(input)?;
    let stream = match model.stream_len(count) {
        Some(len) => input.take(len, WHAT)?,
        None => input.bytes(WHAT)?,
    };
    model.check_plausible(stream, count)?;
    let mut tokens = vec![0; count];
    model.decode(stream, &mut tokens)?;
    let mut extra = BitReader::new(input.0);
    let mut values = vec![0; count];
    detokenize(&tokens, &mut extra, &mut values)?;
    input.take(extra.used(WHAT)?, WHAT)?;
    Ok(values)
}
