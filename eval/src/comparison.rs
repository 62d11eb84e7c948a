//! A base, its fine-tuned model and data: whatever a delta gives is compared with the fine-tuned model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use delta_dct::{Archive, Checkpoint, Error, Progress, Relation, TensorInfo, pair};
use serde::Serialize;
use serde_json::Value;

use crate::data::{DataOptions, Dataset, Processor};
use crate::error::Result;
use crate::evaluate::{Evaluation, Quality};
use crate::models::Model;
use crate::random::Random;
use crate::weights::Weights;

/// Models and data of a comparison, loaded.
pub struct Comparison {
    base: Checkpoint,
    finetuned: Checkpoint,
    config: Value,
    evaluation: Evaluation,
}

/// Where they are.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The base model.
    pub base: PathBuf,
    /// The fine-tuned model: a folder with config.json and tokenizer or preprocessor, or a file in one.
    pub finetuned: PathBuf,
    /// Files or folders of data, one after the other.
    pub data: Vec<PathBuf>,
    /// How they are read.
    pub options: DataOptions,
    /// Examples that a thread runs at a time.
    pub batch: usize,
}

/// One model of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// `base`, `finetuned` or `reconstructed`
    pub role: &'static str,
    /// The model, or the `.ddct` file.
    pub name: String,
    /// What it is worth.
    #[serde(flatten)]
    pub quality: Quality,
    /// Odd things that a person should know.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Reads models and data. Errors: Io, Unsupported (an unknown architecture), Mismatch, InvalidArgument (data that
    /// is not for this model).
    pub fn open(sources: &Sources) -> Result<Self> {
        let base = Checkpoint::open(&sources.base)?;
        let finetuned = Checkpoint::open(&sources.finetuned)?;
        let folder = folder_of(&sources.finetuned);
        let config = read_config(folder)?;
        let model = Model::load(&config, &Weights::of(&finetuned)?)?;
        let read = |path: &PathBuf| Dataset::open(path, &sources.options);
        let data = Dataset::concat(sources.data.iter().map(read).collect::<Result<_>>()?)?;
        let data = data.prepare(&Processor::open(folder, &config)?, model.task())?;
        Ok(Self { base, finetuned, config, evaluation: Evaluation::new(model, data, sources.batch) })
    }

    /// The base's checkpoint.
    pub fn base(&self) -> &Checkpoint {
        &self.base
    }

    /// The fine-tuned checkpoint.
    pub fn finetuned(&self) -> &Checkpoint {
        &self.finetuned
    }

    /// The fine-tuned model's `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The number of examples.
    pub fn examples(&self) -> usize {
        self.evaluation.examples()
    }

    /// The fine-tuned model itself.
    pub fn judge_finetuned(&self, progress: &dyn Progress) -> Result<Judged> {
        let quality = self.evaluation.reference(progress)?;
        Ok(judged("finetuned", self.finetuned.path(), quality, Vec::new()))
    }

    /// The base, as a model of the fine-tuned one's config; what it lacks is random.
    pub fn judge_base(&self, progress: &dyn Progress) -> Result<Judged> {
        let deviation = self.config.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02);
        let (weights, notes) = base_weights(&self.base, &self.finetuned, deviation)?;
        let quality = self.evaluation.model(&Model::load(&self.config, &weights)?, progress)?;
        Ok(judged("base", self.base.path(), quality, notes))
    }

    /// What `archive` (the file at `path`) makes of the base.
    pub fn judge(&self, archive: &Archive, path: &Path, progress: &dyn Progress) -> Result<Judged> {
        self.judge_weights(&self.reconstruct(archive)?, path, progress)
    }

    /// The weights that `archive` makes of the base.
    pub fn reconstruct(&self, archive: &Archive) -> Result<Weights> {
        Weights::reconstructed(&self.base, archive)
    }

    /// A model of these weights, which come from `path`.
    pub fn judge_weights(&self, weights: &Weights, path: &Path, progress: &dyn Progress) -> Result<Judged> {
        let quality = self.evaluation.model(&Model::load(&self.config, weights)?, progress)?;
        Ok(judged("reconstructed", path, quality, Vec::new()))
    }
}

fn judged(role: &'static str, name: &Path, quality: Quality, notes: Vec<String>) -> Judged {
    Judged { role, name: name.display().to_string(), quality, notes }
}

/// The folder of a model that is named by it, or by a file in it.
pub(crate) fn folder_of(model: &Path) -> &Path {
    if model.is_dir() { model } else { model.parent().unwrap_or(Path::new(".")) }
}

/// The `config.json` of a model's folder.
pub fn read_config(folder: &Path) -> Result<Value> {
    let path = folder.join("config.json");
    let text = std::fs::read(&path).map_err(|e| Error::io("open", &path, e))?;
    let wrong = |e| Error::corrupt(format!("{} is not JSON: {e}", path.display()));
    Ok(serde_json::from_slice(&text).map_err(wrong)?)
}

/// The base's tensors under the names of the fine-tuned ones. Those that the base has not, or has in another shape (a
/// head), are random as before training: normal with `deviation`, biases 0, weights of norms 1.
fn base_weights(base: &Checkpoint, finetuned: &Checkpoint, deviation: f64) -> Result<(Weights, Vec<String>)> {
    let (have, want) = (Weights::of(base)?, Weights::of(finetuned)?);
    let (mut weights, mut absent, mut other) = (Weights::default(), Vec::new(), Vec::new());
    for link in pair(&infos(base), &infos(finetuned)).links {
        let Some(wanted) = want.get(&link.name) else { continue };
        let same = match &link.relation {
            Relation::Same { base } => have.get(base),
            _ => None,
        };
        let tensor = match same {
            Some(tensor) => tensor.clone(),
            None => {
                let seed = absent.len() + other.len();
                let list = if link.relation == Relation::New { &mut absent } else { &mut other };
                list.push(link.name.clone());
                random_tensor(&link.name, wanted.dims(), deviation, seed as u64)?
            }
        };
        weights.insert(&link.name, tensor);
    }
    let notes = [("has no such tensors", absent), ("has them in another shape", other)];
    let notes = notes.into_iter().filter(|(_, names)| !names.is_empty());
    let notes = notes.map(|(why, names)| format!("random, because the base {why}: {}", names.join(", ")));
    Ok((weights, notes.collect()))
}

/// What `transformers` begins with, but from our own seed.
pub(crate) fn random_tensor(name: &str, shape: &[usize], deviation: f64, seed: u64) -> Result<Tensor> {
    let device = &Device::Cpu;
    let vector = shape.len() == 1;
    Ok(match vector {
        true if name.ends_with("bias") => Tensor::zeros(shape, candle_core::DType::F32, device)?,
        true => Tensor::ones(shape, candle_core::DType::F32, device)?,
        false => {
            let mut random = Random::new(seed);
            let values = (0..shape.iter().product()).map(|_| (deviation * random.normal()) as f32);
            Tensor::from_vec(values.collect::<Vec<_>>(), shape, device)?
        }
    })
}

fn infos(checkpoint: &Checkpoint) -> BTreeMap<String, TensorInfo> {
    let info = |name: &str| {
        let view = checkpoint.get(name)?;
        Some((name.to_owned(), TensorInfo { dtype: view.dtype, shape: view.shape.to_vec() }))
    };
    checkpoint.names().filter_map(info).collect()
}
