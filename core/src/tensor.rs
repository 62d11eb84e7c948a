//! A tensor as it lies in a checkpoint.

pub use safetensors::Dtype;

use crate::error::{Error, Result};

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

/// Length of dimension 0, 1 for a scalar.
pub(crate) fn row_count(shape: &[usize]) -> usize {
    shape.first().copied().unwrap_or(1)
}

/// Whether it is more than vectors.
pub(crate) fn is_matrix(shape: &[usize]) -> bool {
    let Matrices { rows, cols, .. } = Matrices::of(shape, row_count(shape));
    rows > 1 && cols > 1
}

/// Whether deltas of this dtype are coded; everything else is carried byte by byte.
pub(crate) fn is_coded(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Bytes of one element of a coded dtype.
pub(crate) fn coded_size(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// Bytes of one element. Sub-byte dtypes give an error: they can only be carried whole.
pub(crate) fn element_size(dtype: Dtype) -> Result<usize> {
    match dtype.bitsize() {
        bits if bits % 8 == 0 => Ok(bits / 8),
        bits => Err(Error::unsupported(format!("elements of {bits} bits ({dtype}) cannot be split"))),
    }
}

/// The weights of a tensor as they are coded: so many matrices of one shape, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrices {
    pub(crate) count: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Matrices {
    /// A single one.
    pub(crate) fn one(rows: usize, cols: usize) -> Self {
        Self { count: 1, rows, cols }
    }

    /// Those of a tensor of which `rows` leading rows are used.
    ///
    /// Three dimensions of which the first is not larger than the others are a stack of matrices, such as the experts of a layer.
    /// Else it is one matrix: dimension 0, and all the others. Of more dimensions a first one of 1 is passed over; vectors are
    /// columns, a scalar is 1 x 1.
    pub(crate) fn of(shape: &[usize], rows: usize) -> Self {
        match *shape {
            [] => Self::one(1, 1),
            [_, height, width] if rows <= height.min(width) => {
                Self { count: rows, rows: height, cols: width }
            }
            [1, next, _, _, ..] if rows == 1 => Self::of(shape.get(1..).unwrap_or_default(), next),
            // Only a tensor without weights can have more columns than there are numbers.
            [_, ref rest @ ..] => Self::one(rows, rest.iter().fold(1, |n: usize, &d| n.saturating_mul(d))),
        }
    }
}
