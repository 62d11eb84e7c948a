//! Damaged and hostile files: an error or the right result, never a panic, a huge allocation or a long loop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "hostile/allocations.rs"]
mod allocations;
#[path = "hostile/mutations.rs"]
mod mutations;
#[path = "golden/pairs.rs"]
mod pairs;
mod reference;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use delta_dct::{
    Archive, Checkpoint, Dtype, ErrorKind, Result, Silent, TensorView, decode_tensor, encode_tensor,
};
use mutations::Random;
use pairs::{CASES, OnDisk, Pair, Tensor, tensors};
use reference::{Body, File, Link, Record};

/// Everything that reads a file. `true` if all of it was right; panics on a kind of error that is not the file's.
fn read_all(path: &Path, base: &Checkpoint) -> bool {
    let read = || -> Result<()> {
        let archive = Archive::open(path)?;
        archive.info();
        archive.files();
        archive.tensors()?;
        archive.verify(None, &Silent)?;
        archive.verify(Some(base), &Silent)?;
        Ok(())
    };
    right(read())
}

/// Whether `result` is one; panics on a kind of error that is not the file's.
fn right(result: Result<()>) -> bool {
    use ErrorKind as K;
    match result {
        Ok(()) => true,
        Err(e) => {
            let expected =
                [K::Corrupt, K::Truncated, K::Unsupported, K::Limit, K::Mismatch].contains(&e.kind());
            assert!(expected, "a damaged file is said to be {:?}: {e}", e.kind());
            false
        }
    }
}

/// A small pair for the tests that try every byte.
fn small() -> Pair {
    let mut pair = pairs::plain();
    let keep = |name: &String| ["layer.dense.weight", "classifier.weight"].contains(&name.as_str());
    pair.base.retain(|name, _| keep(name));
    pair.finetuned.retain(|name, _| keep(name));
    pair.side_files = ["{}", "{\"a\": 1}"].map(|text| vec![("config.json", text.to_owned())]);
    pair
}

const SMALL_RECIPES: [&str; 7] = [
    "dct block=8 bits=3:0.5,0:0.5",
    "uniform",
    "sparse share=0.1",
    "lowrank rank=2",
    "dwt block=8 levels=2 bits=2",
    "lossless",
    "layers: uniform",
];

#[test]
fn every_prefix_is_refused() {
    for recipe in SMALL_RECIPES {
        let disk = small().write();
        let path = disk.compress(recipe).unwrap();
        assert!(read_all(&path, &disk.base));
        let bytes = fs::read(&path).unwrap();
        for len in (0..bytes.len()).rev() {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(len as u64).unwrap();
            assert!(Archive::open(&path).is_err(), "{recipe}: {len} of {} bytes were accepted", bytes.len());
        }
        for more in [1, 8, 1000] {
            fs::write(&path, [&bytes[..], &vec![0; more]].concat()).unwrap();
            assert!(Archive::open(&path).is_err(), "{recipe}: {more} bytes more were accepted");
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for recipe in SMALL_RECIPES {
        let disk = small().write();
        let path = disk.compress(recipe).unwrap();
        let bytes = fs::read(&path).unwrap();
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut put = |at: usize, byte: u8| {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        for (at, &byte) in bytes.iter().enumerate() {
            for bit in 0..8 {
                put(at, byte ^ 1 << bit);
                assert!(!read_all(&path, &disk.base), "{recipe}: bit {bit} of byte {at} does not matter");
            }
            put(at, byte);
        }
        assert!(read_all(&path, &disk.base));
    }
    allocations::check(1 << 12, || "a flipped bit".to_owned());
}

/// A record and all that is needed to decode it.
struct Sample {
    recipe: &'static str,
    base: Tensor,
    record: Vec<u8>,
    result: Vec<u8>,
}

fn view(tensor: &Tensor) -> TensorView<'_> {
    TensorView { dtype: tensor.dtype, shape: &tensor.shape, bytes: &tensor.bytes }
}

fn disk_tensor(checkpoint: &Checkpoint, name: &str) -> Tensor {
    let view = checkpoint.get(name).unwrap();
    Tensor { dtype: view.dtype, shape: view.shape.to_vec(), bytes: view.bytes.to_vec() }
}

fn samples() -> Vec<Sample> {
    let shapes: [(Dtype, &[usize]); 4] =
        [(Dtype::F32, &[12, 17]), (Dtype::BF16, &[40, 33]), (Dtype::F16, &[300]), (Dtype::F64, &[3, 0])];
    let mut samples = Vec::new();
    for (seed, (dtype, shape)) in (60..).zip(shapes) {
        for case in CASES {
            let (base, finetuned) = tensors(dtype, dtype, shape, seed);
            let record =
                encode_tensor("layer.weight", view(&base), view(&finetuned), &case.recipe.parse().unwrap());
            let mut sample =
                Sample { recipe: case.recipe, base, record: record.unwrap(), result: finetuned.bytes };
            decode_tensor("layer.weight", &sample.record, Some(view(&sample.base)), &mut sample.result)
                .unwrap();
            // The same residual, as one against the tensor of a first layer.
            let mut refined = Record::read("layer.weight", &sample.record);
            if let Body::Exact(_, [payload, residual, _]) = &refined.body
                && payload.is_empty()
            {
                refined.body = Body::Refined(residual.clone());
                let (recipe, base, result) = ("refined", sample.base.clone(), sample.result.clone());
                samples.push(Sample { recipe, base, record: refined.write(), result });
            }
            samples.push(sample);
        }
    }
    let disk = pairs::alone().write();
    let file = File::open(&fs::read(disk.compress("factors step=13").unwrap()).unwrap());
    for name in ["classifier.dense.weight", "experts.down_proj"] {
        let (record, base) = (file.entries[name].clone(), disk_tensor(&disk.finetuned, name));
        let mut result = vec![0; base.bytes.len()];
        decode_tensor(name, &record, None, &mut result).unwrap();
        samples.push(Sample { recipe: "alone", base, record, result });
    }
    assert!(samples.iter().any(|sample| sample.recipe == "refined"));
    samples
}

/// Runs one case; slow ones are tried again, because the machine may be busy with something else.
fn run(what: impl Fn() -> String, case: impl Fn()) {
    let fast = || {
        let start = std::time::Instant::now();
        case();
        start.elapsed().as_secs_f64() < 1.0
    };
    assert!((0..5).any(|_| fast()), "{}: takes more than a second", what());
}

#[test]
fn mutated_records_decode_to_the_same_or_not_at_all() {
    let samples = samples();
    let mut accepted = 0;
    for i in 0..600_000u64 {
        let mut random = Random::new(i);
        let sample = &samples[random.below(samples.len())];
        let other = &samples[random.below(samples.len())];
        let record = match random.below(2) {
            0 => mutations::bytes(&sample.record, &other.record, &mut random),
            _ => mutations::record(&sample.record, &mut random),
        };
        let what = || format!("mutation {i} of {} for {:?}", sample.recipe, sample.base.shape);
        let same = std::cell::Cell::new(false);
        run(what, || {
            let mut out = vec![0; sample.result.len()];
            let result = decode_tensor("layer.weight", &record, Some(view(&sample.base)), &mut out);
            same.set(right(result));
            assert!(!same.get() || out == sample.result, "{} decodes to other weights", what());
        });
        accepted += usize::from(same.get());
        allocations::check(sample.base.bytes.len() + record.len(), what);
    }
    // Some mutations change nothing, or only what does not matter: importance, shares, the step of no means.
    assert!(accepted < 120_000, "{accepted} mutated records were accepted");
}

/// A file, taken apart.
struct Parts {
    disk: OnDisk,
    path: PathBuf,
    recipe: String,
    metadata: BTreeMap<String, String>,
    entries: Vec<(String, Vec<u8>)>,
}

impl Parts {
    fn new(pair: &Pair, recipe: &str) -> Self {
        let disk = pair.write();
        let path = disk.compress(recipe).unwrap();
        let file = File::open(&fs::read(&path).unwrap());
        let entries = file.entries.into_iter().collect();
        Self { disk, path, recipe: recipe.to_owned(), metadata: file.metadata, entries }
    }

    fn write(&self, entries: &[(String, Vec<u8>)]) {
        let bytes = reference::write_file(&self.metadata, entries);
        // Not cut to nothing first: some file systems then wait for the disk.
        let mut file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }

    /// The entries, one of them replaced or added.
    fn with(&self, name: &str, content: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut entries = self.entries.clone();
        entries.retain(|(entry, _)| entry != name);
        entries.push((name.to_owned(), content.to_vec()));
        entries
    }

    /// What reading the file with these entries says; applying it must leave nothing behind.
    fn refused(&self, entries: &[(String, Vec<u8>)]) -> delta_dct::Error {
        self.write(entries);
        let folder = self.disk.folder.path();
        let list =
            || fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        let before = list();
        let archive = Archive::open(&self.path).unwrap();
        let error = archive.apply(&self.disk.base, &folder.join("output"), false, &Silent).unwrap_err();
        assert_eq!(before, list(), "{error}: something was left behind");
        error
    }
}

#[test]
fn files_of_mutated_entries_are_read_or_refused() {
    let recipes = SMALL_RECIPES.into_iter().chain(["bitdelta", "dare", "dct-post block=8 bits=4:0.5,1:0.5"]);
    let files: Vec<Parts> = recipes
        .map(|recipe| Parts::new(&small(), recipe))
        .chain([&pairs::odd(), &pairs::patched()].map(|pair| Parts::new(pair, "dct block=8")))
        .collect();
    for i in 0..30_000u64 {
        let mut random = Random::new(1 << 40 | i);
        let parts = &files[random.below(files.len())];
        let mut entries = parts.entries.clone();
        for _ in 0..1 + random.below(2) {
            let (at, other) = (random.below(entries.len()), random.below(entries.len()));
            let (name, content) = &parts.entries[at];
            entries[at].1 = match random.below(4) {
                0 => mutations::bytes(content, &parts.entries[other].1, &mut random),
                _ if name.starts_with("__ddct__/") => mutations::bytes(content, &[], &mut random),
                _ => mutations::record(content, &mut random),
            };
        }
        match random.below(2) {
            0 => parts.write(&entries),
            _ => parts.write(&[(BUNDLE.to_owned(), reference::bundle(&entries, random.below(300)))]),
        }
        let what = || format!("mutation {i} of {}", parts.recipe);
        run(what, || {
            read_all(&parts.path, &parts.disk.base);
        });
        allocations::check(fs::metadata(&parts.path).unwrap().len() as usize, what);
    }
}

/// A delta record of `shape` with this payload, of the base tensor of the same name.
fn delta(shape: &[u64], base: &Tensor, payload: Vec<u8>) -> Vec<u8> {
    let digest = reference::xxh3(&[&base.bytes]);
    let link = Link { shared: 18, own: vec![], dtype: 0, rows: shape.first().copied().unwrap_or(1), digest };
    Record { dtype: 0, shape: shape.to_vec(), result: 0, body: Body::Delta(link, payload, vec![]) }.write()
}

/// The same without a base.
fn alone(shape: &[u64], payload: Vec<u8>) -> Vec<u8> {
    Record { dtype: 0, shape: shape.to_vec(), result: 0, body: Body::Alone(payload) }.write()
}

const NONE: &[u8] = &[0, 0];
const DCT_4: &[u8] = &[1, 2, 4, 0];
const MANY_DETAILS: &[u8] = &[2, 5, 127, 0, 6, 0, 0];
const MASK: &[u8] = &[4, 12, 0, 0, 0, 63, 0, 0, 0, 0, 0, 0, 0, 0];
const TOP: &[u8] = &[5, 4, 0, 0, 0, 63];
/// Rank 1, 8 bits, from 0 to 1; all levels are 1.
const RANK_1: &[u8] = &[3, 13, 1, 8, 0, 0, 0, 0, 0, 0, 128, 63, 0, 1, 0];
const SIGN: &[u8] = &[2, 0];
const UNIFORM: &[u8] = &[3, 4, 0, 0, 128, 62];
/// Min-max with one class of 0 bits, of 2 bits, and with a class of each.
const BITS_0: &[u8] = &[1, 9, 1, 0, 0, 0, 128, 63, 0, 1, 0];
const BITS_2: &[u8] = &[1, 9, 1, 2, 0, 0, 128, 63, 0, 1, 0];
const BITS_2_0: &[u8] = &[1, 14, 2, 2, 0, 0, 0, 63, 0, 0, 0, 0, 63, 0, 1, 0];
const PREDECESSOR_0: &[u8] = &[1, 9, 1, 0, 0, 0, 128, 63, 0, 1, 1];

/// Payloads whose streams are all of the constant model, so that few bytes stand for any number of symbols.
fn bombs() -> Vec<(String, Vec<u8>)> {
    let mut bombs = Vec::new();
    for transform in [NONE, DCT_4, MANY_DETAILS, MASK, TOP, RANK_1] {
        for quantizer in [SIGN, UNIFORM, BITS_0, BITS_2, BITS_2_0, PREDECESSOR_0] {
            let head = [transform, quantizer, &1f32.to_le_bytes(), &1f32.to_le_bytes()].concat();
            // Constant models and empty streams are zeros, as many as it may take.
            for len in (0..50).chain([3_000]) {
                bombs.push((format!("{head:?}, {len} zeros"), [head.clone(), vec![0; len]].concat()));
            }
        }
    }
    bombs
}

#[test]
fn small_payloads_of_huge_tensors_allocate_little() {
    let parts = Parts::new(&small(), "dct block=8");
    let base = &small().base["layer.dense.weight"];
    let shapes: [&[u64]; 9] = [
        &[25, 21],
        &[525],
        &[1, 525],
        &[1 << 20, 1 << 20],
        &[1, 1 << 40],
        &[1 << 40],
        &[1 << 40, 1],
        &[0, 1 << 40, 1 << 40, 1 << 40],
        &[3, 0, 1 << 40],
    ];
    for shape in shapes {
        for (bomb, payload) in bombs() {
            let what = || format!("{shape:?} by {bomb}");
            for record in [delta(shape, base, payload.clone()), alone(shape, payload.clone())] {
                parts.write(&parts.with("layer.dense.weight", &record));
                run(what, || {
                    read_all(&parts.path, &parts.disk.base);
                });
                allocations::check(payload.len(), what);
            }
            let record = delta(shape, base, payload);
            run(what, || {
                let _ = decode_tensor(
                    "layer.dense.weight",
                    &record,
                    Some(view(base)),
                    &mut vec![0; base.bytes.len()],
                );
            });
            allocations::check(record.len(), what);
        }
    }
}

const BUNDLE: &str = "__ddct__/bundle";

#[test]
fn hostile_bundles_are_refused() {
    let parts = Parts::new(&small(), "dct block=8");
    let bundle = reference::bundle(&parts.entries, 40);
    parts.write(&[(BUNDLE.to_owned(), bundle.clone())]);
    assert!(read_all(&parts.path, &parts.disk.base));
    let refused = |entries: &[(String, Vec<u8>)], what: &str| {
        parts.write(entries);
        run(|| what.to_owned(), || assert!(!read_all(&parts.path, &parts.disk.base), "{what} was accepted"));
        allocations::check(1 << 12, || what.to_owned());
    };
    for i in 0..10_000u64 {
        let mutated = mutations::bytes(&bundle, &[], &mut Random::new(1 << 41 | i));
        parts.write(&[(BUNDLE.to_owned(), mutated)]);
        run(
            || format!("bundle {i}"),
            || {
                read_all(&parts.path, &parts.disk.base);
            },
        );
        allocations::check(bundle.len(), || format!("bundle {i}"));
    }
    // A name twice: in the bundle, and in the bundle and beside it.
    let twice = [&parts.entries[..], &parts.entries[..1]].concat();
    refused(&[(BUNDLE.to_owned(), reference::bundle(&twice, 40))], "a name that is there twice");
    refused(
        &[(BUNDLE.to_owned(), bundle.clone()), parts.entries[0].clone()],
        "a name in and beside the bundle",
    );
    // Number, size of the heads, sizes, names, heads; then the tails.
    let many = |n: u64, rest: &[u8]| {
        let mut index = Vec::new();
        reference::put_varint(&mut index, n);
        [&index[..], rest].concat()
    };
    let indices = [
        (many(1 << 20, &vec![0; 2 << 20]), vec![]),
        (many(u64::MAX, &[0; 100]), vec![]),
        (many(1, &[4, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, b'a', 1, 2, 3, 4]), vec![5; 100]),
        (many(1, &[0xff, 0xff, 0xff, 0xff, 0x0f, 100, 1, b'a']), vec![5; 100]),
    ];
    for (i, (index, tails)) in indices.iter().enumerate() {
        let packed = zstd::bulk::compress(index, 3).unwrap();
        refused(&[(BUNDLE.to_owned(), reference::with_index(&packed, tails))], &format!("index {i}"));
    }
    refused(&[(BUNDLE.to_owned(), reference::with_index(&bomb(), &[]))], "a bomb");
    for content in [&[][..], &[5], &[0], &[4, 0x28, 0xb5, 0x2f, 0xfd]] {
        refused(&[(BUNDLE.to_owned(), content.to_vec())], "a broken bundle");
    }
}

#[test]
fn ties_that_lead_nowhere_are_refused() {
    let parts = Parts::new(&pairs::odd(), "dct block=8");
    let alias = |target: &str, shape: &[u64]| {
        Record { dtype: 0, shape: shape.to_vec(), result: 0, body: Body::Alias(target.to_owned()) }.write()
    };
    let words = "bert.embeddings.word_embeddings.weight";
    for (target, shape) in
        [("lm_head.weight", &[43, 24][..]), ("missing", &[43, 24]), ("", &[43, 24]), (words, &[42, 24])]
    {
        let error = parts.refused(&parts.with("lm_head.weight", &alias(target, shape)));
        assert_eq!(
            (error.kind(), error.tensor()),
            (ErrorKind::Corrupt, Some("lm_head.weight")),
            "{target}: {error}"
        );
    }
    let both = parts.with("extra.weight", &alias("lm_head.weight", &[43, 24]));
    assert_eq!(parts.refused(&both).kind(), ErrorKind::Corrupt);
}

#[test]
fn hostile_layouts_are_refused() {
    let parts = Parts::new(&small(), "dct block=8");
    let (dense, head) = ("layer.dense.weight", "classifier.weight");
    let shard = |file: &str, tensors: &[&str]| serde_json::json!({"file": file, "tensors": tensors});
    let both = [dense, head];
    let mut layouts: Vec<String> = Vec::new();
    let names = [
        "../x.safetensors",
        "/x.safetensors",
        "a/x.safetensors",
        "a\\x.safetensors",
        "..",
        ".",
        "",
        ".safetensors",
        "c:x.safetensors",
        "x.bin",
        "x",
        "CON.safetensors",
        "x\u{0}.safetensors",
        "x\n.safetensors",
        " /../x.safetensors",
    ];
    layouts.extend(names.map(|name| serde_json::json!({"shards": [shard(name, &both)]}).to_string()));
    let shard_lists = [
        vec![],
        vec![shard("a.safetensors", &[dense])],
        vec![shard("a.safetensors", &[dense, dense, head])],
        vec![shard("a.safetensors", &[dense, head, "missing"])],
        vec![shard("a.safetensors", &[dense]), shard("a.safetensors", &[head])],
        vec![shard("a.safetensors", &[dense]), shard("A.safetensors", &[head])],
        vec![shard("a.safetensors", &both), shard("b.safetensors", &[])],
        vec![shard("a.safetensors", &both), shard("b.safetensors", &[head])],
        vec![serde_json::json!({"file": "a.safetensors"}), serde_json::json!({"file": "b.safetensors"})],
    ];
    layouts.extend(shard_lists.map(|shards| serde_json::json!({ "shards": shards }).to_string()));
    layouts.extend(["", "{}", "null", "[]", "{\"shards\": 3}", "\u{0}"].map(str::to_owned));
    layouts.extend(["[", "{\"shards\":", "{\"index_metadata\":"].map(|part| part.repeat(100_000)));
    for layout in layouts {
        let packed = zstd::bulk::compress(layout.as_bytes(), 3).unwrap();
        let error = parts.refused(&parts.with("__ddct__/layout", &packed));
        let start: String = layout.chars().take(100).collect();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{start}: {error}");
    }
    for not_zstd in [&b""[..], b"{}", &[0x28, 0xb5, 0x2f, 0xfd]] {
        assert_eq!(parts.refused(&parts.with("__ddct__/layout", not_zstd)).kind(), ErrorKind::Corrupt);
    }
    allocations::check(1 << 20, || "a layout".to_owned());
}

#[test]
fn side_files_stay_inside_the_output() {
    let parts = Parts::new(&small(), "dct block=8");
    let content = [&[0][..], &zstd::bulk::compress(b"evil", 3).unwrap()].concat();
    let names = [
        "../evil",
        "a/../../evil",
        "/tmp/evil",
        "..",
        ".",
        "",
        "a//b",
        "C:\\evil",
        "a\\..\\b",
        "x\u{0}y",
        "a/../b",
    ];
    for name in names {
        let error = parts.refused(&parts.with(&format!("__ddct__/file/{name}"), &content));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name:?}: {error}");
    }
    // Files that the weights themselves take, and a file where a folder is.
    for name in ["model.safetensors", "config.json/x"] {
        parts.refused(&parts.with(&format!("__ddct__/file/{name}"), &content));
    }
}

/// Packed bytes that unpack to more than 64 MiB.
fn bomb() -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    (0..(64 << 10) + 1).for_each(|_| encoder.write_all(&[b' '; 1 << 10]).unwrap());
    encoder.finish().unwrap()
}

#[test]
fn what_unpacks_to_too_much_is_refused() {
    let parts = Parts::new(&small(), "dct block=8");
    let packed = bomb();
    let side = parts.with("__ddct__/file/config.json", &[&[0][..], &packed].concat());
    assert_eq!(parts.refused(&side).kind(), ErrorKind::Limit);
    assert_eq!(parts.refused(&parts.with("__ddct__/layout", &packed)).kind(), ErrorKind::Limit);
    // An empty frame that asks for a window of 128 MiB.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 1, 0, 0];
    parts.refused(&parts.with("__ddct__/file/config.json", &[&[0][..], &window].concat()));
    // The same behind the digest of the base's file, as a patch of it.
    let digest = reference::xxh3(&[b"{}"]).to_le_bytes();
    for kind in [2, 3] {
        let side = parts.with("__ddct__/file/config.json", &[&[kind][..], &digest, &packed].concat());
        assert_eq!(parts.refused(&side).kind(), ErrorKind::Limit);
        let side = parts.with("__ddct__/file/config.json", &[&[kind][..], &digest, &window].concat());
        assert_eq!(parts.refused(&side).kind(), ErrorKind::Corrupt);
    }
    allocations::check(packed.len(), || "a bomb".to_owned());
}

#[test]
fn hostile_headers_are_refused() {
    let parts = Parts::new(&small(), "dct block=8");
    let good = fs::read(&parts.path).unwrap();
    let header_len = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let with_header =
        |text: &[u8]| [&(text.len() as u64).to_le_bytes()[..], text, &good[8 + header_len..]].concat();
    let header = String::from_utf8(good[8..8 + header_len].to_vec()).unwrap();
    let mut files: Vec<Vec<u8>> =
        [0, 1, 7, 100_000_001, u64::from(u32::MAX), 1 << 62, u64::MAX, u64::MAX - 7]
            .map(|len| [&len.to_le_bytes()[..], &good[8..]].concat())
            .to_vec();
    let texts = [
        "{}".to_owned(),
        "null".to_owned(),
        "[".repeat(1_000_000),
        "{\"a\":".repeat(1_000_000),
        "{\"__metadata__\":{}}".to_owned(),
        header.replace("\"U8\"", "\"F32\""),
        header.replace("\"U8\"", "\"F4\""),
        header.replace("[0,", "[1,"),
        header.replace("\"shape\":[", "\"shape\":[4294967296,4294967296,"),
        header.replace("\"shape\":[", "\"shape\":[0,"),
        header.replace("data_offsets\":[", "data_offsets\":[18446744073709551615,"),
        header.replace("__ddct__/bundle", "__ddct__/seal"),
        header.replace("__ddct__/bundle", "other"),
        header.replace("__ddct__/seal", "other"),
    ];
    files.extend(texts.map(|text| with_header(text.as_bytes())));
    for (i, file) in files.into_iter().enumerate() {
        fs::write(&parts.path, &file).unwrap();
        run(
            || format!("header {i}"),
            || assert!(!read_all(&parts.path, &parts.disk.base), "header {i} was accepted"),
        );
        allocations::check(file.len(), || format!("header {i}"));
    }
}
