//! The memory of `f32` tensors, for code that works on it directly.

use std::ops::Range;

use candle_core::{CpuStorage, Error, Layout, Result, Storage, Tensor};

/// The elements of a contiguous tensor, row by row.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    storage.as_slice::<f32>()?.get(range(layout)?).ok_or_else(beyond)
}

/// The same, to be changed.
pub(crate) fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match storage {
        CpuStorage::F32(all) => all.get_mut(range(layout)?).ok_or_else(beyond),
        _ => candle_core::bail!("a tensor that is not f32"),
    }
}

/// Lends the elements of a contiguous tensor, row by row.
pub(crate) fn with_values<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { candle_core::bail!("a tensor that is not on the CPU") };
    Ok(work(values(storage, layout)?))
}

fn range(layout: &Layout) -> Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(from..to),
        None => candle_core::bail!("a tensor of shape {:?} that is not contiguous", layout.shape()),
    }
}

fn beyond() -> Error {
    Error::msg("a tensor beyond its memory")
}
