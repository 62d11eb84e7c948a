//! Whether a model comes from a base, and how far it went: a look at some weights of each matrix.

use std::collections::BTreeMap;

use super::CompressOptions;
use crate::checkpoint::Checkpoint;
use crate::delta;
use crate::error::{Error, Result};
use crate::pair::{Pairing, Relation};
use crate::plan::energy;
use crate::tensor::{TensorView, coded_size, is_coded, is_matrix};

/// Above this relative distance a delta is larger than the model itself: the two are not related.
const MAX_DISTANCE: f64 = 1.0;

/// What some weights of each matrix tell.
#[derive(Default)]
pub(super) struct Samples {
    /// Root mean square of the delta of each, in that of its weights.
    pub(super) strengths: BTreeMap<String, f32>,
    /// Energies of all deltas, and of the base.
    pub(super) difference: f64,
    size: f64,
    /// Weights, and logarithms of their mean squares, matrix by matrix, summed over the weights.
    weights: f64,
    logarithms: f64,
}

impl Samples {
    /// Energy of the deltas for each unit of the base's.
    fn distance(&self) -> f64 {
        if self.difference > 0.0 { self.difference / self.size } else { 0.0 }
    }

    /// The energy `difference` for each unit of what the base has by the scale that is usual among its matrices, their geometric mean:
    /// where one table has weights of 1, as in T5, its energy says nothing of what noise does to the others.
    pub(super) fn usual_distance(&self, difference: f64) -> f64 {
        let size = self.weights * (self.logarithms / self.weights).exp();
        if difference > 0.0 && size > 0.0 { difference / size } else { 0.0 }
    }
}

/// Refuses a pair whose difference is as large as the base: coding it would cost more than the model itself.
pub(super) fn check_related(
    base: &Checkpoint,
    finetuned: &Checkpoint,
    pairing: &Pairing,
    options: &CompressOptions,
) -> Result<Samples> {
    let mut samples = Samples::default();
    for link in &pairing.links {
        let Relation::Same { base: name } = &link.relation else { continue };
        let Some((base_tensor, tuned)) = base.get(name).zip(finetuned.get(&link.name)) else { continue };
        if let Some(sample) = sample(base_tensor, tuned) {
            let weights = tuned.len() as f64;
            samples.strengths.insert(link.name.clone(), (sample.difference / sample.size).sqrt() as f32);
            samples.difference += sample.difference * weights;
            samples.size += sample.size * weights;
            if sample.size > 0.0 {
                samples.weights += weights;
                samples.logarithms += sample.size.ln() * weights;
            }
        }
        // The system maps much more than the few pages that are looked at.
        [base, finetuned].iter().for_each(|checkpoint| checkpoint.release());
    }
    let distance = samples.distance().sqrt();
    if options.force_unrelated || distance <= MAX_DISTANCE {
        let related = pairing.links.iter().any(|link| link.relation.reference().is_some());
        if related || options.force_unrelated {
            return Ok(samples);
        }
        return Err(Error::mismatch(format!(
            "no tensor of {} corresponds in name and shape to one of {}: is this the right base? \
             (--force-unrelated goes on)",
            finetuned.path().display(),
            base.path().display()
        )));
    }
    Err(Error::mismatch(format!(
        "{} does not come from {}: their weights differ by {distance:.2} times the norm of the base, where a fine-tune \
         differs by less than {MAX_DISTANCE} (--force-unrelated goes on)",
        finetuned.path().display(),
        base.path().display()
    )))
}

/// Some weights of a matrix: mean squares of (finetuned - base) and of the base.
struct Sample {
    difference: f64,
    size: f64,
}

/// A sample of a matrix; `None` for what tells nothing.
fn sample(base: TensorView<'_>, finetuned: TensorView<'_>) -> Option<Sample> {
    // Runs, because every page that is touched is read from the disk.
    const RUNS: usize = 16;
    const RUN: usize = 256;
    let numbers = is_coded(base.dtype) && is_coded(finetuned.dtype);
    if !numbers || !is_matrix(base.shape) || base.is_empty() {
        return None;
    }
    let step = (base.len() / RUNS).max(RUN);
    let pick = |view: TensorView<'_>| -> Vec<u8> {
        let runs = view.bytes.chunks(step * coded_size(view.dtype)).take(RUNS);
        runs.flat_map(|run| run.get(..RUN * coded_size(view.dtype)).unwrap_or(run)).copied().collect()
    };
    let (base_bytes, tuned_bytes) = (pick(base), pick(finetuned));
    let mut difference = vec![0.0; base_bytes.len() / coded_size(base.dtype)];
    let mut size = difference.clone();
    let zeros = vec![0; base_bytes.len()];
    delta::diff((base.dtype, &base_bytes), (finetuned.dtype, &tuned_bytes), &mut difference).ok()?;
    delta::diff((base.dtype, &zeros), (base.dtype, &base_bytes), &mut size).ok()?;
    let mean_square = |numbers: &[f32]| energy(numbers) / numbers.len() as f64;
    let sample = Sample { difference: mean_square(&difference), size: mean_square(&size) };
    Some(sample).filter(|sample| sample.difference.is_finite() && sample.size.is_finite())
}
