//! What is known about a pair, and about a run. Both serialise to JSON with these field names.

use std::collections::BTreeSet;

use delta_dct::{METHODS, Recipe};
use serde::{Deserialize, Serialize};

use crate::evaluate::Quality;

/// A pair, and what its two models are worth.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PairRow {
    /// Its name.
    pub pair: String,
    /// The base model.
    pub base: String,
    /// The fine-tuned model.
    pub finetuned: String,
    /// The data.
    pub data: Vec<String>,
    /// The options of `eval` by which the data is read.
    pub options: Vec<String>,
    /// The sweep file that names it.
    pub sweep: String,
    /// Digest of models, data and options.
    pub inputs: String,
    /// Version of the program.
    pub version: String,
    /// Odd things that a person should know.
    pub notes: Vec<String>,
    /// What the base is worth.
    pub base_quality: Quality,
    /// What the fine-tuned model is worth.
    pub finetuned_quality: Quality,
}

/// One recipe on one pair.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Name of the pair.
    pub pair: String,
    /// Name of the method.
    pub method: String,
    /// The recipe with all of its options.
    pub recipe: String,
    /// Whether the predecessor was followed to the letter.
    pub predecessor: bool,
    /// Bytes of the `.ddct` file on disk.
    pub bytes: u64,
    /// Bytes of the fine-tuned model's weight files on disk.
    pub finetuned_bytes: u64,
    /// `finetuned_bytes / bytes`
    pub ratio: f64,
    /// Bits per weight: `8 bytes / weights`
    pub bpw: f64,
    /// Mean of the tensors' relative errors, weighted by their elements; none where all are exact.
    pub relative_error: Option<f64>,
    /// What the reconstructed model is worth.
    #[serde(flatten)]
    pub quality: Quality,
    /// Time to compress, file included.
    pub compress_seconds: f64,
    /// Time to open the file and reconstruct all weights in memory.
    pub apply_seconds: f64,
    /// Bytes as the predecessor counted them.
    pub predecessor_bytes: Option<u64>,
    /// The ratio as the predecessor counted it.
    pub predecessor_ratio: Option<f64>,
    /// The `.ddct` file, if it was kept.
    pub file: Option<String>,
    /// Digest of models, data and options.
    pub inputs: String,
    /// Version of the program.
    pub version: String,
    /// The tensors that are not exact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorError>,
}

/// A run that could not be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailedRow {
    /// Name of the pair.
    pub pair: String,
    /// Name of the method.
    pub method: String,
    /// The recipe with all of its options.
    pub recipe: String,
    /// Whether the predecessor was to be followed to the letter.
    pub predecessor: bool,
    /// Why.
    pub error: String,
    /// Digest of models, data and options.
    pub inputs: String,
    /// Version of the program.
    pub version: String,
}

/// How far a tensor is from the fine-tuned one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TensorError {
    /// Its name.
    pub name: String,
    /// Number of dimensions.
    pub dimensions: usize,
    /// Bytes of its record.
    pub bytes: u64,
    /// `|result - finetuned|^2 / |finetuned - base|^2`
    pub relative_error: f64,
}

impl PairRow {
    /// What the fine-tuned model's accuracy or perplexity is called, and its value.
    pub fn measure(&self) -> (&'static str, Option<f64>) {
        match self.finetuned_quality.perplexity {
            Some(perplexity) => ("perplexity", Some(perplexity)),
            None => ("accuracy", self.finetuned_quality.accuracy),
        }
    }

    /// How much worse the model of `row` is: the drop of accuracy, or the relative rise of perplexity, as a share;
    /// below zero where it is better, and infinite where its outputs are broken.
    pub fn harm(&self, row: &Row) -> f64 {
        match self.finetuned_quality.perplexity {
            Some(reference) => row.quality.perplexity.map_or(f64::INFINITY, |found| found / reference - 1.0),
            None => row.quality.accuracy_difference.map_or(f64::INFINITY, |difference| -difference),
        }
    }
}

impl FailedRow {
    pub(super) fn key(&self) -> RowKey<'_> {
        (&self.pair, &self.recipe, self.predecessor)
    }
}

/// What no two runs of a sweep have in common: pair, recipe, and whether the predecessor is followed.
pub(super) type RowKey<'a> = (&'a str, &'a str, bool);

impl Row {
    pub(super) fn key(&self) -> RowKey<'_> {
        (&self.pair, &self.recipe, self.predecessor)
    }

    /// The options of its recipe that are not the method's defaults, as `block=16 bits=4:0.5,0:0.5`.
    pub fn options(&self) -> String {
        // What every run has that follows the predecessor.
        let implied = |word: &&str| self.predecessor && ["predecessor=true", "rescale=none"].contains(word);
        let short = short_recipe(&self.recipe);
        let mut words: Vec<&str> = short.split(' ').skip(1).filter(|word| !implied(word)).collect();
        if self.predecessor {
            words.push("as the predecessor");
        }
        words.join(" ")
    }
}

/// `recipe` without the options that have the method's defaults.
pub fn short_recipe(recipe: &str) -> String {
    let method = recipe.split(' ').next().unwrap_or_default();
    let known = METHODS.iter().any(|known| known.name == method);
    let default = known.then(|| method.parse::<Recipe>().ok()).flatten().map(|default| default.to_string());
    let default = default.unwrap_or_default();
    let usual: BTreeSet<&str> = default.split(' ').skip(1).collect();
    recipe.split(' ').filter(|word| !usual.contains(word)).collect::<Vec<_>>().join(" ")
}
