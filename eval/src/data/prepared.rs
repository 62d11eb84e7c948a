//! Examples that a model can take, in batches.

use candle_core::{Device, Tensor};
use delta_dct::Error as DeltaError;
use rayon::prelude::*;

use super::dataset::{Dataset, Examples};
use super::images::Picture;
use super::pixels::{Pixels, Recipe, Shift};
use super::processor::Processor;
use super::tokens::{Padding, Row};
use crate::error::Result;
use crate::models::{Batch, Task};

/// The most tokens of a text, and of a row of a language model, unless more are asked for.
const MAX_TEXT: usize = 512;
const MAX_ROW: usize = 1024;

/// Examples that are ready for one model. Images are read, decoded and resized when their batch is made.
#[derive(Clone, Debug)]
pub struct Prepared {
    inputs: Inputs,
    labels: Vec<Option<u32>>,
}

#[derive(Clone, Debug)]
enum Inputs {
    Tokens { rows: Vec<Row>, padding: Padding, segments: bool },
    Images { pictures: Vec<Picture>, recipe: Recipe },
}

impl Dataset {
    /// The examples for the model that `processor` belongs to.
    ///
    /// A language model gets rows of `max_length` tokens: texts are put after each other with an empty line between
    /// them, and what does not fill a row at the end is left out (unless there is nothing else). Errors: `Mismatch` if
    /// the data is of another kind or has other labels, `InvalidArgument` if the model's folder lacks what is needed.
    pub fn prepare(&self, processor: &Processor, task: Task) -> Result<Prepared> {
        let count = self.len();
        let labels = self.labels.get(..count).unwrap_or(&self.labels);
        let inputs = match (task, &self.examples) {
            (Task::TextClassification, Examples::Texts(texts)) => {
                let length = self.options.max_length.unwrap_or_else(|| processor.max_length(MAX_TEXT));
                let texts = texts.get(..count).unwrap_or(texts);
                Inputs::tokens(processor.tokens()?.encode(texts, length)?, processor)?
            }
            (Task::LanguageModel, Examples::Texts(texts)) => {
                let rows = self.text_rows(texts, processor)?;
                let labels = vec![None; rows.len()];
                return Ok(Prepared { inputs: Inputs::tokens(rows, processor)?, labels });
            }
            (Task::TextClassification | Task::LanguageModel, Examples::Rows(rows)) => {
                let length = self.options.max_length.unwrap_or(usize::MAX);
                let cut = |ids: &Vec<u32>| Row {
                    ids: ids.iter().take(length).copied().collect(),
                    segments: Vec::new(),
                };
                Inputs::tokens(rows.iter().take(count).map(cut).collect(), processor)?
            }
            (Task::ImageClassification, Examples::Pictures(pictures)) => {
                let pictures = pictures.get(..count).unwrap_or(pictures).to_vec();
                Inputs::Images { pictures, recipe: processor.recipe()? }
            }
            (task, examples) => {
                let needed = match task {
                    Task::ImageClassification => "images",
                    Task::TextClassification | Task::LanguageModel => "texts",
                };
                let message =
                    format!("the model takes {needed}, {} holds {}", self.source(), examples.noun());
                return Err(DeltaError::mismatch(message).into());
            }
        };
        Ok(Prepared { inputs, labels: processor.classes.resolve(labels)? })
    }

    /// Rows of a language model.
    fn text_rows(&self, texts: &[(String, Option<String>)], processor: &Processor) -> Result<Vec<Row>> {
        let length = self.options.max_length.unwrap_or_else(|| processor.max_length(MAX_ROW));
        if length < 2 {
            return Err(
                DeltaError::invalid(format!("rows of {length} tokens leave nothing to predict")).into()
            );
        }
        let texts: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
        let ids = processor.tokens()?.encode_all(&texts.join("\n\n"))?;
        let row = |ids: &[u32]| Row { ids: ids.to_vec(), segments: Vec::new() };
        if ids.len() < length {
            return Ok(vec![row(&ids)]);
        }
        Ok(ids.chunks_exact(length).take(self.options.limit.unwrap_or(usize::MAX)).map(row).collect())
    }
}

impl Inputs {
    /// Rows of tokens, all of which the model knows.
    fn tokens(rows: Vec<Row>, processor: &Processor) -> Result<Self> {
        let last = rows.iter().flat_map(|row| &row.ids).max();
        if let (Some(&last), Some(known)) =
            (last, processor.vocabulary().filter(|n| last.is_some_and(|id| u64::from(*id) >= *n)))
        {
            let message =
                format!("the data has the token {last}, the model knows {known}: another tokenizer's");
            return Err(DeltaError::mismatch(message).into());
        }
        let padding = processor.tokens().map(|tokens| tokens.padding).unwrap_or_default();
        Ok(Self::Tokens { rows, padding, segments: processor.takes_segments() })
    }
}

impl Prepared {
    /// How many examples; of a language model: rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Tokens of each example, without padding; images count 1.
    pub fn lengths(&self) -> Vec<usize> {
        match &self.inputs {
            Inputs::Tokens { rows, .. } => rows.iter().map(|row| row.ids.len()).collect(),
            Inputs::Images { pictures, .. } => vec![1; pictures.len()],
        }
    }

    /// The class of each example, where it is known.
    pub fn labels(&self) -> &[Option<u32>] {
        &self.labels
    }

    /// The examples at `indices`, in that order, and their classes. Tokens are padded to the longest of them; there is
    /// no mask where nothing is padded, and there are no segments where the model takes none.
    ///
    /// Errors: `InvalidArgument` for an index beyond the end or no index, `Mismatch` for images that come out in
    /// different sizes, and what can go wrong in reading an image.
    pub fn batch(&self, indices: &[usize]) -> Result<(Batch, Vec<Option<u32>>)> {
        self.shifted_batch(indices, |_| (0, 0))
    }

    /// The same, image `i` moved by `shift(i)` pixels.
    pub(crate) fn shifted_batch(
        &self,
        indices: &[usize],
        shift: impl Fn(usize) -> Shift + Sync,
    ) -> Result<(Batch, Vec<Option<u32>>)> {
        let beyond =
            || DeltaError::invalid(format!("a batch of {} examples that are not all there", indices.len()));
        let labels: Option<Vec<_>> = indices.iter().map(|&i| self.labels.get(i).copied()).collect();
        let labels = labels.filter(|labels| !labels.is_empty()).ok_or_else(beyond)?;
        let batch = match &self.inputs {
            Inputs::Tokens { rows, padding, segments } => {
                let rows: Vec<&Row> = indices.iter().filter_map(|&i| rows.get(i)).collect();
                padded(&rows, *padding, *segments)?
            }
            Inputs::Images { pictures, recipe } => {
                let pictures: Vec<_> = indices.iter().filter_map(|&i| Some((i, pictures.get(i)?))).collect();
                let pixels: Result<Vec<Pixels>> =
                    pictures.par_iter().map(|&(i, picture)| recipe.apply(picture, shift(i))).collect();
                stacked(pixels?)?
            }
        };
        Ok((batch, labels))
    }
}

/// Rows of one length.
fn padded(rows: &[&Row], padding: Padding, segments: bool) -> Result<Batch> {
    let length = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    let tensor = |fill: u32, values: &dyn Fn(&Row) -> Vec<u32>| {
        let mut all = Vec::with_capacity(rows.len() * length);
        for row in rows {
            let (values, missing) = (values(row), length - row.ids.len());
            all.extend(std::iter::repeat_n(fill, if padding.left { missing } else { 0 }));
            all.extend(values);
            all.extend(std::iter::repeat_n(fill, if padding.left { 0 } else { missing }));
        }
        Tensor::from_vec(all, (rows.len(), length), &Device::Cpu)
    };
    let ragged = rows.iter().any(|row| row.ids.len() < length);
    let of_row =
        |row: &Row| if row.segments.is_empty() { vec![0; row.ids.len()] } else { row.segments.clone() };
    Ok(Batch::Tokens {
        ids: tensor(padding.id, &|row| row.ids.clone())?,
        mask: ragged.then(|| tensor(0, &|row| vec![1; row.ids.len()])).transpose()?,
        types: segments.then(|| tensor(padding.segment, &of_row)).transpose()?,
    })
}

/// Images of one size.
fn stacked(pixels: Vec<Pixels>) -> Result<Batch> {
    let (count, shape) = (pixels.len(), pixels.first().map_or((0, 0, 0), |first| first.shape));
    if let Some(other) = pixels.iter().find(|image| image.shape != shape) {
        let message = format!(
            "images come out as {shape:?} and {:?}: the model's recipe does not resize them",
            other.shape
        );
        return Err(DeltaError::mismatch(message).into());
    }
    let values: Vec<f32> = pixels.into_iter().flat_map(|image| image.values).collect();
    Ok(Batch::Pixels(Tensor::from_vec(values, (count, shape.0, shape.1, shape.2), &Device::Cpu)?))
}
