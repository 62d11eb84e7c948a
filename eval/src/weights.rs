//! The tensors of a model by name, in `f32`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use delta_dct::{Archive, Checkpoint, Dtype, Error, TensorView};
use rayon::prelude::*;

use crate::error::Result;

/// Tensors by name. All are `f32`, except those that were integers or booleans, which a model does not compute with
/// and are left out.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    /// Where there is such a list, every tensor that is asked for is put on it with its shape, and is zero.
    asked: Option<Arc<Mutex<Shapes>>>,
}

/// Shapes of tensors by name.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

impl Weights {
    /// Those of a checkpoint.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let names: Vec<&str> = checkpoint.names().collect();
        let load = |name: &&str| Ok(checkpoint.get(name).map(|view| tensor(view)).transpose()?.flatten());
        Self::collect(&names, load)
    }

    /// Those of the fine-tuned model that `archive` makes of `base`; nothing is written.
    pub fn reconstructed(base: &Checkpoint, archive: &Archive) -> Result<Self> {
        let rows = archive.tensors()?;
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        Self::collect(&names, |name| {
            let (info, bytes) = archive.load(base, name)?;
            tensor(TensorView { dtype: info.dtype, shape: &info.shape, bytes: &bytes })
        })
    }

    fn collect(names: &[&str], load: impl Fn(&&str) -> Result<Option<Tensor>> + Sync) -> Result<Self> {
        let named = |name: &&str| Ok(load(name)?.map(|tensor| (modern(name), tensor)));
        let found: Vec<Result<_>> = names.par_iter().map(named).collect();
        let found = found.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Self { tensors: found.into_iter().flatten().collect(), asked: None })
    }

    /// What `load`, given weights of any names and shapes, asks of them. Layers that these weights have decide whether
    /// there is a bias; others have one.
    pub(crate) fn shapes_asked(&self, load: impl FnOnce(&Self) -> Result<()>) -> Result<Shapes> {
        let asked = Arc::new(Mutex::new(Shapes::new()));
        load(&Self { tensors: self.tensors.clone(), asked: Some(asked.clone()) })?;
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *asked))
    }

    /// A tensor.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Puts a tensor in the place of what `name` had.
    pub fn insert(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.to_owned(), tensor);
    }

    /// All of them, to be asked for by parts of their names.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

/// The tensors whose names begin alike.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// Those under `name`.
    pub(crate) fn at(&self, name: impl Display) -> Self {
        Self { weights: self.weights, prefix: format!("{}{name}.", self.prefix) }
    }

    /// Those under `name` if there are any, else these: some checkpoints hold a model without the name of its kind.
    pub(crate) fn model(&self, name: &str) -> Self {
        let inner = self.at(name);
        if self.weights.asked.is_some() {
            return inner;
        }
        let prefix = inner.prefix.as_str();
        let found = self.weights.tensors.range(prefix.to_owned()..).next();
        if found.is_some_and(|(name, _)| name.starts_with(prefix)) { inner } else { self.clone() }
    }

    /// Whether there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        let is_there = |name: &str| self.weights.get(&format!("{}{name}", self.prefix)).is_some();
        is_there(name) || (self.weights.asked.is_some() && name == "bias" && !is_there("weight"))
    }

    /// A tensor of the shape that the config asks for. Errors: Mismatch.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let Some(asked) = &self.weights.asked {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(format!("{}{name}", self.prefix), shape.to_vec());
            return Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        }
        let tensor = self.find(name)?;
        if tensor.dims() != shape {
            let message = format!("has the shape {:?}, and config.json asks for {shape:?}", tensor.dims());
            return Err(Error::mismatch(message).in_tensor(&format!("{}{name}", self.prefix)).into());
        }
        Ok(tensor.clone())
    }

    /// A matrix of `cols` columns, and any number of rows; a new one has `rows`. Errors: Mismatch.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Tensor> {
        let found = self.find(name).map(|tensor| tensor.dims().first().copied().unwrap_or(0));
        let rows = if self.weights.asked.is_some() { found.unwrap_or(rows) } else { found? };
        self.tensor(name, &[rows, cols])
    }

    fn find(&self, name: &str) -> Result<&Tensor> {
        let name = format!("{}{name}", self.prefix);
        let missing = || Error::mismatch("is missing, and the model needs it").in_tensor(&name);
        Ok(self.weights.get(&name).ok_or_else(missing)?)
    }
}

/// Names that older checkpoints have for weight and bias of a layer norm.
fn modern(name: &str) -> String {
    name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
}

/// `view` in `f32`, or `None` for integers and booleans.
fn tensor(view: TensorView<'_>) -> Result<Option<Tensor>> {
    let dtype = match view.dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        _ => return Ok(None),
    };
    let tensor = Tensor::from_raw_buffer(view.bytes, dtype, view.shape, &Device::Cpu)?;
    Ok(Some(tensor.to_dtype(DType::F32)?))
}
