//! Running the command, and models to run it on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::Value;

/// What a run of the command did.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Run {
    /// The JSON on standard output of a run that went well, and said nothing else.
    pub(crate) fn json(&self) -> Value {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// The command, in `dir`.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delta-dct"));
    command.current_dir(dir);
    command
}

/// Runs a line in `dir`; words are separated by blanks.
pub(crate) fn run(dir: &Path, line: &str) -> Run {
    run_words(dir, &line.split_whitespace().collect::<Vec<_>>())
}

/// Runs words in `dir`.
pub(crate) fn run_words(dir: &Path, words: &[&str]) -> Run {
    command(dir).args(words).output().unwrap().into()
}

/// Runs a line that must succeed without a word on stderr; gives standard output.
pub(crate) fn succeed(dir: &Path, line: &str) -> String {
    let run = run(dir, line);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{line}");
    run.stdout
}

/// The demo pair that the repository carries.
pub(crate) fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo").canonicalize().unwrap()
}

/// A folder with a small model in `base/` and a fine-tune of it in `ft/`.
pub(crate) fn small_pair() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), 3, 64, 1);
    dir
}

/// Writes `base/` and `ft/`: an embedding, `layers` square matrices of side `side` with a norm each, and a head.
pub(crate) fn write_pair(dir: &Path, layers: usize, side: usize, seed: u64) {
    let mut shapes = vec![("embeddings.word.weight".to_owned(), vec![2 * side, side])];
    for i in 0..layers {
        shapes.push((format!("layer.{i}.mlp.weight"), vec![side, side]));
        shapes.push((format!("layer.{i}.norm.weight"), vec![side]));
    }
    shapes.push(("classifier.weight".to_owned(), vec![2, side]));
    let mut random = seed;
    let mut base = BTreeMap::new();
    let mut finetuned = BTreeMap::new();
    for (name, shape) in shapes {
        let weights: Vec<f32> = (0..shape.iter().product()).map(|_| 0.1 * normal(&mut random)).collect();
        let tuned = weights.iter().map(|w| w + 0.004 * normal(&mut random)).collect();
        base.insert(name.clone(), (shape.clone(), weights));
        finetuned.insert(name, (shape, tuned));
    }
    write_model(&dir.join("base"), &base);
    write_model(&dir.join("ft"), &finetuned);
}

/// Writes a folder with `model.safetensors` and `config.json`.
fn write_model(folder: &Path, tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let data: Vec<_> =
        tensors.iter().map(|(name, (shape, values))| (name, shape.clone(), bytes(values))).collect();
    let views = data
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::create_dir_all(folder).unwrap();
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    fs::write(folder.join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
}

/// About normal: the sum of four uniform numbers of a linear congruential generator.
fn normal(state: &mut u64) -> f32 {
    let mut uniform = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (uniform() + uniform() + uniform() + uniform()) * 3f32.sqrt()
}

/// Tensors of `folder/model.safetensors`, read by the safetensors crate: dtype, shape, bytes.
pub(crate) fn tensors(folder: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = |(name, view): (String, TensorView)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(own).collect()
}

/// Little-endian f32 as f64.
pub(crate) fn values(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
}

/// Every file below `dir` and its content.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}
