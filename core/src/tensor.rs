//! A tensor as it lies in a checkpoint.

pub use safetensors::Dtype;

/// A borrowed tensor: little-endian, row-major (C order), exactly `shape` elements of `dtype`.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, slowest first; empty for a scalar.
    pub shape: &'a [usize],
    /// The elements.
    pub bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Number of elements (1 for a scalar).
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when some dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a checkpoint's header says about one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
}

/// Whether deltas of this dtype are coded; everything else is carried byte by byte.
pub(crate) fn is_coded(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// A tensor of which `rows` leading rows are used, as a matrix: dimension 0 and all the others. Of three and more
/// dimensions a first one of 1 is passed over; vectors are columns, a scalar is 1 x 1.
pub(crate) fn matrix(shape: &[usize], rows: usize) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [1, rest @ [next, _, ..]] if rows == 1 => matrix(rest, *next),
        [_, rest @ ..] => (rows, rest.iter().product()),
    }
}
