//! What the file level tells about its work. All of it serialises to JSON with these field names.

use serde::Serialize;

use crate::codec;
use crate::container::Record;
use crate::pair::{Relation, Rename};
use crate::reconstruct::coded_part;

/// What `compress` did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Bytes of the `.ddct` file.
    pub output_bytes: u64,
    /// The file beside it by which the result is exact, where one was asked for.
    pub enhancement: Option<Enhancement>,
    /// Bytes of the fine-tuned model's weight files as they lie on disk.
    pub finetuned_bytes: u64,
    /// Elements of all tensors.
    pub weights: u64,
    /// One entry a tensor, sorted by name.
    pub tensors: Vec<TensorSummary>,
    /// Base tensors that the fine-tuned model does not have.
    pub removed: Vec<String>,
    /// The prefix by which names differ between the two.
    pub rename: Option<Rename>,
    /// Odd things that a person should know, one sentence each.
    pub notes: Vec<String>,
    /// Files that travel along, and the bytes that they take in the `.ddct` file.
    pub files: Vec<(String, u64)>,
    /// Files of the fine-tuned model's folder that do not travel, and their size.
    pub skipped_files: Vec<(String, u64)>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// The second file of [`compress_layers`](crate::compress_layers).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Enhancement {
    /// Where it lies (after a dry run: would lie).
    pub output: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Number of tensors that it holds: those that the first layer does not give exactly.
    pub tensors: usize,
}

/// How one tensor is stored.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TensorSummary {
    /// Its name in the fine-tuned model.
    pub name: String,
    /// Element type, as safetensors writes it.
    pub dtype: String,
    /// Dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Number of elements.
    pub weights: u64,
    /// `delta`, `base` (the base tensor itself), `alias` (tied to another tensor), `exact` (bit for bit, against the
    /// base), `refined` (bit for bit, against the first layer), `raw` (bit for bit, by itself) or `alone` (coded, without
    /// a base).
    pub kind: &'static str,
    /// The stages that code its delta, if there are any.
    pub plan: String,
    /// `same`, `resized`, `reshaped`, `new` or `tied`; empty where only the file is known.
    pub relation: &'static str,
    /// Bytes that its record takes in the file, and in the first layer; of what is packed with others, its share.
    pub bytes: u64,
    /// `|result - finetuned|^2 / |finetuned - base|^2`, zeros being the base where there is none; absent where the result is
    /// exact.
    pub relative_error: Option<f64>,
}

/// What a `.ddct` file says about itself.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Info {
    /// Version of the file format.
    pub format_version: String,
    /// The program that wrote it.
    pub created_by: String,
    /// Name of the base when the file was made.
    pub base: String,
    /// Name of the fine-tuned model.
    pub finetuned: String,
    /// The default recipe.
    pub recipe: String,
    /// Bytes of the fine-tuned model's weight files when the file was made.
    pub finetuned_bytes: u64,
    /// Bytes of the file, and of its first layer.
    pub bytes: u64,
    /// What the file is an enhancement of.
    pub layer: Option<FirstLayer>,
}

/// The file that an enhancement makes exact.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FirstLayer {
    /// Where it lies.
    pub file: String,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What `apply` wrote.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Applied {
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of the weights.
    pub bytes: u64,
    /// Names of the files, in the output folder.
    pub files: Vec<String>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// What `verify` found to be right.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// Number of tensors.
    pub tensors: usize,
    /// Whether everything was decoded and compared with the digests of the result (needs the base).
    pub decoded: bool,
    /// Bytes of the file, and of its first layer.
    pub bytes: u64,
    /// Wall-clock time.
    pub seconds: f64,
}

impl TensorSummary {
    pub(crate) fn new(name: &str, record: &Record<'_>, bytes: usize) -> Self {
        Self {
            name: name.to_owned(),
            dtype: record.dtype.to_string(),
            shape: record.shape.clone(),
            weights: record.shape.iter().map(|&n| n as u64).product(),
            kind: record.body.kind(),
            plan: describe(record),
            relation: "",
            bytes: bytes as u64,
            relative_error: None,
        }
    }

    /// Mean of the relative errors of the tensors that are not exact, weighted by their elements; none where all are.
    pub fn mean_error<'a>(tensors: impl IntoIterator<Item = &'a Self>) -> Option<f64> {
        let inexact = tensors.into_iter().filter_map(|t| Some((t.relative_error?, t.weights as f64)));
        let (error, weights) = inexact.fold((0.0, 0.0), |(sum, total), (e, w)| (sum + e * w, total + w));
        (weights > 0.0).then(|| error / weights)
    }

    /// A record of a kind that this version does not know.
    pub(crate) fn unknown(name: &str, bytes: usize) -> Self {
        Self {
            name: name.to_owned(),
            dtype: String::new(),
            shape: Vec::new(),
            weights: 0,
            kind: "unknown",
            plan: String::new(),
            relation: "",
            bytes: bytes as u64,
            relative_error: None,
        }
    }
}

/// The plan of a record, in text form.
fn describe(record: &Record<'_>) -> String {
    let plan = coded_part(record).and_then(|(payload, matrices)| codec::describe(payload, matrices).ok());
    plan.unwrap_or_default()
}

/// The word for a relation in reports.
pub(crate) fn relation_word(relation: &Relation) -> &'static str {
    match relation {
        Relation::Same { .. } => "same",
        Relation::Resized { .. } => "resized",
        Relation::Reshaped { .. } => "reshaped",
        Relation::New => "new",
    }
}

/// A sentence about a tensor that does not simply correspond to one of the base.
pub(crate) fn relation_note(name: &str, relation: &Relation) -> Option<String> {
    match relation {
        Relation::Same { .. } => None,
        Relation::Resized { base_rows, rows, .. } if rows > base_rows => Some(format!(
            "{name} has {rows} rows, the base {base_rows}: {} new rows are carried",
            rows - base_rows
        )),
        Relation::Resized { base_rows, rows, .. } => {
            Some(format!("{name} has {rows} rows, the base {base_rows}: the first {rows} are used"))
        }
        Relation::Reshaped { base_shape, .. } => {
            Some(format!("{name} has another shape than in the base ({base_shape:?}): carried by itself"))
        }
        Relation::New => Some(format!("{name} is not in the base: carried by itself")),
    }
}
