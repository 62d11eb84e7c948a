//! A checkpoint whose tensors are in memory: the state dict of a model that was never on disk.

use std::path::Path;

use super::{Checkpoint, Shard, Storage, Tensor};
use crate::error::{Error, Result};
use crate::tensor::TensorInfo;

/// What stands where others have their path.
const NAME: &str = "tensors in memory";

impl Checkpoint {
    /// A checkpoint of named tensors, each all of `storages` (little-endian, row-major) at the index beside it. Tied
    /// tensors have the same index. Written again, it is one file `model.safetensors`; its [`Checkpoint::weight_bytes`]
    /// are those of the storages.
    ///
    /// Errors: InvalidArgument (a name twice, bytes of another size than the shape's, an index without storage).
    pub fn in_memory(storages: Vec<Vec<u8>>, tensors: Vec<(String, TensorInfo, usize)>) -> Result<Self> {
        let mut checkpoint = Self::empty(Path::new(NAME));
        for (name, TensorInfo { dtype, shape }, storage) in tensors {
            let bits = shape.iter().try_fold(dtype.bitsize(), |product, &n| product.checked_mul(n));
            let len = storages.get(storage).map(Vec::len);
            if len.is_none() || len.and_then(|len| len.checked_mul(8)) != bits {
                let len = len.unwrap_or(0);
                let message = format!("{len} bytes are not a tensor {shape:?} of {dtype}");
                return Err(Error::invalid(message).in_tensor(&name));
            }
            let tensor = Tensor { dtype, shape, storage, range: 0..len.unwrap_or(0) };
            if checkpoint.tensors.insert(name.clone(), tensor).is_some() {
                return Err(Error::invalid("is there twice").in_tensor(&name));
            }
        }
        checkpoint.weight_bytes = storages.iter().map(|bytes| bytes.len() as u64).sum();
        checkpoint.storages = storages.into_iter().map(Storage::Copied).collect();
        checkpoint.layout.shards.push(Shard { file: "model.safetensors".into(), ..Shard::default() });
        checkpoint.find_ties();
        Ok(checkpoint)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::tensor::Dtype;

    fn info(shape: &[usize]) -> TensorInfo {
        TensorInfo { dtype: Dtype::F32, shape: shape.to_vec() }
    }

    #[test]
    fn tensors_are_those_given_and_ties_are_found() {
        let tensors =
            vec![("b".into(), info(&[2, 1]), 0), ("a".into(), info(&[2, 1]), 0), ("c".into(), info(&[]), 1)];
        let checkpoint = Checkpoint::in_memory(vec![vec![1; 8], vec![2; 4]], tensors).unwrap();
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(checkpoint.get("b").unwrap().bytes, [1; 8]);
        assert_eq!((checkpoint.tied_to("b"), checkpoint.tied_to("c")), (Some("a"), None));
        assert_eq!(checkpoint.weight_bytes(), 12);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let refused = [
            vec![("a".into(), info(&[3]), 0)],
            vec![("a".into(), info(&[2]), 1)],
            vec![("a".into(), info(&[usize::MAX, 2]), 0)],
            vec![("a".into(), info(&[2]), 0), ("a".into(), info(&[2]), 0)],
        ];
        for tensors in refused {
            let error = Checkpoint::in_memory(vec![vec![0; 8]], tensors).unwrap_err();
            assert_eq!((error.kind(), error.tensor()), (ErrorKind::InvalidArgument, Some("a")));
        }
    }
}
