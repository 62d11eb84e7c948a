//! Static order-0 rANS: symbols to bytes at nearly their entropy, by whole-number arithmetic.
//!
//! A table of frequencies (`frequencies.rs`) gives symbol `s` the slots `start(s) .. start(s) + f(s)` of 4096, where
//! `start(s)` is the sum of the frequencies of the symbols below `s`. A stream of `n` symbols has `N` *lanes*, each with
//! a 32-bit state: `N = 1` where `n < 4096`, else 4. Symbol `i` belongs to lane `i mod N`. The decoder takes the
//! initial states and then, for `i = 0 .. n - 1` and `x` the state of lane `i mod N`:
//!
//! ```text
//! slot = x mod 4096;  s = the symbol that the slot belongs to
//! x = f(s) floor(x / 4096) + slot - start(s)
//! if x < 2^16 and words are left:  x = 2^16 x + the next word
//! ```
//!
//! Words are unsigned, 16 bits, little-endian. At the end no word is left, and each state is the *resting state*: 255 with
//! one lane, 2^16 with four. The bytes, `T` of them:
//!
//! | lanes | bytes | what |
//! |---|---|---|
//! | 1 | `min(T, 4 - T mod 2)` | the initial state, little-endian, without the zero bytes at its end |
//! | 4 | 16 | the initial states of lanes 0 to 3, little-endian, each at least 2^16 |
//! | both | the rest | the words |
//!
//! (With one lane, words only follow a state of at least 2^16, hence of 3 or 4 bytes: `T` is odd with 3, even with 4.)
//! A stream does not know its own length; whoever stores it does.
//!
//! The encoder runs backwards: it starts each lane at its resting state and, for `i = n - 1 .. 0`, if
//! `x >= 2^20 f(s)`, puts the word `x mod 2^16` in front of the others and divides `x` by 2^16; then
//! `x = 4096 floor(x / f(s)) + x mod f(s) + start(s)`.
//!
//! One lane wastes fewer bytes; four keep the processor busy (eight are no faster, and waste twice as much).

use crate::error::{Error, Result};
use std::hint::select_unpredictable;

const SCALE_BITS: u32 = 12;
const SCALE: u32 = Frequencies::SCALE;
/// Frequencies in 4096ths.
pub(super) type Frequencies = super::frequencies::Frequencies<SCALE_BITS>;

/// Streams of fewer symbols have one lane.
const MANY: usize = 4096;
const LANES: usize = 4;
/// A state below this takes in a word; also the resting state of several lanes.
const LOW: u32 = 1 << 16;
/// The resting state of a single lane. Being below `LOW` saves a byte; not being very small, where a cut stream ends,
/// it still shows the cut.
const ALONE: u32 = 255;
/// Most symbols that one byte can stand for: `8 / log2(4096 / 4095)`, rounded up.
const SYMBOLS_PER_BYTE: usize = 22_711;
const WHAT: &str = "a rANS stream";

/// What a stream costs beside its symbols, in bits: the mean of measurements.
pub(super) fn overhead(symbols: u64) -> u64 {
    if symbols < MANY as u64 { 16 } else { 24 * LANES as u64 }
}

/// Whether `bytes` can be a stream of `count` symbols.
pub(super) fn plausible(bytes: &[u8], count: usize) -> bool {
    count < MANY || count / SYMBOLS_PER_BYTE <= bytes.len()
}

/// Frequencies with what encoding and decoding look up.
pub(crate) struct Table {
    pub(super) frequencies: Frequencies,
    steps: [Step; 256],
    /// The symbol of each slot.
    symbols: [u8; SCALE as usize],
    /// The frequency of that symbol, and the slot less its start.
    slots: [(u16, u16); SCALE as usize],
}

/// How to encode one symbol.
#[derive(Clone, Copy, Default)]
struct Step {
    /// `ceil(2^44 / f)`. For every `x < 2^20 f`, `floor(x reciprocal / 2^44)` is `floor(x / f)`, and the product
    /// stays below 2^64: the reciprocal is too large by `e / f` with `e < f < 2^12`, so the quotient by
    /// `x e / (2^44 f) < 1 / f`.
    reciprocal: u64,
    /// `2^20 f`: a larger state must lose a word first.
    limit: u32,
    /// `4096 - f`.
    complement: u16,
    start: u16,
}

impl Table {
    pub(super) fn new(frequencies: Frequencies) -> Box<Self> {
        let (steps, symbols, slots) = ([Step::default(); 256], [0; SCALE as usize], [(0, 0); SCALE as usize]);
        let mut table = Box::new(Self { frequencies, steps, symbols, slots });
        let mut start = 0;
        for symbol in 0..=u8::MAX {
            let frequency = table.frequencies.of[symbol as usize];
            if frequency == 0 {
                continue;
            }
            table.steps[symbol as usize] = Step {
                reciprocal: (1u64 << 44).div_ceil(frequency.into()),
                limit: frequency << 20,
                complement: (SCALE - frequency) as u16,
                start: start as u16,
            };
            let range = start..start + frequency as usize;
            start = range.end;
            table.symbols[range.clone()].fill(symbol);
            for (bias, slot) in table.slots[range].iter_mut().enumerate() {
                *slot = (frequency as u16, bias as u16);
            }
        }
        table
    }

    /// Appends the stream of `symbols`, which all have a frequency.
    pub(super) fn encode(&self, symbols: &[u8], out: &mut Vec<u8>) {
        if symbols.len() < MANY {
            let ([state], words) = self.encode_lanes(symbols, ALONE);
            let len = 4 - state.leading_zeros() as usize / 8;
            out.extend(&state.to_le_bytes()[..len]);
            out.extend(words.as_flattened());
        } else {
            let (states, words) = self.encode_lanes::<LANES>(symbols, LOW);
            out.extend(states.map(u32::to_le_bytes).as_flattened());
            out.extend(words.as_flattened());
        }
    }

    /// The initial states and the words of `N` lanes that rest at `resting`.
    fn encode_lanes<const N: usize>(&self, symbols: &[u8], resting: u32) -> ([u32; N], Vec<[u8; 2]>) {
        // No symbol makes more than one word. They are filled in from the end.
        let mut words = vec![[0; 2]; symbols.len()];
        let mut free = words.len();
        let mut states = [resting; N];
        let (rounds, tail) = symbols.as_chunks::<N>();
        for (state, &symbol) in states.iter_mut().zip(tail).rev() {
            let (word, full) = self.push(state, symbol);
            if full {
                free -= 1;
                words[free] = word;
            }
        }
        for round in rounds.iter().rev() {
            let Some(window) = words[..free].last_chunk_mut::<N>() else { break };
            let mut gone = 0;
            for (state, &symbol) in states.iter_mut().zip(round).rev() {
                // Written always, kept only if `gone` moves on: no branch to mispredict.
                let (word, full) = self.push(state, symbol);
                window[N - 1 - gone % N] = word;
                gone += usize::from(full);
            }
            free -= gone;
        }
        words.drain(..free);
        (states, words)
    }

    /// Takes `symbol` into a state; gives its low word and whether that leaves it.
    #[inline(always)]
    fn push(&self, state: &mut u32, symbol: u8) -> ([u8; 2], bool) {
        let step = &self.steps[symbol as usize];
        let x = *state;
        let word = (x as u16).to_le_bytes();
        let full = x >= step.limit;
        let x = select_unpredictable(full, x >> 16, x);
        let quotient = ((u64::from(x) * step.reciprocal) >> 44) as u32;
        *state = x + quotient * u32::from(step.complement) + u32::from(step.start);
        (word, full)
    }

    /// Fills `symbols` from a stream that must be used up.
    pub(super) fn decode(&self, bytes: &[u8], symbols: &mut [u8]) -> Result<()> {
        if symbols.len() < MANY {
            let (head, words) = bytes.split_at(bytes.len().min(4 - bytes.len() % 2));
            let mut state = [0; 4];
            state[..head.len()].copy_from_slice(head);
            return self.decode_lanes([u32::from_le_bytes(state)], words, symbols, ALONE);
        }
        let (head, words) = bytes.split_at_checked(4 * LANES).ok_or_else(|| Error::truncated(WHAT))?;
        let mut states = [0; LANES];
        for (state, bytes) in states.iter_mut().zip(head.as_chunks().0) {
            *state = u32::from_le_bytes(*bytes);
        }
        if states.iter().any(|&x| x < LOW) {
            return Err(Error::corrupt(format!("{WHAT}: an initial state is below 2^16")));
        }
        self.decode_lanes(states, words, symbols, LOW)
    }

    /// Fills `symbols` from the initial states of `N` lanes that must come to rest at `resting`.
    fn decode_lanes<const N: usize>(
        &self,
        mut states: [u32; N],
        words: &[u8],
        symbols: &mut [u8],
        resting: u32,
    ) -> Result<()> {
        let (mut words, odd) = words.as_chunks::<2>();
        let mut done = 0;
        // While there are words for a whole round, no single read needs a check.
        for round in symbols.as_chunks_mut::<N>().0 {
            let Some(window) = words.first_chunk::<N>() else { break };
            let mut used = 0;
            for (state, symbol) in states.iter_mut().zip(round) {
                let (decoded, x) = self.pop(*state);
                *symbol = decoded;
                let short = x < LOW;
                *state = select_unpredictable(short, x << 16 | word(window[used % N]), x);
                used += usize::from(short);
            }
            words = &words[used..];
            done += N;
        }
        for (i, symbol) in symbols[done..].iter_mut().enumerate() {
            let (decoded, mut x) = self.pop(states[i % N]);
            *symbol = decoded;
            if x < LOW
                && let Some((next, rest)) = words.split_first()
            {
                x = x << 16 | word(*next);
                words = rest;
            }
            states[i % N] = x;
        }
        if odd.is_empty() && words.is_empty() && states == [resting; N] {
            return Ok(());
        }
        Err(Error::corrupt(format!("{WHAT}: it does not end where its symbols do")))
    }

    /// The symbol on top of a state, and the state without it.
    #[inline(always)]
    fn pop(&self, x: u32) -> (u8, u32) {
        let slot = (x % SCALE) as usize;
        let (frequency, bias) = self.slots[slot];
        (self.symbols[slot], u32::from(frequency) * (x >> SCALE_BITS) + u32::from(bias))
    }
}

#[inline(always)]
fn word(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(bytes))
}
