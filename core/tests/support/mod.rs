//! What the behaviour tests share: where the fixtures lie, small checkpoints made on the spot, and whole round trips
//! that are checked against an independent reading of every file (the safetensors crate, arithmetic in f64).
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "tests; no file of them needs all of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use delta_dct::{
    Archive, Checkpoint, CompressOptions, Dtype, Error, Selection, Silent, Summary, TensorSummary, compress,
};
use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tempfile::{TempDir, tempdir};

// ---- fixtures ----

/// The workspace root.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file or folder beside the project; where it is missing, says that the test is skipped, or fails if it may not be.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    available(workspace().join("../shared").join(path))
}

/// `path` if it exists; else as [`shared`].
pub(crate) fn available(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var("DELTA_DCT_REQUIRE_SHARED").is_ok_and(|value| value == "1");
    assert!(!required, "{} is required, and missing", path.display());
    println!("skipped: {} does not exist", path.display());
    None
}

// ---- tensors ----

/// Named tensors of a checkpoint.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// A tensor in memory: little-endian, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    /// `values`, rounded to `dtype`.
    pub(crate) fn new(dtype: Dtype, shape: &[usize], values: &[f64]) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        let element = |&x: &f64| match dtype {
            Dtype::F64 => x.to_le_bytes().to_vec(),
            Dtype::F32 => (x as f32).to_le_bytes().to_vec(),
            Dtype::F16 => nearest(x, f16::from_f64(x).to_bits(), |b| f16::from_bits(b).to_f64()).to_vec(),
            Dtype::BF16 => nearest(x, bf16::from_f64(x).to_bits(), |b| bf16::from_bits(b).to_f64()).to_vec(),
            Dtype::I64 => (x as i64).to_le_bytes().to_vec(),
            other => panic!("no values of {other} are made here"),
        };
        Self { dtype, shape: shape.to_vec(), bytes: values.iter().flat_map(element).collect() }
    }

    /// `bytes` of any dtype.
    pub(crate) fn of_bytes(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Self {
        Self { dtype, shape: shape.to_vec(), bytes: bytes.to_vec() }
    }

    /// Normally distributed numbers of standard deviation `std`.
    pub(crate) fn random(dtype: Dtype, shape: &[usize], seed: u64, std: f64) -> Self {
        Self::new(dtype, shape, &gaussian(seed, shape.iter().product(), std))
    }

    /// The same tensor with noise of standard deviation `std` added to its values.
    pub(crate) fn nudged(&self, seed: u64, std: f64) -> Self {
        let values = self.values();
        let noise = gaussian(seed, values.len(), std);
        let sums: Vec<f64> = values.iter().zip(noise).map(|(a, b)| a + b).collect();
        Self::new(self.dtype, &self.shape, &sums)
    }

    /// The same values rounded to another dtype.
    pub(crate) fn cast(&self, dtype: Dtype) -> Self {
        Self::new(dtype, &self.shape, &self.values())
    }

    /// The elements as numbers; floating-point dtypes only.
    pub(crate) fn values(&self) -> Vec<f64> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|&chunk| number(chunk)).collect()
        }
        match self.dtype {
            Dtype::F64 => each(&self.bytes, f64::from_le_bytes),
            Dtype::F32 => each(&self.bytes, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F16 => each(&self.bytes, |b| f16::from_le_bytes(b).to_f64()),
            Dtype::BF16 => each(&self.bytes, |b| bf16::from_le_bytes(b).to_f64()),
            other => panic!("{other} has no numbers"),
        }
    }
}

/// The 16-bit number nearest to `x`, the even one of two: `guess`, which the half crate rounds from the upper half of
/// `x` alone, or a neighbour of it.
fn nearest(x: f64, guess: u16, value: impl Fn(u16) -> f64) -> [u8; 2] {
    let near = [guess, guess.wrapping_add(1), guess.wrapping_sub(1)];
    let distance = |bits: u16| (value(bits) - x).abs();
    let best = near.into_iter().filter(|&bits| distance(bits).is_finite());
    best.min_by(|&a, &b| (distance(a), a & 1).partial_cmp(&(distance(b), b & 1)).unwrap())
        .unwrap_or(guess)
        .to_le_bytes()
}

/// `n` normally distributed numbers: sums of twelve uniform ones from a splitmix64 generator.
pub(crate) fn gaussian(seed: u64, n: usize, std: f64) -> Vec<f64> {
    // Far apart in the generator's one sequence.
    let mut state = (seed + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    };
    (0..n).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) * std).collect()
}

/// Tensors by name.
pub(crate) fn tensors<const N: usize>(list: [(&str, Tensor); N]) -> Tensors {
    list.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
}

/// A small transformer-like base, and a fine-tune of it: matrices, a convolution, vectors and a classification head.
pub(crate) fn small_pair() -> (Tensors, Tensors) {
    let base = tensors([
        ("embeddings.word.weight", Tensor::random(Dtype::F32, &[80, 48], 1, 0.05)),
        ("encoder.conv.weight", Tensor::random(Dtype::F32, &[32, 4, 3, 3], 2, 0.05)),
        ("encoder.layer.0.dense.bias", Tensor::random(Dtype::F32, &[48], 3, 0.05)),
        ("encoder.layer.0.dense.weight", Tensor::random(Dtype::F32, &[48, 64], 4, 0.05)),
        ("encoder.layer.1.dense.weight", Tensor::random(Dtype::F32, &[64, 48], 5, 0.05)),
        ("classifier.bias", Tensor::random(Dtype::F32, &[3], 6, 0.05)),
        ("classifier.weight", Tensor::random(Dtype::F32, &[3, 48], 7, 0.05)),
    ]);
    let finetuned =
        base.iter().zip(100..).map(|((name, t), seed)| (name.clone(), t.nudged(seed, 0.002))).collect();
    (base, finetuned)
}

// ---- files ----

/// Writes `tensors` as the safetensors crate does.
pub(crate) fn save(path: &Path, tensors: &Tensors) -> PathBuf {
    save_with(path, tensors, &[("format", "pt")])
}

/// As [`save`], with `metadata` (at most one entry: the crate leaves the order of more to chance).
pub(crate) fn save_with(path: &Path, tensors: &Tensors, metadata: &[(&str, &str)]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let views =
        tensors.iter().map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
    path.to_owned()
}

/// Writes the folder `dir` with one `model.safetensors`.
pub(crate) fn save_model(dir: &Path, tensors: &Tensors) -> PathBuf {
    save(&dir.join("model.safetensors"), tensors);
    dir.to_owned()
}

/// All tensors of a safetensors file, or of the `model*.safetensors` of a folder.
pub(crate) fn load(path: &Path) -> Tensors {
    if path.is_dir() {
        let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        let is_model = |name: &str| name.starts_with("model") && name.ends_with(".safetensors");
        return files
            .filter(|f| is_model(f.file_name().to_str().unwrap()))
            .flat_map(|f| load(&f.path()))
            .collect();
    }
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: TensorView<'_>| Tensor::of_bytes(view.dtype(), view.shape(), view.data());
    file.iter().map(|(name, view)| (name.to_owned(), tensor(view))).collect()
}

/// Every file under `dir` with its bytes.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(snapshot(&path)),
            false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    files
}

// ---- round trips ----

/// The standard options with `recipe` as the default.
pub(crate) fn options(recipe: &str) -> CompressOptions {
    with_selection(Selection::new(recipe.parse().unwrap()).unwrap())
}

/// The standard options with `selection`.
pub(crate) fn with_selection(selection: Selection) -> CompressOptions {
    CompressOptions { selection, force_unrelated: false, overwrite: false, dry_run: false }
}

pub(crate) fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap()
}

/// A pair of folders in a temporary folder.
pub(crate) struct Folders {
    pub(crate) dir: TempDir,
    pub(crate) base: PathBuf,
    pub(crate) finetuned: PathBuf,
}

impl Folders {
    pub(crate) fn new(base: &Tensors, finetuned: &Tensors) -> Self {
        let dir = tempdir().unwrap();
        let (b, f) =
            (save_model(&dir.path().join("base"), base), save_model(&dir.path().join("ft"), finetuned));
        Self { dir, base: b, finetuned: f }
    }

    pub(crate) fn small() -> Self {
        let (base, finetuned) = small_pair();
        Self::new(&base, &finetuned)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn round_trip(&self, recipe: &str) -> RoundTrip {
        RoundTrip::new(&self.base, &self.finetuned, &options(recipe))
    }

    /// Compresses with dct of block 16 into `model.ddct`.
    pub(crate) fn compress(&self) -> PathBuf {
        let file = self.path("model.ddct");
        compress(&open(&self.base), &open(&self.finetuned), &file, &options("dct block=16"), &Silent)
            .unwrap();
        file
    }

    #[track_caller]
    pub(crate) fn refused(&self) -> Error {
        let before = snapshot(self.dir.path());
        let output = self.path("model.ddct");
        let result = compress(&open(&self.base), &open(&self.finetuned), &output, &options("dct"), &Silent);
        let error = result.expect_err("compress is refused");
        assert!(snapshot(self.dir.path()) == before, "a failed compress leaves nothing behind");
        error
    }
}

/// A pair that went through compress and apply, and what is independently known of it.
pub(crate) struct RoundTrip {
    pub(crate) summary: Summary,
    /// The `.ddct` file.
    pub(crate) file: PathBuf,
    /// The folder that apply wrote.
    pub(crate) output: PathBuf,
    pub(crate) base: Tensors,
    pub(crate) finetuned: Tensors,
    pub(crate) result: Tensors,
    dir: TempDir,
}

impl RoundTrip {
    /// Compresses, applies and checks everything that holds for any pair and method. Both are safetensors.
    pub(crate) fn new(base: &Path, finetuned: &Path, options: &CompressOptions) -> Self {
        Self::with(base, finetuned, load(finetuned), options)
    }

    /// As [`RoundTrip::new`]; the fine-tuned tensors are known from somewhere else.
    pub(crate) fn with(base: &Path, finetuned: &Path, tensors: Tensors, options: &CompressOptions) -> Self {
        let dir = tempdir().unwrap();
        let (file, output) = (dir.path().join("model.ddct"), dir.path().join("out"));
        let summary = compress(&open(base), &open(finetuned), &file, options, &Silent).unwrap();
        let archive = Archive::open(&file).unwrap();
        archive.apply(&open(base), &output, false, &Silent).unwrap();
        assert!(!archive.verify(None, &Silent).unwrap().decoded);
        assert!(archive.verify(Some(&open(base)), &Silent).unwrap().decoded);
        let result = load(&output);
        for (name, tensor) in &result {
            let (info, bytes) = archive.load(&open(base), name).unwrap();
            assert!((info.dtype, &info.shape, &bytes) == (tensor.dtype, &tensor.shape, &tensor.bytes));
        }
        let base = load(base);
        let trip = Self { summary, file, output, base, finetuned: tensors, result, dir };
        trip.check_summary(&archive);
        trip.check_tensors();
        trip
    }

    /// What is told about the tensor `name`.
    pub(crate) fn row(&self, name: &str) -> &TensorSummary {
        let found = self.summary.tensors.iter().find(|row| row.name == name);
        found.unwrap_or_else(|| panic!("no row of {name}"))
    }

    /// Whether `name` came back bit for bit.
    pub(crate) fn is_exact(&self, name: &str) -> bool {
        self.result[name] == self.finetuned[name]
    }

    /// Asserts that a note contains all of `words`.
    #[track_caller]
    pub(crate) fn assert_note(&self, words: &[&str]) {
        let found = self.summary.notes.iter().any(|note| words.iter().all(|word| note.contains(word)));
        assert!(found, "no note with {words:?} in {:#?}", self.summary.notes);
    }

    /// The base tensor of `name`: of the same name, or behind the renamed prefix.
    pub(crate) fn base_of(&self, name: &str) -> &Tensor {
        let renamed = || self.base.get(&self.summary.rename.as_ref()?.base_name(name)?);
        self.base.get(name).or_else(renamed).unwrap_or_else(|| panic!("{name} has no base"))
    }

    /// (d, d'): the delta and the reconstructed delta of `name`, over the rows that the base has; from zeros where it has none.
    pub(crate) fn deltas(&self, name: &str) -> (Vec<f64>, Vec<f64>) {
        let tuned = self.finetuned[name].values();
        let base = match self.row(name).kind {
            "alone" => vec![0.0; tuned.len()],
            _ => self.base_of(name).values(),
        };
        let minus_base = |values: &[f64]| values.iter().zip(&base).map(|(a, b)| a - b).collect();
        (minus_base(&tuned), minus_base(&self.result[name].values()))
    }

    /// `|result - finetuned|^2 / |finetuned - base|^2`.
    pub(crate) fn relative_error(&self, name: &str) -> f64 {
        let (d, r) = self.deltas(name);
        let (error, energy) =
            d.iter().zip(&r).fold((0.0, 0.0), |(e, n), (d, r)| (e + (r - d) * (r - d), n + d * d));
        error / energy
    }

    /// Squared error over squared delta of all lossy tensors of two dimensions and more; 0 if there are none.
    pub(crate) fn matrix_error(&self) -> f64 {
        let (mut error, mut energy) = (0.0, 0.0);
        let is_lossy = |row: &&TensorSummary| row.kind != "alias" && row.relative_error.is_some();
        for row in self.summary.tensors.iter().filter(|row| row.shape.len() >= 2).filter(is_lossy) {
            let (d, _) = self.deltas(&row.name);
            let dd: f64 = d.iter().map(|d| d * d).sum();
            energy += dd;
            error += dd * self.relative_error(&row.name);
        }
        if energy == 0.0 { 0.0 } else { error / energy }
    }

    /// The sizes are those of the file, and the file is a valid safetensors file of bytes.
    fn check_summary(&self, archive: &Archive) {
        let bytes = fs::read(&self.file).unwrap();
        assert_eq!(self.summary.output_bytes, bytes.len() as u64);
        let entries = SafeTensors::deserialize(&bytes).unwrap();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap());
        let data: usize = entries.iter().map(|(_, view)| view.data().len()).sum();
        assert_eq!(header + data as u64, self.summary.output_bytes);
        assert!(entries.iter().all(|(_, view)| view.dtype() == Dtype::U8));
        // What is not an entry of its own is a part of the bundle; nothing is told twice.
        let side = |(name, bytes): &(String, u64)| (format!("__ddct__/file/{name}"), *bytes);
        let told = self.summary.tensors.iter().map(|row| (row.name.clone(), row.bytes));
        let (alone, bundled): (Vec<_>, Vec<_>) = told
            .chain(self.summary.files.iter().map(side))
            .partition(|(name, _)| entries.tensor(name).is_ok());
        for (name, bytes) in alone {
            assert_eq!(entries.tensor(&name).unwrap().data().len() as u64, bytes, "{name}");
        }
        let bundle = entries.tensor("__ddct__/bundle").unwrap().data().len() as u64;
        let sum: u64 = bundled.iter().map(|(_, bytes)| bytes).sum();
        assert!(sum <= bundle, "{sum} of {bundle} bytes are told");
        let listed = archive.tensors().unwrap();
        assert_eq!(listed.len(), self.summary.tensors.len());
        for (row, listed) in self.summary.tensors.iter().zip(&listed) {
            let told =
                |row: &TensorSummary| (row.name.clone(), row.kind, row.plan.clone(), row.bytes, row.weights);
            assert_eq!(told(row), told(listed));
        }
    }

    /// Names, dtypes and shapes are those of the fine-tuned model, and values differ by just what the summary says.
    fn check_tensors(&self) {
        assert!(self.summary.tensors.iter().map(|row| &row.name).eq(self.finetuned.keys()));
        assert!(self.result.keys().eq(self.finetuned.keys()));
        for row in &self.summary.tensors {
            let (name, tuned, result) = (&row.name, &self.finetuned[&row.name], &self.result[&row.name]);
            assert_eq!((result.dtype, &result.shape), (tuned.dtype, &tuned.shape), "{name}");
            assert_eq!((&row.dtype, &row.shape), (&tuned.dtype.to_string(), &tuned.shape), "{name}");
            assert_eq!(row.weights, tuned.shape.iter().product::<usize>() as u64, "{name}");
            match row.relative_error {
                told if row.kind == "alias" => {
                    // As exact as what it is tied to.
                    let equal = |other: &&TensorSummary| {
                        other.kind != "alias" && self.finetuned[&other.name] == *tuned
                    };
                    let target = self.summary.tensors.iter().find(equal).unwrap();
                    assert_eq!((told, result), (target.relative_error, &self.result[&target.name]), "{name}");
                }
                None => assert!(self.is_exact(name), "{name} is not exact: {row:?}"),
                Some(told) => {
                    let found = self.relative_error(name);
                    assert!(
                        (told - found).abs() <= 1e-3 * found + 1e-9,
                        "{name}: {told} told, {found} found"
                    );
                    assert!(["delta", "base", "alone"].contains(&row.kind), "{row:?}");
                }
            }
        }
    }
}
