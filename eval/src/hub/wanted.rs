//! Of the files of a repository those that are needed.

use std::path::Path;

use delta_dct::Error as DeltaError;

use crate::error::Result;

/// Weights, in the order in which a checkpoint is looked for; of an index the files that it names follow.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Endings of files beside the weights that say how a model is used: config, tokenizer, preprocessor, chat template.
const BESIDE: [&str; 4] = ["json", "txt", "model", "jinja"];

/// What is needed of a model.
pub(super) struct Wanted {
    /// The files, by their names in the repository.
    pub(super) files: Vec<String>,
    /// The one among them that names further files, if there is one.
    pub(super) index: Option<String>,
    /// What a person meant: a file, or (empty) the whole folder.
    pub(super) place: String,
}

/// What is needed of the model at `path` (a file, a folder, or all) among `names`, or why that is not clear.
pub(super) fn model(names: &[String], path: &str) -> std::result::Result<Wanted, String> {
    if names.iter().any(|name| name == path) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        return Ok(with_side_files(names, folder, path, path));
    }
    let inside: Vec<&str> = names.iter().filter_map(|name| within(name, path)).collect();
    if inside.is_empty() {
        return Err(format!("there is no file or folder {path:?}; there are: {}", some(names)));
    }
    let known = WEIGHTS.into_iter().find(|weights| inside.contains(weights));
    if let Some(weights) = known.map_or_else(|| lone(&inside, "safetensors"), Some) {
        return Ok(with_side_files(names, path, &join(path, weights), path));
    }
    if let Some(delta) = lone(&inside, "ddct") {
        let delta = join(path, delta);
        return Ok(Wanted { files: vec![delta.clone()], index: None, place: delta });
    }
    Err(format!("it is not clear which weights to read; add the name of a file: {}", some(names)))
}

/// The files that an index of shards at `path` names, as names in the repository, where `index` is its name there.
pub(super) fn shards(path: &Path, index: &str) -> Result<Vec<String>> {
    let text = std::fs::read(path).map_err(|e| DeltaError::io("read", path, e))?;
    let wrong = || DeltaError::corrupt(format!("{}: not an index of shards", path.display()));
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|_| wrong())?;
    let map = json.get("weight_map").and_then(|map| map.as_object()).ok_or_else(wrong)?;
    let folder = index.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut files: Vec<String> =
        map.values().filter_map(|file| file.as_str()).map(|file| join(folder, file)).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// A weight file (or index, or anything else) of `folder` with what lies beside it.
fn with_side_files(names: &[String], folder: &str, weights: &str, place: &str) -> Wanted {
    let is_index = weights.ends_with(".index.json");
    let mut files = vec![weights.to_owned()];
    if !weights.ends_with(".ddct") {
        let beside = |name: &&String| within(name, folder).is_some_and(is_beside) && *name != weights;
        files.extend(names.iter().filter(beside).cloned());
    }
    Wanted { files, index: is_index.then(|| weights.to_owned()), place: place.to_owned() }
}

fn is_beside(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    !name.contains('/') && BESIDE.contains(&ending) && !name.ends_with(".index.json")
}

/// The one file of `names` with this ending, without folders.
fn lone<'a>(names: &[&'a str], ending: &str) -> Option<&'a str> {
    let is =
        |name: &&&str| !name.contains('/') && name.rsplit_once('.').is_some_and(|(_, end)| end == ending);
    let mut found = names.iter().filter(is);
    found.next().copied().filter(|_| found.next().is_none())
}

/// `name` as seen from `folder`, if it lies in it.
pub(super) fn within<'a>(name: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() { Some(name) } else { name.strip_prefix(folder)?.strip_prefix('/') }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The first of `names`, for messages.
fn some(names: &[String]) -> String {
    let more = if names.len() > 12 { ", ..." } else { "" };
    format!("{}{more}", names.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn files(names: &str, path: &str) -> String {
        let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        model(&names, path).map_or_else(|_| "unclear".to_owned(), |wanted| wanted.files.join(" "))
    }

    #[test]
    fn only_what_a_model_needs_is_fetched() {
        let repo = ".gitattributes README.md config.json model.safetensors onnx/model.onnx pytorch_model.bin tf_model.h5 \
                    vocab.txt";
        assert_eq!(files(repo, ""), "model.safetensors config.json vocab.txt");
        assert_eq!(files(repo, "pytorch_model.bin"), "pytorch_model.bin config.json vocab.txt");
        assert_eq!(files("config.json a.ddct", ""), "a.ddct");
        assert_eq!(files("config.json a.ddct b.ddct", ""), "unclear");
        assert_eq!(files("config.json a.ddct b.ddct", "b.ddct"), "b.ddct");
        assert_eq!(
            files("x/adapter.safetensors x/config.json config.json", "x"),
            "x/adapter.safetensors x/config.json"
        );
        assert_eq!(files("config.json", "y"), "unclear");
        let shards = "model-1-of-2.safetensors model-2-of-2.safetensors model.safetensors.index.json";
        assert_eq!(files(shards, ""), "model.safetensors.index.json");
    }
}
