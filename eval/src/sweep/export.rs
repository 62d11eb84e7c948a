//! The rows as tables for other programs: `results.csv`, `results.json` and `results.parquet`.

use std::path::Path;

use delta_dct::{Error, Result, write_whole};

use super::ledger::Results;
use super::row::{FailedRow, Row};

/// A line of the tables: a run, or one that could not be made.
pub type Run<'a> = std::result::Result<&'a Row, &'a FailedRow>;

/// The values of a column; none where a run has no such value.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// Text.
    Text(for<'a> fn(Run<'a>) -> Option<&'a str>),
    /// Integers.
    Integer(fn(Run<'_>) -> Option<u64>),
    /// Numbers.
    Number(fn(Run<'_>) -> Option<f64>),
    /// Yes or no.
    Truth(fn(Run<'_>) -> Option<bool>),
}

use Values::{Integer, Number, Text, Truth};

/// Names and values of all columns, in order.
pub static COLUMNS: &[(&str, Values)] = &[
    ("pair", Text(|run| Some(run.map_or_else(|failed| &failed.pair, |row| &row.pair)))),
    ("method", Text(|run| Some(run.map_or_else(|failed| &failed.method, |row| &row.method)))),
    ("recipe", Text(|run| Some(run.map_or_else(|failed| &failed.recipe, |row| &row.recipe)))),
    ("predecessor", Truth(|run| Some(run.map_or_else(|failed| failed.predecessor, |row| row.predecessor)))),
    ("error", Text(|run| Some(&run.err()?.error))),
    ("bytes", Integer(|run| Some(run.ok()?.bytes))),
    ("finetuned_bytes", Integer(|run| Some(run.ok()?.finetuned_bytes))),
    ("ratio", Number(|run| Some(run.ok()?.ratio))),
    ("bpw", Number(|run| Some(run.ok()?.bpw))),
    ("relative_error", Number(|run| run.ok()?.relative_error)),
    ("accuracy", Number(|run| run.ok()?.quality.accuracy)),
    ("accuracy_low", Number(|run| Some(run.ok()?.quality.accuracy_interval?.0))),
    ("accuracy_high", Number(|run| Some(run.ok()?.quality.accuracy_interval?.1))),
    ("correct", Integer(|run| run.ok()?.quality.correct)),
    ("accuracy_difference", Number(|run| run.ok()?.quality.accuracy_difference)),
    ("accuracy_difference_low", Number(|run| Some(run.ok()?.quality.accuracy_difference_interval?.0))),
    ("accuracy_difference_high", Number(|run| Some(run.ok()?.quality.accuracy_difference_interval?.1))),
    ("perplexity", Number(|run| run.ok()?.quality.perplexity)),
    ("loss", Number(|run| run.ok()?.quality.loss)),
    ("kl", Number(|run| run.ok()?.quality.kl)),
    ("agreement", Number(|run| run.ok()?.quality.agreement)),
    ("examples", Integer(|run| Some(run.ok()?.quality.examples))),
    ("tokens", Integer(|run| run.ok()?.quality.tokens)),
    ("compress_seconds", Number(|run| Some(run.ok()?.compress_seconds))),
    ("apply_seconds", Number(|run| Some(run.ok()?.apply_seconds))),
    ("seconds", Number(|run| Some(run.ok()?.quality.seconds))),
    ("examples_per_second", Number(|run| Some(run.ok()?.quality.examples_per_second))),
    ("predecessor_bytes", Integer(|run| run.ok()?.predecessor_bytes)),
    ("predecessor_ratio", Number(|run| run.ok()?.predecessor_ratio)),
    ("file", Text(|run| run.ok()?.file.as_deref())),
    ("inputs", Text(|run| Some(run.map_or_else(|failed| &failed.inputs, |row| &row.inputs)))),
    ("version", Text(|run| Some(run.map_or_else(|failed| &failed.version, |row| &row.version)))),
];

/// Writes the tables into `folder`, over older ones; gives the names of the files.
pub fn export(results: &Results, folder: &Path) -> Result<Vec<&'static str>> {
    let fail = |e: &dyn std::fmt::Display| Error::io("write", folder, std::io::Error::other(e.to_string()));
    let json = serde_json::to_vec_pretty(results).map_err(|e| fail(&e))?;
    let runs: Vec<Run<'_>> = results.rows.iter().map(Ok).chain(results.failures.iter().map(Err)).collect();
    let csv = csv(&runs).map_err(|e| fail(&e))?;
    let mut files = vec![("results.csv", csv), ("results.json", json)];
    #[cfg(feature = "parquet")]
    files.push(("results.parquet", super::parquet::write(&runs).map_err(|e| fail(&e))?));
    for (name, content) in &files {
        write_whole(&folder.join(name), content, true)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

fn csv(runs: &[Run<'_>]) -> std::result::Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS.iter().map(|(name, _)| name))?;
    for run in runs {
        writer.write_record(COLUMNS.iter().map(|(_, values)| text(*values, *run).unwrap_or_default()))?;
    }
    writer.into_inner().map_err(|e| e.into_error().into())
}

fn text(values: Values, run: Run<'_>) -> Option<String> {
    Some(match values {
        Text(of) => of(run)?.to_owned(),
        Integer(of) => of(run)?.to_string(),
        Number(of) => of(run)?.to_string(),
        Truth(of) => of(run)?.to_string(),
    })
}
