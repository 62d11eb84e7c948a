//! Options that name a pair of models and the data that they are judged on.

use std::path::PathBuf;

use clap::Args;
use delta_dct::Error;
use delta_dct_eval::data::DataOptions;

use crate::failure::Outcome;
use crate::place;

/// Data, and how it is read.
#[derive(Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataArgs {
    /// Data to judge on: .tsv, .csv, .jsonl, .parquet, .safetensors, .txt, CIFAR-10's .bin, or a folder (of images in
    /// a folder per class, or of such files), or hf://datasets/ORG/NAME; may be given again
    #[arg(short, long, value_name = "PATH")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
    /// Split of a folder of data [default: validation, else test]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Examples that a thread runs at a time [default: 32]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
}

/// How data is read.
#[derive(Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct ReadArgs {
    /// Column or array with the labels [default: label or labels]
    #[arg(long, value_name = "NAME")]
    labels: Option<String>,
    /// Column with the text [default: sentence, text, or one of the pairs of GLUE]
    #[arg(long, value_name = "NAME")]
    text: Option<String>,
    /// Longest sequence in tokens; what is longer is cut [default: what the model takes, at most 512]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Use the first N examples only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Examples that a thread runs at a time, unless the user says otherwise.
const BATCH: usize = 32;

impl DataArgs {
    /// Examples that a thread runs at a time.
    pub(crate) fn batch(&self) -> usize {
        self.batch.unwrap_or(BATCH)
    }

    /// Whether there is any.
    pub(crate) fn is_given(&self) -> bool {
        !self.data.is_empty()
    }

    /// Where the data is on this machine. Errors: InvalidArgument if none is given.
    pub(crate) fn paths(&self, quiet: bool) -> Outcome<Vec<PathBuf>> {
        if !self.is_given() {
            return Err(Error::invalid("no data is given: --data says what to judge on").into());
        }
        self.data.iter().map(|path| place::data(path, self.split.as_deref(), false, quiet)).collect()
    }

    /// The library's value for these options.
    pub(crate) fn options(&self) -> DataOptions {
        DataOptions { split: self.split.clone(), ..self.read.options() }
    }
}

impl ReadArgs {
    /// The library's value for these options.
    pub(crate) fn options(&self) -> DataOptions {
        DataOptions {
            labels: self.labels.clone(),
            text: self.text.clone(),
            max_length: self.max_length,
            limit: self.limit,
            ..DataOptions::default()
        }
    }
}
