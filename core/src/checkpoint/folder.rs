//! A model folder: which of its files are the weights, which travel beside them, and which stay behind.

use std::fs;
use std::path::{Path, PathBuf};

use super::layout::is_file_name;
use crate::error::{Error, Result};

/// Weights are looked for in this order.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Endings of files that hold weights or the state of a training run; they stay behind.
const LEFT_BEHIND: [&str; 25] = [
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".h5",
    ".hdf5",
    ".keras",
    ".onnx",
    ".onnx_data",
    ".gguf",
    ".ggml",
    ".msgpack",
    ".npz",
    ".npy",
    ".tflite",
    ".pb",
    ".ot",
    ".mlmodel",
    ".ddct",
    ".index.json",
    ".tar",
    ".zip",
];

/// The largest file that travels.
const MAX_SIDE_FILE: u64 = 64 << 20;

/// A small file of a model folder that travels with the weights (config, tokenizer ...).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideFile {
    /// Relative to the folder, with `/` between at most two parts.
    pub name: String,
    /// Where it lies now.
    pub path: PathBuf,
    /// Its size in bytes.
    pub len: u64,
}

/// Whether `name` is safe as the name of a side file: one or two plain file names with `/` between them.
pub(crate) fn is_side_name(name: &str) -> bool {
    match name.split_once('/') {
        Some((folder, file)) => is_file_name(folder) && is_file_name(file),
        None => is_file_name(name),
    }
}

/// The weights of the folder `dir`: a single file or an index.
pub(super) fn find_weights(dir: &Path) -> Result<PathBuf> {
    if let Some(found) = WEIGHTS.iter().map(|name| dir.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    let files = list(dir)?.into_iter().filter(|f| f.name.ends_with(".safetensors") && !f.is_dir);
    let mut names: Vec<String> = files.map(|f| f.name).collect();
    names.sort();
    match &names[..] {
        [one] => Ok(dir.join(one)),
        [] => Err(Error::invalid(format!(
            "no weights in {}: there is no model.safetensors, pytorch_model.bin or index of shards",
            dir.display()
        ))),
        _ => Err(Error::invalid(format!(
            "{} has several safetensors files but no index: name the one you mean ({})",
            dir.display(),
            names.join(", ")
        ))),
    }
}

/// Files that travel, and files that do not (name and bytes; 0 bytes for a folder that was not entered).
type Sorted = (Vec<SideFile>, Vec<(String, u64)>);

/// Sorts the files of `dir`, other than those called `weights`, by whether they travel.
pub(super) fn side_files(dir: &Path, weights: &[String]) -> Result<Sorted> {
    let (mut side, mut skipped) = Sorted::default();
    for entry in list(dir)?.into_iter().filter(|entry| !weights.contains(&entry.name)) {
        if !entry.is_dir {
            sort(entry, &mut side, &mut skipped);
            continue;
        }
        // A folder that is hidden or may not be read does not travel.
        let inner = if is_file_name(&entry.name) { list(&entry.path).ok() } else { None };
        let Some(inner) = inner else {
            skipped.push((entry.name + "/", 0));
            continue;
        };
        for file in inner {
            let name = format!("{}/{}", entry.name, file.name);
            sort(Entry { name, ..file }, &mut side, &mut skipped);
        }
    }
    side.sort_by(|a, b| a.name.cmp(&b.name));
    skipped.sort();
    Ok((side, skipped))
}

/// Puts one file, or a folder that is not entered, where it belongs.
fn sort(entry: Entry, side: &mut Vec<SideFile>, skipped: &mut Vec<(String, u64)>) {
    let lower = entry.name.to_lowercase();
    let left_behind =
        LEFT_BEHIND.iter().any(|ending| lower.ends_with(ending)) || lower.contains(".tfevents.");
    if entry.is_dir {
        skipped.push((entry.name + "/", 0));
    } else if left_behind || entry.len > MAX_SIDE_FILE || !is_side_name(&entry.name) {
        skipped.push((entry.name, entry.len));
    } else {
        side.push(SideFile { name: entry.name, path: entry.path, len: entry.len });
    }
}

/// One thing in a folder; links are followed, as the folders of a download cache consist of them.
struct Entry {
    name: String,
    path: PathBuf,
    len: u64,
    is_dir: bool,
}

/// The files and folders in `dir`. Dangling links, sockets and the like are left out.
fn list(dir: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for item in fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))? {
        let path = item.map_err(|e| Error::io("read", dir, e))?.path();
        let Ok(about) = fs::metadata(&path) else { continue };
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        if about.is_file() || about.is_dir() {
            entries.push(Entry { name, path, len: about.len(), is_dir: about.is_dir() });
        }
    }
    Ok(entries)
}
