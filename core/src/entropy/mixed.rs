//! rANS streams whose symbols take turns between several tables of frequencies, the *contexts*.
//!
//! The tables are those of `frequencies.rs`: symbol `s` of a context has the slots `start(s) .. start(s) + f(s)` of 4096. A
//! stream of `n` symbols has `N` *lanes*, each with a 64-bit state: `N = 1` where `n < 4096`, else 4. Symbol `i` belongs to lane
//! `floor(i / 2) mod N`. The stream is the initial states of the lanes, then words of 32 bits, all little-endian. For
//! `i = 0 .. n - 1`, `x` the state of the lane, and with the slots of the context of symbol `i`:
//!
//! ```text
//! slot = x mod 4096;  s = the symbol that the slot belongs to
//! x = f(s) floor(x / 4096) + slot - start(s)
//! if x < 2^31, and i is odd or n - 1:  x = 2^32 x + the next word
//! ```
//!
//! At the end no word is left, and each state is 2^31. The encoder runs backwards from there: before it takes in two symbols of
//! frequencies `f` and `g`, if `x >= 2^39 f g`, it puts the word `x mod 2^32` in front of the others and divides `x` by 2^32; a
//! single last symbol has `g = 4096`.
//!
//! Next to the streams of `rans.rs`, whose states have 32 bits, half as many words are looked after, and only after every second
//! symbol: that is what takes the time.

use super::frequencies::{Frequencies, SCALE, SCALE_BITS};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};
use std::hint::select_unpredictable;

/// Streams of fewer symbols have one lane.
const MANY: usize = 4096;
const LANES: usize = 4;
/// A state below this takes in a word; also the resting state.
const LOW: u64 = 1 << 31;
const WHAT: &str = "a rANS stream of several contexts";

/// What encodes streams.
pub(crate) struct Encoder {
    tables: Vec<Frequencies>,
    /// Of each context the steps of all symbols.
    steps: Vec<Step>,
}

/// How to encode one symbol of frequency `f`, for every state `x` below 2^63.
#[derive(Clone, Copy, Default)]
struct Step {
    /// `floor(x reciprocal / 2^(64 + shift))` is `floor(x / f)`: with `2^shift < f <= 2^(shift + 1)` the reciprocal is
    /// `2^(64 + shift) / f`, rounded up, hence too large by less than one, and the quotient by less than `x / 2^(64 + shift) < 1 / f`.
    /// Where `f` is 1 it is `x - 1`.
    reciprocal: u64,
    frequency: u16,
    /// The start of the slots; where `f` is 1 it makes up for the quotient.
    bias: u16,
    shift: u8,
}

impl Step {
    fn new(frequency: u32, start: u32) -> Self {
        if frequency == 1 {
            let bias = (start + SCALE - 1) as u16;
            return Self { reciprocal: u64::MAX, frequency: 1, bias, shift: 0 };
        }
        let shift = (frequency - 1).ilog2();
        let reciprocal = (1u128 << (64 + shift)).div_ceil(frequency.into()) as u64;
        Self { reciprocal, frequency: frequency as u16, bias: start as u16, shift: shift as u8 }
    }

    /// `x` with the symbol taken in.
    #[inline(always)]
    fn push(&self, x: u64) -> u64 {
        let quotient = ((u128::from(x) * u128::from(self.reciprocal)) >> 64) as u64 >> self.shift;
        x + u64::from(self.bias) + quotient * u64::from(SCALE as u16 - self.frequency)
    }
}

impl Encoder {
    /// The best tables for `histograms`, one for each context, each of two symbols or more.
    pub(crate) fn fit<'a>(histograms: impl Iterator<Item = &'a [u64; 256]>) -> Self {
        let tables: Vec<_> = histograms.map(|histogram| Frequencies::fit(histogram).0).collect();
        let mut steps = vec![Step::default(); 256 * tables.len()];
        for (steps, table) in steps.chunks_exact_mut(256).zip(&tables) {
            let mut start = 0;
            for (step, &frequency) in steps.iter_mut().zip(&table.of).filter(|(_, f)| **f > 0) {
                *step = Step::new(frequency, start);
                start += frequency;
            }
        }
        Self { tables, steps }
    }

    /// Appends the tables.
    pub(crate) fn write(&self, out: &mut Writer) {
        self.tables.iter().for_each(|table| out.0.extend(table.stored()));
    }

    /// Whether a symbol can be encoded: 256 times its context and itself.
    pub(crate) fn knows(&self, turn: u16) -> bool {
        self.steps.get(usize::from(turn)).is_some_and(|step| step.frequency > 0)
    }

    /// Appends the stream of `turns`, each 256 times the context and the symbol, all known; `words` is memory to work in.
    pub(crate) fn encode(&self, turns: &[u16], words: &mut Vec<[u8; 4]>, out: &mut Vec<u8>) {
        // Two symbols make one word at most.
        words.resize(words.len().max(turns.len() / 2 + 1), [0; 4]);
        pulp::Arch::new().dispatch(Encode { steps: &self.steps, turns, words, out });
    }
}

/// [`Encoder::encode`], compiled for the vector instruction set, which has better shifts.
struct Encode<'a> {
    steps: &'a [Step],
    turns: &'a [u16],
    words: &'a mut [[u8; 4]],
    out: &'a mut Vec<u8>,
}

impl pulp::NullaryFnOnce for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match self.turns.len() < MANY {
            true => self.encode::<1>(),
            false => self.encode::<LANES>(),
        }
    }
}

impl Encode<'_> {
    #[inline(always)]
    fn encode<const N: usize>(self) {
        let Self { steps, turns, words, out } = self;
        // They are filled in from the end.
        let mut free = words.len();
        let mut states = [LOW; N];
        let (pairs, last) = turns.as_chunks::<2>();
        if let [turn] = last {
            // Nothing has been taken in, so that no state is full.
            let state = &mut states[pairs.len() % N];
            *state = steps[usize::from(*turn)].push(*state);
        }
        let (rounds, tail) = pairs.as_chunks::<N>();
        for pairs in std::iter::once(tail).chain(rounds.iter().rev().map(|round| &round[..])) {
            let Some(window) = words[..free].last_chunk_mut::<N>() else { break };
            let mut gone = 0;
            for (state, [first, second]) in states.iter_mut().zip(pairs).rev() {
                let [first, second] = [first, second].map(|turn| &steps[usize::from(*turn)]);
                let full = *state >= (u64::from(first.frequency) * u64::from(second.frequency)) << 39;
                // Written always, kept only if `gone` moves on: no branch to mispredict.
                window[N - 1 - gone % N] = (*state as u32).to_le_bytes();
                gone += usize::from(full);
                *state = first.push(second.push(select_unpredictable(full, *state >> 32, *state)));
            }
            free -= gone;
        }
        out.extend(states.map(u64::to_le_bytes).as_flattened());
        out.extend(words[free..].as_flattened());
    }
}

/// What decodes streams.
pub(crate) struct Decoder {
    /// Of each context the slots: the frequency (12 bits), the symbol (8), and the slot less its start (12).
    slots: Vec<u32>,
}

impl Decoder {
    /// The tables of `contexts` contexts at the front of `input`. Errors: Corrupt, Truncated.
    pub(crate) fn read(input: &mut Reader<'_>, contexts: usize) -> Result<Self> {
        let mut slots = Vec::with_capacity(contexts << SCALE_BITS);
        for _ in 0..contexts {
            let (table, len) = Frequencies::read(input.0)?;
            input.take(len, WHAT)?;
            for (symbol, &frequency) in (0..).zip(&table.of) {
                let entry = frequency << 20 | symbol << SCALE_BITS;
                slots.extend((0..frequency).map(|bias| entry | bias));
            }
        }
        Ok(Self { slots })
    }

    /// The beginning of a stream of `count` symbols. Errors: Truncated.
    pub(crate) fn start<'a>(&'a self, bytes: &'a [u8], count: usize) -> Result<Run<'a>> {
        let lanes = if count < MANY { 1 } else { LANES };
        let (head, words) = bytes.split_at_checked(8 * lanes).ok_or_else(|| Error::truncated(WHAT))?;
        let mut states = [LOW; LANES];
        states
            .iter_mut()
            .zip(head.as_chunks().0)
            .for_each(|(state, bytes)| *state = u64::from_le_bytes(*bytes));
        let (words, odd) = words.as_chunks();
        if !odd.is_empty() || states.iter().any(|&x| x >> 63 > 0) {
            return Err(Error::corrupt(format!("{WHAT}: its states or words are none")));
        }
        Ok(Run { slots: &self.slots, lanes, states, words })
    }
}

/// A stream while it is decoded.
pub(crate) struct Run<'a> {
    slots: &'a [u32],
    lanes: usize,
    states: [u64; LANES],
    words: &'a [[u8; 4]],
}

impl Run<'_> {
    /// The next symbols, one for each of `from`, for which `context` gives 4096 times the context: as many as are left, or a
    /// multiple of 8. What comes of a damaged stream has no meaning.
    pub(crate) fn fill<T>(&mut self, from: &[T], symbols: &mut [u8], context: impl Fn(&T) -> u32) {
        pulp::Arch::new().dispatch(Fill { run: self, from, symbols, context });
    }
}

/// [`Run::fill`], compiled for the vector instruction set, which has better shifts.
struct Fill<'a, 'b, T, C> {
    run: &'a mut Run<'b>,
    from: &'a [T],
    symbols: &'a mut [u8],
    context: C,
}

impl<T, C: Fn(&T) -> u32> pulp::NullaryFnOnce for Fill<'_, '_, T, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match self.run.lanes {
            1 => self.fill::<1>(),
            _ => self.fill::<LANES>(),
        }
    }
}

impl<T, C: Fn(&T) -> u32> Fill<'_, '_, T, C> {
    #[inline(always)]
    fn fill<const N: usize>(self) {
        let Self { run, from, symbols, context } = self;
        let (mut states, mut words, slots) = (run.states, run.words, run.slots);
        let mut done = 0;
        // While there are words for a whole round, no single read needs a check.
        let rounds = from.as_chunks::<2>().0.as_chunks::<N>().0.iter();
        for (from, symbols) in rounds.zip(symbols.as_chunks_mut::<2>().0.as_chunks_mut::<N>().0) {
            let Some(window) = words.first_chunk::<N>() else { break };
            let mut used = 0;
            for ((state, from), symbols) in states.iter_mut().zip(from).zip(symbols) {
                let (first, x) = pop(slots, *state, context(&from[0]));
                let (second, x) = pop(slots, x, context(&from[1]));
                *symbols = [first, second];
                let short = x < LOW;
                *state = select_unpredictable(short, x << 32 | word(window[used % N]), x);
                used += usize::from(short);
            }
            words = &words[used..];
            done += 2 * N;
        }
        let last = from.len().wrapping_sub(1);
        for (i, (from, symbol)) in from.iter().zip(symbols).enumerate().skip(done) {
            let state = &mut states[i / 2 % N];
            (*symbol, *state) = pop(slots, *state, context(from));
            if *state < LOW
                && (i % 2 == 1 || i == last)
                && let Some((next, rest)) = words.split_first()
            {
                *state = *state << 32 | word(*next);
                words = rest;
            }
        }
        (run.states, run.words) = (states, words);
    }
}

impl Run<'_> {
    /// Errors: Corrupt where the stream does not end here.
    pub(crate) fn finish(self) -> Result<()> {
        match self.words.is_empty() && self.states == [LOW; LANES] {
            true => Ok(()),
            false => Err(Error::corrupt(format!("{WHAT}: it does not end where its symbols do"))),
        }
    }
}

/// The symbol on top of a state, and the state without it.
#[inline(always)]
fn pop(slots: &[u32], x: u64, context: u32) -> (u8, u64) {
    const SLOT: u32 = SCALE - 1;
    let entry = slots[(context | x as u32 & SLOT) as usize];
    ((entry >> SCALE_BITS) as u8, u64::from(entry >> 20) * (x >> SCALE_BITS) + u64::from(entry & SLOT))
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u64 {
    u32::from_le_bytes(bytes).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Turns of three contexts: one that is nearly constant, one of few symbols, one of all.
    fn turns(count: usize) -> Vec<u16> {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) as u16
        };
        let turn = |context| {
            256 * context + [u16::from(next() < 9), (next() & next()) % 8, next() % 256][usize::from(context)]
        };
        (0..count).map(|i| (i * i % 3) as u16).map(turn).collect()
    }

    fn decode(models: &[u8], stream: &[u8], turns: &[u16]) -> Result<Vec<u8>> {
        let decoder = Decoder::read(&mut Reader(models), 3)?;
        let mut run = decoder.start(stream, turns.len())?;
        let mut symbols = vec![0; turns.len()];
        for (turns, symbols) in turns.chunks(1000).zip(symbols.chunks_mut(1000)) {
            run.fill(turns, symbols, |turn| u32::from(turn >> 8) << SCALE_BITS);
        }
        run.finish()?;
        Ok(symbols)
    }

    #[test]
    fn turns_come_back_and_damage_is_noticed_or_does_no_harm() {
        for count in [0, 1, 2, 3, 8, 999, 4095, 4096, 4097, 4099, 4103, 50_001] {
            let turns = turns(count);
            let mut counts = [[0; 256]; 3];
            counts.iter_mut().for_each(|counts| counts[..2].fill(1));
            turns.iter().for_each(|&turn| counts.as_flattened_mut()[usize::from(turn)] += 1);
            let encoder = Encoder::fit(counts.iter());
            let (mut models, mut stream) = (Writer::default(), Vec::new());
            encoder.write(&mut models);
            encoder.encode(&turns, &mut Vec::new(), &mut stream);
            let symbols: Vec<u8> = turns.iter().map(|&turn| turn as u8).collect();
            assert!(turns.iter().all(|&turn| encoder.knows(turn)));
            assert!(decode(&models.0, &stream, &turns).unwrap() == symbols, "{count}");
            for len in (0..stream.len()).step_by(1 + stream.len() / 50) {
                assert!(
                    decode(&models.0, &stream[..len], &turns).is_err(),
                    "{len} of {} bytes",
                    stream.len()
                );
            }
            for bit in (0..8 * stream.len()).step_by(1 + stream.len() / 50) {
                let mut damaged = stream.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    decode(&models.0, &damaged, &turns).is_ok_and(|found| found != symbols)
                        || decode(&models.0, &damaged, &turns).is_err()
                );
            }
        }
    }
}
