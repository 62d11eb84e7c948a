//! Trellis-coded quantisation (Marcellin and Fischer 1990; with an entropy coder, Fischer and Wang 1992): two coarse
//! quantisers take turns, and the parity of each level decides which of them is next, so that a sequence of levels
//! picks from a grid twice as fine as the one that it pays for. For Gaussian numbers at about a bit each, the same
//! error costs a tenth fewer bits than with one quantiser.
//!
//! ```text
//! state s = 0 at first (0 to 7);   q = s mod 2 says which quantiser
//! value = 2 level - q sign(level)                      (0, +-2, +-4 ... or 0, +-1, +-3 ...)
//! s = (s div 2) xor (5 where q = 1) xor (2 where the level is odd)
//! ```
//!
//! The code is the best of 8 states in Ungerboeck 1982 (h0 = 13, h1 = 04, octal).

use crate::error::{Error, Result};

/// States of the trellis.
const STATES: usize = 8;
/// The unit of values in steps: then the error is about that of plain rounding to multiples of a step.
pub(crate) const GRID: f32 = 0.6;
/// Levels are cut to this magnitude.
pub(crate) const MAX_LEVEL: u16 = 2047;

/// Where a sequence of levels is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct State(u8);

impl State {
    /// The quantiser that is next: 0 or 1.
    #[inline(always)]
    pub(crate) fn quantizer(self) -> usize {
        usize::from(self.0 & 1)
    }

    /// The value of `level`; moves on.
    #[inline(always)]
    pub(crate) fn value(&mut self, level: i32) -> i32 {
        let odd = i32::from(self.0 & 1);
        self.advance(level);
        2 * level - odd * level.signum()
    }

    /// Inverse of [`Self::value`].
    #[inline(always)]
    pub(crate) fn level(&mut self, value: i32) -> i32 {
        let level = (value + i32::from(self.0 & 1) * value.signum()) / 2;
        self.advance(level);
        level
    }

    #[inline(always)]
    fn advance(&mut self, level: i32) {
        self.0 = (self.0 >> 1) ^ (5 * (self.0 & 1)) ^ (2 * (level & 1) as u8);
    }
}

/// The state from which an even level leads to each state, and the one from which an odd one does.
const EVEN_FROM: [usize; STATES] = [0, 2, 4, 6, 3, 1, 7, 5];
const ODD_FROM: [usize; STATES] = [4, 6, 0, 2, 7, 5, 3, 1];

/// What was best for one number: the magnitude of an even and an odd level of either quantiser, and how much dearer the
/// odd level is on the way into each state. (That takes more memory than a bit, but far less time.)
#[derive(Clone, Copy, Default)]
struct Choice {
    magnitudes: [[u16; 2]; 2],
    odd_excess: [f32; STATES],
}

/// Appends the values, 0 where a number is 0, whose squared error, in squares of their unit, and `price` for each bit together are least, where
/// `bits[kind][q][m]` are those of magnitude `m` from quantiser `q` where a number is of that kind; the last counts for
/// larger ones too.
pub(crate) fn quantize<const N: usize, const KINDS: usize>(
    x: &[f32],
    step: f32,
    price: f32,
    bits: &[[[f32; N]; 2]; KINDS],
    kinds: impl Iterator<Item = usize>,
    values: &mut Vec<i32>,
) {
    pulp::Arch::new().dispatch(Search { x, inverse: 1.0 / (GRID * step), price, bits, kinds, values });
}

/// [`quantize`], by the Viterbi algorithm. A struct, so that its body is compiled for the vector unit.
struct Search<'a, I, const N: usize, const KINDS: usize> {
    x: &'a [f32],
    inverse: f32,
    price: f32,
    bits: &'a [[[f32; N]; 2]; KINDS],
    kinds: I,
    values: &'a mut Vec<i32>,
}

impl<I: Iterator<Item = usize>, const N: usize, const KINDS: usize> pulp::NullaryFnOnce
    for Search<'_, I, N, KINDS>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut prices = *self.bits;
        for bits in prices.iter_mut().flatten().flatten() {
            *bits *= self.price;
        }
        let mut choices = vec![Choice::default(); self.x.len()];
        let mut costs = [f32::INFINITY; STATES];
        costs[0] = 0.0;
        for ((x, choice), kind) in self.x.iter().zip(&mut choices).zip(self.kinds) {
            let (x, prices) = (x.abs() * self.inverse, &prices[kind]);
            if x == 0.0 {
                let before = costs;
                for state in 0..STATES {
                    costs[state] = before[EVEN_FROM[state]] + prices[state / (STATES / 2)][0];
                }
                choice.odd_excess = [f32::INFINITY; STATES];
                continue;
            }
            // Loops rather than closures, which are not compiled for the vector unit.
            let candidates = [candidates(x, 0, &prices[0]), candidates(x, 1, &prices[1])];
            let (mut even, mut odd) = ([0.0; STATES], [0.0; STATES]);
            for state in 0..STATES {
                let best = &candidates[state / (STATES / 2)];
                even[state] = costs[EVEN_FROM[state]] + best[0].0;
                odd[state] = costs[ODD_FROM[state]] + best[1].0;
            }
            for state in 0..STATES {
                choice.odd_excess[state] = odd[state] - even[state];
                costs[state] = if odd[state] < even[state] { odd[state] } else { even[state] };
            }
            // Only differences count, and the sums must not outgrow their precision. State 0 can always be reached.
            let least = costs[0];
            for cost in &mut costs {
                *cost -= least;
            }
            let [[(_, a), (_, b)], [(_, c), (_, d)]] = candidates;
            choice.magnitudes = [[a, b], [c, d]];
        }
        let mut state =
            (0..STATES).fold(0, |best, state| if costs[state] < costs[best] { state } else { best });
        let first = self.values.len();
        self.values.resize(first + self.x.len(), 0);
        for ((value, x), choice) in self.values[first..].iter_mut().zip(self.x).zip(&choices).rev() {
            let odd = choice.odd_excess[state] < 0.0;
            let q = state / (STATES / 2);
            let m = i32::from(choice.magnitudes[q][usize::from(odd)]);
            let magnitude = 2 * m - q as i32 * m.signum();
            *value = if *x < 0.0 { -magnitude } else { magnitude };
            state = if odd { ODD_FROM[state] } else { EVEN_FROM[state] };
        }
    }
}

/// The best even and the best odd magnitude of a level of quantiser `q` for `x`, which is not negative, with their costs.
#[inline(always)]
fn candidates<const N: usize>(x: f32, q: usize, prices: &[f32; N]) -> [(f32, u16); 2] {
    let shift = q as f32;
    // The two levels around x, whichever is even.
    let floor = ((x + shift) * 0.5).min(f32::from(MAX_LEVEL - 1)) as u16;
    let even = cost(floor + (floor & 1), x, shift, prices);
    let odd = cost(floor + 1 - (floor & 1), x, shift, prices);
    let zero = cost(0, x, shift, prices);
    [if zero.0 <= even.0 { zero } else { even }, odd]
}

/// The cost of magnitude `m` for `x`, and that magnitude.
#[inline(always)]
fn cost<const N: usize>(m: u16, x: f32, shift: f32, prices: &[f32; N]) -> (f32, u16) {
    let error = x - 2.0 * f32::from(m) + if m > 0 { shift } else { 0.0 };
    (error * error + prices[usize::from(m).min(N - 1)], m)
}

/// The levels of a sequence of values, by the quantiser that each is from.
pub(crate) fn split(values: &[i32]) -> [Vec<i32>; 2] {
    let (mut state, mut levels) = (State::default(), [Vec::new(), Vec::new()]);
    for &value in values {
        let q = state.quantizer();
        levels[q].push(state.level(value));
    }
    levels
}

/// Inverse of [`split`]. Errors: Corrupt where the lists do not go together, or a level is too large.
pub(crate) fn join(levels: [&[i32]; 2]) -> Result<Vec<i32>> {
    if levels.into_iter().flatten().any(|level| level.unsigned_abs() > MAX_LEVEL.into()) {
        return Err(Error::corrupt("a level is too large"));
    }
    let (mut state, mut at) = (State::default(), [0, 0]);
    let next = |_| {
        let q = state.quantizer();
        let level = levels[q].get(at[q])?;
        at[q] += 1;
        Some(state.value(*level))
    };
    let values: Option<Vec<i32>> = (0..levels[0].len() + levels[1].len()).map(next).collect();
    values.ok_or_else(|| Error::corrupt("levels of two quantisers that do not go together"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Every level of either quantiser comes back from its value, along a path through all states.
    #[test]
    fn levels_come_back_from_their_values() {
        let (mut forward, mut back) = (State::default(), State::default());
        let mut seen = [false; STATES];
        for i in 0..2000 {
            let level = (i * 7919 + 13) % 41 - 20;
            seen[usize::from(forward.0)] = true;
            assert_eq!(back.level(forward.value(level)), level);
            assert_eq!(back, forward);
        }
        forward = State::default();
        let values: Vec<i32> = (0..99).map(|i| forward.value(i % 5 - 2)).collect();
        let [even, odd] = split(&values);
        assert!(even.len() > 20 && odd.len() > 20 && even.len() + odd.len() == 99);
        assert_eq!(join([&even, &odd]).unwrap(), values);
        assert!(join([&even, &odd[1..]]).is_err());
        assert_eq!(seen, [true; STATES]);
    }

    /// Against all sequences of small levels, one by one.
    #[test]
    fn the_cheapest_of_all_sequences_is_found() {
        let bits: [[[f32; 9]; 2]; 3] = std::array::from_fn(|i| {
            [0, 1].map(|q| std::array::from_fn(|m| 0.7 + 0.3 * i as f32 + m as f32 * (1.5 - 0.4 * q as f32)))
        });
        for case in 0..40 {
            let x: Vec<f32> = (0..5).map(|i| ((case * 5 + i) * 7919 % 101) as f32 / 25.0 - 2.0).collect();
            let cost = |values: &[i32]| {
                let mut state = State::default();
                (values.iter().zip(&x).enumerate()).fold(0.0, |sum, (i, (&value, x))| {
                    let q = state.quantizer();
                    let bits = bits[i % 3][q][state.level(value).unsigned_abs() as usize];
                    sum + (x / GRID - value as f32).powi(2) + 0.4 * bits
                })
            };
            let mut found = Vec::new();
            quantize(&x, 1.0, 0.4, &bits, (0..5).map(|i| i % 3), &mut found);
            let least = (0..9i32.pow(5)).map(|n| {
                let mut state = State::default();
                let values: Vec<i32> = (0..5).map(|i| state.value(n / 9i32.pow(i) % 9 - 4)).collect();
                cost(&values)
            });
            let least = least.fold(f32::INFINITY, f32::min);
            assert!((cost(&found) - least).abs() < 1e-3, "{} {least}", cost(&found));
        }
    }
}
