//! One cell of a sweep: compress, weigh, reconstruct, judge.

use std::path::{Path, PathBuf};
use std::time::Instant;

use delta_dct::{
    Archive, CompressOptions, Error as DeltaError, ErrorKind, Progress, Summary, TensorSummary, compress,
};

use super::definition::{Cell, Pair, Sweep};
use super::ledger::{Ledger, VERSION};
use super::predecessor::predecessor_count;
use super::row::{FailedRow, PairRow, Row, TensorError};
use crate::comparison::{Comparison, Sources};
use crate::error::{Error, Result};

/// Where the folder of kept files is, in that of the sweep.
const KEPT: &str = "deltas";

/// How a sweep is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// The most runs; all where absent.
    pub runs: Option<usize>,
    /// Keep the `.ddct` files.
    pub keep: bool,
}

/// Makes the runs of `sweep` that `ledger` lacks; gives how many were made. One that cannot be made is noted there with
/// its error, and tried again the next time. `local` makes a path on this machine of each place, as [`Pair::sources`] has it.
///
/// Errors: those of `local`; of a pair that cannot be judged; Mismatch, if the ledger has a pair with other inputs; Io;
/// Interrupted. Runs that were made before are in the ledger.
pub fn run<E: From<Error>>(
    sweep: &Sweep,
    ledger: &mut Ledger,
    options: RunOptions,
    local: impl Fn(&Path, Option<&str>) -> std::result::Result<PathBuf, E>,
    progress: &dyn Progress,
) -> std::result::Result<usize, E> {
    let mut todo = Vec::new();
    for cell in &sweep.cells {
        if ledger.results().row(cell).map_err(Error::from)?.is_none() {
            todo.push(cell);
        }
    }
    todo.truncate(options.runs.unwrap_or(usize::MAX));
    progress.begin("runs", todo.len() as u64);
    let mut made = 0;
    for pair in &sweep.pairs {
        let cells: Vec<&Cell> = todo.iter().filter(|cell| cell.pair == pair.name).copied().collect();
        if cells.is_empty() && ledger.results().pair(&pair.name).is_none() {
            continue;
        }
        let sources = pair.sources(&local)?;
        let inputs = ledger.check(&pair.name, &sources).map_err(Error::from)?;
        if cells.is_empty() {
            continue;
        }
        let bench = Bench::open(sweep, pair, &sources, inputs, ledger, options.keep, progress)?;
        for cell in cells {
            let run = match bench.run(cell, &Within(progress)) {
                // What stops one run would stop all.
                Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Interrupted) => {
                    return Err(error.into());
                }
                Err(error) => Err(bench.failed(cell, &error)?),
                Ok(row) => Ok(row),
            };
            made += usize::from(run.is_ok());
            ledger.add_run(run).map_err(Error::from)?;
            progress.advance(1);
        }
    }
    Ok(made)
}

/// Progress inside of a run: what counts is the number of runs.
struct Within<'a>(&'a dyn Progress);

impl Progress for Within<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// A pair of models and its data, loaded, on which recipes are tried.
struct Bench {
    comparison: Comparison,
    inputs: String,
    folder: PathBuf,
    keep: bool,
}

impl Bench {
    /// Loads the pair. What its two models are worth is measured and noted in `ledger`, unless it is known.
    fn open(
        sweep: &Sweep,
        pair: &Pair,
        sources: &Sources,
        inputs: String,
        ledger: &mut Ledger,
        keep: bool,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let comparison = Comparison::open(sources)?;
        if ledger.results().pair(&pair.name).is_none() {
            ledger.add_pair(&measure(sweep, pair, &inputs, &comparison, &Within(progress))?)?;
        }
        Ok(Self { comparison, inputs, folder: ledger.folder().to_owned(), keep })
    }

    fn failed(&self, cell: &Cell, error: &Error) -> Result<FailedRow> {
        let recipe = cell.text()?;
        Ok(FailedRow {
            pair: cell.pair.clone(),
            method: method(&recipe),
            recipe,
            predecessor: cell.predecessor,
            error: error.to_string(),
            inputs: self.inputs.clone(),
            version: VERSION.to_owned(),
        })
    }

    /// Tries one recipe.
    fn run(&self, cell: &Cell, progress: &dyn Progress) -> Result<Row> {
        let folder = tempfile::Builder::new()
            .prefix(".delta-dct-")
            .tempdir_in(&self.folder)
            .map_err(|e| DeltaError::io("write to", &self.folder, e))?;
        let file = self.file(cell, folder.path())?;
        let options = CompressOptions {
            selection: cell.selection()?,
            force_unrelated: false,
            overwrite: true,
            dry_run: false,
        };
        let (base, finetuned) = (self.comparison.base(), self.comparison.finetuned());
        let summary = compress(base, finetuned, &file, &options, progress)?;
        let bytes = std::fs::metadata(&file).map_err(|e| DeltaError::io("read", &file, e))?.len();
        let start = Instant::now();
        let weights = self.comparison.reconstruct(&Archive::open(&file)?)?;
        let apply_seconds = start.elapsed().as_secs_f64();
        let quality = self.comparison.judge_weights(&weights, &file, progress)?.quality;
        let recipe = cell.text()?;
        let counted = predecessor_count(finetuned, &cell.recipe);
        Ok(Row {
            pair: cell.pair.clone(),
            method: method(&recipe),
            recipe,
            predecessor: cell.predecessor,
            bytes,
            finetuned_bytes: summary.finetuned_bytes,
            ratio: summary.finetuned_bytes as f64 / bytes.max(1) as f64,
            bpw: 8.0 * bytes as f64 / summary.weights.max(1) as f64,
            relative_error: TensorSummary::mean_error(&summary.tensors),
            quality,
            compress_seconds: summary.seconds,
            apply_seconds,
            predecessor_bytes: counted.map(|counted| counted.bytes),
            predecessor_ratio: counted.map(|counted| counted.of as f64 / counted.bytes.max(1) as f64),
            file: self.keep.then(|| file.display().to_string()),
            inputs: self.inputs.clone(),
            version: VERSION.to_owned(),
            tensors: errors(&summary),
        })
    }

    /// Where the `.ddct` file of `cell` is written: to `temporary`, unless it is kept.
    fn file(&self, cell: &Cell, temporary: &Path) -> Result<PathBuf> {
        if !self.keep {
            return Ok(temporary.join("run.ddct"));
        }
        let kept = self.folder.join(KEPT);
        std::fs::create_dir_all(&kept).map_err(|e| DeltaError::io("create", &kept, e))?;
        let mode = if cell.predecessor { " predecessor" } else { "" };
        let name = format!("{} {}{mode}.ddct", cell.pair, cell.text()?);
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
        Ok(kept.join(name.chars().map(plain).collect::<String>()))
    }
}

fn method(recipe: &str) -> String {
    recipe.split(' ').next().unwrap_or_default().to_owned()
}

fn measure(
    sweep: &Sweep,
    pair: &Pair,
    inputs: &str,
    comparison: &Comparison,
    progress: &dyn Progress,
) -> Result<PairRow> {
    let finetuned = comparison.judge_finetuned(progress)?;
    let base = comparison.judge_base(progress)?;
    let text = |path: &Path| path.display().to_string();
    Ok(PairRow {
        pair: pair.name.clone(),
        base: text(&pair.base),
        finetuned: text(&pair.finetuned),
        data: pair.data.iter().map(|path| text(path)).collect(),
        options: pair.flags(),
        sweep: text(&sweep.path),
        inputs: inputs.to_owned(),
        version: VERSION.to_owned(),
        notes: base.notes.into_iter().map(|note| format!("base: {note}")).collect(),
        base_quality: base.quality,
        finetuned_quality: finetuned.quality,
    })
}

fn errors(summary: &Summary) -> Vec<TensorError> {
    let error = |tensor: &TensorSummary| {
        Some(TensorError {
            name: tensor.name.clone(),
            dimensions: tensor.shape.len(),
            bytes: tensor.bytes,
            relative_error: tensor.relative_error?,
        })
    };
    summary.tensors.iter().filter_map(error).collect()
}
