//! A checkpoint, as Python sees it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use delta_dct::{Dtype, Error, Relation, TensorInfo};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as NoDtype;

use crate::buffers;
use crate::error::exception;
use crate::work;

/// Bytes that are read between two releases of mapped memory.
const RESIDENT: u64 = 4 << 20;

/// A checkpoint on disk, mapped into memory (a file, an index of shards, or a folder), or one of tensors in memory.
#[pyclass(frozen, module = "delta_dct._delta_dct")]
pub(crate) struct Checkpoint {
    pub(crate) inner: delta_dct::Checkpoint,
    /// Bytes read since mapped memory was given back.
    resident: AtomicU64,
}

#[pymethods]
impl Checkpoint {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = py.detach(|| delta_dct::Checkpoint::open(&path)).map_err(exception)?;
        Ok(Self { inner, resident: AtomicU64::new(0) })
    }

    /// Copies tensors: name, dtype as safetensors writes it, shape, bytes. Those on the same bytes are tied.
    #[staticmethod]
    fn in_memory(py: Python<'_>, tensors: Vec<(String, String, Vec<usize>, PyBuffer<u8>)>) -> PyResult<Self> {
        let (mut storages, mut places, mut infos) = (Vec::new(), HashMap::new(), Vec::new());
        for (name, dtype, shape, buffer) in tensors {
            let dtype = Dtype::deserialize(dtype.as_str().into_deserializer())
                .map_err(|e: NoDtype| exception(Error::invalid(e.to_string()).in_tensor(&name)))?;
            let storage = *places.entry((buffer.buf_ptr(), buffer.len_bytes())).or_insert(storages.len());
            if storage == storages.len() {
                storages.push(buffer.to_vec(py)?);
            }
            infos.push((name, TensorInfo { dtype, shape }, storage));
        }
        let inner = delta_dct::Checkpoint::in_memory(storages, infos).map_err(exception)?;
        Ok(Self { inner, resident: AtomicU64::new(0) })
    }

    /// What was opened.
    #[getter]
    fn path(&self) -> &Path {
        self.inner.path()
    }

    /// Bytes of the weight files as they lie on disk.
    #[getter]
    fn weight_bytes(&self) -> u64 {
        self.inner.weight_bytes()
    }

    /// The names of the tensors, sorted.
    fn names(&self) -> Vec<&str> {
        self.inner.names().collect()
    }

    /// Dtype, as safetensors writes it, and shape of a tensor.
    fn tensor(&self, name: &str) -> PyResult<(String, Vec<usize>)> {
        let view = self.view(name).map_err(exception)?;
        Ok((view.dtype.to_string(), view.shape.to_vec()))
    }

    /// Copies tensors into the buffers that stand beside their names.
    fn read_into(&self, py: Python<'_>, buffers: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<()> {
        buffers::fill(py, buffers, |name, sink| {
            let bytes = self.view(name)?.bytes;
            sink(bytes)?;
            self.was_read(bytes.len());
            Ok(())
        })
    }

    /// The base tensor of the same shape for each tensor of this checkpoint that has one.
    fn pairs(&self, py: Python<'_>, base: &Checkpoint) -> PyResult<HashMap<String, String>> {
        work::run(py, None, |_| Ok(pairs(&base.infos(), &self.infos())))
    }
}

impl Checkpoint {
    /// Counts `bytes` of mapped memory; gives it back to the system now and then.
    pub(crate) fn was_read(&self, bytes: usize) {
        if self.resident.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64 >= RESIDENT {
            self.resident.store(0, Ordering::Relaxed);
            self.inner.release();
        }
    }

    /// Dtype and shape of each tensor.
    pub(crate) fn infos(&self) -> BTreeMap<String, TensorInfo> {
        let info = |name: &str| {
            let view = self.inner.get(name)?;
            Some((name.to_owned(), TensorInfo { dtype: view.dtype, shape: view.shape.to_vec() }))
        };
        self.inner.names().filter_map(info).collect()
    }

    fn view(&self, name: &str) -> delta_dct::Result<delta_dct::TensorView<'_>> {
        let missing = || Error::invalid(format!("{} has no tensor {name}", self.inner.path().display()));
        self.inner.get(name).ok_or_else(missing)
    }
}

/// Names of tensors and of those of the base that have the same shape and correspond to them.
pub(crate) fn pairs(
    base: &BTreeMap<String, TensorInfo>,
    finetuned: &BTreeMap<String, TensorInfo>,
) -> HashMap<String, String> {
    let same = |link: delta_dct::Link| match link.relation {
        Relation::Same { base } => Some((link.name, base)),
        _ => None,
    };
    delta_dct::pair(base, finetuned).links.into_iter().filter_map(same).collect()
}
