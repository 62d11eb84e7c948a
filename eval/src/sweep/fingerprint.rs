//! A digest of everything that a run's figures depend on, besides its recipe.

use std::fs::File;
use std::hash::Hasher;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use delta_dct::{Error, Result};
use twox_hash::XxHash3_64;

use crate::comparison::Sources;
use crate::data::DataOptions;

/// Names and contents of all files of models and data, and the options by which data is read; 16 hexadecimal digits.
/// Where the files lie, and how many examples are run at a time, does not matter.
///
/// Errors: Io.
pub fn fingerprint(sources: &Sources) -> Result<String> {
    let mut hasher = XxHash3_64::new();
    for place in [&sources.base, &sources.finetuned].into_iter().chain(&sources.data) {
        let mut files = Vec::new();
        list(place, &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(place).unwrap_or(&file);
            add(&mut hasher, name.to_string_lossy().as_bytes());
            add_file(&mut hasher, &file)?;
        }
    }
    let DataOptions { limit, labels, text, max_length, split, training: _ } = &sources.options;
    add(&mut hasher, format!("{limit:?} {labels:?} {text:?} {max_length:?} {split:?}").as_bytes());
    Ok(format!("{:016x}", hasher.finish()))
}

fn list(place: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let fail = |e| Error::io("read", place, e);
    if !std::fs::metadata(place).map_err(fail)?.is_dir() {
        files.push(place.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(place).map_err(fail)? {
        list(&entry.map_err(fail)?.path(), files)?;
    }
    Ok(())
}

/// With the length first, so that no two lists of pieces look alike.
fn add(hasher: &mut XxHash3_64, bytes: &[u8]) {
    hasher.write(&(bytes.len() as u64).to_le_bytes());
    hasher.write(bytes);
}

fn add_file(hasher: &mut XxHash3_64, path: &Path) -> Result<()> {
    let fail = |e| Error::io("read", path, e);
    let file = File::open(path).map_err(fail)?;
    hasher.write(&file.metadata().map_err(fail)?.len().to_le_bytes());
    let (mut reader, mut piece) = (BufReader::new(file), vec![0; 1 << 16]);
    loop {
        let n = reader.read(&mut piece).map_err(fail)?;
        if n == 0 {
            return Ok(());
        }
        hasher.write(piece.get(..n).unwrap_or_default());
    }
}
