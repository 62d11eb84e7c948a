//! How a checkpoint is cut into files, so that it can be written again as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The name that every index is written under.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The weight files of a checkpoint. Serialised inside a `.ddct` file, so call [`Layout::validate`] on one that
/// was read from there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The files, sorted by name.
    pub shards: Vec<Shard>,
    /// `metadata` of the index; an index is written when there is one or when there are several shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// One safetensors file of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// A plain file name, `*.safetensors`.
    pub file: String,
    /// The `__metadata__` of its header; an empty one is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Tensor names in the order of the data. `None`: all tensors, in the order in which the safetensors crate
    /// writes them (wide dtypes first, then by name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensors: Option<Vec<String>>,
}

impl Layout {
    /// Checks that the layout is safe to write and places each of `names` exactly once. Errors: Corrupt.
    pub fn validate(&self, names: &BTreeSet<&str>) -> Result<()> {
        let mut files = BTreeSet::new();
        let mut placed = BTreeSet::new();
        for shard in &self.shards {
            if !is_file_name(&shard.file) || !shard.file.ends_with(".safetensors") {
                return Err(wrong(format!("{:?} is not a plain name of a safetensors file", shard.file)));
            }
            if !files.insert(shard.file.to_lowercase()) {
                return Err(wrong(format!("two shards are called {}", shard.file)));
            }
            for name in shard.tensors.iter().flatten() {
                if !names.contains(name.as_str()) || !placed.insert(name.as_str()) {
                    return Err(wrong(format!("{name:?} in {} is unknown or in two places", shard.file)));
                }
            }
        }
        self.validate_cover(names.len(), placed.len())
    }

    /// Checks that `placed` tensors by name, out of `all`, leave none out.
    fn validate_cover(&self, all: usize, placed: usize) -> Result<()> {
        match &self.shards[..] {
            [] => Err(wrong("there is no file")),
            [Shard { tensors: None, .. }] => Ok(()),
            [_] if placed == all => Ok(()),
            [_, _, ..] if self.shards.iter().any(|s| s.tensors.as_ref().is_none_or(Vec::is_empty)) => {
                Err(wrong("one of several shards names no tensors"))
            }
            _ if placed == all => Ok(()),
            _ => Err(wrong(format!("{} tensors are in none of the shards", all - placed))),
        }
    }

    /// Whether an index belongs to the shards.
    pub(super) fn has_index(&self) -> bool {
        self.shards.len() > 1 || self.index_metadata.is_some()
    }
}

fn wrong(message: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("the layout of the checkpoint's files: {message}"))
}

/// Whether `name` is safe as the name of a new file in a folder, on every system: no separators, not hidden, no
/// reserved characters or device names.
pub(crate) fn is_file_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    let numbered = |s: &str| (s.starts_with("COM") || s.starts_with("LPT")) && s.len() == 4;
    let device = stem.to_ascii_uppercase();
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.ends_with(['.', ' '])
        && !name.contains(|c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c))
        && !matches!(&device[..], "CON" | "PRN" | "AUX" | "NUL")
        && !numbered(&device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn shard(file: &str, tensors: Option<&[&str]>) -> Shard {
        let tensors = tensors.map(|names| names.iter().map(|&n| n.into()).collect());
        Shard { file: file.into(), tensors, ..Shard::default() }
    }

    fn check(shards: Vec<Shard>) -> Result<()> {
        Layout { shards, index_metadata: None }.validate(&BTreeSet::from(["a", "b"]))
    }

    #[test]
    fn only_plain_file_names_are_written() {
        for bad in
            ["", ".", "..", "../m.safetensors", "/m.safetensors", "d/m.safetensors", r"d\m.safetensors"]
        {
            assert!(check(vec![shard(bad, None)]).is_err(), "{bad:?}");
        }
        for bad in
            ["C:m.safetensors", ".m.safetensors", "m.bin", "nul.safetensors", "a\0.safetensors", "lpt1"]
        {
            assert!(check(vec![shard(bad, None)]).is_err(), "{bad:?}");
        }
        assert!(check(vec![shard("model.safetensors", None)]).is_ok());
        assert!(check(vec![shard("Modèle v2.safetensors", None)]).is_ok());
    }

    #[test]
    fn every_tensor_is_placed_exactly_once() {
        let (one, two) = ("1.safetensors", "2.safetensors");
        assert!(check(vec![shard(one, Some(&["b"])), shard(two, Some(&["a"]))]).is_ok());
        assert!(check(vec![shard(one, Some(&["b", "a"]))]).is_ok());
        let bad = [
            vec![],
            vec![shard(one, Some(&["b"]))],
            vec![shard(one, Some(&["a", "b", "a"]))],
            vec![shard(one, Some(&["a", "b", "c"]))],
            vec![shard(one, Some(&["a", "b"])), shard(two, Some(&["b"]))],
            vec![shard(one, Some(&["a", "b"])), shard(two, Some(&[]))],
            vec![shard(one, None), shard(two, Some(&["a", "b"]))],
            vec![shard("x.safetensors", Some(&["a"])), shard("X.safetensors", Some(&["b"]))],
        ];
        for shards in bad {
            assert!(check(shards.clone()).is_err(), "{shards:?}");
        }
    }
}
