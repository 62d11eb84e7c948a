//! Reading checkpoints of every format, writing them again, and what happens with damaged ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use delta_dct::{Checkpoint, CheckpointWriter, Dtype, Error, ErrorKind, Layout};
use safetensors::tensor::TensorView as CrateView;
use tempfile::{TempDir, tempdir};

// ---- small checkpoints made here ----

/// Bytes of a safetensors file with tensors of several dtypes, as the safetensors crate writes it.
fn small_safetensors() -> Vec<u8> {
    let tensors = [
        ("b.weight", Dtype::F32, vec![2, 3], (0..24).collect::<Vec<u8>>()),
        ("a.weight", Dtype::F32, vec![1, 1], vec![1; 4]),
        ("half", Dtype::F16, vec![3], vec![2; 6]),
        ("zero", Dtype::F32, vec![0, 4], vec![]),
        ("empty", Dtype::F32, vec![0], vec![]),
        ("step", Dtype::I64, vec![], vec![3; 8]),
        ("mask", Dtype::BOOL, vec![1], vec![1]),
    ];
    let views = tensors.iter().map(|(n, d, s, b)| (*n, CrateView::new(*d, s.clone(), b).unwrap()));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views.collect::<Vec<_>>(), Some(metadata)).unwrap()
}

fn string(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// A protocol 2 pickle of a tensor: `_rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())`.
fn pickled_tensor(class: &str, key: &str, len: u8, offset: u8, shape: &[u8], stride: &[u8]) -> Vec<u8> {
    let tuple = |items: &[u8]| {
        [b"(".to_vec(), items.iter().flat_map(|&n| [b'K', n]).collect(), b"t".to_vec()].concat()
    };
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        string("storage"),
        format!("ctorch\n{class}\n").into_bytes(),
        string(key),
        string("cpu"),
        vec![b'K', len, b't', b'Q', b'K', offset],
        tuple(shape),
        tuple(stride),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

/// `{key: value, ...}`, the values being pickled already.
fn pickled_dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items = items.iter().flat_map(|(key, value)| [string(key), value.clone()].concat());
    [b"}(".to_vec(), items.collect(), b"u".to_vec()].concat()
}

fn pickle(body: Vec<u8>) -> Vec<u8> {
    [b"\x80\x02".to_vec(), body, b".".to_vec()].concat()
}

/// The archive of torch.save: the pickle and the storages "0" (6 floats) and "1" (4 shorts).
fn zipped(pickle: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    let floats: Vec<u8> = (0..6).flat_map(|n| (n as f32).to_le_bytes()).collect();
    for (name, bytes) in
        [("data.pkl", pickle), ("byteorder", b"little"), ("data/0", &floats), ("data/1", &[9; 8])]
    {
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The container of PyTorch before 1.6 with the same storages.
fn legacy(model: &[u8]) -> Vec<u8> {
    let floats: Vec<u8> = (0..6).flat_map(|n| (n as f32).to_le_bytes()).collect();
    [
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
        pickle(b"M\xe9\x03".to_vec()),
        pickle(pickled_dict(&[("little_endian", b"\x88".to_vec())])),
        model.to_vec(),
        pickle([b"](".to_vec(), string("0"), string("1"), b"e".to_vec()].concat()),
        6u64.to_le_bytes().to_vec(),
        floats,
        4u64.to_le_bytes().to_vec(),
        vec![9; 8],
    ]
    .concat()
}

fn small_pickle() -> Vec<u8> {
    let floats =
        |offset, shape: &[u8], stride: &[u8]| pickled_tensor("FloatStorage", "0", 6, offset, shape, stride);
    let state = pickled_dict(&[
        ("plain", floats(0, &[2, 3], &[3, 1])),
        ("again", floats(0, &[2, 3], &[3, 1])),
        ("turned", floats(0, &[3, 2], &[1, 3])),
        ("tail", floats(4, &[2], &[1])),
        ("shorts", pickled_tensor("ShortStorage", "1", 4, 0, &[4], &[1])),
        ("version", b"K\x07".to_vec()),
    ]);
    pickle(pickled_dict(&[("epoch", b"K\x03".to_vec()), ("state_dict", state)]))
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

// ---- comparing ----

fn floats(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let (chunks, _) = checkpoint.get(name).unwrap().bytes.as_chunks::<4>();
    chunks.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[track_caller]
fn assert_same(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>());
    for name in a.names() {
        let (x, y) = (a.get(name).unwrap(), b.get(name).unwrap());
        assert_eq!((x.dtype, x.shape), (y.dtype, y.shape), "{name}");
        assert!(x.bytes == y.bytes, "{name}");
    }
}

#[track_caller]
fn error(result: Result<Checkpoint, Error>) -> (ErrorKind, String) {
    let error = result.expect_err("an error");
    (error.kind(), error.to_string())
}

/// Writes `checkpoint` as its layout, sent through JSON, says.
fn write(checkpoint: &Checkpoint, dir: &Path) {
    let layout: Layout = serde_json::from_str(&serde_json::to_string(checkpoint.layout()).unwrap()).unwrap();
    assert_eq!(&layout, checkpoint.layout());
    let about = |name: &str| checkpoint.get(name).map(|t| (t.dtype, t.shape.to_vec())).unwrap();
    let tensors: BTreeMap<_, _> = checkpoint.names().map(|n| (n.to_owned(), about(n))).collect();
    let writer = CheckpointWriter::create(dir, &layout, &tensors).unwrap();
    std::thread::scope(|scope| {
        for name in checkpoint.names() {
            let writer = &writer;
            scope.spawn(move || {
                let bytes = checkpoint.get(name).unwrap().bytes;
                let (first, second) = bytes.split_at(bytes.len() / 3);
                writer.write(name, first.len() as u64, second).unwrap();
                writer.write(name, 0, first).unwrap();
                checkpoint.release();
            });
        }
    });
    writer.finish().unwrap();
}

/// Writes the checkpoint at `path` again and compares each `file` with the one beside `path` or in it.
#[track_caller]
fn assert_rewritten(path: &Path, files: &[&str]) {
    let out = tempdir().unwrap();
    write(&Checkpoint::open(path).unwrap(), out.path());
    let folder = if path.is_dir() { path } else { path.parent().unwrap() };
    for file in files {
        assert!(fs::read(folder.join(file)).unwrap() == fs::read(out.path().join(file)).unwrap(), "{file}");
    }
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), files.len());
}

/// The folder of recorded models beside the workspace, where it exists.
fn shared() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    if dir.is_dir() {
        return Some(dir);
    }
    assert!(std::env::var("DELTA_DCT_REQUIRE_SHARED").is_err(), "{} is missing", dir.display());
    println!("skipped: {} is missing", dir.display());
    None
}

// ---- small checkpoints ----

#[test]
fn safetensors_are_read_and_written_byte_for_byte() {
    let dir = tempdir().unwrap();
    let path = put(dir.path(), "odd name.safetensors", &small_safetensors());
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(
        checkpoint.names().collect::<Vec<_>>(),
        ["a.weight", "b.weight", "empty", "half", "mask", "step", "zero"]
    );
    let view = checkpoint.get("b.weight").unwrap();
    assert_eq!((view.dtype, view.shape, view.bytes.len()), (Dtype::F32, &[2, 3][..], 24));
    assert_eq!(checkpoint.get("step").unwrap().shape, [0usize; 0]);
    assert!(checkpoint.names().all(|name| checkpoint.tied_to(name).is_none()));
    assert!(checkpoint.get("c").is_none());
    assert_eq!(checkpoint.layout().shards[0].tensors, None);
    assert_eq!(checkpoint.weight_bytes(), fs::metadata(&path).unwrap().len());
    assert_rewritten(&path, &["odd name.safetensors"]);
}

#[test]
fn data_in_another_order_is_written_in_that_order() {
    let json = br#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"B":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#;
    let mut header = json.to_vec();
    header.resize(header.len().next_multiple_of(8), b' ');
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &[1, 2, 3]].concat();
    let dir = tempdir().unwrap();
    let path = put(dir.path(), "model.safetensors", &bytes);
    assert!(Checkpoint::open(&path).unwrap().layout().shards[0].tensors.is_some());
    assert_rewritten(&path, &["model.safetensors"]);
}

#[test]
fn both_pytorch_containers_hold_the_same_tensors() {
    let dir = tempdir().unwrap();
    let stored = zipped(&small_pickle());
    let zip = Checkpoint::open(&put(dir.path(), "new/pytorch_model.bin", &stored)).unwrap();
    let old = Checkpoint::open(&put(dir.path(), "old.pt", &legacy(&small_pickle()))).unwrap();
    assert_same(&zip, &old);
    assert_eq!(floats(&zip, "plain"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(floats(&zip, "turned"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(floats(&zip, "tail"), [4.0, 5.0]);
    assert_eq!(zip.get("shorts").unwrap().dtype, Dtype::I16);
    assert_eq!(zip.ignored(), ["epoch", "version"]);
    assert_eq!(
        (zip.tied_to("plain"), zip.tied_to("again"), zip.tied_to("tail")),
        (Some("again"), None, None)
    );
    assert_eq!(zip.layout().shards[0].file, "model.safetensors");
    assert_eq!(old.layout().shards[0].file, "old.safetensors");
    write(&zip, dir.path());
    let written = Checkpoint::open(&dir.path().join("model.safetensors")).unwrap();
    assert_same(&zip, &written);
    assert_eq!(written.layout().shards[0].metadata["format"], "pt");
}

#[test]
fn a_pickle_that_names_code_is_refused_by_that_name() {
    let dir = tempdir().unwrap();
    let evil = pickle([b"cos\nsystem\n(".to_vec(), string("true"), b"tR".to_vec()].concat());
    for bytes in [zipped(&evil), legacy(&evil)] {
        let (kind, message) = error(Checkpoint::open(&put(dir.path(), "pytorch_model.bin", &bytes)));
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(message.contains("os.system") && message.contains("safetensors"), "{message}");
    }
}

#[test]
fn compressed_archives_are_unsupported() {
    let mut bytes = zipped(&small_pickle());
    for at in 0..bytes.len() - 12 {
        if bytes[at..].starts_with(b"PK\x01\x02") {
            bytes[at + 10] = 8;
        }
    }
    let (kind, message) = error(Checkpoint::open(&put(tempdir().unwrap().path(), "z.bin", &bytes)));
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(message.contains("archive/data.pkl is compressed"), "{message}");
}

#[test]
fn an_fp8_tensor_lies_in_a_storage_of_bytes() {
    let tensor = pickled_tensor("UntypedStorage", "1", 8, 2, &[3], &[1]);
    let at = tensor.windows(2).position(|w| w == b")R").unwrap() + 2;
    let tensor = [&tensor[..at], b"ctorch\nfloat8_e4m3fn\n", &tensor[at..]].concat();
    let text = [b"_rebuild_tensor_v2", b"_rebuild_tensor_v3"];
    let at = tensor.windows(18).position(|w| w == text[0]).unwrap();
    let tensor = [&tensor[..at], text[1], &tensor[at + 18..]].concat();
    let dir = tempdir().unwrap();
    let path = put(dir.path(), "w.bin", &zipped(&pickle(pickled_dict(&[("w", tensor)]))));
    let checkpoint = Checkpoint::open(&path).unwrap();
    let view = checkpoint.get("w").unwrap();
    assert_eq!((view.dtype, view.shape, view.bytes), (Dtype::F8_E4M3, &[3][..], &[9, 9, 9][..]));
}

#[test]
fn views_outside_their_storage_are_corrupt_and_endless_ones_a_limit() {
    let dir = tempdir().unwrap();
    let open = |tensor| {
        let model = pickle(pickled_dict(&[("w", tensor)]));
        Checkpoint::open(&put(dir.path(), "w.bin", &zipped(&model)))
    };
    let view = |key, offset, shape: &[u8], stride: &[u8]| {
        pickled_tensor("FloatStorage", key, 6, offset, shape, stride)
    };
    assert!(open(view("0", 0, &[6], &[1])).is_ok());
    assert_eq!(error(open(view("0", 1, &[6], &[1]))).0, ErrorKind::Corrupt);
    assert_eq!(error(open(view("0", 0, &[2, 2], &[255, 1]))).0, ErrorKind::Corrupt);
    assert_eq!(error(open(view("1", 0, &[6], &[1]))).0, ErrorKind::Corrupt);
    assert_eq!(error(open(view("7", 0, &[6], &[1]))).0, ErrorKind::Corrupt);
    assert_eq!(error(open(view("0", 0, &[200, 2], &[0, 1]))).0, ErrorKind::Limit);
    assert_eq!(error(open(view("0", 0, &[255; 9], &[0; 9]))).0, ErrorKind::Corrupt);
}

#[test]
fn a_folder_is_opened_by_its_best_weights_and_tells_what_travels() {
    let dir = tempdir().unwrap();
    let (root, weights) = (dir.path(), small_safetensors());
    assert_eq!(error(Checkpoint::open(root)).0, ErrorKind::InvalidArgument);
    put(root, "pytorch_model.bin", &legacy(&small_pickle()));
    assert_eq!(Checkpoint::open(root).unwrap().layout().shards[0].file, "model.safetensors");
    let stay = [".gitattributes", "optimizer.pt", "training_args.bin", "tf_model.h5", "onnx/model.onnx"];
    for name in ["config.json", "tokenizer.json", "1_Pooling/config.json"].into_iter().chain(stay) {
        put(root, name, b"{}");
    }
    put(root, "model.safetensors", &weights);
    put(root, "a/b/c.json", b"{}");
    fs::File::create(root.join("big.json")).unwrap().set_len((64 << 20) + 1).unwrap();
    let checkpoint = Checkpoint::open(root).unwrap();
    assert_eq!(checkpoint.names().count(), 7);
    let side: Vec<_> = checkpoint.side_files().iter().map(|f| (f.name.as_str(), f.len)).collect();
    assert_eq!(side, [("1_Pooling/config.json", 2), ("config.json", 2), ("tokenizer.json", 2)]);
    let mut skipped: Vec<_> = checkpoint.skipped_files().iter().map(|(name, _)| name.as_str()).collect();
    skipped.retain(|name| !stay.contains(name));
    assert_eq!(skipped, ["a/b/", "big.json", "pytorch_model.bin"]);
    let file = Checkpoint::open(&root.join("model.safetensors")).unwrap();
    assert!(file.side_files().is_empty() && file.skipped_files().is_empty());
}

#[test]
fn several_files_without_an_index_are_a_clear_error() {
    let dir = tempdir().unwrap();
    put(dir.path(), "one.safetensors", &small_safetensors());
    assert_eq!(Checkpoint::open(dir.path()).unwrap().layout().shards[0].file, "one.safetensors");
    put(dir.path(), "two.safetensors", &small_safetensors());
    let (kind, message) = error(Checkpoint::open(dir.path()));
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(message.contains("one.safetensors, two.safetensors"), "{message}");
}

fn one_tensor(name: &str) -> Vec<u8> {
    let view = CrateView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
    safetensors::serialize([(name, view)], None).unwrap()
}

#[test]
fn an_index_must_agree_with_its_shards() {
    let dir = tempdir().unwrap();
    let root = dir.path();
    let index = |map: &str| {
        put(root, "model.safetensors.index.json", format!(r#"{{"weight_map":{map}}}"#).as_bytes())
    };
    put(root, "1.safetensors", &one_tensor("a"));
    index(r#"{"a":"1.safetensors","b":"2.safetensors"}"#);
    let (kind, message) = error(Checkpoint::open(root));
    assert_eq!(kind, ErrorKind::Io);
    assert!(message.contains("2.safetensors") && message.contains(&root.display().to_string()), "{message}");
    put(root, "2.safetensors", &one_tensor("c"));
    let result = Checkpoint::open(root);
    assert_eq!(result.as_ref().unwrap_err().tensor(), Some("b"));
    assert_eq!(error(result).0, ErrorKind::Corrupt);
    put(root, "2.safetensors", &one_tensor("a"));
    index(r#"{"a":"1.safetensors"}"#);
    let out = tempdir().unwrap();
    write(&Checkpoint::open(root).unwrap(), out.path());
    assert!(out.path().join("model.safetensors.index.json").exists());
    index(r#"{"a":"1.safetensors","a2":"2.safetensors"}"#);
    assert_eq!(error(Checkpoint::open(root)).0, ErrorKind::Corrupt);
    index(r#"{"a":"../1.safetensors"}"#);
    assert_eq!(error(Checkpoint::open(root)).0, ErrorKind::Corrupt);
    index("{}");
    assert_eq!(error(Checkpoint::open(root)).0, ErrorKind::Corrupt);
}

#[test]
fn wrong_files_are_named_for_what_they_are() {
    let dir = tempdir().unwrap();
    let case = |name: &str, bytes: &[u8], kind: ErrorKind, word: &str| {
        let (found, message) = error(Checkpoint::open(&put(dir.path(), name, bytes)));
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(word) && message.contains(name), "{message}");
    };
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    case("lfs.safetensors", lfs, ErrorKind::InvalidArgument, "git lfs pull");
    case("x.ddct", &small_safetensors(), ErrorKind::InvalidArgument, "apply");
    case("x.txt", b"Hello, this is text.", ErrorKind::Corrupt, "neither");
    case("x.bin", b"", ErrorKind::Corrupt, "neither");
    case("x.safetensors", b"", ErrorKind::Truncated, "header");
    case("cut.safetensors", &small_safetensors()[..500], ErrorKind::Truncated, "completely");
    let (kind, message) = error(Checkpoint::open(&dir.path().join("none.safetensors")));
    assert_eq!(kind, ErrorKind::Io);
    assert!(message.contains("none.safetensors"), "{message}");
}

#[test]
fn the_writer_checks_names_ranges_and_completeness() {
    let dir = tempdir().unwrap();
    let source = Checkpoint::open(&put(dir.path(), "in/m.safetensors", &one_tensor("a"))).unwrap();
    let tensors = BTreeMap::from([("a".to_owned(), (Dtype::F32, vec![1]))]);
    let create = || CheckpointWriter::create(dir.path(), source.layout(), &tensors);
    let writer = create().unwrap();
    assert_eq!(writer.write("b", 0, &[0]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(writer.write("a", 2, &[0; 3]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(writer.write("a", u64::MAX, &[0; 3]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    writer.write("a", 1, &[0; 3]).unwrap();
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(create().unwrap_err().kind(), ErrorKind::Io);
    let huge = BTreeMap::from([("a".to_owned(), (Dtype::F32, vec![usize::MAX, 2]))]);
    let other = tempdir().unwrap();
    let result = CheckpointWriter::create(other.path(), source.layout(), &huge);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Limit);
}

// ---- damaged files ----

/// Opens every given variant of a file and reads all it holds; none may panic. Gives how many opened.
fn survive(name: &str, variants: impl Iterator<Item = Vec<u8>>) -> usize {
    let dir = tempdir().unwrap();
    let path = dir.path().join(name);
    let mut opened = 0;
    for (n, bytes) in variants.enumerate() {
        fs::write(&path, &bytes).unwrap();
        let sum = catch_unwind(AssertUnwindSafe(|| {
            let checkpoint = Checkpoint::open(&path).ok()?;
            let views = checkpoint.names().map(|name| checkpoint.get(name).unwrap().bytes);
            Some(views.map(|bytes| bytes.iter().map(|&b| u64::from(b)).sum::<u64>()).sum::<u64>())
        }));
        opened += usize::from(sum.unwrap_or_else(|_| panic!("variant {n} of {name} panics")).is_some());
    }
    opened
}

fn prefixes(bytes: &[u8], step: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).step_by(step).map(|len| bytes[..len].to_vec())
}

fn bit_flips(bytes: &[u8], step: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..8 * bytes.len()).step_by(step).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    })
}

#[test]
fn damaged_small_files_never_panic() {
    let files = [
        ("m.safetensors", small_safetensors()),
        ("zip.bin", zipped(&small_pickle())),
        ("legacy.bin", legacy(&small_pickle())),
    ];
    for (name, bytes) in files {
        assert_eq!(survive(name, prefixes(&bytes, 1)), 0, "{name}: a prefix opens");
        let opened = survive(name, bit_flips(&bytes, 3));
        assert!(opened > 0 && opened < 8 * bytes.len() / 3, "{name}: {opened}");
    }
}

#[test]
fn damaged_model_files_never_panic() {
    let Some(shared) = shared() else { return };
    for name in ["bin_views/pytorch_model.bin", "bin_zip/pytorch_model.bin", "bin_legacy/pytorch_model.bin"] {
        let bytes = fs::read(shared.join("fixtures/models/formats").join(name)).unwrap();
        // Odd steps meet every bit of a byte; pickles and headers lie in the first and last bytes.
        let step = 1.max(8 * bytes.len() / 1000) | 1;
        assert_eq!(survive("x.bin", prefixes(&bytes, 1.max(bytes.len() / 300) | 1)), 0);
        survive("x.bin", bit_flips(&bytes, step));
        survive(
            "x.bin",
            bit_flips(&bytes[..9500.min(bytes.len())], 71).map(|mut head| {
                head.extend_from_slice(&bytes[head.len()..]);
                head
            }),
        );
    }
    let bytes = fs::read(shared.join("fixtures/models/roberta/model.safetensors")).unwrap();
    assert_eq!(survive("x.safetensors", prefixes(&bytes, 397)), 0);
    survive("x.safetensors", bit_flips(&bytes[..4000], 31).map(|head| [&head, &bytes[4000..]].concat()));
}

// ---- recorded models ----

#[test]
fn all_formats_of_one_model_hold_the_same_tensors() {
    let Some(shared) = shared() else { return };
    let models = shared.join("fixtures/models");
    let single = Checkpoint::open(&models.join("roberta/model.safetensors")).unwrap();
    for format in ["sharded", "bin_zip", "bin_legacy"] {
        let other = Checkpoint::open(&models.join("formats").join(format)).unwrap();
        assert_same(&single, &other);
        assert_eq!(other.side_files().len(), 1);
        assert!(other.ignored().is_empty() && other.skipped_files().is_empty());
    }
    let sharded = models.join("formats/sharded");
    let bytes: u64 = fs::read_dir(&sharded)
        .unwrap()
        .map(|f| f.unwrap())
        .filter(|f| f.file_name() != "config.json")
        .map(|f| f.metadata().unwrap().len())
        .sum();
    assert_eq!(Checkpoint::open(&sharded).unwrap().weight_bytes(), bytes);
}

#[test]
fn views_of_one_storage_have_their_values() {
    let Some(shared) = shared() else { return };
    let dir = shared.join("fixtures/models/formats/bin_views");
    let views = Checkpoint::open(&dir.join("pytorch_model.bin")).unwrap();
    assert_same(&views, &Checkpoint::open(&dir.join("expected.safetensors")).unwrap());
}

#[test]
fn weights_that_share_a_storage_are_tied() {
    let Some(shared) = shared() else { return };
    let edge = shared.join("fixtures/models/edge/tied_gpt2");
    let both = Checkpoint::open(&edge.join("ft_both_names")).unwrap();
    assert_eq!(both.tied_to("transformer.wte.weight"), Some("lm_head.weight"));
    assert_eq!(both.names().filter(|name| both.tied_to(name).is_some()).count(), 1);
    let copies = Checkpoint::open(&edge.join("ft_two_copies")).unwrap();
    assert!(copies.names().all(|name| copies.tied_to(name).is_none()));
    assert_same(&both, &copies);
}

#[test]
fn recorded_models_are_written_again_byte_for_byte() {
    let Some(shared) = shared() else { return };
    let mut folders = vec![shared.join("demo/ft"), shared.join("demo/base")];
    let mut open = vec![shared.join("fixtures/models")];
    while let Some(dir) = open.pop() {
        open.extend(fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()));
        if dir.join("model.safetensors").exists() {
            folders.push(dir);
        }
    }
    assert!(folders.len() > 20);
    for folder in folders {
        assert_rewritten(&folder.join("model.safetensors"), &["model.safetensors"]);
    }
    let shards = [1, 2, 3].map(|n| format!("model-0000{n}-of-00003.safetensors"));
    let files = [&shards[0], &shards[1], &shards[2], "model.safetensors.index.json"];
    assert_rewritten(&shared.join("fixtures/models/formats/sharded"), &files);
}

#[test]
fn recorded_pickles_are_written_as_the_same_safetensors() {
    let Some(shared) = shared() else { return };
    let models = shared.join("fixtures/models");
    let out: TempDir = tempdir().unwrap();
    write(&Checkpoint::open(&models.join("formats/bin_legacy")).unwrap(), out.path());
    let written = fs::read(out.path().join("model.safetensors")).unwrap();
    assert!(written.len() == fs::read(models.join("roberta/model.safetensors")).unwrap().len());
    assert_same(&Checkpoint::open(out.path()).unwrap(), &Checkpoint::open(&models.join("roberta")).unwrap());
}
