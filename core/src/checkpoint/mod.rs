//! Reading and writing checkpoints.
//!
//! A checkpoint is one safetensors file, several with an index, a `pytorch_model.bin` in either of PyTorch's
//! containers, several of those with an index, or a folder with one of these. It is memory-mapped; tensors are
//! slices of the map. It is written again as safetensors, cut into files as its [`Layout`] says.

mod folder;
mod layout;
mod memory;
mod pickle;
mod rebuild;
mod safetensors;
mod state_dict;
mod torch;
mod view;
mod writer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use delta_dct_mmap::Map;
use serde::Deserialize;

pub use folder::SideFile;
pub(crate) use folder::is_side_name;
pub use layout::{Layout, Shard};
pub(crate) use safetensors::entries;
pub use writer::CheckpointWriter;
pub(crate) use writer::header;

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Dtype, TensorView};

/// Longest index of shards, in bytes.
const MAX_INDEX: u64 = 100_000_000;

/// A model's tensors, read-only.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    storages: Vec<Storage>,
    tensors: BTreeMap<String, Tensor>,
    ties: BTreeMap<String, String>,
    layout: Layout,
    ignored: Vec<String>,
    side_files: Vec<SideFile>,
    skipped_files: Vec<(String, u64)>,
    weight_bytes: u64,
}

/// Bytes that tensors lie in.
#[derive(Debug)]
enum Storage {
    Mapped(Map),
    Copied(Vec<u8>),
}

/// Where a tensor lies: the index of a storage, and bytes of it (checked to be inside).
#[derive(Debug)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    storage: usize,
    range: Range<usize>,
}

/// What one weight file holds, tensors in the order of their data.
#[derive(Default)]
struct Contents {
    tensors: Vec<Found>,
    copies: Vec<Vec<u8>>,
    metadata: BTreeMap<String, String>,
    /// Names of entries that are not tensors.
    ignored: Vec<String>,
}

/// A tensor of one weight file.
struct Found {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    place: Place,
}

/// Where the bytes of a tensor of one weight file are.
enum Place {
    /// Bytes of the file.
    Mapped(Range<usize>),
    /// All of [`Contents::copies`] at this index.
    Copied(usize),
}

/// `model.safetensors.index.json` and its like.
#[derive(Deserialize)]
struct Index {
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, a `.bin`/`.pt`/`.pth` file of PyTorch, an index of shards (`*.index.json`), or
    /// a folder with one of them. In a folder the first of `model.safetensors`, its index, `pytorch_model.bin`,
    /// its index, and a lone `*.safetensors` is taken.
    ///
    /// Only headers are read. Errors: Io, Truncated, Corrupt, Unsupported (a pickle that is not a plain state
    /// dict, compressed zip entries), InvalidArgument (nothing to open, or several things).
    pub fn open(path: &Path) -> Result<Self> {
        let about = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
        let weights = if about.is_dir() { folder::find_weights(path)? } else { path.to_owned() };
        let mut checkpoint = Self::empty(path);
        let mut files = vec![file_name(&weights)];
        if weights.extension().is_some_and(|e| e == "json") {
            files.extend(checkpoint.add_index(&weights)?);
        } else {
            checkpoint.add_single(&weights)?;
        }
        checkpoint.find_ties();
        if about.is_dir() {
            (checkpoint.side_files, checkpoint.skipped_files) = folder::side_files(path, &files)?;
        }
        Ok(checkpoint)
    }

    /// What [`Checkpoint::open`] was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor `name`, straight out of the memory map wherever its elements lie in order.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let Tensor { dtype, shape, storage, range } = self.tensors.get(name)?;
        let bytes = match self.storages.get(*storage)? {
            Storage::Mapped(map) => map.get(range.clone())?,
            Storage::Copied(bytes) => bytes.get(range.clone())?,
        };
        Some(TensorView { dtype: *dtype, shape, bytes })
    }

    /// Gives the memory that mapped bytes occupy back to the system; they are read again when next used.
    pub fn release(&self) {
        for storage in &self.storages {
            if let Storage::Mapped(map) = storage {
                map.release();
            }
        }
    }

    /// Has the mapped bytes of `name` read from the disk soon, while other work goes on; of a large tensor the first.
    pub(crate) fn prefetch(&self, name: &str) {
        // More than the system's queue holds would make the caller wait.
        const MOST: usize = 64 << 20;
        let Some(tensor) = self.tensors.get(name) else { return };
        if let Some(Storage::Mapped(map)) = self.storages.get(tensor.storage) {
            map.prefetch(tensor.range.start..tensor.range.end.min(tensor.range.start + MOST));
        }
    }

    /// The first (sorted) tensor on the very same bytes with the same dtype and shape, where `name` is a later
    /// one: tied weights of a `.bin` share one storage. Empty tensors are never tied.
    pub fn tied_to(&self, name: &str) -> Option<&str> {
        self.ties.get(name).map(String::as_str)
    }

    /// How to cut the tensors into files again.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Names of entries of a pickled state dict that are not tensors, sorted; they do not travel.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The small files of the folder that travel with the weights, sorted by name; none where a file was opened.
    pub fn side_files(&self) -> &[SideFile] {
        &self.side_files
    }

    /// Files of the folder that do not travel (other weight formats, training state, hidden or large files):
    /// name and bytes, sorted. A folder that was not entered ends in `/` and counts 0 bytes.
    pub fn skipped_files(&self) -> &[(String, u64)] {
        &self.skipped_files
    }

    /// Bytes of the weight files as they lie on disk, the index included.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn empty(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            storages: Vec::new(),
            tensors: BTreeMap::new(),
            ties: BTreeMap::new(),
            layout: Layout::default(),
            ignored: Vec::new(),
            side_files: Vec::new(),
            skipped_files: Vec::new(),
            weight_bytes: 0,
        }
    }

    /// Reads a checkpoint of one file.
    fn add_single(&mut self, path: &Path) -> Result<()> {
        let mut shard = self.add(path)?;
        let mut canonical: Vec<_> = self.tensors.iter().collect();
        canonical.sort_by(|(a, x), (b, y)| {
            safetensors::canonical(x.dtype, a).cmp(&safetensors::canonical(y.dtype, b))
        });
        if shard.tensors.iter().flatten().eq(canonical.into_iter().map(|(name, _)| name)) {
            shard.tensors = None;
        }
        self.layout.shards.push(shard);
        Ok(())
    }

    /// Reads an index and its shards; gives the names of their files.
    fn add_index(&mut self, path: &Path) -> Result<Vec<String>> {
        let (index, len) = read_index(path)?;
        self.weight_bytes += len;
        let files: BTreeSet<&String> = index.weight_map.values().collect();
        let dir = path.parent().unwrap_or(Path::new(""));
        for file in &files {
            if !layout::is_file_name(file) {
                return Err(Error::corrupt(format!("{}: {file:?} is not a plain file name", path.display())));
            }
            if !dir.join(file).exists() {
                let message =
                    format!("shard {file} is missing in {}; {} names it", dir.display(), file_name(path));
                return Err(Error::new(ErrorKind::Io, message));
            }
            let shard = self.add(&dir.join(file))?;
            let names: BTreeSet<&String> = shard.tensors.iter().flatten().collect();
            let expected = index.weight_map.iter().filter(|(_, f)| f == file).map(|(name, _)| name);
            if let Some(name) = expected.into_iter().find(|name| !names.contains(name)) {
                let message = format!("is not in {file}, where {} says it is", path.display());
                return Err(Error::corrupt(message).in_tensor(name));
            }
            self.layout.shards.push(shard);
        }
        let one = self.layout.shards.len() == 1;
        self.layout.index_metadata = index.metadata.or(one.then(Default::default));
        Ok(files.into_iter().cloned().collect())
    }

    /// Reads one weight file; the shard that it becomes lists all its tensors.
    fn add(&mut self, path: &Path) -> Result<Shard> {
        let map = Map::open(path).map_err(|e| Error::io("open", path, e))?;
        let contents =
            read_file(path, &map).map_err(|e| Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        self.weight_bytes += map.len() as u64;
        let first = self.storages.len();
        self.storages.push(Storage::Mapped(map));
        let lens: Vec<usize> = contents.copies.iter().map(Vec::len).collect();
        self.storages.extend(contents.copies.into_iter().map(Storage::Copied));
        let mut names = Vec::with_capacity(contents.tensors.len());
        for Found { name, dtype, shape, place } in contents.tensors {
            let (storage, range) = match place {
                Place::Mapped(range) => (first, range),
                Place::Copied(copy) => (first + 1 + copy, 0..lens.get(copy).copied().unwrap_or(0)),
            };
            names.push(name.clone());
            if self.tensors.insert(name.clone(), Tensor { dtype, shape, storage, range }).is_some() {
                return Err(
                    Error::corrupt(format!("is in two shards, one is {}", path.display())).in_tensor(&name)
                );
            }
        }
        self.ignored.extend(contents.ignored);
        self.ignored.sort();
        Ok(Shard { file: safetensors_name(path), metadata: contents.metadata, tensors: Some(names) })
    }

    fn find_ties(&mut self) {
        let mut first: HashMap<(usize, usize, usize, &[usize], String), &str> = HashMap::new();
        for (name, t) in self.tensors.iter().filter(|(_, t)| !t.range.is_empty()) {
            let key = (t.storage, t.range.start, t.range.end, &t.shape[..], t.dtype.to_string());
            match first.get(&key) {
                Some(&other) => drop(self.ties.insert(name.clone(), other.to_owned())),
                None => drop(first.insert(key, name)),
            }
        }
    }
}

/// Reads the weight file `path`, whose bytes are `bytes`, by its name or its first bytes.
fn read_file(path: &Path, bytes: &[u8]) -> Result<Contents> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Error::invalid("this is a pointer of Git LFS, not the weights; run `git lfs pull`"));
    }
    if extension == "ddct" {
        return Err(Error::invalid("this is a delta, not a checkpoint; apply it to its base first"));
    }
    if bytes.starts_with(torch::ZIP_MAGIC) || bytes.starts_with(torch::LEGACY_MAGIC) {
        return torch::read(bytes);
    }
    if extension == "safetensors" || bytes.get(8) == Some(&b'{') {
        return safetensors::read(bytes);
    }
    Err(Error::corrupt("this is neither a safetensors file nor a checkpoint that torch.save wrote"))
}

/// The index at `path`, and its bytes on disk.
fn read_index(path: &Path) -> Result<(Index, u64)> {
    let map = Map::open(path).map_err(|e| Error::io("open", path, e))?;
    let len = map.len() as u64;
    if len > MAX_INDEX {
        return Err(Error::limit(format!(
            "{}: an index of {len} bytes, more than {MAX_INDEX}",
            path.display()
        )));
    }
    let index: Index = serde_json::from_slice(&map)
        .map_err(|e| Error::corrupt(format!("{}: not an index of shards: {e}", path.display())))?;
    if index.weight_map.is_empty() {
        return Err(Error::corrupt(format!("{}: its weight_map is empty", path.display())));
    }
    Ok((index, len))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The name under which the weight file `path` is written again: `pytorch_model-1.bin` becomes
/// `model-1.safetensors`; a name that is not safe to write becomes `model.safetensors`.
fn safetensors_name(path: &Path) -> String {
    let name = file_name(path);
    let name = match name.rsplit_once('.') {
        Some((_, "safetensors")) => name,
        Some((stem, _)) => format!("{}.safetensors", stem.strip_prefix("pytorch_").unwrap_or(stem)),
        None => format!("{name}.safetensors"),
    };
    if layout::is_file_name(&name) { name } else { "model.safetensors".into() }
}
