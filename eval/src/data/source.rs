//! A path to the files that are read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use delta_dct::Error as DeltaError;

use crate::error::Result;

/// Folders below the given one in which files are looked for.
const DEPTH: usize = 3;

/// Names of splits, each with what people call it.
const SPLITS: [(&str, &[&str]); 3] =
    [("validation", &["validation", "valid", "val", "dev"]), ("test", &["test"]), ("train", &["train"])];

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines of columns with tabs between them, a header, no quotes.
    Tsv,
    /// Comma-separated values with a header and quotes.
    Csv,
    /// An object a line, or one array of objects.
    Json,
    /// Parquet.
    Parquet,
    /// One running text.
    Text,
    /// Arrays by name.
    Safetensors,
    /// CIFAR-10, binary version.
    Cifar,
    /// A folder that has a folder of images for each class.
    ImageFolder,
}

/// A file, or an image folder, and how it is read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// How it is read.
    pub(super) format: Format,
}

/// The splits that are taken where none is asked for, the first that is there.
fn usual(training: bool) -> &'static [&'static str] {
    if training { &["train"] } else { &["validation", "test", "train"] }
}

/// The files that `path` means: itself, or those of `split` in it; where that is absent, of the split for `training`, or
/// else of one to judge on.
pub(super) fn find(path: &Path, split: Option<&str>, training: bool) -> Result<Vec<Source>> {
    let kind = fs::metadata(path).map_err(|e| DeltaError::io("read", path, e))?;
    if !kind.is_dir() {
        let names = "tsv, csv, json, jsonl, parquet, txt, safetensors, bin (CIFAR-10)";
        let unknown = || DeltaError::invalid(format!("{}: the name has to end in {names}", path.display()));
        let format = format_of(path).ok_or_else(unknown)?;
        return Ok(vec![Source { path: path.to_owned(), format }]);
    }
    let mut files = Vec::new();
    list(path, DEPTH, &mut files)?;
    let usual = usual(training);
    if files.is_empty() { image_folder(path, split, usual) } else { choose(path, files, split, usual) }
}

/// The content of a text file, without a byte order mark.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let text = String::from_utf8(read(path)?);
    let text = text.map_err(|_| DeltaError::corrupt(format!("{}: not UTF-8 text", path.display())))?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// The content of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    Ok(fs::read(path).map_err(|e| DeltaError::io("read", path, e))?)
}

/// What a folder holds, sorted, without hidden names.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |e| DeltaError::io("list", folder, e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn format_of(path: &Path) -> Option<Format> {
    Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "tsv" => Format::Tsv,
        "csv" => Format::Csv,
        "json" | "jsonl" | "ndjson" => Format::Json,
        "parquet" => Format::Parquet,
        "txt" => Format::Text,
        "safetensors" => Format::Safetensors,
        "bin" => Format::Cifar,
        _ => return None,
    })
}

/// Adds the data files under `folder`.
fn list(folder: &Path, depth: usize, files: &mut Vec<Source>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            if depth > 0 {
                list(&path, depth - 1, files)?;
            }
        } else if let Some(format) = data_format(&path) {
            files.push(Source { path, format });
        }
    }
    Ok(())
}

/// The format of a file of data; files that describe data are none.
fn data_format(path: &Path) -> Option<Format> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let about = ["readme", "license", "dataset_info", "dataset_dict", "state.json", "batches.meta"];
    format_of(path).filter(|_| !about.iter().any(|start| name.starts_with(start)))
}

/// Of the files `names` in `folder`, which need not be on this machine, those that [`find`] would take; Parquet where
/// there is any.
#[cfg(feature = "hub")]
pub(crate) fn select(
    folder: &Path,
    names: &[&str],
    split: Option<&str>,
    training: bool,
) -> Result<Vec<PathBuf>> {
    let source = |name: &&str| {
        let path = folder.join(name);
        data_format(&path).map(|format| Source { path, format })
    };
    let mut files: Vec<Source> = names.iter().filter_map(source).collect();
    if files.iter().any(|file| file.format == Format::Parquet) {
        files.retain(|file| file.format == Format::Parquet);
    }
    if files.is_empty() {
        let kinds = "parquet, csv, tsv, jsonl, txt or safetensors";
        return Err(DeltaError::invalid(format!("{}: there is no {kinds} in it", folder.display())).into());
    }
    Ok(choose(folder, files, split, usual(training))?.into_iter().map(|file| file.path).collect())
}

/// Of `files` those of one split and one kind.
fn choose(folder: &Path, files: Vec<Source>, wanted: Option<&str>, usual: &[&str]) -> Result<Vec<Source>> {
    let of = |split: &str| -> Vec<Source> {
        files.iter().filter(|file| split_of(folder, &file.path) == Some(split)).cloned().collect()
    };
    let chosen = match wanted {
        Some(wanted) => of(canonical(wanted).unwrap_or(wanted)),
        None => usual.iter().map(|split| of(split)).find(|found| !found.is_empty()).unwrap_or(files.clone()),
    };
    let kinds: BTreeSet<String> = chosen.iter().map(|file| unsharded(&file.path)).collect();
    if kinds.len() == 1 {
        return Ok(chosen);
    }
    let names = |files: &[Source]| {
        let name = |file: &Source| file.path.strip_prefix(folder).unwrap_or(&file.path).display().to_string();
        files.iter().take(8).map(name).collect::<Vec<_>>().join(", ")
    };
    let message = match wanted {
        Some(split) if chosen.is_empty() => format!("no file of the split {split} among {}", names(&files)),
        _ => format!("it is not clear which file to read; give one of them: {}", names(&chosen)),
    };
    Err(DeltaError::invalid(format!("{}: {message}", folder.display())).into())
}

/// The path without the number of a shard (`-00000-of-00002`, `_batch_1`), so that shards of one file are equal.
fn unsharded(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The split that the name of the file says, or else of the folders that it is in.
fn split_of(folder: &Path, path: &Path) -> Option<&'static str> {
    let inside = path.strip_prefix(folder).unwrap_or(path).with_extension("");
    let names = inside.iter().rev().map(|name| name.to_string_lossy().to_lowercase());
    names.into_iter().find_map(|name| {
        let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
        words.find_map(|word| {
            if word == "data" && name.starts_with("data_batch") { Some("train") } else { canonical(word) }
        })
    })
}

fn canonical(name: &str) -> Option<&'static str> {
    SPLITS.iter().find(|(_, names)| names.contains(&name)).map(|(split, _)| *split)
}

/// An image folder: `folder` itself, or the split in it.
fn image_folder(folder: &Path, wanted: Option<&str>, usual: &[&str]) -> Result<Vec<Source>> {
    let inside: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| path.is_dir()).collect();
    let named =
        |path: &Path| path.file_name().and_then(|name| canonical(&name.to_string_lossy().to_lowercase()));
    let of = |split: &str| inside.iter().find(|path| named(path) == Some(split));
    let chosen = match wanted {
        Some(wanted) => Some(canonical(wanted).and_then(of).ok_or_else(|| {
            DeltaError::invalid(format!("{}: no folder of the split {wanted} in it", folder.display()))
        })?),
        None => usual.iter().find_map(|split| of(split)),
    };
    let path = chosen.map_or(folder, PathBuf::as_path).to_owned();
    Ok(vec![Source { path, format: Format::ImageFolder }])
}
