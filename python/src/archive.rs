//! An open `.ddct` file, as Python sees it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use delta_dct::{Info, TensorInfo, TensorSummary};
use pyo3::prelude::*;
use serde::Serialize;

use crate::buffers;
use crate::checkpoint::{Checkpoint, pairs};
use crate::error::exception;
use crate::work::{self, json};

/// An open `.ddct` file.
#[pyclass(frozen, module = "delta_dct._delta_dct")]
pub(crate) struct Archive(delta_dct::Archive);

/// What `inspect` gives.
#[derive(Serialize)]
struct Contents {
    #[serde(flatten)]
    info: Info,
    tensors: Vec<TensorSummary>,
    files: BTreeMap<String, u64>,
}

#[pymethods]
impl Archive {
    #[new]
    #[pyo3(signature = (path, layer=None))]
    fn new(py: Python<'_>, path: PathBuf, layer: Option<PathBuf>) -> PyResult<Self> {
        let open = || delta_dct::Archive::open_with_layer(&path, layer.as_deref());
        py.detach(open).map(Self).map_err(exception)
    }

    /// The names of the tensors, sorted.
    fn names(&self) -> Vec<&str> {
        self.0.names().iter().map(String::as_str).collect()
    }

    /// Dtype, as safetensors writes it, and shape of a tensor.
    fn tensor(&self, name: &str) -> PyResult<(String, Vec<usize>)> {
        let info = self.0.tensor(name).map_err(exception)?;
        Ok((info.dtype.to_string(), info.shape))
    }

    /// The names of tensors that are those of the base.
    fn unchanged(&self, py: Python<'_>) -> PyResult<HashSet<String>> {
        let rows = py.detach(|| self.0.tensors()).map_err(exception)?;
        Ok(rows.into_iter().filter(|row| row.kind == "base").map(|row| row.name).collect())
    }

    /// Names of the files that travel along.
    fn files(&self) -> Vec<String> {
        self.0.files().into_iter().map(|(name, _)| name).collect()
    }

    /// What the file says about itself, its tensors and its side files, as JSON.
    fn inspect(&self, py: Python<'_>) -> PyResult<String> {
        let tensors = py.detach(|| self.0.tensors()).map_err(exception)?;
        json(&Contents { info: self.0.info(), tensors, files: self.0.files().into_iter().collect() })
    }

    /// The content of a file that travels along.
    fn file(&self, py: Python<'_>, base: &Checkpoint, name: &str) -> PyResult<Vec<u8>> {
        py.detach(|| self.0.load_file(&base.inner, name)).map_err(exception)
    }

    /// Decodes tensors into the buffers that stand beside their names.
    fn read_into(
        &self,
        py: Python<'_>,
        base: &Checkpoint,
        buffers: Vec<(String, Bound<'_, PyAny>)>,
    ) -> PyResult<()> {
        buffers::fill(py, buffers, |name, sink| {
            let copy = |bytes: &[u8]| {
                sink(bytes)?;
                base.was_read(bytes.len());
                Ok(())
            };
            self.0.stream(&base.inner, name, copy).map(drop)
        })
    }

    /// Fails unless `base` is the base of this file.
    #[pyo3(signature = (base, progress=None))]
    fn check_base(
        &self,
        py: Python<'_>,
        base: &Checkpoint,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        work::run(py, progress, |watch| self.0.check_base(&base.inner, watch))
    }

    /// Writes the fine-tuned model to `output`; gives the report as JSON.
    #[pyo3(signature = (base, output, overwrite=false, progress=None))]
    fn apply(
        &self,
        py: Python<'_>,
        base: &Checkpoint,
        output: PathBuf,
        overwrite: bool,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<String> {
        json(&work::run(py, progress, |watch| self.0.apply(&base.inner, &output, overwrite, watch))?)
    }

    /// Checks the file, and with `base` the weights that it gives; gives the report as JSON.
    #[pyo3(signature = (base=None, progress=None))]
    fn verify(
        &self,
        py: Python<'_>,
        base: Option<&Checkpoint>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<String> {
        let base = base.map(|base| &base.inner);
        json(&work::run(py, progress, |watch| self.0.verify(base, watch))?)
    }

    /// The base tensor of the same shape for each tensor of this file that has one.
    fn pairs(&self, py: Python<'_>, base: &Checkpoint) -> PyResult<HashMap<String, String>> {
        work::run(py, None, |_| {
            let info = |name: &String| Ok((name.clone(), self.0.tensor(name)?));
            let infos = self.0.names().iter().map(info);
            Ok(pairs(&base.infos(), &infos.collect::<delta_dct::Result<BTreeMap<String, TensorInfo>>>()?))
        })
    }
}
