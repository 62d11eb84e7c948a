//! A first layer and its enhancement: the first is the file that `compress` writes, the two are the fine-tuned model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "golden/pairs.rs"]
mod pairs;
mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use delta_dct::{
    Archive, Checkpoint, CompressOptions, Dtype, Error, ErrorKind, Progress, Selection, Silent, Summary,
    compress, compress_layers,
};
use pairs::{OnDisk, Pair, Tensor, noise, tensor, tensors};

/// A matrix, larger than the pieces of a residual that are decoded at a time.
fn large() -> Pair {
    let (base, finetuned) = tensors(Dtype::BF16, Dtype::BF16, &[1300, 1000], 40);
    one("layer.weight", base, finetuned)
}

fn one(name: &str, base: Tensor, finetuned: Tensor) -> Pair {
    let list = |tensor| [(name.to_owned(), tensor)].into_iter().collect();
    Pair {
        base: list(base),
        finetuned: list(finetuned),
        second_shard: vec![],
        side_files: Default::default(),
    }
}

/// Each pair of coded dtypes, and values that are not finite on either side, or zeros of another sign.
fn floats() -> Pair {
    const DTYPES: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16];
    let mut pair = Pair { base: BTreeMap::new(), finetuned: BTreeMap::new(), ..large() };
    for (i, from) in DTYPES.into_iter().enumerate() {
        for (j, to) in DTYPES.into_iter().enumerate() {
            let (base, finetuned) = tensors(from, to, &[24, 40], (4 * i + j) as u64);
            pair.base.insert(format!("layer.{i}.{j}.weight"), base);
            pair.finetuned.insert(format!("layer.{i}.{j}.weight"), finetuned);
        }
    }
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -0.0];
    for (i, dtype) in DTYPES.into_iter().enumerate() {
        let plain = |seed| move |k: usize| if k == 7 { 0.0 } else { f64::from(noise(seed, k)) };
        let with = |value: f64| move |k: usize| if k == 7 { value } else { f64::from(noise(50, k)) };
        for (j, value) in odd.into_iter().enumerate() {
            for (name, base, tuned) in [
                (
                    format!("odd.{i}.{j}.tuned"),
                    tensor(dtype, &[9, 8], plain(51)),
                    tensor(dtype, &[9, 8], with(value)),
                ),
                (
                    format!("odd.{i}.{j}.base"),
                    tensor(dtype, &[9, 8], with(value)),
                    tensor(dtype, &[9, 8], plain(50)),
                ),
            ] {
                pair.base.insert(name.clone(), base);
                pair.finetuned.insert(name, tuned);
            }
        }
    }
    pair
}

fn options(selection: Selection) -> CompressOptions {
    CompressOptions { selection, force_unrelated: true, overwrite: false, dry_run: false }
}

fn recipe(text: &str) -> CompressOptions {
    options(Selection::new(text.parse().unwrap()).unwrap())
}

/// The two files, in a folder of their own.
struct Layers {
    first: PathBuf,
    second: PathBuf,
    summary: Summary,
}

fn layers(disk: &OnDisk, name: &str, options: &CompressOptions) -> Layers {
    let first = disk.folder.path().join(format!("{name}.ddct"));
    let summary = compress_layers(&disk.base, &disk.finetuned, &first, options, &Silent).unwrap();
    Layers { second: first.with_file_name(format!("{name}.exact.ddct")), first, summary }
}

fn as_reference(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, reference::Tensor> {
    let tensor = |t: &Tensor| reference::Tensor {
        dtype: t.dtype.to_string(),
        shape: t.shape.clone(),
        bytes: t.bytes.clone(),
    };
    tensors.iter().map(|(name, t)| (name.clone(), tensor(t))).collect()
}

/// Checks all that holds for any pair; gives the kinds of the tensors.
fn check(pair: &Pair, options: &CompressOptions, what: &str) -> BTreeMap<String, &'static str> {
    let disk = pair.write();
    let written = layers(&disk, "x", options);
    let alone = disk.folder.path().join("alone.ddct");
    compress(&disk.base, &disk.finetuned, &alone, options, &Silent).unwrap();
    assert!(fs::read(&alone).unwrap() == fs::read(&written.first).unwrap(), "{what}: the first layer");
    Archive::open(&written.first).unwrap().verify(Some(&disk.base), &Silent).unwrap();

    let archive = Archive::open(&written.second).unwrap();
    archive.check_base(&disk.base, &Silent).unwrap();
    assert!(!archive.verify(None, &Silent).unwrap().decoded);
    assert!(archive.verify(Some(&disk.base), &Silent).unwrap().decoded);
    let output = disk.folder.path().join("out");
    archive.apply(&disk.base, &output, false, &Silent).unwrap();
    let applied = Checkpoint::open(&output).unwrap();
    assert_eq!(applied.layout(), disk.finetuned.layout(), "{what}");
    for (name, content) in &pair.side_files[1] {
        assert_eq!(fs::read_to_string(output.join(name)).unwrap(), *content, "{what}: {name}");
    }
    assert!(applied.names().eq(pair.finetuned.keys().map(String::as_str)), "{what}");
    let file = |path: &Path| reference::File::open(&fs::read(path).unwrap());
    let (first, second) = (file(&written.first), file(&written.second));
    let (base, finetuned) = (as_reference(&pair.base), as_reference(&pair.finetuned));
    for (name, tuned) in &pair.finetuned {
        let view = applied.get(name).unwrap();
        assert!((view.dtype, view.shape) == (tuned.dtype, tuned.shape.as_slice()), "{what}: {name}");
        assert!(view.bytes == tuned.bytes, "{what}: {name} is not exact");
        assert!(
            archive.load(&disk.base, name).unwrap().1 == tuned.bytes,
            "{what}: {name} is loaded otherwise"
        );
        assert!(second.refine(&first, name, &base) == finetuned[name], "{what}: {name}, reference");
    }
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    let told = written.summary.enhancement.unwrap();
    assert_eq!((told.bytes, written.summary.output_bytes), (size(&written.second), size(&written.first)));
    assert_eq!(told.tensors, second.names().count());
    assert_eq!(archive.info().bytes, size(&written.first) + size(&written.second));
    assert_eq!(archive.info().recipe, first.metadata["recipe"]);
    archive.tensors().unwrap().into_iter().map(|row| (row.name, row.kind)).collect()
}

#[test]
fn any_pair_comes_back_bit_for_bit_by_any_method() {
    for (name, pair) in [("plain", pairs::plain()), ("odd", pairs::odd()), ("patched", pairs::patched())] {
        for text in
            ["auto size=5000", "dct block=8 bits=3:1", "uniform", "bitdelta", "zero", "lowrank rank=2"]
        {
            check(&pair, &recipe(text), &format!("{name} by {text}"));
        }
    }
}

#[test]
fn what_the_base_does_not_have_is_refined_too() {
    let kinds = check(&pairs::alone(), &recipe("factors step=13"), "alone");
    assert_eq!(kinds["classifier.dense.weight"], "refined");
}

#[test]
fn every_float_comes_back_from_every_other_one() {
    let kinds = check(&floats(), &recipe("uniform"), "floats");
    assert_eq!(kinds["layer.2.3.weight"], "refined");
    assert!(kinds.values().any(|&kind| kind == "raw"));
}

#[test]
fn the_first_layer_may_have_another_dtype() {
    let (base, finetuned) = tensors(Dtype::F32, Dtype::BF16, &[64, 64], 3);
    let pair = one("layer.weight", base, finetuned);
    let selection = Selection::predecessor("dct block=8".parse().unwrap()).unwrap();
    let kinds = check(&pair, &options(selection), "predecessor");
    assert_eq!(kinds["layer.weight"], "refined");
}

#[test]
fn large_tensors_are_refined_in_parts_and_their_bytes_do_not_depend_on_the_threads() {
    check(&large(), &recipe("uniform step=0.5"), "large");
    let disk = large().write();
    let bytes = |name: &str, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let written = pool.install(|| layers(&disk, name, &recipe("uniform step=0.5")));
        // The seal and the name of the first layer apart.
        reference::File::open(&fs::read(written.second).unwrap()).entries
    };
    assert!(bytes("one", 1) == bytes("five", 5));
}

#[test]
fn what_is_exact_already_costs_nothing() {
    let disk = pairs::odd().write();
    let written = layers(&disk, "x", &recipe("lossless"));
    let second = written.summary.enhancement.unwrap();
    assert!(second.tensors == 0 && second.bytes < 1000, "{second:?}");
    let kinds = check(&pairs::odd(), &recipe("dct block=8"), "odd");
    assert_eq!((kinds["lm_head.weight"], kinds["extra.weight"]), ("alias", "raw"));
    assert_eq!(kinds["bert.embeddings.word_embeddings.weight"], "refined");
}

#[test]
fn the_base_predicts_where_it_does_so_better() {
    // Few weights change, and the signs move all of them.
    let (base, mut finetuned) = tensors(Dtype::BF16, Dtype::BF16, &[300, 200], 8);
    finetuned.bytes = base.bytes.clone();
    finetuned.bytes.chunks_exact_mut(40).for_each(|run| run[0] ^= 1);
    let pair = one("layer.weight", base, finetuned);
    assert_eq!(check(&pair, &recipe("bitdelta"), "bitdelta")["layer.weight"], "exact");
}

#[test]
fn both_files_take_no_more_than_the_lossless_one() {
    let disk = pairs::directions().write();
    let written = layers(&disk, "x", &recipe("lowrank rank=1 bits=8"));
    let lossless = disk.folder.path().join("lossless.ddct");
    let options = recipe("lossless");
    let lossless = compress(&disk.base, &disk.finetuned, &lossless, &options, &Silent).unwrap().output_bytes;
    let both = written.summary.output_bytes + written.summary.enhancement.unwrap().bytes;
    assert!(both < lossless, "{both} bytes against {lossless}");
}

#[track_caller]
fn refused(archive: Result<Archive, Error>, words: &[&str]) -> ErrorKind {
    let error = archive.err().expect("it is refused");
    assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
    error.kind()
}

#[test]
fn another_first_layer_is_refused_and_a_missing_one_is_named() {
    let disk = pairs::plain().write();
    let [x, other] =
        [("x", "dct"), ("other", "uniform")].map(|(name, text)| layers(&disk, name, &recipe(text)));
    let with = |layer: &Path| Archive::open_with_layer(&x.second, Some(layer));
    assert_eq!(refused(with(&other.first), &["other.ddct", "x.exact.ddct"]), ErrorKind::Mismatch);
    assert_eq!(refused(with(&x.second), &["not the first layer"]), ErrorKind::Mismatch);
    assert_eq!(refused(with(disk.base.path()), &[]), ErrorKind::Io);
    let single = Archive::open_with_layer(&x.first, Some(&other.first));
    assert_eq!(refused(single, &["needs no first layer"]), ErrorKind::InvalidArgument);

    let elsewhere = disk.folder.path().join("elsewhere.ddct");
    fs::rename(&x.first, &elsewhere).unwrap();
    assert_eq!(refused(Archive::open(&x.second), &["x.ddct", "x.exact.ddct", "together"]), ErrorKind::Io);
    with(&elsewhere).unwrap().verify(Some(&disk.base), &Silent).unwrap();
    fs::copy(&other.first, &x.first).unwrap();
    assert_eq!(refused(Archive::open(&x.second), &["x.ddct"]), ErrorKind::Mismatch);
    let whole = fs::read(&elsewhere).unwrap();
    fs::write(&x.first, &whole[..whole.len() / 2]).unwrap();
    assert!(
        [ErrorKind::Corrupt, ErrorKind::Truncated].contains(&refused(Archive::open(&x.second), &["x.ddct"]))
    );
}

#[test]
fn hostile_enhancements_are_refused() {
    let disk = pairs::plain().write();
    let x = layers(&disk, "x", &recipe("dct"));
    let file = reference::File::open(&fs::read(&x.second).unwrap());
    let entries: Vec<_> = file.entries.clone().into_iter().collect();
    let write = |value: &str, entries: &[(String, Vec<u8>)]| {
        let mut metadata = file.metadata.clone();
        metadata.insert("layer".to_owned(), value.to_owned());
        fs::write(&x.second, reference::write_file(&metadata, entries)).unwrap();
        Archive::open(&x.second)
    };
    for name in ["", "x", "0 ../x.ddct", "0 /etc/passwd", "0 ..", "0 ", "0 a/x.ddct", "0 x.ddct/"] {
        // No value is no layer.
        let kind = write(name, &entries).err().map(|e| e.kind());
        assert_eq!(kind, (!name.is_empty()).then_some(ErrorKind::Corrupt), "{name}");
    }
    // Refined tensors without a first layer.
    let error = write("", &entries).unwrap().verify(None, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    // Of a tensor that the first layer lacks, or has in another shape.
    let record = |name: &str| file.entries[name].clone();
    for (name, content) in [
        ("layer.other.weight", record("layer.dense.weight")),
        ("layer.conv.weight", record("layer.dense.weight")),
    ] {
        let mut entries = entries.clone();
        entries.retain(|(entry, _)| entry != name);
        entries.push((name.to_owned(), content));
        let error = write(&file.metadata["layer"], &entries).unwrap().verify(None, &Silent).unwrap_err();
        assert_eq!((error.kind(), error.tensor()), (ErrorKind::Corrupt, Some(name)), "{error}");
    }
    // An enhancement of an enhancement.
    write(&file.metadata["layer"], &entries).unwrap();
    let first = reference::File::open(&fs::read(&x.second).unwrap());
    let upper = disk.folder.path().join("upper.ddct");
    let metadata = [("format", "ddct".to_owned()), ("format_version", "1".to_owned())];
    let layer = ("layer", format!("{:016x} x.exact.ddct", first.seal));
    let metadata = metadata.into_iter().chain([layer]).map(|(key, value)| (key.to_owned(), value)).collect();
    fs::write(&upper, reference::write_file(&metadata, &entries)).unwrap();
    assert_eq!(refused(Archive::open(&upper), &["itself"]), ErrorKind::Corrupt);
}

#[test]
fn another_base_is_refused() {
    let (disk, mut other) = (pairs::plain().write(), pairs::plain());
    let x = layers(&disk, "x", &recipe("dct"));
    other.base.get_mut("layer.dense.weight").unwrap().bytes[5] ^= 1;
    let other = other.write();
    let archive = Archive::open(&x.second).unwrap();
    for error in [
        archive.verify(Some(&other.base), &Silent).err(),
        archive.check_base(&other.base, &Silent).err(),
        archive.apply(&other.base, &disk.folder.path().join("out"), false, &Silent).err(),
    ] {
        let error = error.unwrap();
        assert_eq!(
            (error.kind(), error.tensor()),
            (ErrorKind::Mismatch, Some("layer.dense.weight")),
            "{error}"
        );
    }
}

/// Stops the work once the second file is begun.
struct Stop(std::sync::atomic::AtomicBool);

impl Progress for Stop {
    fn begin(&self, what: &str, _: u64) {
        self.0.fetch_or(what == "refine", std::sync::atomic::Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn both_files_appear_or_neither() {
    let disk = pairs::plain().write();
    let output = disk.folder.path().join("x.ddct");
    let list = || {
        let entries = fs::read_dir(disk.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = list();
    let run = |options: &CompressOptions, progress: &dyn Progress| {
        compress_layers(&disk.base, &disk.finetuned, &output, options, progress)
    };
    let stopped = run(&recipe("dct"), &Stop(false.into())).unwrap_err();
    assert_eq!((stopped.kind(), list()), (ErrorKind::Interrupted, before.clone()));
    let dry = run(&CompressOptions { dry_run: true, ..recipe("dct") }, &Silent).unwrap();
    assert_eq!(list(), before);
    let real = run(&recipe("dct"), &Silent).unwrap();
    let bytes = |summary: &Summary| (summary.output_bytes, summary.enhancement.as_ref().unwrap().bytes);
    assert_eq!(bytes(&dry), bytes(&real));

    // Either file in the way stops the work, before any of it, unless it may be overwritten.
    for gone in ["x.ddct", "x.exact.ddct"] {
        fs::remove_file(disk.folder.path().join(gone)).unwrap();
        let before = list();
        assert_eq!(run(&recipe("dct"), &Silent).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(list(), before);
        run(&CompressOptions { overwrite: true, ..recipe("uniform") }, &Silent).unwrap();
    }
    Archive::open(&output.with_extension("exact.ddct")).unwrap().verify(Some(&disk.base), &Silent).unwrap();
}
