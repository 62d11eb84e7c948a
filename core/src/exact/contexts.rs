//! Contexts of the entropy coder: runs of exponents of the prediction, and how an encoder finds them.

use super::WHAT;
use crate::entropy::cost;
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// Most contexts of a tensor.
pub(super) const MAX: usize = 32;

/// The exponents in a row that may have contexts of their own: the first and the last, which take what is beyond.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    first: u32,
    last: u32,
}

impl Rows {
    /// The [`MAX`] exponents that hold the most of `histogram`.
    pub(super) fn widest(histogram: &[u32]) -> Self {
        let count = histogram.len().min(MAX);
        let held = |first: usize| histogram[first..first + count].iter().map(|&n| u64::from(n)).sum::<u64>();
        // Backwards, because the last of equal maxima is taken.
        let first = (0..=histogram.len() - count).rev().max_by_key(|&first| held(first)).unwrap_or(0);
        Self { first: first as u32, last: (first + count - 1) as u32 }
    }

    /// How many there are.
    pub(super) fn count(self) -> usize {
        (self.last - self.first + 1) as usize
    }

    /// The row of an exponent.
    #[inline(always)]
    pub(super) fn of(self, exponent: u32) -> u32 {
        exponent.clamp(self.first, self.last) - self.first
    }
}

/// Which exponents of the prediction share a context: the first exponent of each, rising from 0 on.
pub(super) struct Contexts {
    pub(super) firsts: Vec<usize>,
    pub(super) exponents: usize,
}

impl Contexts {
    /// One for each row, of `exponents` exponents.
    pub(super) fn each(rows: Rows, exponents: usize) -> Self {
        let firsts = std::iter::once(0).chain(rows.first as usize + 1..=rows.last as usize).collect();
        Self { firsts, exponents }
    }

    /// The context of each row.
    pub(super) fn of_rows(&self, rows: Rows) -> impl Iterator<Item = u8> {
        self.spread().into_iter().skip(rows.first as usize).take(rows.count())
    }

    /// The context of each exponent.
    pub(super) fn spread(&self) -> Vec<u8> {
        let mut of = vec![0; self.exponents];
        self.firsts.iter().skip(1).for_each(|&first| of[first] = 1);
        let mut context = 0;
        for of in &mut of {
            context += *of;
            *of = context;
        }
        of
    }

    /// Merges neighbours, of which `counts` tells the symbols, while that saves bits.
    pub(super) fn merge(&mut self, counts: &mut Vec<[u64; 256]>) {
        let joined = |a: &[u64; 256], b: &[u64; 256]| -> [u64; 256] { std::array::from_fn(|s| a[s] + b[s]) };
        let mut costs: Vec<u64> = counts.iter().map(cost).collect();
        // What is saved where context i + 1 is joined to context i.
        let saving = |counts: &[[u64; 256]], costs: &[u64], i: usize| {
            (costs[i] + costs[i + 1]) as i64 - cost(&joined(&counts[i], &counts[i + 1])) as i64
        };
        let mut savings: Vec<i64> = (1..counts.len()).map(|i| saving(counts, &costs, i - 1)).collect();
        while let Some(best) = (0..savings.len()).max_by_key(|&i| (savings[i], std::cmp::Reverse(i)))
            && savings[best] >= 0
        {
            let merged = counts.remove(best + 1);
            self.firsts.remove(best + 1);
            costs.remove(best + 1);
            savings.remove(best);
            counts[best] = joined(&counts[best], &merged);
            costs[best] = cost(&counts[best]);
            for i in best.saturating_sub(1)..(best + 1).min(savings.len()) {
                savings[i] = saving(counts, &costs, i);
            }
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(self.firsts.len() as u8);
        self.firsts.windows(2).for_each(|pair| out.varint((pair[1] - pair[0]) as u64));
    }

    /// Contexts of `exponents` exponents. Errors: Corrupt, Truncated.
    pub(super) fn read(input: &mut Reader<'_>, exponents: usize) -> Result<Self> {
        let count = usize::from(input.u8(WHAT)?);
        if !(1..=MAX).contains(&count) {
            return Err(Error::corrupt(format!("{WHAT}: {count} contexts")));
        }
        let (mut firsts, mut first) = (vec![0], 0);
        for _ in 1..count {
            let step = input.varint_to((exponents - 1 - first) as u64, "exponents of a context")?;
            if step == 0 {
                return Err(Error::corrupt(format!("{WHAT}: a context without exponents")));
            }
            first += step;
            firsts.push(first);
        }
        Ok(Self { firsts, exponents })
    }
}
