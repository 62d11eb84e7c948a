//! Method `sparse`: keep the share of the weights with the largest magnitude, drop the rest.
//!
//! The threshold is found without sorting: the bits of |d| are ordered as |d| is, so two passes of counting
//! (upper 16 bits, then the lower 15 of those at the boundary) give it exactly.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Keeps at most `share` of the weights of a tensor: those of largest magnitude. Weights that are 0 never count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Top {
    /// Share of all weights to keep, in (0, 1].
    pub(crate) share: f32,
}

/// The smallest magnitude that is kept, as the bits of a positive f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threshold(u32);

const LOW_BITS: u32 = 15;

impl Top {
    /// The threshold for the tensor whose chunks `chunk(i, buffer)` puts into the buffer, i in 0..`chunk_count`.
    ///
    /// `{|d| >= threshold}` is the largest such set of at most floor(share * weights): of equal magnitudes all are
    /// kept or none. Does not depend on the number of threads. Reads every chunk twice.
    pub(crate) fn fit(&self, chunk_count: usize, chunk: &(dyn Fn(usize, &mut Vec<f32>) + Sync)) -> Threshold {
        let upper = Histogram::of(chunk_count, chunk, |bits| Some(bits >> LOW_BITS));
        let wanted = (f64::from(self.share) * upper.seen as f64) as u64;
        let (boundary, kept) = upper.lowest_bucket_within(wanted);
        // All weights of a bucket at or above `boundary` fit; some of those in the one below it may.
        let Some(below) = boundary.checked_sub(1) else { return Threshold(1) };
        let lower =
            Histogram::of(chunk_count, chunk, |bits| (bits >> LOW_BITS == below).then_some(bits & LOW_MASK));
        let (low, _) = lower.lowest_bucket_within(wanted - kept);
        Threshold(((below << LOW_BITS) + low).max(1))
    }
}

impl Threshold {
    /// Positions within the chunk, ascending, of the weights that are kept; replaces the content of `positions`.
    ///
    /// The chunk has at most 2^32 weights.
    pub(crate) fn forward(&self, delta: &[f32], positions: &mut Vec<u32>) {
        pulp::Arch::new().dispatch(Selection { threshold: *self, delta, positions });
    }

    #[inline(always)]
    fn kept(&self, block: &[f32; 64]) -> u64 {
        // Larger magnitudes give smaller keys.
        let mut keys = [0; 64];
        for (key, d) in keys.iter_mut().zip(block) {
            *key = !d.to_bits() & MAGNITUDE;
        }
        set_bits(&keys, MAGNITUDE - self.0)
    }
}

/// [`Threshold::forward`], compiled for the vector instruction set.
struct Selection<'a> {
    threshold: Threshold,
    delta: &'a [f32],
    positions: &'a mut Vec<u32>,
}

// Not a closure: those are vectorised so only where the compiler chooses to inline them.
impl pulp::NullaryFnOnce for Selection<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (blocks, tail) = self.delta.as_chunks::<64>();
        // Zeros fill the last block: they are below every threshold.
        let mut last = [0.0; 64];
        last.iter_mut().zip(tail).for_each(|(l, d)| *l = *d);
        let mut positions = Positions { list: self.positions, used: 0 };
        for (block, first) in blocks.iter().chain([&last]).zip((0u32..).step_by(64)) {
            positions.push(first, self.threshold.kept(block));
        }
        positions.finish();
    }
}

/// The values at `positions`; replaces the content of `values`. A position outside of the chunk gives 0.
pub(crate) fn gather(delta: &[f32], positions: &[u32], values: &mut Vec<f32>) {
    values.clear();
    values.extend(positions.iter().map(|p| delta.get(*p as usize).copied().unwrap_or(0.0)));
}

/// Inverse of [`gather`]: `delta = 0`, then `delta[position] = value * gain` (gain 1 for `sparse`).
///
/// Errors: Corrupt when the counts differ or a position lies outside of the chunk.
pub(crate) fn scatter(positions: &[u32], values: &[f32], gain: f32, delta: &mut [f32]) -> Result<()> {
    if positions.len() != values.len() {
        let (p, v) = (positions.len(), values.len());
        return Err(Error::corrupt(format!("{v} values for {p} kept positions")));
    }
    delta.fill(0.0);
    let n = delta.len();
    for (position, value) in positions.iter().zip(values) {
        let place = delta.get_mut(*position as usize).ok_or_else(|| {
            Error::corrupt(format!("kept position {position} lies outside of a chunk of {n} weights"))
        })?;
        *place = value * gain;
    }
    Ok(())
}

/// 64 comparisons as one word: bit i is `keys[i] <= limit`.
#[inline(always)]
pub(super) fn set_bits(keys: &[u32; 64], limit: u32) -> u64 {
    let (mut low, mut high) = (0u32, 0u32);
    // Two words of 32: a vector shift by i needs no wider lanes than the keys have.
    for i in 0..32 {
        low |= u32::from(keys[i] <= limit) << i;
        high |= u32::from(keys[i + 32] <= limit) << i;
    }
    u64::from(low) | u64::from(high) << 32
}

/// A list of ascending positions that grows by those of whole words.
pub(super) struct Positions<'a> {
    /// Longer than `used` while it grows.
    pub(super) list: &'a mut Vec<u32>,
    pub(super) used: usize,
}

impl Positions<'_> {
    /// Appends `first + i` for every set bit i of `word`, ascending.
    #[inline(always)]
    pub(super) fn push(&mut self, first: u32, mut word: u64) {
        const ROOM: usize = 1 << 12;
        if self.list.len() < self.used + 64 {
            self.list.resize(self.used + ROOM, 0);
        }
        let count = word.count_ones() as usize;
        // Four at a time, of which the last ones may be none: a processor that has to guess how many follow often guesses wrong.
        for four in self.list[self.used..].as_chunks_mut::<4>().0 {
            for position in four {
                *position = first.wrapping_add(word.trailing_zeros());
                word &= word.wrapping_sub(1);
            }
            if word == 0 {
                break;
            }
        }
        self.used += count;
    }

    /// Cuts the list to what was appended.
    pub(super) fn finish(self) {
        self.list.truncate(self.used);
    }
}

const MAGNITUDE: u32 = 0x7fff_ffff;
const LOW_MASK: u32 = (1 << LOW_BITS) - 1;

/// How many of the weights seen fall into each bucket.
struct Histogram {
    counts: Vec<u64>,
    seen: u64,
}

impl Histogram {
    /// Counts the weights of all chunks, in parallel; `bucket` maps the bits of |d| (0 excepted) to 16 bits.
    fn of(
        chunk_count: usize,
        chunk: &(dyn Fn(usize, &mut Vec<f32>) + Sync),
        bucket: impl Fn(u32) -> Option<u32> + Sync,
    ) -> Self {
        let empty = || Self { counts: vec![0; 1 << 16], seen: 0 };
        let add = |(mut histogram, mut buffer): (Self, Vec<f32>), i| {
            buffer.clear();
            chunk(i, &mut buffer);
            histogram.add(&buffer, &bucket);
            (histogram, buffer)
        };
        // Enough chunks for each histogram that clearing and adding those costs little.
        let parts = (0..chunk_count).into_par_iter().with_min_len(16).fold(|| (empty(), Vec::new()), add);
        parts.map(|(histogram, _)| histogram).reduce(empty, Self::merge)
    }

    fn add(&mut self, delta: &[f32], bucket: impl Fn(u32) -> Option<u32>) {
        self.seen += delta.len() as u64;
        for d in delta {
            let bits = d.to_bits() & MAGNITUDE;
            if bits != 0
                && let Some(count) = bucket(bits).and_then(|b| self.counts.get_mut(b as usize))
            {
                *count += 1;
            }
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.seen += other.seen;
        self
    }

    /// The lowest bucket for which that one and all above hold at most `wanted`, and how many they hold.
    fn lowest_bucket_within(&self, wanted: u64) -> (u32, u64) {
        let (mut lowest, mut held) = (self.counts.len() as u32, 0);
        for count in self.counts.iter().rev() {
            if held + count > wanted {
                break;
            }
            held += count;
            lowest -= 1;
        }
        (lowest, held)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn weights(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 * 0.731).sin() * (i as f32 * 0.0137).cos()).powi(3) * 1e-3).collect()
    }

    fn kept(delta: &[f32], share: f32, chunk_len: usize) -> Vec<u32> {
        let chunks: Vec<&[f32]> = delta.chunks(chunk_len).collect();
        let threshold = Top { share }.fit(chunks.len(), &|i, out| out.extend(chunks[i]));
        let (mut all, mut positions) = (Vec::new(), vec![7]);
        for (i, chunk) in chunks.iter().enumerate() {
            threshold.forward(chunk, &mut positions);
            all.extend(positions.iter().map(|p| p + (i * chunk_len) as u32));
        }
        all
    }

    #[test]
    fn keeps_exactly_the_largest() {
        for n in [1usize, 63, 64, 65, 5000] {
            let delta = weights(n);
            for share in [0.001, 0.1, 0.5, 1.0] {
                let wanted = (f64::from(share) * n as f64) as usize;
                let mut order: Vec<u32> = (0..n as u32).filter(|i| delta[*i as usize] != 0.0).collect();
                order.sort_by(|a, b| delta[*b as usize].abs().total_cmp(&delta[*a as usize].abs()));
                order.truncate(wanted);
                order.sort_unstable();
                // The magnitudes of `weights` are distinct, so that the count is met.
                assert_eq!(kept(&delta, share, 1000), order, "{n} weights, share {share}");
            }
        }
    }

    #[test]
    fn ties_are_kept_together_or_not_at_all() {
        let delta = [0.0, 2.0, -1.0, 1.0, 1.0, 0.0, -0.0, 3.0, 0.0, 0.0];
        assert_eq!(kept(&delta, 0.1, 4), [7]);
        assert_eq!(kept(&delta, 0.4, 4), [1, 7]);
        assert_eq!(kept(&delta, 0.5, 4), [1, 2, 3, 4, 7]);
        assert_eq!(kept(&delta, 1.0, 4), [1, 2, 3, 4, 7]);
        assert_eq!(kept(&[0.0; 9], 1.0, 4), [0u32; 0]);
        assert_eq!(kept(&[f32::MAX, f32::from_bits(1)], 0.5, 4), [0]);
        assert_eq!(kept(&[], 0.5, 4), [0u32; 0]);
    }

    #[test]
    fn scatter_undoes_gather() {
        let delta = weights(777);
        let positions = kept(&delta, 0.2, 777);
        let (mut values, mut back) = (Vec::new(), vec![9.0; delta.len()]);
        gather(&delta, &positions, &mut values);
        scatter(&positions, &values, 1.0, &mut back).unwrap();
        for (i, value) in back.iter().enumerate() {
            let expected = if positions.contains(&(i as u32)) { delta[i] } else { 0.0 };
            assert_eq!(value.to_bits(), expected.to_bits());
        }
        assert!(scatter(&[777], &[1.0], 1.0, &mut back).is_err());
        assert!(scatter(&[1, 2], &[1.0], 1.0, &mut back).is_err());
    }
}
