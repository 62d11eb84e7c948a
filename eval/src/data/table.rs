//! Columns of a file, and the examples in them.

use std::path::Path;

use delta_dct::Error as DeltaError;
use serde_json::Value;

use super::dataset::{DataOptions, Examples};
use super::images::Picture;
use super::labels::Label;
use super::source;
use crate::error::Result;

/// Columns that hold pairs of sentences.
const PAIRS: [(&str, &str); 4] = [
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
];
const TEXTS: [&str; 4] = ["sentence", "text", "review", "content"];
const IMAGES: [&str; 2] = ["image", "img"];
/// Columns that hold labels, where no other is asked for.
pub(super) const LABELS: [&str; 2] = ["label", "labels"];

/// A field of a table.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    /// Text.
    Text(String),
    /// An integer.
    Int(i64),
    /// An encoded image.
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "only Parquet holds bytes"))]
    Bytes(Vec<u8>),
    /// Nothing, or something else.
    None,
}

/// Rows of as many cells as there are names.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// For messages.
    pub(super) file: String,
    /// The columns.
    pub(super) names: Vec<String>,
    /// The fields, row by row.
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A file with a header, tabs between columns and no quotes, as GLUE is published. With two columns the last tab of a
/// line counts, so that the text may have some.
pub(super) fn tsv(path: &Path) -> Result<Table> {
    let text = source::read_text(path)?;
    let mut lines = text.lines();
    let names: Vec<String> = lines.next().unwrap_or_default().split('\t').map(str::to_owned).collect();
    let mut rows = Vec::new();
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let mut cells: Vec<&str> = match names.len() {
            2 => line.rsplitn(2, '\t').collect(),
            _ => line.split('\t').rev().collect(),
        };
        cells.reverse();
        if cells.len() != names.len() {
            let message =
                format!("line {}: {} columns, the header has {}", number + 2, cells.len(), names.len());
            return Err(DeltaError::corrupt(format!("{}: {message}", path.display())).into());
        }
        rows.push(cells.into_iter().map(|cell| Cell::Text(cell.to_owned())).collect());
    }
    Ok(Table { file: path.display().to_string(), names, rows })
}

/// A file with a header, commas and quotes.
pub(super) fn csv(path: &Path) -> Result<Table> {
    let wrong = |e: csv::Error| DeltaError::corrupt(format!("{}: {e}", path.display()));
    let text = source::read_text(path)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        rows.push(record.map_err(wrong)?.iter().map(|cell| Cell::Text(cell.to_owned())).collect());
    }
    Ok(Table { file: path.display().to_string(), names, rows })
}

/// A file of one object a line, or of one array of objects.
pub(super) fn json(path: &Path) -> Result<Table> {
    let wrong = |e: serde_json::Error| DeltaError::corrupt(format!("{}: {e}", path.display()));
    let text = source::read_text(path)?;
    let mut objects: Vec<Value> = serde_json::Deserializer::from_str(&text)
        .into_iter()
        .collect::<std::result::Result<_, _>>()
        .map_err(wrong)?;
    if let [Value::Array(_)] = objects.as_slice() {
        objects = match objects.pop() {
            Some(Value::Array(inside)) => inside,
            _ => Vec::new(),
        };
    }
    let mut names: Vec<String> = Vec::new();
    for key in objects.iter().filter_map(Value::as_object).flat_map(|object| object.keys()) {
        if !names.contains(key) {
            names.push(key.clone());
        }
    }
    let rows =
        objects.iter().map(|object| names.iter().map(|name| json_cell(&object[name.as_str()])).collect());
    Ok(Table { file: path.display().to_string(), rows: rows.collect(), names })
}

fn json_cell(value: &Value) -> Cell {
    match value {
        Value::String(text) => Cell::Text(text.clone()),
        Value::Bool(yes) => Cell::Int((*yes).into()),
        Value::Number(number) => number.as_i64().map_or(Cell::None, Cell::Int),
        _ => Cell::None,
    }
}

impl Table {
    /// The inputs and labels of all rows. Errors: `InvalidArgument` if a column is not there, or holds something else.
    pub(super) fn examples(self, options: &DataOptions) -> Result<(Examples, Vec<Option<Label>>)> {
        let labels = self.labels(options)?;
        let image = IMAGES.iter().find_map(|name| self.position(name));
        if let (Some(column), None) = (image, &options.text) {
            let file = &self.file;
            let picture = |(n, mut row): (usize, Vec<Cell>)| match row.get_mut(column).map(take) {
                Some(Cell::Bytes(bytes)) => Ok(Picture::Encoded(bytes)),
                _ => Err(DeltaError::corrupt(format!("{file}: row {} has no encoded image", n + 1)).into()),
            };
            let pictures: Result<Vec<_>> = self.rows.into_iter().enumerate().map(picture).collect();
            return Ok((Examples::Pictures(pictures?), labels));
        }
        let (first, second) = self.text_columns(options)?;
        let mut texts = Vec::with_capacity(self.rows.len());
        for (n, mut row) in self.rows.into_iter().enumerate() {
            let mut text = |column: usize| match row.get_mut(column).map(take) {
                Some(Cell::Text(text)) => Ok(text),
                _ => Err(DeltaError::corrupt(format!("{}: row {} has no text", self.file, n + 1))),
            };
            texts.push((text(first)?, second.map(text).transpose()?));
        }
        Ok((Examples::Texts(texts), labels))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|column| column == name)
    }

    /// `name` as the user asked for it.
    fn wanted(&self, name: &str) -> Result<usize> {
        let names = self.names.join(", ");
        let missing = || DeltaError::invalid(format!("{}: no column `{name}`, there are {names}", self.file));
        Ok(self.position(name).ok_or_else(missing)?)
    }

    fn text_columns(&self, options: &DataOptions) -> Result<(usize, Option<usize>)> {
        if let Some(wanted) = &options.text {
            return match wanted.split_once(',') {
                Some((first, second)) => Ok((self.wanted(first.trim())?, Some(self.wanted(second.trim())?))),
                None => Ok((self.wanted(wanted)?, None)),
            };
        }
        let pair =
            |&(first, second): &(&str, &str)| Some((self.position(first)?, Some(self.position(second)?)));
        let single = || TEXTS.iter().find_map(|name| Some((self.position(name)?, None)));
        let unclear = || {
            let names = self.names.join(", ");
            DeltaError::invalid(format!("{}: which column holds the text? There are {names}", self.file))
        };
        Ok(PAIRS.iter().find_map(pair).or_else(single).ok_or_else(unclear)?)
    }

    fn labels(&self, options: &DataOptions) -> Result<Vec<Option<Label>>> {
        let column = match &options.labels {
            Some(name) => Some(self.wanted(name)?),
            None => LABELS.iter().find_map(|name| self.position(name)),
        };
        let label = |row: &Vec<Cell>| match row.get(column?)? {
            Cell::Int(number) => Label::number(*number),
            Cell::Text(text) => Label::text(text),
            Cell::Bytes(_) | Cell::None => None,
        };
        Ok(self.rows.iter().map(label).collect())
    }
}

fn take(cell: &mut Cell) -> Cell {
    std::mem::replace(cell, Cell::None)
}
