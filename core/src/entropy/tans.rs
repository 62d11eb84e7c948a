//! tANS (Duda 2013, arXiv:1311.2540): symbols as moves between 1024 states, in several *contexts* that take turns.
//!
//! The tables of frequencies are those of `frequencies.rs`. In a context, the states belong to the symbols: for the symbols `s` in
//! rising order, `f(s)` times: the state `at`, which is 0 at first, belongs to `s`, and `at = (at + 643) mod 1024`. Of the states
//! that belong to `s`, the `k`-th (from 0 on, in rising order) has `x = f(s) + k`, and moves on by `b = 10 - floor(log2 x)` bits:
//!
//! ```text
//! next state = 2^b x - 1024 + the next b bits
//! ```
//!
//! In any context every state follows from just one move by each symbol, so that contexts may change from symbol to symbol. The
//! encoder runs backwards, from state 0.
//!
//! A decoder's step is one look into a table, and bits that belong to the symbol can follow at once.

use crate::error::Result;
use crate::wire::{Reader, Writer};

/// Bits of a state: with two more, the moves of all contexts of a tensor do not fit the caches near the core, for 0.1 % fewer
/// bytes.
pub(crate) const STATE_BITS: u32 = 10;
/// In 1024ths, one for each state.
type Frequencies = super::frequencies::Frequencies<STATE_BITS>;
const SCALE: u32 = Frequencies::SCALE;
const STATES: usize = SCALE as usize;
const STRIDE: usize = 643;
const WHAT: &str = "a table of states";

/// The symbol of each state.
fn owners(table: &Frequencies) -> [u8; STATES] {
    let (mut owners, mut at) = ([0; STATES], 0);
    for (symbol, &frequency) in (0..=u8::MAX).zip(&table.of) {
        for _ in 0..frequency {
            owners[at] = symbol;
            at = (at + STRIDE) % STATES;
        }
    }
    owners
}

/// What encodes.
pub(crate) struct Encoder {
    tables: Vec<Frequencies>,
    /// For each row and symbol.
    steps: Vec<[Step; 256]>,
    /// States plus 1024, those of one symbol after the other, context after context.
    states: Vec<u16>,
}

/// How to take in one symbol of frequency `f`, in the state `x` (less 1024).
#[derive(Clone, Copy, Default)]
struct Step {
    /// From `x` without the bits that leave to its place among `states`, modulo 2^32.
    offset: u32,
    /// The sum of this and `x`, without its lowest `STATE_BITS + 1` bits, is how many leave: `b` where `x >= 2^b f`, else `b - 1`.
    limit: u16,
    /// See [`Move::extra`].
    extra: u8,
}

impl Encoder {
    /// The best tables for `histograms`, one for each context, each of two symbols or more. `rows` are the contexts by the names
    /// that [`Steps::push`] has for them. The symbol `other` takes the place of those that a context does not have; `extra` says how
    /// many bits follow each.
    pub(crate) fn fit<'a>(
        histograms: impl Iterator<Item = &'a [u64; 256]>,
        rows: impl Iterator<Item = u8>,
        other: u8,
        extra: impl Fn(u8) -> u8,
    ) -> Self {
        let tables: Vec<_> = histograms.map(|histogram| Frequencies::fit(histogram).0).collect();
        let mut steps = Vec::with_capacity(tables.len());
        let mut states = vec![0; STATES * tables.len()];
        for table in &tables {
            let first = steps.len() * STATES;
            let (mut free, mut start) = ([first; 256], first);
            let mut own = [Step::default(); 256];
            for ((symbol, step), &f) in (0..=u8::MAX).zip(&mut own).zip(&table.of).filter(|(_, f)| **f > 0) {
                let most = STATE_BITS - (f - 1).checked_ilog2().unwrap_or(0);
                let offset = (start as u32).wrapping_sub(f);
                let limit = ((most << (STATE_BITS + 1)) - (f << most)) as u16;
                *step = Step { offset, limit, extra: extra(symbol) };
                free[usize::from(symbol)] = start;
                start += f as usize;
            }
            let other = own[usize::from(other)];
            own.iter_mut().zip(&table.of).filter(|(_, f)| **f == 0).for_each(|(step, _)| *step = other);
            steps.push(own);
            for (state, owner) in (SCALE as u16..).zip(owners(table)) {
                let place = &mut free[usize::from(owner)];
                states[*place] = state;
                *place += 1;
            }
        }
        let rows: Vec<_> = rows.map(|context| steps[usize::from(context)]).collect();
        Self { tables, steps: rows, states }
    }

    /// Appends the tables.
    pub(crate) fn write(&self, out: &mut Writer) {
        self.tables.iter().for_each(|table| out.0.extend(table.stored()));
    }

    /// What the loop that pushes has at hand.
    pub(crate) fn steps(&self) -> Steps<'_> {
        Steps { steps: self.steps.as_flattened(), states: &self.states }
    }
}

/// See [`Encoder::steps`].
#[derive(Clone, Copy)]
pub(crate) struct Steps<'a> {
    steps: &'a [Step],
    states: &'a [u16],
}

impl Steps<'_> {
    /// Takes the symbol of `turn`, 256 times its row and itself, into a state (1024 more than in the file); gives how many of its
    /// low bits leave it before, and how many bits belong to the symbol.
    #[inline(always)]
    pub(crate) fn push(self, state: &mut u64, turn: u16) -> (u32, u32) {
        let step = self.steps[usize::from(turn)];
        let len = (*state as u32 + u32::from(step.limit)) >> (STATE_BITS + 1);
        *state = self.states[((*state >> len) as u32).wrapping_add(step.offset) as usize].into();
        (len, step.extra.into())
    }
}

/// The state that an encoder begins with, and a decoder ends with, 1024 more than in the file.
pub(crate) const REST: u64 = SCALE as u64;

/// A decoder's move from one state, and what its caller attaches to the symbol: a number, and how many bits follow.
#[derive(Clone, Copy, Default)]
pub(crate) struct Move {
    pub(crate) base: u32,
    next: u16,
    /// How many bits the next state takes.
    pub(crate) bits: u8,
    pub(crate) extra: u8,
}

/// The moves of one context.
pub(crate) type Moves = [Move; STATES];

/// What decodes: the moves of each context.
pub(crate) struct Decoder(pub(crate) Vec<Moves>);

impl Decoder {
    /// The tables of `contexts` contexts at the front of `input`; `attach` says what to attach to each symbol. Errors: Corrupt,
    /// Truncated.
    pub(crate) fn read(
        input: &mut Reader<'_>,
        contexts: usize,
        attach: impl Fn(u8) -> (u32, u8),
    ) -> Result<Self> {
        let mut all = vec![[Move::default(); STATES]; contexts];
        for moves in &mut all {
            let (table, len) = Frequencies::read(input.0)?;
            input.take(len, WHAT)?;
            let attached: [_; 256] = std::array::from_fn(|symbol| attach(symbol as u8));
            let mut x = table.of;
            for (to, owner) in moves.iter_mut().zip(owners(&table)) {
                let x = &mut x[usize::from(owner)];
                let (base, extra) = attached[usize::from(owner)];
                let bits = STATE_BITS - x.ilog2();
                *to = Move { base, next: ((*x << bits) - SCALE) as u16, bits: bits as u8, extra };
                *x += 1;
            }
        }
        Ok(Self(all))
    }
}

impl Move {
    /// The state after this move; its bits are the lowest ones of `window`.
    #[inline(always)]
    pub(crate) fn next(self, window: u64) -> usize {
        usize::from(self.next) + (window & ((1 << self.bits) - 1)) as usize
    }

    /// The move from a state of this context.
    #[inline(always)]
    pub(crate) fn of(moves: &Moves, state: usize) -> Self {
        moves[state % STATES]
    }
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

    #[test]
    fn turns_come_back_in_nearly_their_entropy() {
        let turns = turns(50_001);
        let mut counts = [[0; 256]; 3];
        counts.iter_mut().for_each(|counts| counts[..2].fill(1));
        turns.iter().for_each(|&turn| counts.as_flattened_mut()[usize::from(turn)] += 1);
        let encoder = Encoder::fit(counts.iter(), 0..3, 1, |symbol| symbol);
        let mut state = REST;
        // The first context has the symbols 0 and 1 alone.
        let (ones, twos) = (encoder.steps().push(&mut state, 1), encoder.steps().push(&mut { REST }, 2));
        assert_eq!(ones, twos);
        state = REST;
        let mut fields: Vec<(u64, u32)> = (turns.iter().rev())
            .map(|&turn| {
                let before = state;
                let (len, extra) = encoder.steps().push(&mut state, turn);
                assert_eq!(extra, u32::from(turn % 256));
                (before & ((1 << len) - 1), len)
            })
            .collect();
        let bits: u32 = fields.iter().map(|field| field.1).sum();
        let entropy: f64 = (turns.iter())
            .map(|&turn| {
                let counts = &counts[usize::from(turn >> 8)];
                let total: u64 = counts.iter().sum();
                (total as f64 / counts[usize::from(turn as u8)] as f64).log2()
            })
            .sum();
        assert!(f64::from(bits) < 1.003 * entropy, "{bits} bits, {entropy}");

        let mut models = Writer::default();
        encoder.write(&mut models);
        let decoder = Decoder::read(&mut Reader(&models.0), 3, |symbol| (u32::from(symbol), 0)).unwrap();
        let mut state = (state - REST) as usize;
        for &turn in &turns {
            let found = Move::of(&decoder.0[usize::from(turn >> 8)], state);
            assert_eq!(found.base, u32::from(turn % 256));
            let (bits, len) = fields.pop().unwrap();
            assert_eq!(len, u32::from(found.bits));
            state = found.next(bits);
        }
        assert_eq!(state, 0);
    }
}
