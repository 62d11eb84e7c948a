//! Streams a checkpoint to disk as safetensors.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};

use super::layout::{INDEX_FILE, Layout, Shard};
use super::safetensors::canonical;
use crate::error::{Error, Result};
use crate::tensor::Dtype;

/// Readers refuse longer headers.
const MAX_HEADER: usize = 100_000_000;

/// Dtype and shape of each tensor, by name.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>)>;

/// The files of a checkpoint while they are written: headers first, then tensor bytes in any order, from any
/// number of threads.
#[derive(Debug)]
pub struct CheckpointWriter {
    files: Vec<ShardFile>,
    places: HashMap<String, Place>,
}

#[derive(Debug)]
struct ShardFile {
    path: PathBuf,
    file: File,
    /// Bytes of tensors that are still to come.
    missing: AtomicU64,
}

/// Where a tensor's bytes go.
#[derive(Debug)]
struct Place {
    file: usize,
    start: u64,
    len: u64,
}

impl CheckpointWriter {
    /// Creates the files of `layout` in the folder `dir` with their headers, and the index where one belongs.
    /// None of them may exist. Errors: Corrupt (a layout that is unsafe or does not fit `tensors`), Io.
    pub fn create(dir: &Path, layout: &Layout, tensors: &Tensors) -> Result<Self> {
        layout.validate(&tensors.keys().map(String::as_str).collect())?;
        let mut writer = Self { files: Vec::new(), places: HashMap::new() };
        for shard in &layout.shards {
            writer.add(dir.join(&shard.file), shard, tensors)?;
        }
        if layout.has_index() {
            writer.write_index(&dir.join(INDEX_FILE), layout)?;
        }
        Ok(writer)
    }

    /// Writes `bytes` at `offset` inside tensor `name`. Each byte of each tensor is to be written exactly once.
    /// Errors: InvalidArgument (no such tensor, or outside it), Io.
    pub fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let place = self
            .places
            .get(name)
            .ok_or_else(|| Error::invalid("is not in the checkpoint").in_tensor(name))?;
        let len = bytes.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > place.len) {
            let message = format!("{len} bytes at {offset} are outside its {} bytes", place.len);
            return Err(Error::invalid(message).in_tensor(name));
        }
        let Some(shard) = self.files.get(place.file) else { return Ok(()) };
        write_at(&shard.file, bytes, place.start + offset).map_err(|e| Error::io("write", &shard.path, e))?;
        shard.missing.fetch_sub(len, Ordering::Relaxed);
        Ok(())
    }

    /// Flushes everything to the disk. Errors: InvalidArgument when not every byte was written once, Io.
    pub fn finish(self) -> Result<()> {
        for ShardFile { path, file, missing } in self.files {
            if missing.into_inner() != 0 {
                return Err(Error::invalid(format!(
                    "not all tensors of {} were written once",
                    path.display()
                )));
            }
            file.sync_all().map_err(|e| Error::io("write", &path, e))?;
        }
        Ok(())
    }

    /// Creates one file with its header and its full length.
    fn add(&mut self, path: PathBuf, shard: &Shard, tensors: &Tensors) -> Result<()> {
        let (infos, data_len) = infos(shard, tensors)?;
        let header = header(&shard.metadata, &infos)?;
        for (name, info) in infos {
            let (start, end) = info.data_offsets;
            let start_in_file = (header.len() + start) as u64;
            self.places.insert(
                name,
                Place { file: self.files.len(), start: start_in_file, len: (end - start) as u64 },
            );
        }
        let write = |path: &Path| {
            let mut file = File::create_new(path)?;
            file.write_all(&header)?;
            file.set_len((header.len() + data_len) as u64)?;
            Ok(file)
        };
        let file = write(&path).map_err(|e| Error::io("create", &path, e))?;
        self.files.push(ShardFile { path, file, missing: AtomicU64::new(data_len as u64) });
        Ok(())
    }

    /// Writes the index: which tensor is in which file.
    fn write_index(&self, path: &Path, layout: &Layout) -> Result<()> {
        let file_of = |place: &Place| layout.shards.get(place.file).map_or("", |shard| &shard.file);
        let map: BTreeMap<&str, &str> = self.places.iter().map(|(n, p)| (n.as_str(), file_of(p))).collect();
        let mut index = Map::new();
        if let Some(metadata) = &layout.index_metadata {
            index.insert("metadata".into(), Value::Object(metadata.clone()));
        }
        let write = || {
            index.insert("weight_map".into(), serde_json::to_value(map)?);
            let mut file = File::create_new(path)?;
            file.write_all(&serde_json::to_vec_pretty(&index)?)?;
            file.write_all(b"\n")?;
            file.sync_all()
        };
        write().map_err(|e: io::Error| Error::io("create", path, e))
    }
}

/// The tensors of a shard in the order of their data, and the bytes of all.
fn infos(shard: &Shard, tensors: &Tensors) -> Result<(Vec<(String, TensorInfo)>, usize)> {
    let names: Vec<&String> = match &shard.tensors {
        Some(names) => names.iter().collect(),
        None => {
            let mut all: Vec<_> = tensors.iter().collect();
            all.sort_by(|(a, x), (b, y)| canonical(x.0, a).cmp(&canonical(y.0, b)));
            all.into_iter().map(|(name, _)| name).collect()
        }
    };
    let mut infos = Vec::with_capacity(names.len());
    let mut end = 0usize;
    for name in names {
        let unknown = || Error::invalid("is not in the checkpoint").in_tensor(name);
        let (dtype, shape) = tensors.get(name).ok_or_else(unknown)?;
        let too_large = || Error::limit(format!("shape {shape:?} is too large")).in_tensor(name);
        let bits = shape.iter().try_fold(dtype.bitsize(), |n, &d| n.checked_mul(d)).ok_or_else(too_large)?;
        if bits % 8 != 0 || name == "__metadata__" {
            return Err(Error::invalid("cannot be stored in a safetensors file").in_tensor(name));
        }
        let start = end;
        end = start.checked_add(bits / 8).filter(|&end| end <= isize::MAX as usize).ok_or_else(too_large)?;
        infos.push((
            name.clone(),
            TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (start, end) },
        ));
    }
    Ok((infos, end))
}

/// Length (8 bytes), JSON, and spaces up to a multiple of 8: byte for byte what the safetensors crate writes,
/// except that it leaves the order of several metadata entries to chance.
pub(crate) fn header(metadata: &BTreeMap<String, String>, infos: &[(String, TensorInfo)]) -> Result<Vec<u8>> {
    let mut map = Map::new();
    let json = |e: serde_json::Error| Error::invalid(format!("the safetensors header: {e}"));
    if !metadata.is_empty() {
        map.insert("__metadata__".into(), serde_json::to_value(metadata).map_err(json)?);
    }
    for (name, info) in infos {
        map.insert(name.clone(), serde_json::to_value(info).map_err(json)?);
    }
    let mut text = serde_json::to_vec(&map).map_err(json)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    if text.len() > MAX_HEADER {
        return Err(Error::limit(format!(
            "a safetensors header of {} bytes, more than {MAX_HEADER}",
            text.len()
        )));
    }
    Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or(&[]);
        offset += written as u64;
    }
    Ok(())
}
