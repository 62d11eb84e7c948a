//! Batches to gradients to steps, epoch by epoch.

use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use delta_dct::{Error, ErrorKind, Progress};

use super::adamw::{self, AdamW, Add};
use super::start::Start;
use super::{Epoch, Event, Recipe, Step};
use crate::data::{Prepared, Shift};
use crate::error::Result;
use crate::evaluate::{Evaluation, Quality};
use crate::models::{Model, training};
use crate::parallel::Workers;
use crate::random::Random;
use crate::weights::Weights;

/// Examples whose gradients one thread computes at a time. The sums of a step depend on it, and on nothing else.
const SHARD: usize = 16;

/// What random numbers are for: each purpose has a sequence of its own.
const ORDER: u64 = 1;
const SHIFTS: u64 = 2;
const DROPOUT: u64 = 3;

/// A model in training.
pub(super) struct Trainer {
    names: Vec<String>,
    parameters: Vec<Var>,
    model: Model,
    data: Prepared,
    labels: Vec<u32>,
    held_out: Option<Evaluation>,
    optimizer: AdamW,
    workers: Workers,
    recipe: Recipe,
}

/// What one thread gives for its part of a batch: the part's share of the loss, and of the gradients.
type Share = (f64, Vec<Tensor>);

impl Trainer {
    /// Errors: InvalidArgument (no examples, or one without a label), Mismatch (no model can be made).
    pub(super) fn new(
        start: &Start,
        data: Prepared,
        held_out: Option<Prepared>,
        recipe: &Recipe,
    ) -> Result<Self> {
        let labels = labels(&data)?;
        let (mut weights, mut detached) = (Weights::default(), Weights::default());
        let (mut names, mut parameters) = (Vec::new(), Vec::new());
        for (name, tensor) in start.weights() {
            let var = Var::from_tensor(tensor)?;
            weights.insert(name, var.as_tensor().clone());
            detached.insert(name, var.as_detached_tensor());
            names.push(name.clone());
            parameters.push(var);
        }
        // Shares the memory of the weights, but remembers nothing for gradients.
        let judged = |data| -> Result<Evaluation> {
            Ok(Evaluation::new(Model::load(start.config(), &detached)?, data, SHARD))
        };
        Ok(Self {
            model: Model::load(start.config(), &weights)?,
            optimizer: AdamW::new(parameters.iter().cloned(), recipe.weight_decay)?,
            held_out: held_out.map(judged).transpose()?,
            workers: Workers::new(recipe.batch.div_ceil(SHARD))?,
            recipe: recipe.clone(),
            names,
            parameters,
            data,
            labels,
        })
    }

    /// The number of examples of an epoch.
    pub(super) fn examples(&self) -> usize {
        self.data.len()
    }

    /// The tensors as they are now.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(self.parameters.iter().map(Var::as_tensor))
    }

    /// All epochs.
    pub(super) fn run(
        &mut self,
        progress: &dyn Progress,
        watch: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Vec<Epoch>> {
        progress.begin("train", (self.recipe.epochs * self.data.len()) as u64);
        (1..=self.recipe.epochs).map(|epoch| self.epoch(epoch, progress, watch)).collect()
    }

    fn epoch(
        &mut self,
        epoch: usize,
        progress: &dyn Progress,
        watch: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Epoch> {
        let (start, batch) = (Instant::now(), self.recipe.batch);
        let mut order: Vec<usize> = (0..self.data.len()).collect();
        self.random(ORDER, epoch, 0).shuffle(&mut order);
        let steps = order.len().div_ceil(batch);
        let mut loss = 0.0;
        for (number, indices) in order.chunks(batch).enumerate() {
            check(progress)?;
            let step = self.step(epoch, (epoch - 1) * steps + number, steps, indices)?;
            loss += step.loss * indices.len() as f64;
            progress.advance(indices.len() as u64);
            watch(&Event::Step(step))?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let done = Epoch {
            epoch,
            loss: loss / order.len() as f64,
            seconds,
            examples_per_second: order.len() as f64 / seconds.max(1e-9),
            held_out: self.judge(progress)?,
        };
        watch(&Event::Epoch(done.clone()))?;
        Ok(done)
    }

    /// Step `number` of all, from 0; an epoch has `steps`.
    fn step(&mut self, epoch: usize, number: usize, steps: usize, indices: &[usize]) -> Result<Step> {
        let shards: Vec<(usize, &[usize])> = indices.chunks(SHARD).enumerate().collect();
        let share = |&(part, shard): &(usize, &[usize])| {
            let noise = self.recipe.dropout.then(|| self.random(DROPOUT, number, part));
            training(noise, || self.share(epoch, shard, indices.len()))
        };
        let (loss, gradients) = sum(self.workers.map(&shards, share)?)?;
        let gradient_norm = adamw::norm(&gradients)?;
        if !(loss.is_finite() && gradient_norm.is_finite()) {
            let message =
                format!("step {}: the loss is {loss}: try a lower learning rate or more warm-up", number + 1);
            return Err(Error::invalid(message).into());
        }
        let factor = self.recipe.clip.map_or(1.0, |clip| (clip / (gradient_norm + 1e-6)).min(1.0));
        let share = adamw::schedule(number, self.recipe.epochs * steps, self.recipe.warmup);
        let learning_rate = self.recipe.learning_rate * share;
        self.optimizer.step(&gradients, factor, learning_rate)?;
        Ok(Step { step: number + 1, epoch, loss, gradient_norm, learning_rate, examples: indices.len() })
    }

    /// Loss and gradients of the examples at `indices`, divided by the number of `all` examples of the batch.
    fn share(&self, epoch: usize, indices: &[usize], all: usize) -> Result<Share> {
        let (batch, _) = self.data.shifted_batch(indices, |example| self.shift(epoch, example))?;
        let labels: Vec<u32> = indices.iter().filter_map(|&i| self.labels.get(i).copied()).collect();
        let labels = Tensor::from_vec(labels, indices.len(), &Device::Cpu)?;
        let mean = candle_nn::loss::cross_entropy(&self.model.logits(&batch)?, &labels)?;
        let loss = (mean * (indices.len() as f64 / all as f64))?;
        let gradients = loss.backward()?;
        let of = |parameter: &Var| match gradients.get(parameter) {
            Some(gradient) => gradient.contiguous(),
            None => parameter.zeros_like(),
        };
        let gradients = self.parameters.iter().map(of).collect::<candle_core::Result<_>>()?;
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    /// How an example is moved in an epoch.
    fn shift(&self, epoch: usize, example: usize) -> Shift {
        let (most, mut random) = (self.recipe.shift, self.random(SHIFTS, epoch, example));
        let mut shift = || random.below(2 * most + 1) as isize - most as isize;
        (shift(), shift())
    }

    fn random(&self, purpose: u64, first: usize, second: usize) -> Random {
        Random::at(self.recipe.seed, &[purpose, first as u64, second as u64])
    }

    fn judge(&self, progress: &dyn Progress) -> Result<Option<Quality>> {
        self.held_out.as_ref().map(|held_out| held_out.reference(&Quietly(progress))).transpose()
    }
}

/// Passes on that the user wants to stop, and shows nothing: the bar is that of the training.
struct Quietly<'a>(&'a dyn Progress);

impl Progress for Quietly<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// The sum of all shares, in their order.
fn sum(shares: Vec<Share>) -> Result<Share> {
    let mut shares = shares.into_iter();
    let (mut loss, gradients) = shares.next().unwrap_or_default();
    for (more, others) in shares {
        loss += more;
        for (gradient, other) in gradients.iter().zip(&others) {
            gradient.inplace_op2(other, &Add)?;
        }
    }
    Ok((loss, gradients))
}

/// The classes of all examples.
fn labels(data: &Prepared) -> Result<Vec<u32>> {
    let missing = || {
        let without = data.labels().iter().position(Option::is_none).unwrap_or(0) + 1;
        Error::invalid(format!("example {without} of the training data has no label: every one needs one"))
    };
    Ok(data.labels().iter().copied().collect::<Option<Vec<u32>>>().ok_or_else(missing)?)
}

fn check(progress: &dyn Progress) -> Result<()> {
    match progress.cancelled() {
        true => Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was written").into()),
        false => Ok(()),
    }
}
