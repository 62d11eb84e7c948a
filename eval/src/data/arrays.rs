//! Arrays of a safetensors file: `images` u8 [n, height, width, channels] or [n, height, width], or `input_ids` of
//! integers [n, length]; and labels, integers [n].

use std::path::Path;

use delta_dct::{Checkpoint, Dtype, Error as DeltaError, TensorView};

use super::dataset::{DataOptions, Examples};
use super::images::{Image, Picture};
use super::labels::Label;
use super::table::LABELS;
use crate::error::Result;

/// What goes well, or a description of what is wrong with an array.
type Described<T> = std::result::Result<T, String>;

/// The inputs and labels of a file. Errors: `InvalidArgument` if an array is not there or has another shape or type.
pub(super) fn read(path: &Path, options: &DataOptions) -> Result<(Examples, Vec<Option<Label>>)> {
    let file = Checkpoint::open(path)?;
    let names = || file.names().collect::<Vec<_>>().join(", ");
    let inputs = || -> Described<Examples> {
        match (file.get("images"), file.get("input_ids")) {
            (Some(view), _) => Ok(Examples::Pictures(pictures(view)?)),
            (None, Some(view)) => Ok(Examples::Rows(rows(view)?)),
            (None, None) => Err(format!("no array `images` or `input_ids`, there are {}", names())),
        }
    };
    let labels = |count: usize| -> Described<_> {
        let found = match &options.labels {
            Some(name) => {
                Some(file.get(name).ok_or_else(|| format!("no array `{name}`, there are {}", names()))?)
            }
            None => LABELS.iter().find_map(|name| file.get(name)),
        };
        found.map_or_else(|| Ok(vec![None; count]), |view| class_labels(view, count))
    };
    let both = inputs().and_then(|examples| Ok((labels(examples.len())?, examples)));
    let (labels, examples) = both.map_err(|e| DeltaError::invalid(format!("{}: {e}", path.display())))?;
    Ok((examples, labels))
}

fn pictures(view: TensorView<'_>) -> Described<Vec<Picture>> {
    let (height, width, channels) = match (view.dtype, view.shape) {
        (Dtype::U8, &[_, height, width]) => (height, width, 1),
        (Dtype::U8, &[_, height, width, channels @ (1 | 3)]) => (height, width, channels),
        (dtype, shape) => {
            return Err(format!("`images` is {dtype} {shape:?}, not u8 [n, height, width, 1 or 3]"));
        }
    };
    let image = |bytes: &[u8]| Picture::Raw(Image { width, height, channels, bytes: bytes.to_vec() });
    Ok(view.bytes.chunks_exact((height * width * channels).max(1)).map(image).collect())
}

fn rows(view: TensorView<'_>) -> Described<Vec<Vec<u32>>> {
    let &[_, length] = view.shape else {
        return Err(format!("`input_ids` has the shape {:?}, not [n, length]", view.shape));
    };
    let id = |n: i64| u32::try_from(n).map_err(|_| format!("`input_ids` has {n}, which is no token"));
    let ids: Vec<u32> = integers(view)?.into_iter().map(id).collect::<Described<_>>()?;
    Ok(ids.chunks_exact(length.max(1)).map(<[u32]>::to_vec).collect())
}

fn class_labels(view: TensorView<'_>, count: usize) -> Described<Vec<Option<Label>>> {
    if *view.shape != [count] {
        return Err(format!("the labels have the shape {:?}, there are {count} examples", view.shape));
    }
    Ok(integers(view)?.into_iter().map(Label::number).collect())
}

fn integers(view: TensorView<'_>) -> Described<Vec<i64>> {
    let wide = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_le_bytes);
    let narrow = |bytes: &[u8]| bytes.try_into().map_or(0, |bytes| i32::from_le_bytes(bytes).into());
    match view.dtype {
        Dtype::I64 => Ok(view.bytes.chunks_exact(8).map(wide).collect()),
        Dtype::I32 => Ok(view.bytes.chunks_exact(4).map(narrow).collect()),
        Dtype::U8 => Ok(view.bytes.iter().map(|&byte| byte.into()).collect()),
        dtype => Err(format!("an array of {dtype}, where i64, i32 or u8 is needed")),
    }
}
