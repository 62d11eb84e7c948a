//! One model after the other on the same data, each compared with the fine-tuned one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use candle_core::Tensor;
use delta_dct::{Error, ErrorKind, Progress};
use serde::{Deserialize, Serialize};

use crate::data::Prepared;
use crate::error::Result;
use crate::metrics::{Tally, Targets, tally};
use crate::models::{Model, Task};
use crate::parallel::Workers;

/// Bytes of the fine-tuned model's logits that are kept, so that they are computed once.
const KEPT: usize = 1 << 30;

/// What a model is worth on a dataset. Shares are between 0 and 1; absent is what does not apply: accuracy without
/// labels, perplexity of a classifier, and what compares the fine-tuned model with itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Share of the examples whose most likely class is the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Ends of its 95% interval (Wilson).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_interval: Option<(f64, f64)>,
    /// How many examples that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correct: Option<u64>,
    /// Accuracy less that of the fine-tuned model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_difference: Option<f64>,
    /// Ends of its 95% interval, from the examples that just one of the two gets right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_difference_interval: Option<(f64, f64)>,
    /// `exp(loss)` of a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Mean negative log-likelihood of labels or next tokens, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Mean KL divergence of the outputs, `KL(fine-tuned || this)`, in nats per example (language models: per token).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Share of examples (tokens) whose most likely class is that of the fine-tuned model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Examples: sentences, images, or rows of tokens.
    pub examples: u64,
    /// Tokens that a language model predicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Time that the model took, wall-clock, on all threads.
    pub seconds: f64,
    /// `examples / seconds`
    pub examples_per_second: f64,
}

/// The fine-tuned model and data, for other models to be compared with.
pub struct Evaluation {
    reference: Model,
    data: Prepared,
    /// Examples by length, so that little is padded.
    batches: Vec<Vec<usize>>,
    /// The reference's logits of each batch.
    kept: Vec<OnceLock<Tensor>>,
    kept_bytes: AtomicU64,
}

impl Evaluation {
    /// `batch` examples are run at a time on every thread.
    pub fn new(reference: Model, data: Prepared, batch: usize) -> Self {
        let lengths = data.lengths();
        let mut order: Vec<usize> = (0..data.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(lengths.get(i).copied().unwrap_or(0)));
        let batches: Vec<Vec<usize>> = order.chunks(batch.max(1)).map(<[usize]>::to_vec).collect();
        let kept = batches.iter().map(|_| OnceLock::new()).collect();
        Self { reference, data, batches, kept, kept_bytes: AtomicU64::new(0) }
    }

    /// The number of examples.
    pub fn examples(&self) -> usize {
        self.data.len()
    }

    /// What the fine-tuned model itself is worth.
    pub fn reference(&self, progress: &dyn Progress) -> Result<Quality> {
        self.run(None, progress)
    }

    /// What `model` is worth.
    pub fn model(&self, model: &Model, progress: &dyn Progress) -> Result<Quality> {
        self.run(Some(model), progress)
    }

    fn run(&self, model: Option<&Model>, progress: &dyn Progress) -> Result<Quality> {
        let start = Instant::now();
        progress.begin("evaluate", self.data.len() as u64);
        let numbers: Vec<usize> = (0..self.batches.len()).collect();
        let results = Workers::new(numbers.len())?.map(&numbers, |&i| {
            if progress.cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was written").into());
            }
            let sums = self.batch(i, model)?;
            progress.advance(sums.examples);
            Ok(sums)
        })?;
        let mut total = Sums::default();
        results.iter().for_each(|sums| total.add(sums));
        Ok(self.quality(&total, model.is_some(), start.elapsed().as_secs_f64()))
    }

    fn quality(&self, sums: &Sums, compared: bool, elapsed: f64) -> Quality {
        // The reference's logits may have been computed on the way: that is not this model's time.
        let share = sums.own_seconds / (sums.own_seconds + sums.other_seconds).max(1e-9);
        let (tally, seconds) = (&sums.tally, elapsed * share);
        let language = self.reference.task() == Task::LanguageModel;
        let labelled = !language && tally.labelled > 0;
        Quality {
            accuracy: tally.accuracy().filter(|_| labelled),
            accuracy_interval: tally.accuracy_interval().filter(|_| labelled),
            correct: labelled.then_some(tally.correct),
            accuracy_difference: tally.difference().filter(|_| labelled && compared),
            accuracy_difference_interval: tally.difference_interval().filter(|_| labelled && compared),
            perplexity: tally.perplexity().filter(|_| language),
            loss: tally.loss(),
            kl: tally.kl().filter(|_| compared),
            agreement: tally.agreement().filter(|_| compared),
            examples: sums.examples,
            tokens: language.then_some(tally.rows),
            seconds,
            examples_per_second: sums.examples as f64 / seconds.max(1e-9),
        }
    }

    /// Batch `i`: `model`, or else the reference itself, against the reference.
    fn batch(&self, i: usize, model: Option<&Model>) -> Result<Sums> {
        let indices = self.batches.get(i).map_or(&[][..], Vec::as_slice);
        let (batch, labels) = self.data.batch(indices)?;
        let start = Instant::now();
        let reference = match self.kept.get(i).and_then(OnceLock::get) {
            Some(kept) if model.is_some() => kept.clone(),
            _ => self.reference.logits(&batch)?,
        };
        let other_seconds = start.elapsed().as_secs_f64();
        self.keep(i, &reference);
        let mut sums = Sums { examples: indices.len() as u64, ..Sums::default() };
        let logits = match model {
            None => {
                sums.own_seconds = other_seconds;
                reference.clone()
            }
            Some(model) => {
                sums.other_seconds = other_seconds;
                let start = Instant::now();
                let logits = model.logits(&batch)?;
                sums.own_seconds = start.elapsed().as_secs_f64();
                logits
            }
        };
        let targets = match self.reference.task() {
            Task::LanguageModel => Targets::next_tokens(&batch)?,
            _ => Targets::classes(&labels),
        };
        sums.tally = tally(&logits, &targets, Some(&reference))?;
        Ok(sums)
    }

    fn keep(&self, i: usize, logits: &Tensor) {
        let bytes = (logits.elem_count() * 4) as u64;
        let Some(place) = self.kept.get(i).filter(|place| place.get().is_none()) else { return };
        if self.kept_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= KEPT as u64 {
            // Another thread cannot have this batch.
            let _ = place.set(logits.clone());
        }
    }
}

#[derive(Default)]
struct Sums {
    tally: Tally,
    examples: u64,
    /// Summed over threads.
    own_seconds: f64,
    other_seconds: f64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.examples += other.examples;
        self.own_seconds += other.own_seconds;
        self.other_seconds += other.other_seconds;
    }
}
