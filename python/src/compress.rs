//! A pair of checkpoints to a file, as Python calls it.

use std::path::PathBuf;

use delta_dct::{CompressOptions, Selection};
use pyo3::prelude::*;

use crate::checkpoint::Checkpoint;
use crate::error::exception;
use crate::work::{self, json};

/// Everything that a caller can choose; a dict with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    /// Method and options of the tensors that nothing else claims.
    recipe: String,
    /// Pattern and recipe; of several that match, the last counts.
    rules: Vec<(String, String)>,
    include: Vec<String>,
    exclude: Vec<String>,
    predecessor: bool,
    overwrite: bool,
    force_unrelated: bool,
    dry_run: bool,
    /// Whether to write an enhancement beside the file.
    layers: bool,
}

impl Options {
    fn selection(&self) -> delta_dct::Result<Selection> {
        let recipe = self.recipe.parse()?;
        let start = if self.predecessor { Selection::predecessor(recipe)? } else { Selection::new(recipe)? };
        let selection = self.include.iter().try_fold(start, |selection, glob| selection.include(glob))?;
        let selection = self.exclude.iter().try_fold(selection, |selection, glob| selection.exclude(glob))?;
        let add =
            |selection: Selection, (glob, recipe): &(String, String)| selection.rule(glob, recipe.parse()?);
        self.rules.iter().try_fold(selection, add)
    }
}

/// Writes `finetuned` as a delta against `base` to the file `output`; gives the report as JSON.
#[pyfunction]
#[pyo3(signature = (base, finetuned, output, options, progress=None))]
pub(crate) fn compress(
    py: Python<'_>,
    base: &Checkpoint,
    finetuned: &Checkpoint,
    output: PathBuf,
    options: Options,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let compress = if options.layers { delta_dct::compress_layers } else { delta_dct::compress };
    let options = CompressOptions {
        selection: options.selection().map_err(exception)?,
        force_unrelated: options.force_unrelated,
        overwrite: options.overwrite,
        dry_run: options.dry_run,
    };
    let work = |watch: &work::Watch| compress(&base.inner, &finetuned.inner, &output, &options, watch);
    json(&work::run(py, progress, work)?)
}
