//! What training begins with: the base's tensors, random ones in the place of what it lacks, and a config that knows
//! the classes of the data.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};
use delta_dct::{Checkpoint, Error};
use serde_json::{Map, Value, json};

use super::Job;
use crate::comparison::random_tensor;
use crate::data::Dataset;
use crate::error::Result;
use crate::models::{Model, Task};
use crate::random::Random;
use crate::weights::{Shapes, Weights};

/// Types of models that can be trained, and the architecture that they become.
const TRAINED: [(&str, &str, Task); 5] = [
    ("bert", "BertForSequenceClassification", Task::TextClassification),
    ("distilbert", "DistilBertForSequenceClassification", Task::TextClassification),
    ("roberta", "RobertaForSequenceClassification", Task::TextClassification),
    ("swin", "SwinForImageClassification", Task::ImageClassification),
    ("vit", "ViTForImageClassification", Task::ImageClassification),
];

/// How the names of the head's tensors begin; all others are under the type of the model.
const HEAD: [&str; 2] = ["classifier.", "pre_classifier."];
/// Names that a note lists before it only counts them.
const LISTED: usize = 6;

/// A config, and tensors for it.
pub(super) struct Start {
    config: Value,
    task: Task,
    classes: Vec<String>,
    weights: BTreeMap<String, Tensor>,
    notes: Vec<String>,
}

impl Start {
    /// For `job`, whose base has `config`, and whose training data is `data`.
    pub(super) fn new(job: &Job, config: &Value, data: &Dataset) -> Result<Self> {
        let kind = config["model_type"].as_str().unwrap_or_default();
        let (_, architecture, task) = *TRAINED.iter().find(|row| row.0 == kind).ok_or_else(|| {
            let known: Vec<&str> = TRAINED.iter().map(|row| row.0).collect();
            Error::unsupported(format!(
                "config.json: a model of type {kind:?} cannot be trained; known: {}",
                known.join(", ")
            ))
        })?;
        let classes = classes(job.classes.as_deref(), config, &data.classes()?)?;
        let config = with_classes(config, architecture, &classes)?;
        let base = match job.scratch {
            true => Weights::default(),
            false => prefixed(&Weights::of(&Checkpoint::open(&job.base)?)?, kind),
        };
        let mut start = Self { config, task, classes, weights: BTreeMap::new(), notes: Vec::new() };
        let (fresh, unused) = start.take(&base, job.recipe.seed)?;
        start.note("random, because the base has no such tensors", &fresh, job.scratch);
        start.note("left out, because the model does not use them", &unused, false);
        Ok(start)
    }

    /// The config of the model that is trained.
    pub(super) fn config(&self) -> &Value {
        &self.config
    }

    /// What the model is for.
    pub(super) fn task(&self) -> Task {
        self.task
    }

    /// The names of the classes.
    pub(super) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The tensors to begin with.
    pub(super) fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    /// Odd things that a person should know.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Takes all tensors of the model from `base`, or makes them. Gives the names of those that are random, and of
    /// those of the base that are not used. A head of another shape counts as none.
    fn take(&mut self, base: &Weights, seed: u64) -> Result<(Vec<String>, Vec<String>)> {
        let deviation = self.config["initializer_range"].as_f64().unwrap_or(0.02);
        let (mut fresh, wanted) = (Vec::new(), shapes(&self.config, base)?);
        let unused = base.names().filter(|name| !wanted.contains_key(*name)).map(str::to_owned).collect();
        for (number, (name, shape)) in (0..).zip(wanted) {
            let tensor = match base.get(&name) {
                Some(tensor) if tensor.dims() == shape => tensor.clone(),
                Some(tensor) if !is_head(&name) => {
                    let message =
                        format!("has the shape {:?}, and config.json asks for {shape:?}", tensor.dims());
                    return Err(Error::mismatch(message).in_tensor(&name).into());
                }
                _ => {
                    fresh.push(name.clone());
                    new_tensor(&name, &shape, deviation, Random::at(seed, &[number]).bits())?
                }
            };
            self.weights.insert(name, tensor);
        }
        Ok((fresh, unused))
    }

    fn note(&mut self, what: &str, names: &[String], all: bool) {
        let listed = || names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(LISTED);
        match more {
            _ if names.is_empty() => {}
            _ if all => self.notes.push(format!("all {} tensors were random at first", names.len())),
            0 => self.notes.push(format!("{what}: {}", listed())),
            _ => self.notes.push(format!("{what}: {} and {more} more", listed())),
        }
    }
}

/// The names of the classes: those that are `given`; else those of the config, if the data has as many and names no
/// others; else those of the data.
fn classes(given: Option<&[String]>, config: &Value, found: &[String]) -> Result<Vec<String>> {
    if let Some(given) = given {
        let distinct: BTreeSet<String> = given.iter().map(|name| name.to_lowercase()).collect();
        if distinct.len() != given.len() || given.is_empty() {
            return Err(
                Error::invalid(format!("two classes have the same name: {}", given.join(", "))).into()
            );
        }
        return Ok(given.to_vec());
    }
    let named = |id: usize| config["id2label"][id.to_string()].as_str().map(str::to_owned);
    let own: Option<Vec<String>> = (0..found.len()).map(named).collect();
    let count = config["id2label"].as_object().map_or(0, Map::len);
    let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect::<BTreeSet<String>>();
    let numbered = found.iter().all(|name| name.starts_with("LABEL_"));
    Ok(match own.filter(|own| count == found.len() && (numbered || lower(own) == lower(found))) {
        Some(own) => own,
        None => found.to_vec(),
    })
}

/// `config` for `classes` and weights in `f32`.
fn with_classes(config: &Value, architecture: &str, classes: &[String]) -> Result<Value> {
    let mut config =
        config.as_object().cloned().ok_or_else(|| Error::corrupt("config.json: not an object"))?;
    for old in ["num_labels", "torch_dtype", "_num_labels"] {
        config.remove(old);
    }
    let by_id: Map<String, Value> =
        classes.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
    let by_name: Map<String, Value> =
        classes.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
    config.insert("architectures".to_owned(), json!([architecture]));
    config.insert("dtype".to_owned(), json!("float32"));
    config.insert("id2label".to_owned(), by_id.into());
    config.insert("label2id".to_owned(), by_name.into());
    Ok(config.into())
}

/// All tensors of a model of `config`; those of `base` decide what the config leaves open.
fn shapes(config: &Value, base: &Weights) -> Result<Shapes> {
    let mut shapes = Model::shapes(config, base)?;
    if config["qkv_bias"] == json!(false) {
        shapes.retain(|name, _| !["query.bias", "key.bias", "value.bias"].iter().any(|x| name.ends_with(x)));
    }
    Ok(shapes)
}

/// The tensors of a model without its head, which lack the name of its type, with that name.
fn prefixed(weights: &Weights, kind: &str) -> Weights {
    let prefix = format!("{kind}.");
    if weights.names().any(|name| name.starts_with(&prefix)) {
        return weights.clone();
    }
    let mut all = Weights::default();
    for name in weights.names() {
        let new = if is_head(name) { name.to_owned() } else { format!("{prefix}{name}") };
        if let Some(tensor) = weights.get(name) {
            all.insert(&new, tensor.clone());
        }
    }
    all
}

fn is_head(name: &str) -> bool {
    HEAD.iter().any(|prefix| name.starts_with(prefix))
}

/// A tensor as `transformers` begins with.
fn new_tensor(name: &str, shape: &[usize], deviation: f64, seed: u64) -> Result<Tensor> {
    match name.ends_with("relative_position_bias_table") {
        true => Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?),
        false => random_tensor(name, shape, deviation, seed),
    }
}
