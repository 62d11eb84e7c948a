//! Full fine-tuning on the CPU: a base and labelled data to a model's folder.
//!
//! | file | what |
//! |---|---|
//! | `start.rs` | base and classes to a config and the tensors that training begins with |
//! | `trainer.rs` | batches to gradients to steps, epoch by epoch |
//! | `adamw.rs` | gradients to new weights; the learning rate of each step |
//! | `save.rs` | what was trained to a folder that `transformers` reads |

mod adamw;
mod save;
mod start;
mod trainer;

use std::path::PathBuf;

use delta_dct::{Error, OutputFolder, Progress};
use serde::Serialize;

use self::start::Start;
use self::trainer::Trainer;
use crate::comparison::{folder_of, read_config};
use crate::data::{DataOptions, Dataset, Processor};
use crate::error::Result;
use crate::evaluate::Quality;

/// What is trained, on what, and where the result goes.
#[derive(Clone, Debug)]
pub struct Job {
    /// The model to begin with: a folder with `config.json` and tokenizer or preprocessor, or a weight file in one.
    pub base: PathBuf,
    /// Begin with random weights: of the base only config, tokenizer and preprocessor are used.
    pub scratch: bool,
    /// Files or folders of labelled data, one after the other.
    pub data: Vec<PathBuf>,
    /// How they are read.
    pub options: DataOptions,
    /// Data that the model is judged on after each epoch; may be empty.
    pub held_out: Vec<PathBuf>,
    /// The split of it; where absent the validation split of a folder, else the test split.
    pub held_out_split: Option<String>,
    /// Names of the classes. Where absent, those of the base if the data has as many, else those of the data.
    pub classes: Option<Vec<String>>,
    /// The folder to write.
    pub output: PathBuf,
    /// Whether `output` may be there already.
    pub overwrite: bool,
    /// How it is trained.
    pub recipe: Recipe,
}

/// How a model is trained: AdamW, the learning rate rising linearly and then falling linearly to 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    /// Times that every example is seen; 0 writes what training would begin with.
    pub epochs: usize,
    /// Examples of a step.
    pub batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps in which the learning rate rises.
    pub warmup: usize,
    /// Share of a weight that a step takes away, times the learning rate; biases and norms are spared.
    pub weight_decay: f64,
    /// Longest gradient, in the Euclidean norm of all weights; a longer one is shortened. Absent: any.
    pub clip: Option<f64>,
    /// Whether there is dropout, as `config.json` says.
    pub dropout: bool,
    /// Images are moved by up to this many pixels in both directions, at random; what comes in is black.
    pub shift: usize,
    /// Of the order of examples, of shifts, dropout and fresh weights.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch: 32,
            learning_rate: 5e-5,
            warmup: 0,
            weight_decay: 0.01,
            clip: Some(1.0),
            dropout: true,
            shift: 0,
            seed: 0,
        }
    }
}

impl Recipe {
    /// Errors: InvalidArgument for what makes no sense.
    fn check(&self) -> Result<()> {
        let amount = |x: f64| x.is_finite() && x >= 0.0;
        let problem = match self {
            _ if self.batch == 0 => "a batch needs at least one example",
            _ if !amount(self.learning_rate) => "the learning rate has to be a number of at least 0",
            _ if !amount(self.weight_decay) => "the weight decay has to be a number of at least 0",
            _ if !self.clip.is_none_or(|clip| amount(clip) && clip > 0.0) => {
                "the longest gradient has to be a number above 0"
            }
            _ if self.shift > MAX_SHIFT => "images cannot be moved that far",
            _ => return Ok(()),
        };
        Err(Error::invalid(problem).into())
    }
}

/// Above any shift that leaves something of an image.
const MAX_SHIFT: usize = 1 << 12;

/// A step of training.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its number, from 1.
    pub step: usize,
    /// Its epoch, from 1.
    pub epoch: usize,
    /// Mean cross-entropy of its examples before the step, in nats.
    pub loss: f64,
    /// Norm of the gradient before it was shortened.
    pub gradient_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Its examples.
    pub examples: usize,
}

/// An epoch of training.
#[derive(Clone, Debug, Serialize)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: usize,
    /// Mean loss of all examples, each when it was seen, in nats.
    pub loss: f64,
    /// Time of its steps.
    pub seconds: f64,
    /// Examples per second of its steps.
    pub examples_per_second: f64,
    /// What the model is worth on the held-out data afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Quality>,
}

/// What happens, as it happens.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// A step is done.
    Step(Step),
    /// An epoch is done, and judged.
    Epoch(Epoch),
}

/// A finished run.
#[derive(Clone, Debug, Serialize)]
pub struct Finetuned {
    /// The folder.
    pub output: PathBuf,
    /// Weights that were trained.
    pub weights: u64,
    /// Examples of an epoch.
    pub examples: usize,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// How it was trained.
    pub recipe: Recipe,
    /// The epochs.
    pub epochs: Vec<Epoch>,
    /// Odd things that a person should know.
    pub notes: Vec<String>,
}

/// Trains a model and writes its folder, which appears when it is whole. `watch` is told every step and epoch, and
/// ends the run by an error.
///
/// The result depends on the job alone, not on the number of threads. Errors: Io (also if the output is there already),
/// Unsupported (an architecture that cannot be trained), Mismatch (labels or data that do not fit the model),
/// InvalidArgument (no labels, a recipe that makes no sense, a loss that is not finite), Interrupted.
pub fn finetune(
    job: &Job,
    progress: &dyn Progress,
    watch: &mut dyn FnMut(&Event) -> Result<()>,
) -> Result<Finetuned> {
    job.recipe.check()?;
    let folder = folder_of(&job.base);
    let output = OutputFolder::create(&job.output, job.overwrite, &[&job.base, folder])?;
    let data = open(&job.data, &DataOptions { training: true, ..job.options.clone() })?;
    let start = Start::new(job, &read_config(folder)?, &data)?;
    let processor = Processor::open(folder, start.config())?;
    let examples = data.prepare(&processor, start.task())?;
    let judging = DataOptions { limit: None, split: job.held_out_split.clone(), ..job.options.clone() };
    let held_out = match job.held_out.is_empty() {
        true => None,
        false => Some(open(&job.held_out, &judging)?.prepare(&processor, start.task())?),
    };
    let mut trainer = Trainer::new(&start, examples, held_out, &job.recipe)?;
    let epochs = trainer.run(progress, watch)?;
    save::write(&output, folder, start.config(), trainer.parameters())?;
    output.finish()?;
    Ok(Finetuned {
        output: job.output.clone(),
        weights: trainer.parameters().map(|(_, tensor)| tensor.elem_count() as u64).sum(),
        examples: trainer.examples(),
        classes: start.classes().to_vec(),
        recipe: job.recipe.clone(),
        epochs,
        notes: start.notes().to_vec(),
    })
}

fn open(paths: &[PathBuf], options: &DataOptions) -> Result<Dataset> {
    Dataset::concat(paths.iter().map(|path| Dataset::open(path, options)).collect::<Result<_>>()?)
}
