//! Files in and out: what belongs together, what is replaced and what is not, and what comes back byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use delta_dct::{Archive, CompressOptions, Dtype, ErrorKind, Progress, Silent, compress};
use tempfile::tempdir;

use support::{
    Folders, RoundTrip, Tensor, Tensors, load, open, options, save, save_with, shared, small_pair, snapshot,
    tensors,
};

#[test]
fn fixture_shards_index_and_side_files() {
    let Some(models) = shared("fixtures/models") else { return };
    let sharded = models.join("formats/sharded");
    let trip = RoundTrip::new(&models.join("roberta"), &sharded, &options("dct"));
    // The weights are those of the base.
    assert!(
        trip.summary.tensors.iter().all(|row| row.kind == "base" && row.bytes < 64),
        "{:?}",
        trip.summary.tensors
    );
    let relative = |dir: &Path| -> Vec<_> {
        snapshot(dir)
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_owned(), bytes))
            .collect()
    };
    assert_eq!(relative(&trip.output).len(), 5);
    assert!(relative(&trip.output) == relative(&sharded), "five files come back byte for byte");
}

#[test]
fn fixture_checkpoints_of_torch_are_bases_like_any_other() {
    let Some(models) = shared("fixtures/models") else { return };
    let model = models.join("roberta");
    let dir = tempdir().unwrap();
    for format in ["bin_zip", "bin_legacy", "sharded"] {
        let base = open(&models.join("formats").join(format));
        let file = dir.path().join(format!("{format}.ddct"));
        let summary = compress(&base, &open(&model), &file, &options("dct"), &Silent).unwrap();
        assert!(summary.tensors.iter().all(|row| row.kind == "base" && row.bytes < 64));
        // The same values in another container are the same base.
        for (i, base) in [base, open(&models.join("formats/bin_legacy")), open(&model)].iter().enumerate() {
            let output = dir.path().join(format!("{format}{i}.safetensors"));
            Archive::open(&file).unwrap().apply(base, &output, false, &Silent).unwrap();
            assert!(fs::read(&output).unwrap() == fs::read(model.join("model.safetensors")).unwrap());
        }
    }
}

// ---- pairs that do not belong together ----

#[test]
fn unrelated_models_are_refused_with_their_distance() {
    let model = |seed| {
        tensors([
            ("a.weight", Tensor::random(Dtype::F32, &[64, 64], seed, 0.05)),
            ("b.weight", Tensor::random(Dtype::F32, &[64, 32], seed + 1, 0.05)),
        ])
    };
    let folders = Folders::new(&model(1), &model(3));
    let error = folders.refused();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    // Two independent models of one size are the square root of two apart.
    assert!(error.to_string().contains("1.4"), "{error}");
    assert!(error.to_string().contains("--force-unrelated"), "{error}");
    let forced = CompressOptions { force_unrelated: true, ..options("uniform") };
    let trip = RoundTrip::new(&folders.base, &folders.finetuned, &forced);
    assert!(trip.matrix_error() < 0.02);
}

#[test]
fn models_without_a_common_tensor_are_refused() {
    let random = |shape: &[usize], seed| Tensor::random(Dtype::F32, shape, seed, 0.05);
    let base = tensors([("a.weight", random(&[64, 64], 1)), ("b.weight", random(&[64, 32], 2))]);
    let other_names = tensors([("x.proj", random(&[48, 64], 3)), ("y.proj", random(&[16, 16], 4))]);
    let other_shapes = tensors([("a.weight", random(&[96, 96], 5)), ("b.weight", random(&[96, 48], 6))]);
    for tuned in [other_names, other_shapes] {
        let folders = Folders::new(&base, &tuned);
        let error = folders.refused();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(error.to_string().contains("no tensor of"), "{error}");
        let forced = CompressOptions { force_unrelated: true, ..options("dct") };
        let trip = RoundTrip::new(&folders.base, &folders.finetuned, &forced);
        assert!(trip.result == tuned, "all of it is carried");
    }
}

#[test]
fn a_swapped_base_is_told_as_such() {
    let (base, finetuned) = small_pair();
    let body = |model: Tensors| {
        model.into_iter().filter(|(name, _)| name.starts_with("encoder")).collect::<Tensors>()
    };
    // With a head that is carried exactly, and without.
    for folders in [Folders::new(&base, &finetuned), Folders::new(&body(base), &body(finetuned))] {
        let archive = Archive::open(&folders.compress()).unwrap();
        let swapped = open(&folders.finetuned);
        let error = archive.apply(&swapped, &folders.path("out"), false, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(error.to_string().contains("seems to be the fine-tuned model"), "{error}");
        assert!(!folders.path("out").exists());
        assert_eq!(archive.verify(Some(&swapped), &Silent).unwrap_err().kind(), ErrorKind::Mismatch);
    }
}

#[test]
fn a_wrong_base_names_the_first_tensor_that_differs() {
    let folders = Folders::small();
    let archive = Archive::open(&folders.compress()).unwrap();
    let (base, _) = small_pair();
    let different = |names: &[&str]| -> Tensors {
        let nudge = |name: &str| if names.contains(&name) { 1e-3 } else { 0.0 };
        base.iter().map(|(name, t)| (name.clone(), t.nudged(7, nudge(name)))).collect()
    };
    let names: Vec<&str> =
        base.keys().map(String::as_str).filter(|name| !name.starts_with("classifier")).collect();
    let without =
        |name: &str| base.iter().filter(|(n, _)| *n != name).map(|(n, t)| (n.clone(), t.clone())).collect();
    let narrow = base.iter().map(|(name, t)| (name.clone(), t.cast(Dtype::BF16))).collect();
    let wrong: [(Tensors, &str); 5] = [
        (different(&names), names[0]),
        (different(&names[2..]), names[2]),
        (different(&names[names.len() - 1..]), names[names.len() - 1]),
        (without(names[1]), names[1]),
        (narrow, names[0]),
    ];
    for (i, (base, first)) in wrong.iter().enumerate() {
        let path = save(&folders.path(&format!("wrong{i}.safetensors")), base);
        let before = snapshot(folders.dir.path());
        for _ in 0..5 {
            let error = archive.apply(&open(&path), &folders.path("out"), true, &Silent).unwrap_err();
            assert_eq!((error.kind(), error.tensor()), (ErrorKind::Mismatch, Some(*first)), "{error}");
            assert!(!error.to_string().contains("fine-tuned"), "{error}");
        }
        assert!(snapshot(folders.dir.path()) == before, "a failed apply leaves nothing behind");
    }
}

// ---- outputs ----

#[test]
fn outputs_are_replaced_only_on_request() {
    let folders = Folders::small();
    let file = folders.compress();
    let (base, finetuned) = (open(&folders.base), open(&folders.finetuned));
    let old = fs::read(&file).unwrap();
    let again = compress(&base, &finetuned, &file, &options("zero"), &Silent).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Io);
    assert!(again.to_string().contains("exists"), "{again}");
    assert!(fs::read(&file).unwrap() == old);

    let archive = Archive::open(&file).unwrap();
    let output = folders.path("out");
    fs::create_dir(&output).unwrap();
    archive.apply(&base, &output, false, &Silent).expect("an empty folder is free to use");
    let first = snapshot(&output);
    assert_eq!(archive.apply(&base, &output, false, &Silent).unwrap_err().kind(), ErrorKind::Io);
    archive.apply(&finetuned, &output, true, &Silent).expect_err("a wrong base");
    assert!(snapshot(&output) == first, "what was there stays when apply fails");

    let overwrite = CompressOptions { overwrite: true, ..options("raw") };
    compress(&base, &finetuned, &file, &overwrite, &Silent).unwrap();
    fs::write(output.join("stray.txt"), "old").unwrap();
    Archive::open(&file).unwrap().apply(&base, &output, true, &Silent).unwrap();
    assert!(load(&output) == load(&folders.finetuned));
    assert!(!output.join("stray.txt").exists());
}

#[test]
fn an_output_never_takes_the_place_of_an_input() {
    let folders = Folders::small();
    let file = folders.compress();
    let (base, finetuned) = (open(&folders.base), open(&folders.finetuned));
    let archive = Archive::open(&file).unwrap();
    let before = snapshot(folders.dir.path());
    let overwrite = CompressOptions { overwrite: true, ..options("zero") };
    for output in [&folders.base, &folders.finetuned.join("model.safetensors"), folders.dir.path()] {
        let error = compress(&base, &finetuned, output, &overwrite, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    for output in [&folders.base, &folders.base.join("model.safetensors"), &file, folders.dir.path()] {
        let error = archive.apply(&base, output, true, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    let sharded = folders.path("sharded");
    save_shards(&sharded, &small_pair().0);
    let index = open(&sharded.join("model.safetensors.index.json"));
    let shard = sharded.join("model-00001-of-00002.safetensors");
    assert_eq!(archive.apply(&index, &shard, true, &Silent).unwrap_err().kind(), ErrorKind::InvalidArgument);
    fs::remove_dir_all(&sharded).unwrap();
    let one_file = open(&folders.base.join("model.safetensors"));
    let error = archive.apply(&one_file, &folders.base.join("model.safetensors"), true, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(snapshot(folders.dir.path()) == before);
    // Beside the weights there is room.
    archive.apply(&base, &folders.base.join("tuned"), false, &Silent).unwrap();
    compress(&base, &finetuned, &folders.finetuned.join("x.ddct"), &options("zero"), &Silent).unwrap();
}

#[test]
fn one_file_in_one_file_out() {
    let folders = Folders::small();
    let (base, finetuned) =
        (folders.base.join("model.safetensors"), folders.finetuned.join("model.safetensors"));
    let (file, output) = (folders.path("x.ddct"), folders.path("tuned.safetensors"));
    let summary = compress(&open(&base), &open(&finetuned), &file, &options("raw"), &Silent).unwrap();
    assert!(summary.files.is_empty());
    let applied = Archive::open(&file).unwrap().apply(&open(&base), &output, false, &Silent).unwrap();
    assert_eq!(applied.files, ["tuned.safetensors"]);
    assert!(fs::read(&output).unwrap() == fs::read(&finetuned).unwrap());
    // A folder as the base does as well, and a folder as the output.
    Archive::open(&file)
        .unwrap()
        .apply(&open(&folders.base), &folders.path("folder"), false, &Silent)
        .unwrap();
    assert!(fs::read(folders.path("folder/model.safetensors")).unwrap() == fs::read(&finetuned).unwrap());
}

/// Writes `model` as two shards with an index in the style of Hugging Face.
fn save_shards(dir: &Path, model: &Tensors) {
    let (first, second): (Vec<_>, Vec<_>) = model.iter().enumerate().partition(|(i, _)| i % 2 == 0);
    let mut map = serde_json::Map::new();
    for (i, part) in [first, second].into_iter().enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", i + 1);
        let part: Tensors = part.into_iter().map(|(_, (name, t))| (name.clone(), t.clone())).collect();
        map.extend(part.keys().map(|name| (name.clone(), file.clone().into())));
        save(&dir.join(file), &part);
    }
    map.sort_keys();
    let index = serde_json::json!({ "metadata": { "total_size": 12345 }, "weight_map": map });
    fs::write(dir.join("model.safetensors.index.json"), serde_json::to_string_pretty(&index).unwrap() + "\n")
        .unwrap();
}

#[test]
fn shards_come_back_as_shards() {
    let (base, tuned) = small_pair();
    let folders = Folders::new(&base, &tuned);
    let sharded = folders.path("sharded");
    save_shards(&sharded, &tuned);
    let trip = RoundTrip::new(&folders.base, &sharded, &options("raw"));
    let files = |dir: &Path| snapshot(dir).into_values().collect::<Vec<_>>();
    assert!(files(&trip.output) == files(&sharded), "byte for byte");
    let error = Archive::open(&trip.file).unwrap().apply(
        &open(&folders.base),
        &folders.path("one.safetensors"),
        false,
        &Silent,
    );
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("2 files"), "{error}");
    assert!(!folders.path("one.safetensors").exists());
    // A sharded base is as good as a base in one file.
    let base_shards = folders.path("base_shards");
    save_shards(&base_shards, &base);
    let trip = RoundTrip::new(&base_shards, &sharded, &options("bitdelta"));
    Archive::open(&trip.file).unwrap().verify(Some(&open(&folders.base)), &Silent).unwrap();
}

#[test]
fn metadata_and_side_files_travel() {
    let folders = Folders::small();
    let tuned = small_pair().1;
    save_with(&folders.finetuned.join("model.safetensors"), &tuned, &[("author", "somebody, \"quoted\" é")]);
    fs::write(folders.base.join("tokenizer.json"), vec![b'x'; 5000]).unwrap();
    fs::write(folders.finetuned.join("tokenizer.json"), vec![b'x'; 5000]).unwrap();
    fs::write(folders.finetuned.join("config.json"), "{\"a\": 1}").unwrap();
    fs::create_dir(folders.finetuned.join("sub")).unwrap();
    fs::write(folders.finetuned.join("sub/notes.txt"), "inner").unwrap();
    fs::write(folders.finetuned.join("optimizer.pt"), vec![1; 100]).unwrap();

    let trip = RoundTrip::new(&folders.base, &folders.finetuned, &options("raw"));
    for file in ["model.safetensors", "tokenizer.json", "config.json", "sub/notes.txt"] {
        assert!(
            fs::read(trip.output.join(file)).unwrap() == fs::read(folders.finetuned.join(file)).unwrap(),
            "{file}"
        );
    }
    assert!(!trip.output.join("optimizer.pt").exists());
    assert_eq!(trip.summary.skipped_files, [("optimizer.pt".to_owned(), 100)]);
    let sizes: Vec<_> = trip.summary.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(sizes, ["config.json", "sub/notes.txt", "tokenizer.json"]);
    // The tokenizer is that of the base.
    assert!(trip.summary.files[2].1 < 48, "{:?}", trip.summary.files);
}

/// Beside the base lies a tokenizer in a line, beside the fine-tuned model the same in many lines.
fn tokenizers() -> Folders {
    let folders = Folders::small();
    let words = (0..2_000).map(|i| (format!("word{}", i * 7919 % 10_007), i.into()));
    let words: serde_json::Map<String, serde_json::Value> = words.collect();
    let text = |lowercase: bool| serde_json::json!({"lowercase": lowercase, "vocab": words});
    fs::write(folders.base.join("tokenizer.json"), text(true).to_string()).unwrap();
    fs::write(folders.finetuned.join("tokenizer.json"), format!("{:#}", text(false))).unwrap();
    folders
}

#[test]
fn a_side_file_that_is_like_the_one_of_the_base_takes_few_bytes() {
    let folders = tokenizers();
    let trip = RoundTrip::new(&folders.base, &folders.finetuned, &options("zero"));
    let read = |folder: &Path| fs::read(folder.join("tokenizer.json")).unwrap();
    assert!(read(&trip.output) == read(&folders.finetuned));
    assert!(trip.summary.files[0].1 < 80, "{:?}", trip.summary.files);
}

#[test]
fn without_the_side_file_of_the_base_the_error_names_it() {
    let folders = tokenizers();
    let archive = Archive::open(&folders.compress()).unwrap();
    let output = folders.path("out");
    let refused = |base: &Path, word: &str| {
        let error = archive.apply(&open(base), &output, false, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(error.to_string().contains("tokenizer.json") && error.to_string().contains(word), "{error}");
        assert!(!output.exists());
    };
    refused(&folders.base.join("model.safetensors"), "has none");
    fs::write(folders.base.join("tokenizer.json"), "{}").unwrap();
    refused(&folders.base, "another");
    fs::remove_file(folders.base.join("tokenizer.json")).unwrap();
    refused(&folders.base, "has none");
    // One file of weights needs no tokenizer.
    archive.apply(&open(&folders.base), &folders.path("out.safetensors"), false, &Silent).unwrap();
}

#[test]
fn reserved_names_are_refused() {
    let (base, mut tuned) = small_pair();
    let name = "__ddct__/layout";
    tuned.insert(name.to_owned(), base["classifier.bias"].clone());
    let error = Folders::new(&base, &tuned).refused();
    assert_eq!((error.kind(), error.tensor()), (ErrorKind::InvalidArgument, Some(name)));
    assert!(error.to_string().contains("reserved"), "{error}");
}

/// Counts what it is told, and asks to stop after `limit` bytes.
struct Counter {
    total: AtomicU64,
    done: AtomicU64,
    limit: u64,
}

impl Counter {
    fn new(limit: u64) -> Self {
        Self { total: AtomicU64::new(0), done: AtomicU64::new(0), limit }
    }
}

impl Progress for Counter {
    fn begin(&self, _: &str, total: u64) {
        self.total.fetch_add(total, Ordering::SeqCst);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::SeqCst);
    }

    fn cancelled(&self) -> bool {
        self.done.load(Ordering::SeqCst) >= self.limit
    }
}

#[test]
fn progress_is_told_in_full_and_can_stop_the_work() {
    let folders = Folders::small();
    let (base, finetuned) = (open(&folders.base), open(&folders.finetuned));
    let bytes: usize = small_pair().1.values().map(|tensor| tensor.bytes.len()).sum();
    let is_full = |counter: Counter| {
        assert_eq!((counter.total.into_inner(), counter.done.into_inner()), (bytes as u64, bytes as u64));
    };
    let (file, output) = (folders.path("x.ddct"), folders.path("out"));
    for limit in [0, 10_000] {
        let before = snapshot(folders.dir.path());
        let stopped =
            compress(&base, &finetuned, &file, &options("dct block=16"), &Counter::new(limit)).unwrap_err();
        assert_eq!(stopped.kind(), ErrorKind::Interrupted);
        assert!(snapshot(folders.dir.path()) == before);
    }
    let counter = Counter::new(u64::MAX);
    compress(&base, &finetuned, &file, &options("dct block=16"), &counter).unwrap();
    is_full(counter);
    let archive = Archive::open(&file).unwrap();
    for limit in [0, 10_000] {
        let stopped = archive.apply(&base, &output, false, &Counter::new(limit)).unwrap_err();
        assert_eq!(stopped.kind(), ErrorKind::Interrupted);
        assert!(!output.exists());
    }
    let counter = Counter::new(u64::MAX);
    archive.apply(&base, &output, false, &counter).unwrap();
    is_full(counter);
    assert_eq!(fs::read_dir(folders.dir.path()).unwrap().count(), 4, "base, ft, the file and the result");
}

#[test]
fn a_dry_run_tells_the_exact_size_and_keeps_nothing() {
    let folders = Folders::small();
    let output = folders.path("dry.ddct");
    let before = snapshot(folders.dir.path());
    let dry = CompressOptions { dry_run: true, ..options("dct block=16") };
    let told = compress(&open(&folders.base), &open(&folders.finetuned), &output, &dry, &Silent).unwrap();
    assert!(snapshot(folders.dir.path()) == before);
    assert_eq!(told.output_bytes, fs::metadata(folders.compress()).unwrap().len());
}
