//! How a delta becomes factors.
//!
//! Coarse values shrink each component. Its gain gives it back its full projection on D,
//! `c = s / (<u, a> <v, b>)`: a model feels a direction that is missing far more than noise in all of them. Where too little of
//! a component is left (the squared cosine with its values is small) the noise would outweigh it, and it is dropped. What the
//! values of one that is kept add along the u and v of those that follow, these make up for, as far as it is to be trusted: by
//! the square of its squared cosine. The first that is no stronger than noise of that energy would be ends the list.
//!
//! Rows with next to no energy take no part: their a are 0, and they have no rest. A table of words has many, of words that no
//! example had.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Component, Factors, Found, KINDS, context, gain};
use crate::plan::energy;
use crate::quantize::trellis;
use crate::transform::subspace::{Search, Source, Triple};

/// The least squared cosine between a component and its levels, for a heavy delta; the second where the rest is coded as
/// well, which then takes over what is dropped.
const MIN_COS2: [f64; 2] = [0.15, 0.68];
/// A component counts from so many times the energy on that the strongest one of noise has, `(sqrt(rows) + sqrt(cols))^2`
/// of its variances (Marchenko and Pastur 1967).
const ABOVE_NOISE: f64 = 1.1;
/// Rows with less than this of the mean energy of a row take no part.
const WEAK: f64 = 1.0 / 1024.0;
/// What takes no part has no rest, unless it has more than so many of its steps (root mean square): with less, hardly a level
/// would differ from 0.
const SILENT: f32 = 1.0 / 6.0;
/// Less trust than this changes nothing worth the time.
const NEGLIGIBLE: f32 = 0.02;
/// What a bit may cost at most, in squares of the values' unit.
const PRICE: f32 = 0.15;
/// From this part of the weights on a delta is coded as faithfully as its bits allow: then noise is what harms. The
/// noise of a smaller one harms less than values that are drawn to 0, and its bits may cost less in proportion.
const HEAVY: f32 = 0.25;
/// So many components in turn are dropped before the weaker ones are given up.
const TRIES: usize = 3;

/// Leading singular triples of the deltas of a model: the part of the work that does not depend on the step, for those
/// who try several. By the name of the tensor, the number of the matrix in it, and how many were asked for.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<(String, usize, usize), Triples>>);

type Triples = Arc<Vec<Triple>>;

impl Memory {
    /// What `find` gives for that matrix of the tensor `name` with so many triples asked for, once.
    fn recall(&self, name: &str, matrix: usize, rank: usize, find: impl FnOnce() -> Vec<Triple>) -> Triples {
        /// Numbers that are kept, 512 MiB; what comes when there are more is found again each time.
        const ROOM: usize = 1 << 27;
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), matrix, rank);
        if let Some(triples) = known().get(&key) {
            return Arc::clone(triples);
        }
        let found = Arc::new(find());
        let numbers =
            |triples: &[Triple]| triples.iter().map(|(image, v)| image.len() + v.len()).sum::<usize>();
        let mut known = known();
        if known.values().map(|triples| numbers(triples)).sum::<usize>() + numbers(&found) <= ROOM {
            known.insert(key, Arc::clone(&found));
        }
        found
    }
}

/// What decides how a delta becomes factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    /// The unit of s u and s v, absolute.
    pub(crate) step: f32,
    /// No more components than this.
    pub(crate) rank: usize,
    /// The step of the rest, absolute, 0 where it is not coded.
    pub(crate) rest: f32,
    /// Root mean square of the delta.
    pub(crate) rms: f32,
    /// The same in root mean squares of the base.
    pub(crate) relative: f32,
}

impl Fit {
    /// The factors of the matrix that `source` gives in chunks, all finite; `memory` may know it by a name and a number. Does not
    /// depend on the number of threads.
    pub(crate) fn run(self, source: Source<'_>, memory: Option<(&Memory, &str, usize)>) -> Factors {
        /// Components looked at first, and how many times more where those do not suffice.
        const FIRST_RANK: usize = 32;
        const GROWTH: usize = 2;
        let cols = source.cols;
        let search = Search::new(source, WEAK);
        let rows = search.takes_part();
        if search.largest == 0.0 {
            return Factors::none(rows.len(), cols);
        }
        let most = self.rank.min(rows.len()).min(cols);
        let mut rank = FIRST_RANK.min(most);
        let mut triples = Triples::default();
        let mut before: Option<Found> = None;
        loop {
            let wanted = if rank == most { rank } else { rank / 2 + 1 };
            // One is too few where most of a delta is noise, as of one that was trained in bfloat16: what it finds of the
            // weaker directions are blends with noise, and two make the KL half as large at the same bytes.
            let iterations = |effective_rank: f64| if effective_rank > FIRST_RANK as f64 { 2 } else { 1 };
            let find = || search.leading_triples(&triples, rank, wanted, iterations);
            triples = match memory {
                Some((memory, name, matrix)) => memory.recall(name, matrix, rank, find),
                None => Arc::new(find()),
            };
            let are_all = rank == most || triples.len() < rank && triples.len() != wanted;
            // The last ones are not exact enough to tell whether weaker ones are worth keeping.
            let enough = if are_all { usize::MAX } else { rank / 2 };
            // Beside the components of an earlier rank, a single one tells whether to look for more at once.
            let is_worth_it = |found: &Found| self.component(&triples[enough], found).is_some();
            if are_all || !before.as_ref().is_some_and(is_worth_it) {
                // With a rest each row has all of its weights; where those that take no part need it, all rows are coded.
                let expected = match self.rest {
                    0.0 => triples.len().min(enough),
                    rest if search.weak > SILENT * rest => 0,
                    _ => cols,
                };
                let (found, weaker) = self.components(&triples, Found::new(&rows, cols, expected), enough);
                if !weaker || are_all {
                    return match found.trusts.is_empty() && self.rest == 0.0 {
                        true => Factors::none(rows.len(), cols),
                        false => found.ready(),
                    };
                }
                before = Some(found);
            }
            rank = most.min(GROWTH * rank);
        }
    }

    /// What is worth keeping of `triples` (images and right singular vectors), strongest first, in `found`, which has none so
    /// far, and whether weaker ones may be, for which those beyond `enough` count.
    fn components(self, triples: &[Triple], mut found: Found, enough: usize) -> (Found, bool) {
        let (rows, cols) = (found.takes_part.len(), found.cols);
        let mut dropped = 0;
        let edge = ABOVE_NOISE * ((rows as f64).sqrt() + (cols as f64).sqrt()).powi(2);
        // What is not in the components so far, for each weight.
        let mut variance = f64::from(self.rms).powi(2);
        for triple in triples {
            let energy = energy(&triple.0);
            if energy < edge * variance {
                dropped = TRIES;
                break;
            }
            variance -= energy / (rows * cols) as f64;
            let Some(component) = self.component(triple, &found) else {
                dropped += 1;
                if dropped == TRIES {
                    break;
                }
                continue;
            };
            dropped = 0;
            found.push(component);
            if found.trusts.len() > enough {
                break;
            }
        }
        (found, dropped < TRIES)
    }

    /// The component after those `found`, with the right singular vector `v` and its `image` D v = s u; none where too
    /// little is left of it.
    fn component(self, (image, v): &Triple, found: &Found) -> Option<Component> {
        let s = energy(image).sqrt();
        let weight = (self.relative / HEAVY).min(1.0);
        let quantize = |side: usize, x: &[f32]| {
            let of_kind = |kind| [0, 1].map(|q| found.encoder.prices(context(side, q, kind)));
            let prices: [_; KINDS] = std::array::from_fn(of_kind);
            let kinds = found.places[side].iter().map(|place| place.kind());
            let mut values = Vec::new();
            trellis::quantize(x, self.step, PRICE * weight, &prices, kinds, &mut values);
            values
        };
        let image = found.coded_rows(image);
        let mut wanted = [image.to_vec(), v.iter().map(|&x| x * s as f32).collect()];
        pulp::Arch::new().dispatch(Feedback { image: &image, v, s: s as f32, found, wanted: &mut wanted });
        let (a, b) = (quantize(0, &wanted[0]), quantize(1, &wanted[1]));
        let along = |x: &[f32], values: &[i32]| -> f64 {
            x.iter().zip(values).map(|(&x, &value)| f64::from(x) * f64::from(value)).sum()
        };
        let size = |values: &[i32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        let (ua, vb) = (along(&image, &a) / s, along(v, &b));
        let cos2 = (ua * ua / size(&a)) * (vb * vb / size(&b));
        // The nearest bfloat16.
        let gain = gain((((s / (ua * vb)) as f32).to_bits() as i32 + 0x8000) >> 16)?;
        let least = MIN_COS2[usize::from(self.rest > 0.0)] * f64::from(weight).sqrt();
        // Not a number where all values of a side are 0.
        (cos2 >= least).then_some(Component { gain, values: [a, b], trust: (cos2 * cos2) as f32 })
    }
}

/// Takes from what is `wanted` of a component, s u (the `image`) and s v, what those `found` before have along u and v, where
/// they should have nothing, as far as they are to be trusted. A struct, so that its body is compiled for the vector unit.
struct Feedback<'a> {
    image: &'a [f32],
    v: &'a [f32],
    s: f32,
    found: &'a Found,
    wanted: &'a mut [Vec<f32>; 2],
}

impl pulp::NullaryFnOnce for Feedback<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let [to_a, to_b] = self.wanted;
        let Found { cols, coefficients, basis, .. } = self.found;
        let sides = coefficients.chunks_exact(self.image.len()).zip(basis.chunks_exact(*cols));
        for ((a, b), &trust) in sides.zip(&self.found.trusts).filter(|(_, trust)| **trust > NEGLIGIBLE) {
            let (along_u, along_v) = (dot(self.image, a) / self.s, dot(self.v, b));
            subtract(trust * along_v, a, to_a);
            subtract(trust * along_u, b, to_b);
        }
    }
}

/// Scalar product, in sums that the compiler can make vectors of.
#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    const SUMS: usize = 16;
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<SUMS>(), y.as_chunks::<SUMS>());
    let mut sums = [0.0; SUMS];
    for (x, y) in x.iter().zip(y) {
        (0..SUMS).for_each(|i| sums[i] += x[i] * y[i]);
    }
    for half in [8, 4, 2, 1] {
        (0..half).for_each(|i| sums[i] += sums[half + i]);
    }
    x_rest.iter().zip(y_rest).fold(sums[0], |sum, (x, y)| sum + x * y)
}

#[inline(always)]
fn subtract(factor: f32, values: &[f32], from: &mut [f32]) {
    from.iter_mut().zip(values).for_each(|(x, value)| *x -= factor * value);
}
