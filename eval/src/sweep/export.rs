//! The rows as tables for other programs: `results.csv`, `results.json` and `results.parquet`.

use std::path::Path;

use delta_dct::{Error, Result, write_whole};

use super::ledger::Results;
use super::row::Row;

/// The values of a column; none where a row has no such value.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// Text.
    Text(fn(&Row) -> Option<&str>),
    /// Integers.
    Integer(fn(&Row) -> Option<u64>),
    /// Numbers.
    Number(fn(&Row) -> Option<f64>),
    /// Yes or no.
    Truth(fn(&Row) -> Option<bool>),
}

use Values::{Integer, Number, Text, Truth};

/// Names and values of all columns, in order.
pub static COLUMNS: &[(&str, Values)] = &[
    ("pair", Text(|row| Some(&row.pair))),
    ("method", Text(|row| Some(&row.method))),
    ("recipe", Text(|row| Some(&row.recipe))),
    ("predecessor", Truth(|row| Some(row.predecessor))),
    ("bytes", Integer(|row| Some(row.bytes))),
    ("finetuned_bytes", Integer(|row| Some(row.finetuned_bytes))),
    ("ratio", Number(|row| Some(row.ratio))),
    ("bpw", Number(|row| Some(row.bpw))),
    ("relative_error", Number(|row| row.relative_error)),
    ("accuracy", Number(|row| row.quality.accuracy)),
    ("accuracy_low", Number(|row| Some(row.quality.accuracy_interval?.0))),
    ("accuracy_high", Number(|row| Some(row.quality.accuracy_interval?.1))),
    ("correct", Integer(|row| row.quality.correct)),
    ("accuracy_difference", Number(|row| row.quality.accuracy_difference)),
    ("accuracy_difference_low", Number(|row| Some(row.quality.accuracy_difference_interval?.0))),
    ("accuracy_difference_high", Number(|row| Some(row.quality.accuracy_difference_interval?.1))),
    ("perplexity", Number(|row| row.quality.perplexity)),
    ("loss", Number(|row| row.quality.loss)),
    ("kl", Number(|row| row.quality.kl)),
    ("agreement", Number(|row| row.quality.agreement)),
    ("examples", Integer(|row| Some(row.quality.examples))),
    ("tokens", Integer(|row| row.quality.tokens)),
    ("compress_seconds", Number(|row| Some(row.compress_seconds))),
    ("apply_seconds", Number(|row| Some(row.apply_seconds))),
    ("seconds", Number(|row| Some(row.quality.seconds))),
    ("examples_per_second", Number(|row| Some(row.quality.examples_per_second))),
    ("predecessor_bytes", Integer(|row| row.predecessor_bytes)),
    ("predecessor_ratio", Number(|row| row.predecessor_ratio)),
    ("file", Text(|row| row.file.as_deref())),
    ("inputs", Text(|row| Some(&row.inputs))),
    ("version", Text(|row| Some(&row.version))),
];

/// Writes the tables into `folder`, over older ones; gives the names of the files.
pub fn export(results: &Results, folder: &Path) -> Result<Vec<&'static str>> {
    let fail = |e: &dyn std::fmt::Display| Error::io("write", folder, std::io::Error::other(e.to_string()));
    let json = serde_json::to_vec_pretty(results).map_err(|e| fail(&e))?;
    let csv = csv(&results.rows).map_err(|e| fail(&e))?;
    let mut files = vec![("results.csv", csv), ("results.json", json)];
    #[cfg(feature = "parquet")]
    files.push(("results.parquet", super::parquet::write(&results.rows).map_err(|e| fail(&e))?));
    for (name, content) in &files {
        write_whole(&folder.join(name), content, true)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

fn csv(rows: &[Row]) -> std::result::Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS.iter().map(|(name, _)| name))?;
    for row in rows {
        writer.write_record(COLUMNS.iter().map(|(_, values)| text(*values, row).unwrap_or_default()))?;
    }
    writer.into_inner().map_err(|e| e.into_error().into())
}

fn text(values: Values, row: &Row) -> Option<String> {
    Some(match values {
        Text(of) => of(row)?.to_owned(),
        Integer(of) => of(row)?.to_string(),
        Number(of) => of(row)?.to_string(),
        Truth(of) => of(row)?.to_string(),
    })
}
