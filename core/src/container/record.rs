//! One record: a header and a body (FORMAT.md, "Record"). Its checksum belongs to the entry that holds it.

use delta_dct_digest::Digest;

use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::wire::{Reader, Writer};

/// Elements that a tensor may have.
const MAX_ELEMENTS: u64 = 1 << 40;
const MAX_DIMENSIONS: u64 = 64;
/// Elements for each byte of a payload at most, where no base tells how large the tensor is.
const ALONE_ELEMENTS_PER_BYTE: u64 = 64;

/// How one tensor of the fine-tuned model comes back.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Digest of the tensor's bytes as the encoder reconstructed them.
    pub(crate) result: u64,
    pub(crate) body: Body<'a>,
}

/// Where the tensor's values come from.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    /// The values themselves (see `planes`).
    Raw { planes: &'a [u8] },
    /// The base tensor in this tensor's dtype, then the rows that the base does not have.
    Base { link: Link, tail: &'a [u8] },
    /// Another tensor of the same model.
    Alias { name: String },
    /// The base tensor plus a coded delta, then the rows that the base does not have.
    Delta { link: Link, payload: &'a [u8], tail: &'a [u8] },
    /// The tensor exactly, as it differs from a prediction: the base tensor plus the delta of `payload`, if there is one.
    Exact { link: Link, payload: &'a [u8], residual: &'a [u8], tail: &'a [u8] },
    /// The tensor exactly, as it differs from what the first layer gives for it.
    Refined { residual: &'a [u8] },
    /// A coded tensor that no base tensor corresponds to: its delta from zeros.
    Alone { payload: &'a [u8] },
}

/// The base tensor that a record depends on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    /// Leading rows (of dimension 0) that are used; 1 for a scalar.
    pub(crate) rows: usize,
    /// Digest of the bytes of those rows.
    pub(crate) digest: u64,
}

/// Checksum of an entry of the file: XXH3 with 64 bits over its name, a zero byte, and its content.
pub(crate) fn checksum(name: &str, content: &[u8]) -> u64 {
    let mut hasher = Digest::default();
    hasher.write(name.as_bytes());
    hasher.write(&[0]);
    hasher.write(content);
    hasher.finish()
}

impl<'a> Record<'a> {
    /// The record's bytes, for the tensor called `name`, without the checksum.
    pub(crate) fn write(&self, name: &str) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(self.body.id());
        out.u8(dtype_id(self.dtype));
        out.varint(self.shape.len() as u64);
        self.shape.iter().for_each(|&n| out.varint(n as u64));
        out.u64(self.result);
        match &self.body {
            Body::Raw { planes } => out.bytes(planes),
            Body::Base { link, tail } => {
                link.write(name, &mut out);
                out.bytes(tail);
            }
            Body::Alias { name } => out.bytes(name.as_bytes()),
            Body::Delta { link, payload, tail } => {
                link.write(name, &mut out);
                out.bytes(payload);
                out.bytes(tail);
            }
            Body::Exact { link, payload, residual, tail } => {
                link.write(name, &mut out);
                [payload, residual, tail].iter().for_each(|part| out.bytes(part));
            }
            Body::Refined { residual } => out.bytes(residual),
            Body::Alone { payload } => out.bytes(payload),
        }
        out.0
    }

    /// Parses the bytes of the record called `name`.
    pub(crate) fn read(name: &str, bytes: &'a [u8]) -> Result<Self> {
        let mut input = Reader(bytes);
        let id = input.u8("record kind")?;
        let dtype = dtype_from_id(input.u8("dtype")?)?;
        let dimensions = input.varint_to(MAX_DIMENSIONS, "number of dimensions")?;
        let shape = (0..dimensions)
            .map(|_| input.varint_to(MAX_ELEMENTS, "dimension"))
            .collect::<Result<Vec<_>>>()?;
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let Some(elements) = elements.filter(|&n| n <= MAX_ELEMENTS) else {
            return Err(Error::limit(format!("shape {shape:?} has more than 2^40 elements")));
        };
        let result = input.u64("digest of the result")?;
        let body = match id {
            0 => Body::Raw { planes: input.bytes("raw planes")? },
            1 => Body::Base { link: Link::read(name, &shape, &mut input)?, tail: input.bytes("new rows")? },
            2 => Body::Alias { name: text(input.bytes("tied name")?)? },
            3 => Body::Delta {
                link: Link::read(name, &shape, &mut input)?,
                payload: input.bytes("payload")?,
                tail: input.bytes("new rows")?,
            },
            4 => Body::Exact {
                link: Link::read(name, &shape, &mut input)?,
                payload: input.bytes("payload")?,
                residual: input.bytes("exact residual")?,
                tail: input.bytes("new rows")?,
            },
            5 => Body::Refined { residual: input.bytes("exact residual")? },
            6 => Body::Alone { payload: input.bytes("payload")? },
            _ => return Err(Error::unsupported(format!("record kind {id} is not known to this version"))),
        };
        input.finish("record")?;
        if let Body::Alone { payload } = body
            && elements > payload.len() as u64 * ALONE_ELEMENTS_PER_BYTE
        {
            return Err(Error::limit(format!("{shape:?} without a base, in {} bytes", payload.len())));
        }
        Ok(Self { dtype, shape, result, body })
    }
}

impl Body<'_> {
    fn id(&self) -> u8 {
        match self {
            Self::Raw { .. } => 0,
            Self::Base { .. } => 1,
            Self::Alias { .. } => 2,
            Self::Delta { .. } => 3,
            Self::Exact { .. } => 4,
            Self::Refined { .. } => 5,
            Self::Alone { .. } => 6,
        }
    }

    /// The name of the kind in reports.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Raw { .. } => "raw",
            Self::Base { .. } => "base",
            Self::Alias { .. } => "alias",
            Self::Delta { .. } => "delta",
            Self::Exact { .. } => "exact",
            Self::Refined { .. } => "refined",
            Self::Alone { .. } => "alone",
        }
    }

    /// The base tensor that it depends on.
    pub(crate) fn link(&self) -> Option<&Link> {
        match self {
            Self::Base { link, .. } | Self::Delta { link, .. } | Self::Exact { link, .. } => Some(link),
            Self::Raw { .. } | Self::Alias { .. } | Self::Refined { .. } | Self::Alone { .. } => None,
        }
    }
}

impl Link {
    /// The base tensor's name is the bytes given and then the last `shared` bytes of the tensor's own name.
    fn write(&self, name: &str, out: &mut Writer) {
        let shared = name.bytes().rev().zip(self.name.bytes().rev()).take_while(|(a, b)| a == b).count();
        out.varint(shared as u64);
        out.bytes(&self.name.as_bytes()[..self.name.len() - shared]);
        out.u8(dtype_id(self.dtype));
        out.varint(self.rows as u64);
        out.u64(self.digest);
    }

    fn read(name: &str, shape: &[usize], input: &mut Reader<'_>) -> Result<Self> {
        let shared = input.varint_to(name.len() as u64, "shared part of the base tensor's name")?;
        let mut full = input.bytes("base tensor's name")?.to_vec();
        full.extend(&name.as_bytes()[name.len() - shared..]);
        let dtype = dtype_from_id(input.u8("base dtype")?)?;
        let rows = input.varint_to(shape.first().map_or(1, |&n| n as u64), "rows of the base")?;
        Ok(Self { name: text(&full)?, dtype, rows, digest: input.u64("digest of the base")? })
    }
}

/// A name from its bytes.
pub(super) fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::corrupt("a tensor's name is not UTF-8"))
}

/// Dtypes in the order of their ids (FORMAT.md, "Dtypes"). An id never changes its meaning.
const DTYPES: &[Dtype] = &[
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::F64,
    Dtype::I64,
    Dtype::I32,
    Dtype::I16,
    Dtype::I8,
    Dtype::U64,
    Dtype::U32,
    Dtype::U16,
    Dtype::U8,
    Dtype::BOOL,
    Dtype::F8_E4M3,
    Dtype::F8_E5M2,
    Dtype::F8_E8M0,
    Dtype::F4,
    Dtype::F6_E2M3,
    Dtype::F6_E3M2,
    Dtype::C64,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
];

fn dtype_id(dtype: Dtype) -> u8 {
    DTYPES.iter().position(|&d| d == dtype).unwrap_or(usize::from(u8::MAX)) as u8
}

fn dtype_from_id(id: u8) -> Result<Dtype> {
    let unknown = || Error::unsupported(format!("dtype id {id} is not known to this version"));
    DTYPES.get(usize::from(id)).copied().ok_or_else(unknown)
}
