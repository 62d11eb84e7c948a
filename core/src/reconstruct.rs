//! From a record and its base tensor to the bytes of the fine-tuned tensor, a few chunks at a time.

use crate::codec::{self, Sink, decode_tensor};
use crate::container::{Body, Digest, Link, Record, digest};
use crate::delta;
use crate::error::{Error, Result};
use crate::exact;
use crate::planes;
use crate::tensor::{Dtype, Matrices, TensorView, coded_size, is_coded, row_count};

/// Elements of a step where no delta is added.
const CAST_ELEMENTS: usize = 1 << 20;

/// The leading `link.rows` rows of `base`, checked to be what the encoder saw.
///
/// Errors: Mismatch if `base` is another tensor than that.
pub(crate) fn linked<'a>(link: &Link, base: TensorView<'a>) -> Result<&'a [u8]> {
    let describe = |what: String| {
        Error::mismatch(format!("the base is not the one that the file was made with: {what}"))
    };
    if base.dtype != link.dtype {
        return Err(describe(format!("its {} is {}, not {}", link.name, base.dtype, link.dtype)));
    }
    let rows = row_count(base.shape);
    let used = base.bytes.len().checked_div(rows).unwrap_or(0).saturating_mul(link.rows);
    let bytes = base.bytes.get(..used).filter(|_| link.rows <= rows);
    let bytes =
        bytes.ok_or_else(|| describe(format!("its {} has {rows} rows, not {}", link.name, link.rows)))?;
    if digest(bytes) != link.digest {
        return Err(describe(format!("its {} has other values", link.name)));
    }
    Ok(bytes)
}

/// Feeds the bytes of the tensor of `record` to `sink`, in order, and checks their digest at the end.
///
/// `base` is the checked part of the base tensor (see [`linked`]), or what the first layer gives for a refined one; records
/// without either do not use it. An alias has no bytes of its own: it is resolved by the caller.
pub(crate) fn reconstruct(record: &Record<'_>, base: (Dtype, &[u8]), sink: &mut Sink<'_>) -> Result<()> {
    let mut hasher = Digest::default();
    let mut hashed = |bytes: &[u8]| {
        hasher.write(bytes);
        sink(bytes)
    };
    let len = tensor_bytes(record.dtype, &record.shape)?;
    match &record.body {
        Body::Raw { planes } => planes::decode(planes, plane_count(record.dtype), len, &mut hashed)?,
        Body::Alias { name } => return Err(Error::corrupt(format!("tied to {name}, which is itself tied"))),
        Body::Base { link, tail } => {
            let tail_len = len - shared_bytes(record, link, base, len)?;
            cast(base, record.dtype, &mut hashed)?;
            planes::decode(tail, plane_count(record.dtype), tail_len, &mut hashed)?;
        }
        Body::Delta { link, payload, tail } => {
            let tail_len = len - shared_bytes(record, link, base, len)?;
            let matrices = Matrices::of(&record.shape, link.rows);
            decode_tensor(payload, matrices, base, record.dtype, &mut hashed)?;
            planes::decode(tail, plane_count(record.dtype), tail_len, &mut hashed)?;
        }
        Body::Exact { link, payload, residual, tail } => {
            let shared = shared_bytes(record, link, base, len)?;
            let predicted;
            let prediction = match payload.is_empty() {
                true => base,
                false => {
                    predicted = predict(record, link, payload, base, shared)?;
                    (record.dtype, predicted.as_slice())
                }
            };
            exact::decode(residual, prediction, record.dtype, &mut hashed)?;
            planes::decode(tail, plane_count(record.dtype), len - shared, &mut hashed)?;
        }
        Body::Refined { residual } => {
            check_fit(record, "the tensor of the first layer", base, len)?;
            exact::decode(residual, base, record.dtype, &mut hashed)?;
        }
        Body::Alone { payload } => {
            let zeros = vec![0; len];
            decode_tensor(payload, all_rows(record), (record.dtype, &zeros), record.dtype, &mut hashed)?;
        }
    }
    check_result(record, &hasher)
}

/// [`reconstruct`] of a record that refines the result of `below`, a record of the first layer, which needs `base`.
///
/// `below` has the shape of `record`, and a dtype that can become its dtype.
pub(crate) fn reconstruct_refined(
    record: &Record<'_>,
    below: &Record<'_>,
    base: (Dtype, &[u8]),
    sink: &mut Sink<'_>,
) -> Result<()> {
    let Body::Refined { residual } = &record.body else {
        return Err(Error::corrupt("does not refine the first layer"));
    };
    let mut hasher = Digest::default();
    let mut hashed = |bytes: &[u8]| {
        hasher.write(bytes);
        sink(bytes)
    };
    let mut decoder = exact::Decoder::new(residual, below.dtype, record.dtype);
    reconstruct(below, base, &mut |bytes| decoder.push(bytes, &mut hashed))?;
    decoder.finish(&mut hashed)?;
    check_result(record, &hasher)
}

fn check_result(record: &Record<'_>, hasher: &Digest) -> Result<()> {
    match hasher.finish() == record.result {
        true => Ok(()),
        false => Err(Error::corrupt("the reconstructed values are not the ones that the encoder saw")),
    }
}

/// The shared rows with the delta of `payload`, `len` bytes.
fn predict(
    record: &Record<'_>,
    link: &Link,
    payload: &[u8],
    base: (Dtype, &[u8]),
    len: usize,
) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(len);
    decode_tensor(payload, Matrices::of(&record.shape, link.rows), base, record.dtype, &mut |bytes| {
        out.extend(bytes);
        Ok(())
    })?;
    Ok(out)
}

/// Parses all of a record that can be parsed without its base.
pub(crate) fn check_structure(record: &Record<'_>) -> Result<()> {
    match coded_part(record) {
        Some((payload, matrices)) => codec::check(payload, matrices),
        None => Ok(()),
    }
}

/// The payload of a record that has one, and the matrices that it is of.
pub(crate) fn coded_part<'a>(record: &Record<'a>) -> Option<(&'a [u8], Matrices)> {
    match &record.body {
        Body::Exact { payload: [], .. } => None,
        Body::Delta { link, payload, .. } | Body::Exact { link, payload, .. } => {
            Some((payload, Matrices::of(&record.shape, link.rows)))
        }
        Body::Alone { payload } => Some((payload, all_rows(record))),
        _ => None,
    }
}

/// The matrices of a tensor that has all of its rows from the payload.
fn all_rows(record: &Record<'_>) -> Matrices {
    Matrices::of(&record.shape, row_count(&record.shape))
}

/// Bytes of a whole tensor.
pub(crate) fn tensor_bytes(dtype: Dtype, shape: &[usize]) -> Result<usize> {
    let bits = shape.iter().try_fold(dtype.bitsize(), |n, &d| n.checked_mul(d));
    bits.map(|bits| bits.div_ceil(8)).ok_or_else(|| Error::limit(format!("shape {shape:?} is too large")))
}

/// Bytes of an element, for the byte planes; 1 for elements that are smaller.
pub(crate) fn plane_count(dtype: Dtype) -> usize {
    if dtype.bitsize().is_multiple_of(8) { dtype.bitsize() / 8 } else { 1 }
}

/// Bytes of the part of the tensor that comes from the base; fails if `base` is not just that part.
fn shared_bytes(record: &Record<'_>, link: &Link, base: (Dtype, &[u8]), len: usize) -> Result<usize> {
    let total = row_count(&record.shape);
    let shared = len.checked_div(total).unwrap_or(0) * link.rows;
    check_fit(record, &link.name, base, shared)?;
    Ok(shared)
}

/// Fails unless `base`, which is called `name`, has the elements of `len` bytes of the tensor, and can become them.
fn check_fit(record: &Record<'_>, name: &str, (dtype, base): (Dtype, &[u8]), len: usize) -> Result<()> {
    let fits = base.len().checked_mul(record.dtype.bitsize()) == len.checked_mul(dtype.bitsize());
    let castable = record.dtype == dtype || (is_coded(record.dtype) && is_coded(dtype));
    if fits && castable {
        return Ok(());
    }
    Err(Error::mismatch(format!(
        "{name} has {} bytes of {dtype}, which do not become {:?} of {}",
        base.len(),
        record.shape,
        record.dtype
    )))
}

/// Feeds `base` in another dtype to `sink`.
pub(crate) fn cast(base: (Dtype, &[u8]), dtype: Dtype, sink: &mut Sink<'_>) -> Result<()> {
    if base.0 == dtype {
        return sink(base.1);
    }
    let (from, to) = (coded_size(base.0), coded_size(dtype));
    let mut out = vec![0; (base.1.len() / from).min(CAST_ELEMENTS) * to];
    for piece in base.1.chunks(CAST_ELEMENTS * from) {
        let out = out.get_mut(..piece.len() / from * to).unwrap_or_default();
        delta::cast((base.0, piece), dtype, out)?;
        sink(out)?;
    }
    Ok(())
}
