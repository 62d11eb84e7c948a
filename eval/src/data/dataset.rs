//! The examples of one or more files, as they hold them.

use std::path::Path;

use delta_dct::Error as DeltaError;

use super::images::Picture;
use super::labels::{Label, class_names};
use super::source::{self, Format, Source};
use super::{arrays, images, table};
use crate::error::Result;

/// What to read, and how much of it.
#[derive(Clone, Debug, Default)]
pub struct DataOptions {
    /// No more than this many of the first examples (of a language model: rows); all where absent. An image folder
    /// takes its classes in turn, so that the first examples are of all classes.
    pub limit: Option<usize>,
    /// The column or array that holds the labels; where absent `label` or `labels`.
    pub labels: Option<String>,
    /// The column that holds the texts, or two with a comma between them for pairs of sentences; where absent one of
    /// the usual names.
    pub text: Option<String>,
    /// Tokens of a text (those beyond are cut off), or of a row of a language model. Where absent, what model and
    /// tokenizer can take, 512 at most (a row: 1024).
    pub max_length: Option<usize>,
    /// The split of a folder; where absent the validation split, else the test split.
    pub split: Option<String>,
    /// Take the training split of a folder where no split is asked for.
    pub training: bool,
}

/// Examples as the files hold them: neither tokenised nor resized.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(super) examples: Examples,
    pub(super) labels: Vec<Option<Label>>,
    pub(super) options: DataOptions,
    source: String,
}

/// The inputs of a dataset.
#[derive(Clone, Debug)]
pub(super) enum Examples {
    /// Sentences, or pairs of them; a file of plain text is one.
    Texts(Vec<(String, Option<String>)>),
    /// Images.
    Pictures(Vec<Picture>),
    /// Rows of token ids.
    Rows(Vec<Vec<u32>>),
}

impl Examples {
    /// How many.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Pictures(pictures) => pictures.len(),
            Self::Rows(rows) => rows.len(),
        }
    }

    /// What they are, in a word.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Texts(_) => "texts",
            Self::Pictures(_) => "images",
            Self::Rows(_) => "rows of tokens",
        }
    }

    /// Adds `more`, of the same kind; otherwise gives it back.
    fn append(&mut self, more: Self) -> std::result::Result<(), Self> {
        match (self, more) {
            (Self::Texts(all), Self::Texts(more)) => all.extend(more),
            (Self::Pictures(all), Self::Pictures(more)) => all.extend(more),
            (Self::Rows(all), Self::Rows(more)) => all.extend(more),
            (_, more) => return Err(more),
        }
        Ok(())
    }
}

impl Dataset {
    /// The examples of a file, or of a folder.
    ///
    /// Files: TSV, CSV, JSON lines, Parquet (feature `parquet`), plain text, safetensors arrays, CIFAR-10 binaries. A
    /// folder holds such files (of one split, which is chosen), or a folder of images for each class. Errors:
    /// `InvalidArgument` if it is not clear what to read, `Corrupt` if a file is not what its name says.
    pub fn open(path: &Path, options: &DataOptions) -> Result<Self> {
        let found = source::find(path, options.split.as_deref(), options.training)?;
        let mut parts = found.iter().map(|source| Self::read(source, options));
        let nothing = || DeltaError::invalid(format!("{}: nothing to read here", path.display()));
        let first = parts.next().ok_or_else(nothing)??;
        parts.try_fold(first, |all, part| all.join(part?))
    }

    /// All examples of `parts`, one after the other, which have to be of one kind; the options are those of the first.
    pub fn concat(parts: Vec<Self>) -> Result<Self> {
        let mut parts = parts.into_iter();
        let first = parts.next().ok_or_else(|| DeltaError::invalid("no data is given"))?;
        parts.try_fold(first, Self::join)
    }

    /// How many examples will be used, the limit considered; a text counts as one, also where it makes many rows.
    pub fn len(&self) -> usize {
        self.options.limit.map_or(self.examples.len(), |limit| limit.min(self.examples.len()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the classes that the labels mean: names as they are, in their order, or `LABEL_0` up to the highest
    /// number. Errors: `InvalidArgument` if there are no labels, or numbers beside names.
    pub fn classes(&self) -> Result<Vec<String>> {
        let labels = self.labels.get(..self.len()).unwrap_or(&self.labels);
        Ok(class_names(labels).map_err(|e| DeltaError::invalid(format!("{}: {e}", self.source)))?)
    }

    /// The files that were read, for reports.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn join(mut self, more: Self) -> Result<Self> {
        let (source, noun) = (more.source, self.examples.noun());
        let wrong = |other: Examples| {
            DeltaError::invalid(format!(
                "{source} holds {}, and what was read before holds {noun}: give data of one kind",
                other.noun()
            ))
        };
        self.examples.append(more.examples).map_err(wrong)?;
        self.labels.extend(more.labels);
        self.source = format!("{}, {source}", self.source);
        Ok(self)
    }

    fn read(source: &Source, options: &DataOptions) -> Result<Self> {
        let path = &source.path;
        let (examples, labels) = match source.format {
            Format::Tsv => table::tsv(path)?.examples(options)?,
            Format::Csv => table::csv(path)?.examples(options)?,
            Format::Json => table::json(path)?.examples(options)?,
            Format::Parquet => parquet_table(path)?.examples(options)?,
            Format::Text => (Examples::Texts(vec![(source::read_text(path)?, None)]), vec![None]),
            Format::Safetensors => arrays::read(path, options)?,
            Format::Cifar => images::cifar(path)?,
            Format::ImageFolder => images::folder(path)?,
        };
        let source = path.display().to_string();
        Ok(Self { examples, labels, options: options.clone(), source })
    }
}

#[cfg(feature = "parquet")]
fn parquet_table(path: &Path) -> Result<table::Table> {
    super::parquet::read(path)
}

#[cfg(not(feature = "parquet"))]
fn parquet_table(path: &Path) -> Result<table::Table> {
    let message = format!("{}: this build lacks the feature `parquet`", path.display());
    Err(DeltaError::unsupported(message).into())
}
