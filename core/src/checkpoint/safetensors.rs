//! A safetensors file: its header, checked, and where its tensors lie.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::{SafeTensorError, SafeTensors};

use super::{Contents, Found, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Dtype;

/// Metadata of a file, and its tensors by name as ranges of its bytes.
type Entries = (BTreeMap<String, String>, BTreeMap<String, Range<usize>>);

/// The file `bytes` as named byte ranges, without regard to dtypes and shapes.
pub(crate) fn entries(bytes: &[u8]) -> Result<Entries> {
    let contents = read(bytes)?;
    let range = |found: Found| match found.place {
        Place::Mapped(range) => Some((found.name, range)),
        Place::Copied(_) => None,
    };
    Ok((contents.metadata, contents.tensors.into_iter().filter_map(range).collect()))
}

/// The tensors of the file `bytes` in the order of their data, and its `__metadata__`.
pub(super) fn read(bytes: &[u8]) -> Result<Contents> {
    let (header_len, header) = SafeTensors::read_metadata(bytes).map_err(explain)?;
    let data = 8 + header_len;
    let mut infos: Vec<_> = header.tensors().into_iter().collect();
    // Empty tensors share their offset with a neighbour; the canonical order decides between them.
    infos.sort_by(|(a, x), (b, y)| {
        x.data_offsets.cmp(&y.data_offsets).then_with(|| canonical(x.dtype, a).cmp(&canonical(y.dtype, b)))
    });
    let mut contents = Contents::default();
    for (name, info) in infos {
        let (start, end) = (data.checked_add(info.data_offsets.0), data.checked_add(info.data_offsets.1));
        let range = start.zip(end).map(|(start, end)| start..end).filter(|r| bytes.get(r.clone()).is_some());
        let range = range.ok_or_else(|| Error::truncated("its data").in_tensor(&name))?;
        let place = Place::Mapped(range);
        contents.tensors.push(Found { name, dtype: info.dtype, shape: info.shape.clone(), place });
    }
    contents.metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(contents)
}

/// The key by which the safetensors crate orders the data of a file: wide elements first, then by name.
pub(super) fn canonical(dtype: Dtype, name: &str) -> (Reverse<Dtype>, &str) {
    (Reverse(dtype), name)
}

/// The crate's errors in our words.
fn explain(error: SafeTensorError) -> Error {
    use SafeTensorError as E;
    match error {
        E::HeaderTooSmall | E::InvalidHeaderLength => Error::truncated("the safetensors header"),
        E::MetadataIncompleteBuffer => {
            let message =
                "the file has another size than its header says: was it copied or downloaded completely?";
            Error::new(ErrorKind::Truncated, message)
        }
        other => Error::corrupt(format!("not a valid safetensors file: {other}")),
    }
}
