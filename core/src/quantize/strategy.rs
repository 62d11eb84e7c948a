//! Mixed precision: which share of the blocks gets how many bits.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// Pairs of (bits, share of the blocks), most important blocks first; text form `4:0.34,2:0.33,0:0.33`.
///
/// Bits are 0..=8; shares are in 0..=1 and sum to 1 within 1e-5.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategy(Vec<(u8, f64)>);

impl Strategy {
    /// The most classes a strategy may have.
    const MAX_CLASSES: usize = 16;

    /// Checks the pairs.
    pub fn new(classes: Vec<(u8, f64)>) -> Result<Self> {
        let total: f64 = classes.iter().map(|(_, share)| share).sum();
        if classes.is_empty() || classes.len() > Self::MAX_CLASSES {
            return Err(Error::invalid(format!("a strategy has 1 to {} classes", Self::MAX_CLASSES)));
        }
        if classes.iter().any(|&(bits, share)| bits > 8 || !(0.0..=1.0).contains(&share)) {
            return Err(Error::invalid("bits are 0 to 8 and shares 0 to 1"));
        }
        if (total - 1.0).abs() > 1e-5 + 1e-8 {
            return Err(Error::invalid(format!("the shares sum to {total}, not to 1")));
        }
        Ok(Self(classes))
    }

    /// Every block gets `bits`.
    pub fn flat(bits: u8) -> Self {
        Self(vec![(bits.min(8), 1.0)])
    }

    pub(crate) fn classes(&self) -> &[(u8, f64)] {
        &self.0
    }

    /// A class index for each block: blocks by descending score (ties: lower index first), then for each class in
    /// turn `round(n * share)` blocks (half to even, at most what is left).
    ///
    /// What rounding leaves over joins the last class, or with `drop_rest` stays without a class (`None`), as the
    /// predecessor did.
    pub(crate) fn allocate(&self, scores: &[f64], drop_rest: bool) -> Vec<Option<u8>> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let score = |i: &usize| scores.get(*i).copied().unwrap_or(0.0);
        let rank = |a: &usize, b: &usize| score(b).total_cmp(&score(a)).then(a.cmp(b));
        let mut classes = vec![None; scores.len()];
        let mut left = order.as_mut_slice();
        for (class, &(_, share)) in self.0.iter().enumerate() {
            let wanted = (scores.len() as f64 * share).round_ties_even() as usize;
            let last = class + 1 == self.0.len() && !drop_rest;
            let wanted = if last { left.len() } else { wanted.min(left.len()) };
            if wanted < left.len() {
                left.select_nth_unstable_by(wanted, rank);
            }
            let (now, rest) = left.split_at_mut(wanted);
            for &mut block in now {
                classes[block] = Some(class as u8);
            }
            left = rest;
        }
        classes
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.varint(self.0.len() as u64);
        for &(bits, share) in &self.0 {
            out.u8(bits);
            out.f32(share as f32);
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self> {
        let n = input.varint_to(Self::MAX_CLASSES as u64, "strategy")?;
        let classes = (0..n)
            .map(|_| Ok((input.u8("strategy bits")?, f64::from(input.f32("strategy share")?))))
            .collect::<Result<_>>()?;
        Self::new(classes).map_err(|e| Error::corrupt(format!("strategy: {e}")))
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (bits, share)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{bits}:{}", *share as f32)?;
        }
        Ok(())
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let class = |part: &str| {
            let (bits, share) = part.split_once(':').unwrap_or((part, "1"));
            let bad = || Error::invalid(format!("{part:?} is not bits:share, as in 2:0.5"));
            Ok((bits.trim().parse().map_err(|_| bad())?, share.trim().parse().map_err(|_| bad())?))
        };
        Self::new(text.split(',').map(class).collect::<Result<_>>()?)
    }
}
