//! The tensors of a model by name, in `f32`.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use delta_dct::{Archive, Checkpoint, Dtype, TensorView};
use rayon::prelude::*;

use crate::error::Result;

/// Tensors by name. All are `f32`, except those that were integers or booleans, which a model does not compute with
/// and are left out.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

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
        let named = |name: &&str| Ok(load(name)?.map(|tensor| (String::from(*name), tensor)));
        let found: Vec<Result<_>> = names.par_iter().map(named).collect();
        let found = found.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Self { tensors: found.into_iter().flatten().collect() })
    }

    /// A tensor.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Puts a tensor in the place of what `name` had.
    pub fn insert(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.to_owned(), tensor);
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
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
