//! A tensor as a strided view of a storage: which bytes it is, or a contiguous copy of them.

use std::ops::Range;

use super::rebuild::Stored;
use crate::error::{Error, Result};
use crate::tensor::element_size;

/// How often a view may repeat the bytes of its storage (an expanded tensor does).
const MAX_EXPANSION: usize = 16;

/// Where the elements of a view lie.
pub(super) enum Placement {
    /// In these bytes of the storage, in order.
    Contiguous(Range<usize>),
    /// Scattered; the copy has this many bytes.
    Scattered(usize),
}

/// Checks that the view stays inside a storage of `available` bytes and says where it lies.
pub(super) fn place(tensor: &Stored<'_>, available: usize) -> Result<Placement> {
    let outside = || Error::corrupt("a view that reaches outside its storage");
    let size = element_size(tensor.dtype)?;
    let numel = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(outside)?;
    if numel == 0 {
        return Ok(Placement::Contiguous(0..0));
    }
    let mut steps = tensor.shape.iter().zip(&tensor.stride);
    let last = steps.try_fold(tensor.offset, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?));
    let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
    if end.is_none_or(|end| end > available) {
        return Err(outside());
    }
    let bytes = numel.checked_mul(size).ok_or_else(outside)?;
    if is_contiguous(tensor) {
        let start = tensor.offset * size;
        return Ok(Placement::Contiguous(start..start + bytes));
    }
    if bytes / MAX_EXPANSION > available {
        let message = format!("a view of {bytes} bytes repeats its storage of {available} bytes too often");
        return Err(Error::limit(message));
    }
    Ok(Placement::Scattered(bytes))
}

/// Whether the strides are those of a row-major tensor; the stride of a dimension of 1 does not matter.
fn is_contiguous(tensor: &Stored<'_>) -> bool {
    let mut expected = 1;
    tensor.shape.iter().zip(&tensor.stride).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected *= d;
        fits
    })
}

/// The elements of a view that [`place`] found scattered, copied in row-major order. `bytes` is the size it gave.
pub(super) fn gather(tensor: &Stored<'_>, storage: &[u8], bytes: usize) -> Result<Vec<u8>> {
    let size = element_size(tensor.dtype)?;
    let mut steps: Vec<(usize, usize)> =
        tensor.shape.iter().copied().zip(tensor.stride.iter().copied()).filter(|&(d, _)| d > 1).collect();
    let (inner, step) = steps.pop().unwrap_or((1, 1));
    let mut index = vec![0; steps.len()];
    let mut at = tensor.offset;
    let mut out = Vec::with_capacity(bytes);
    while out.len() < bytes {
        for i in 0..inner {
            let start = (at + i * step) * size;
            let element = storage.get(start..start + size);
            out.extend_from_slice(element.ok_or_else(|| Error::corrupt("a view outside its storage"))?);
        }
        for (i, &(d, s)) in index.iter_mut().zip(&steps).rev() {
            *i += 1;
            at += s;
            if *i < d {
                break;
            }
            at -= s * d;
            *i = 0;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::checkpoint::rebuild::Storage;
    use crate::tensor::Dtype;

    fn view(offset: usize, shape: &[usize], stride: &[usize]) -> Stored<'static> {
        let storage = Storage { key: "0", dtype: Some(Dtype::I16), len: 24 };
        Stored { storage, dtype: Dtype::I16, offset, shape: shape.into(), stride: stride.into() }
    }

    fn copy(tensor: &Stored<'_>, storage: &[u8]) -> Vec<u8> {
        match place(tensor, storage.len()).unwrap() {
            Placement::Contiguous(range) => storage[range].to_vec(),
            Placement::Scattered(bytes) => gather(tensor, storage, bytes).unwrap(),
        }
    }

    #[test]
    fn views_have_the_elements_that_their_strides_say() {
        let storage: Vec<u8> = (0..48).collect();
        let views = [
            view(0, &[4, 6], &[6, 1]),
            view(0, &[6, 4], &[1, 6]),
            view(2, &[2, 1, 3], &[6, 99, 1]),
            view(5, &[3, 2, 2], &[0, 4, 2]),
            view(23, &[], &[]),
            view(0, &[20, 3], &[0, 1]),
            view(7, &[0, 3], &[3, 1]),
        ];
        for tensor in &views {
            let mut expected = Vec::new();
            let numel: usize = tensor.shape.iter().product();
            for n in 0..numel {
                let (mut rest, mut at) = (n, tensor.offset);
                for (d, s) in tensor.shape.iter().zip(&tensor.stride).rev() {
                    at += rest % d * s;
                    rest /= d;
                }
                expected.extend([2 * at as u8, 2 * at as u8 + 1]);
            }
            assert_eq!(copy(tensor, &storage), expected, "{tensor:?}");
        }
    }

    #[test]
    fn views_outside_the_storage_and_huge_ones_are_errors() {
        let huge = usize::MAX / 2;
        let views = [
            view(24, &[1], &[1]),
            view(0, &[25], &[1]),
            view(0, &[2, 2], &[23, 1]),
            view(huge, &[2], &[huge]),
            view(0, &[huge, 3], &[0, 0]),
            view(0, &[1 << 20], &[0]),
        ];
        for tensor in &views {
            assert!(place(tensor, 48).is_err(), "{tensor:?}");
        }
    }
}
