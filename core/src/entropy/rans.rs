//! Static order-0 rANS: symbols to bytes at nearly their entropy, by whole-number arithmetic.
//!
//! A table of frequencies (`frequencies.rs`) gives symbol `s` the slots `start(s) .. start(s) + f(s)` of 4096, where
//! `start(s)` is the sum of the frequencies of the symbols below `s`. A stream of `n` symbols has `N` *lanes*, each with
//! a 32-bit state: `N = 1` where `n < 4096`, else 8. Symbol `i` belongs to lane `i mod N`. The decoder takes the
//! initial states and then, for `i = 0 .. n - 1` and `x` the state of lane `i mod N`:
//!
//! ```text
//! slot = x mod 4096;  s = the symbol that slot belongs to
//! x = f(s) * floor(x / 4096) + slot - start(s)
//! if x < 2^16 and words are left:  x = 2^16 x + next word
//! ```
//!
//! Words are unsigned 16-bit little-endian. At the end no word is left, and each state is the *resting state*: 0 with
//! one lane, 2^16 with eight. The bytes, `T` of them:
//!
//! | lanes | bytes | what |
//! |---|---|---|
//! | 1 | `min(T, 4 - T mod 2)` | the initial state, little-endian, without its zero bytes at the end |
//! | 8 | 32 | the initial states of lane 0, 1, ..., little-endian, each at least 2^16 |
//! | both | the rest | the words |
//!
//! (With one lane, words only follow a state of at least 2^16, so of 3 or 4 bytes; `T` is odd with 3 and even with 4.)
//!
//! The encoder runs backwards: it starts each lane at its resting state and, for `i = n - 1 .. 0`, puts the word
//! `x mod 2^16` in front of the others and divides `x` by 2^16 if `x >= 2^20 f(s)`; then
//! `x = 4096 floor(x / f(s)) + x mod f(s) + start(s)`.

use super::frequencies::{Frequencies, SCALE, SCALE_BITS};
use crate::error::{Error, Result};

/// Streams of fewer symbols have one lane.
pub(super) const MANY: usize = 4096;
const LANES: usize = 8;
/// A state below this takes in a word.
const LOW: u32 = 1 << 16;
const WHAT: &str = "a rANS stream";

/// Most symbols that a byte can stand for: `8 / log2(4096 / 4095)`, rounded up.
pub(super) const SYMBOLS_PER_BYTE: usize = 22_711;

/// What the resting and the initial states cost beside the symbols themselves, in bits, on average.
pub(super) fn overhead(symbols: u64) -> u64 {
    if symbols < MANY as u64 { 16 } else { 24 * LANES as u64 }
}

/// Frequencies with both directions' tables.
pub(crate) struct Table {
    pub(super) frequencies: Frequencies,
    steps: [Step; 256],
    /// Per slot: symbol (8 bits), frequency (12 bits), slot - start (12 bits), lowest first.
    slots: [u32; SCALE as usize],
}

/// How to encode one symbol.
#[derive(Clone, Copy, Default)]
struct Step {
    /// `ceil(2^44 / f)`: for every state after renormalisation, `x < 2^20 f`, `floor(x reciprocal / 2^44)` is
    /// `floor(x / f)` and the product stays below 2^64.
    reciprocal: u64,
    frequency: u32,
    start: u32,
}

impl Table {
    pub(super) fn new(frequencies: Frequencies) -> Box<Self> {
        let steps = [Step::default(); 256];
        let mut table = Box::new(Self { frequencies, steps, slots: [0; SCALE as usize] });
        let mut start = 0;
        for symbol in 0..256 {
            let frequency = table.frequencies.of[symbol];
            if frequency == 0 {
                continue;
            }
            table.steps[symbol] =
                Step { reciprocal: (1u64 << 44).div_ceil(frequency.into()), frequency, start };
            for (bias, slot) in table.slots[start as usize..][..frequency as usize].iter_mut().enumerate() {
                *slot = (bias as u32) << 20 | frequency << 8 | symbol as u32;
            }
            start += frequency;
        }
        table
    }

    /// Appends the stream of `symbols`, which all have a frequency.
    pub(super) fn encode(&self, symbols: &[u8], out: &mut Vec<u8>) {
        if symbols.len() < MANY {
            let ([state], words) = self.encode_lanes::<1>(symbols, 0);
            let len = 4 - state.leading_zeros() as usize / 8;
            out.extend(&state.to_le_bytes()[..len]);
            out.extend(words.as_flattened());
        } else {
            let (states, words) = self.encode_lanes::<LANES>(symbols, LOW);
            out.extend(states.map(u32::to_le_bytes).as_flattened());
            out.extend(words.as_flattened());
        }
    }

    /// The initial states and the words of `N` lanes (a power of two) that rest at `resting`.
    fn encode_lanes<const N: usize>(&self, symbols: &[u8], resting: u32) -> ([u32; N], Vec<[u8; 2]>) {
        let mut words = vec![[0; 2]; symbols.len()];
        let mut free = words.len();
        let mut states = [resting; N];
        let (rounds, tail) = symbols.as_chunks::<N>();
        for (state, &symbol) in states.iter_mut().zip(tail).rev() {
            if let Some(word) = self.push(state, symbol) {
                free -= 1;
                words[free] = word;
            }
        }
        for round in rounds.iter().rev() {
            for (state, &symbol) in states.iter_mut().zip(round).rev() {
                if let Some(word) = self.push(state, symbol) {
                    free -= 1;
                    words[free] = word;
                }
            }
        }
        words.drain(..free);
        (states, words)
    }

    /// Takes `symbol` into a state; gives the word that it pushes out.
    #[inline(always)]
    fn push(&self, state: &mut u32, symbol: u8) -> Option<[u8; 2]> {
        let step = &self.steps[symbol as usize];
        let mut x = *state;
        let full = x >= step.frequency << 20;
        let word = full.then_some((x as u16).to_le_bytes());
        x >>= if full { 16 } else { 0 };
        let quotient = ((u64::from(x) * step.reciprocal) >> 44) as u32;
        *state = x + quotient * (SCALE - step.frequency) + step.start;
        word
    }

    /// Fills `symbols` from a stream that must be used up.
    pub(super) fn decode(&self, bytes: &[u8], symbols: &mut [u8]) -> Result<()> {
        let states_len = if symbols.len() < MANY { bytes.len().min(4 - bytes.len() % 2) } else { 4 * LANES };
        let (head, rest) = bytes.split_at_checked(states_len).ok_or_else(|| Error::truncated(WHAT))?;
        let (words, odd) = rest.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(Error::truncated(WHAT));
        }
        if symbols.len() < MANY {
            let mut state = [0; 4];
            state[..head.len()].copy_from_slice(head);
            return self.decode_lanes([u32::from_le_bytes(state)], words, symbols, 0);
        }
        let mut states = [0; LANES];
        for (state, bytes) in states.iter_mut().zip(head.as_chunks().0) {
            *state = u32::from_le_bytes(*bytes);
        }
        if states.iter().any(|&x| x < LOW) {
            return Err(Error::corrupt(format!("{WHAT}: an initial state below 2^16")));
        }
        self.decode_lanes(states, words, symbols, LOW)
    }

    fn decode_lanes<const N: usize>(
        &self,
        mut states: [u32; N],
        mut words: &[[u8; 2]],
        symbols: &mut [u8],
        resting: u32,
    ) -> Result<()> {
        let mut fast = 0;
        // While a whole round's words are there, no single read needs a check.
        for round in symbols.as_chunks_mut::<N>().0 {
            let Some(window) = words.first_chunk::<N>() else { break };
            fast += N;
            let mut used = 0;
            for (state, symbol) in states.iter_mut().zip(round) {
                let x;
                (*symbol, x) = self.pop(*state);
                let word = u16::from_le_bytes(window[used & (N - 1)]);
                let short = x < LOW;
                *state = if short { x << 16 | u32::from(word) } else { x };
                used += usize::from(short);
            }
            words = &words[used..];
        }
        for (i, symbol) in symbols[fast..].iter_mut().enumerate() {
            let x;
            (*symbol, x) = self.pop(states[i % N]);
            states[i % N] = x;
            if x < LOW
                && let Some((word, rest)) = words.split_first()
            {
                states[i % N] = x << 16 | u32::from(u16::from_le_bytes(*word));
                words = rest;
            }
        }
        if !words.is_empty() || states.iter().any(|&x| x != resting) {
            return Err(Error::corrupt(format!("{WHAT}: it does not end where its symbols do")));
        }
        Ok(())
    }

    /// The symbol on top of a state, and the state without it.
    #[inline(always)]
    fn pop(&self, x: u32) -> (u8, u32) {
        let slot = self.slots[(x % SCALE) as usize];
        (slot as u8, (slot >> 8 & 0xfff) * (x >> SCALE_BITS) + (slot >> 20))
    }
}
