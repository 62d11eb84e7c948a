//! `pytorch_model.bin`: the tensors of a state dict in either of PyTorch's containers (a zip archive since 1.6;
//! before that a row of pickles followed by the storages).

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Object, Pickle, Value};
use super::rebuild::Stored;
use super::state_dict::state_dict;
use super::view::{Placement, gather, place};
use super::{Contents, Found, Place};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, element_size};
use crate::wire::Reader;

/// A zip archive starts with this.
pub(super) const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// The pickled number that starts the container of PyTorch before 1.6: `PROTO 2, LONG1, 10 bytes, STOP`.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Longest pickle of a state dict; that of a model with 100 000 tensors has about 20 MiB.
const MAX_PICKLE: usize = 32 << 20;

/// Scattered views may take this many times the bytes of the file, all together.
const MAX_COPIES: usize = 4;

/// Where the bytes of each storage lie in the file, by key.
type Storages<'a> = HashMap<&'a str, Range<usize>>;

/// The tensors of the file `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Contents> {
    if bytes.starts_with(ZIP_MAGIC) { read_zip(bytes) } else { read_legacy(bytes) }
}

fn read_zip(bytes: &[u8]) -> Result<Contents> {
    let entries = stored_entries(bytes)?;
    let mut roots = entries.iter().filter_map(|(name, data)| Some((name.strip_suffix("data.pkl")?, data)));
    let (root, pickle) = match (roots.next(), roots.next()) {
        (Some(found), None) => found,
        _ => {
            return Err(Error::unsupported(
                "a zip archive without exactly one data.pkl is not from torch.save",
            ));
        }
    };
    let inside = |data: &Range<usize>| bytes.get(data.clone()).unwrap_or(&[]);
    let order = entries.iter().find(|(name, _)| name.strip_prefix(root) == Some("byteorder"));
    if order.is_some_and(|(_, data)| inside(data) != b"little") {
        return Err(Error::unsupported("it was saved on a big-endian machine; re-save it as safetensors"));
    }
    let storages = entries.iter().filter_map(|(name, data)| {
        let key = name.strip_prefix(root)?.strip_prefix("data/")?;
        Some((key, data.clone()))
    });
    let storages: Storages<'_> = storages.collect();
    contents(bytes, &Pickle::read(limited(inside(pickle)))?, &storages)
}

/// Name and bytes of each entry of a zip archive, none of which may be compressed.
fn stored_entries(bytes: &[u8]) -> Result<Vec<(String, Range<usize>)>> {
    let broken = |e| Error::corrupt(format!("not a complete zip archive: {e}"));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            let message =
                format!("entry {name} is compressed or encrypted; re-save the model as safetensors");
            return Err(Error::unsupported(message));
        }
        let start = entry.data_start().unwrap_or(u64::MAX);
        match (usize::try_from(start), usize::try_from(start.saturating_add(entry.size()))) {
            (Ok(start), Ok(end)) if end <= bytes.len() => entries.push((name, start..end)),
            _ => return Err(Error::truncated(format!("zip entry {name}"))),
        }
    }
    Ok(entries)
}

fn read_legacy(bytes: &[u8]) -> Result<Contents> {
    let mut rest = Reader(bytes);
    rest.take(LEGACY_MAGIC.len(), "the magic number")?;
    let protocol = next(&mut rest)?;
    if !matches!(protocol.root, Value::Int(1001)) {
        return Err(Error::unsupported(format!("serialization protocol {:?}, not 1001", protocol.root)));
    }
    let system = next(&mut rest)?;
    let big = |(key, value): &_| matches!((key, value), (Value::Str("little_endian"), Value::Bool(false)));
    if system.dict(system.root).is_some_and(|pairs| pairs.iter().any(big)) {
        return Err(Error::unsupported("it was saved on a big-endian machine; re-save it as safetensors"));
    }
    let (model, keys) = (next(&mut rest)?, next(&mut rest)?);
    let storages = legacy_storages(&model, &keys, rest, bytes.len())?;
    contents(bytes, &model, &storages)
}

/// The storages behind the pickles, in the order of `keys`: an i64 count of elements, then the elements.
fn legacy_storages<'a>(
    model: &Pickle<'a>,
    keys: &Pickle<'a>,
    mut rest: Reader<'a>,
    file_len: usize,
) -> Result<Storages<'a>> {
    let named = model.objects.iter().filter_map(|object| match object {
        Object::Storage(storage) => Some((storage.key, storage)),
        _ => None,
    });
    let named: HashMap<_, _> = named.collect();
    let Some(Object::List(keys)) = keys.object(keys.root) else {
        return Err(Error::corrupt("the list of storages is missing"));
    };
    let mut storages = Storages::with_capacity(keys.len());
    for key in keys {
        let Value::Str(key) = *key else { return Err(Error::corrupt("the key of a storage is not text")) };
        let storage = named.get(key).ok_or_else(|| Error::corrupt(format!("storage {key} is not used")))?;
        let what = "a storage";
        let count = rest.u64(what)?;
        if count != storage.len as u64 {
            return Err(Error::corrupt(format!("storage {key} has {count} elements, not {}", storage.len)));
        }
        let size = storage.dtype.map_or(Ok(1), element_size)?;
        let len = storage.len.checked_mul(size).ok_or_else(|| Error::truncated(what))?;
        let start = file_len - rest.0.len();
        rest.take(len, what)?;
        storages.insert(key, start..start + len);
    }
    Ok(storages)
}

/// The next pickle of `rest`.
fn next<'a>(rest: &mut Reader<'a>) -> Result<Pickle<'a>> {
    let pickle = Pickle::read(limited(rest.0))?;
    rest.take(pickle.len, "a pickle")?;
    Ok(pickle)
}

/// No more of `bytes` than a pickle may have: what it builds takes a multiple of that in memory.
fn limited(bytes: &[u8]) -> &[u8] {
    bytes.get(..MAX_PICKLE).unwrap_or(bytes)
}

/// Finds the bytes of every tensor of a state dict.
fn contents(bytes: &[u8], pickle: &Pickle<'_>, storages: &Storages<'_>) -> Result<Contents> {
    let (tensors, ignored) = state_dict(pickle)?;
    let mut contents = Contents { ignored: ignored.into_iter().collect(), ..Contents::default() };
    contents.metadata.insert("format".into(), "pt".into());
    let mut copies = Copies { made: BTreeMap::new(), budget: bytes.len().saturating_mul(MAX_COPIES) };
    for (name, tensor) in tensors {
        let place = locate(bytes, tensor, storages, &mut copies, &mut contents.copies);
        let place = place.map_err(|e| e.in_tensor(name))?;
        contents.tensors.push(Found {
            name: name.into(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            place,
        });
    }
    Ok(contents)
}

/// A scattered view: the start of its storage, its offset, shape, strides and dtype.
type View<'t> = (usize, usize, &'t [usize], &'t [usize], Dtype);

/// The copies of scattered views that there are, and the bytes still allowed.
struct Copies<'t> {
    made: BTreeMap<View<'t>, usize>,
    budget: usize,
}

/// Where `tensor` lies in the file, or in a new or earlier copy.
fn locate<'t>(
    bytes: &[u8],
    tensor: &'t Stored<'_>,
    storages: &Storages<'_>,
    copies: &mut Copies<'t>,
    done: &mut Vec<Vec<u8>>,
) -> Result<Place> {
    let key = tensor.storage.key;
    let range = storages.get(key).ok_or_else(|| Error::corrupt(format!("its storage {key} is missing")))?;
    let storage = bytes.get(range.clone()).ok_or_else(|| Error::truncated("its storage"))?;
    let len = match place(tensor, storage.len())? {
        Placement::Contiguous(inner) => {
            return Ok(Place::Mapped(range.start + inner.start..range.start + inner.end));
        }
        Placement::Scattered(len) => len,
    };
    let view = (range.start, tensor.offset, &tensor.shape[..], &tensor.stride[..], tensor.dtype);
    if let Some(&copy) = copies.made.get(&view) {
        return Ok(Place::Copied(copy));
    }
    copies.budget = copies.budget.checked_sub(len).ok_or_else(|| {
        Error::limit(format!(
            "views that are not contiguous take more than {MAX_COPIES} times the file's bytes"
        ))
    })?;
    copies.made.insert(view, done.len());
    done.push(gather(tensor, storage, len)?);
    Ok(Place::Copied(done.len() - 1))
}
