//! What a model's folder says about its inputs: tokenizer, pixels, classes.

use std::path::Path;

use delta_dct::{Error as DeltaError, Result as DeltaResult};
use serde_json::Value;

use super::labels::Classes;
use super::pixels::Recipe;
use super::tokens::{Tokens, json_file};
use crate::error::Result;

/// Reads a file of a model by name: its bytes, or `None` if there is no such file.
pub(super) type ReadFile<'a> = &'a dyn Fn(&str) -> DeltaResult<Option<Vec<u8>>>;

/// How inputs are made for one model.
#[derive(Clone, Debug)]
pub struct Processor {
    config: Value,
    tokens: Option<Tokens>,
    preprocessor: Value,
    pub(super) classes: Classes,
}

impl Processor {
    /// That of a model's folder: `tokenizer.json` (or `vocab.txt`, or `vocab.json` and `merges.txt`),
    /// `tokenizer_config.json`, `preprocessor_config.json`, where they are there. `config` is its `config.json`.
    pub fn open(folder: &Path, config: &Value) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(DeltaError::io("read", &path, e)),
            }
        };
        Self::from_files(&read, config)
    }

    /// The same from files that lie elsewhere: `read` gives the bytes of a file by name, `None` if there is none.
    pub fn from_files(read: &dyn Fn(&str) -> DeltaResult<Option<Vec<u8>>>, config: &Value) -> Result<Self> {
        let tokens = Tokens::open(read, config)?;
        let preprocessor = json_file(read, "preprocessor_config.json")?;
        Ok(Self { config: config.clone(), tokens, preprocessor, classes: Classes::of(config) })
    }

    /// The tokenizer. Errors: `InvalidArgument` if there is none.
    pub(super) fn tokens(&self) -> Result<&Tokens> {
        let missing = || {
            let message =
                "the model's folder has no tokenizer.json (nor vocab.txt, nor vocab.json with merges.txt)";
            DeltaError::invalid(message)
        };
        Ok(self.tokens.as_ref().ok_or_else(missing)?)
    }

    /// What is done with images. Errors: `InvalidArgument` if nothing says it.
    pub(super) fn recipe(&self) -> Result<Recipe> {
        if self.preprocessor.is_null() {
            let message =
                "the model's folder has no preprocessor_config.json, which says what to do with images";
            return Err(DeltaError::invalid(message).into());
        }
        Ok(Recipe::of(&self.preprocessor, &self.config)?)
    }

    /// The most tokens that model and tokenizer take, `most` at most.
    pub(super) fn max_length(&self, most: usize) -> usize {
        let positions = ["max_position_embeddings", "n_positions"];
        let positions = positions.iter().find_map(|key| self.config[*key].as_u64()).map(|n| n as usize);
        // RoBERTa counts positions from the padding token's id on.
        let roberta = self.config["model_type"].as_str().is_some_and(|kind| kind.contains("roberta"));
        let unused = if roberta { self.config["pad_token_id"].as_u64().unwrap_or(1) as usize + 1 } else { 0 };
        let positions = positions.map_or(most, |n| n.saturating_sub(unused));
        let tokenizer = self.tokens.as_ref().and_then(|tokens| tokens.max_length).unwrap_or(most);
        most.min(positions).min(tokenizer)
    }

    /// Whether the model takes segments.
    pub(super) fn takes_segments(&self) -> bool {
        self.config["type_vocab_size"].as_u64().is_some_and(|n| n > 1)
    }

    /// The number of tokens that the model knows, where its config says.
    pub(super) fn vocabulary(&self) -> Option<u64> {
        self.config["vocab_size"].as_u64()
    }
}
