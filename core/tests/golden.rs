//! Files that released versions wrote, decoded forever.
//!
//! A file that is missing is written only where `DELTA_DCT_WRITE_GOLDEN=1` (run this test alone then); after that it is
//! never written again. Until the first release the format may still change: then delete them all and write them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "golden/pairs.rs"]
mod pairs;
mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use delta_dct::{Archive, Checkpoint, METHODS, Silent};
use pairs::{CASES, Case};

/// Digests of the decoded tensors, by file and name.
type Digests = BTreeMap<String, BTreeMap<String, String>>;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn may_write() -> bool {
    std::env::var_os("DELTA_DCT_WRITE_GOLDEN").is_some_and(|value| value == "1")
}

/// Applies the file of `case`: the digest of every tensor's dtype, shape and bytes, and of every side file.
fn decoded(case: &Case, file: &Path) -> BTreeMap<String, String> {
    let pair = (case.pair)();
    let disk = pair.write();
    let archive = Archive::open(file).unwrap();
    archive.verify(None, &Silent).unwrap();
    archive.verify(Some(&disk.base), &Silent).unwrap();
    let output = disk.folder.path().join("applied");
    archive.apply(&disk.base, &output, false, &Silent).unwrap();
    let applied = Checkpoint::open(&output).unwrap();
    assert_eq!(
        applied.names().collect::<Vec<_>>(),
        disk.finetuned.names().collect::<Vec<_>>(),
        "{}",
        case.name
    );
    assert_eq!(applied.layout(), disk.finetuned.layout(), "{}", case.name);
    let mut digests = BTreeMap::new();
    for name in applied.names() {
        let view = applied.get(name).unwrap();
        let tuned = disk.finetuned.get(name).unwrap();
        assert_eq!((view.dtype, view.shape), (tuned.dtype, tuned.shape), "{}: {name}", case.name);
        let what = format!("{} {:?} ", view.dtype, view.shape);
        digests.insert(name.to_owned(), format!("{what}{:016x}", reference::xxh3(&[view.bytes])));
    }
    for (name, content) in &pair.side_files[1] {
        assert_eq!(fs::read_to_string(output.join(name)).unwrap(), *content, "{}: {name}", case.name);
    }
    digests
}

#[test]
fn every_method_has_a_golden_file() {
    for method in METHODS {
        let has_one = CASES.iter().any(|case| case.recipe.split(' ').next() == Some(method.name));
        assert!(has_one, "method {} needs a line in CASES of tests/golden/pairs.rs", method.name);
    }
}

#[test]
fn golden_files_decode_to_the_same_bits_forever() {
    let path = golden("digests.json");
    let mut digests: Digests =
        fs::read(&path).map(|text| serde_json::from_slice(&text).unwrap()).unwrap_or_default();
    for case in CASES {
        let file = golden(&format!("{}.ddct", case.name));
        if !file.exists() {
            assert!(may_write(), "{} is missing; see the head of tests/golden.rs", file.display());
            fs::copy((case.pair)().write().compress(case.recipe).unwrap(), &file).unwrap();
            digests.insert(case.name.to_owned(), decoded(case, &file));
            fs::write(&path, serde_json::to_string_pretty(&digests).unwrap() + "\n").unwrap();
        }
        let expected =
            digests.get(case.name).unwrap_or_else(|| panic!("{} is not in digests.json", case.name));
        assert_eq!(&decoded(case, &file), expected, "{} decodes to other weights", case.name);
    }
    assert_eq!(digests.len(), CASES.len(), "digests.json knows files that are not in CASES");
}

/// An enhancement and its first layer.
#[test]
fn golden_layers_decode_to_the_fine_tuned_model_forever() {
    let pair = pairs::odd();
    let disk = pair.write();
    let today = disk.compress("layers: dct block=8 bits=3:1").unwrap();
    let files = ["layers.ddct", "layers.exact.ddct"].map(golden);
    if !files[1].exists() {
        assert!(may_write(), "{} is missing; see the head of tests/golden.rs", files[1].display());
        fs::copy(today.with_file_name("pair.ddct"), &files[0]).unwrap();
        fs::copy(&today, &files[1]).unwrap();
    }
    let archive = Archive::open_with_layer(&files[1], Some(&files[0])).unwrap();
    let output = disk.folder.path().join("applied");
    archive.apply(&disk.base, &output, false, &Silent).unwrap();
    let applied = Checkpoint::open(&output).unwrap();
    assert_eq!(applied.layout(), disk.finetuned.layout());
    let open = |path: &Path| reference::File::open(&fs::read(path).unwrap());
    let (layer, enhancement, today) = (open(&files[0]), open(&files[1]), open(&today));
    let tensor = |(name, t): (&String, &pairs::Tensor)| {
        let (dtype, shape, bytes) = (t.dtype.to_string(), t.shape.clone(), t.bytes.clone());
        (name.clone(), reference::Tensor { dtype, shape, bytes })
    };
    let base = pair.base.iter().map(tensor).collect();
    for (name, tuned) in pair.finetuned.iter().map(tensor) {
        assert_eq!(applied.get(&name).unwrap().bytes, tuned.bytes, "{name}");
        assert!(enhancement.refine(&layer, &name, &base) == tuned, "{name}: the reference decoder");
    }
    assert!(today.entries == enhancement.entries, "the bytes written have changed: see the next test");
}

/// Bytes written may change from version to version: then say so in CHANGELOG.md, add a case under a new name for
/// the new bytes, and move the old one (which must decode forever) out of this test by a line in `OLD`.
#[test]
fn compressing_today_gives_the_bytes_of_the_golden_files() {
    const OLD: &[&str] = &["dct", "dct-post", "odd", "dwt-predecessor"];
    for case in CASES.iter().filter(|case| !case.free_encoder && !OLD.contains(&case.name)) {
        let parse = |path: &Path| {
            // What the metadata say in words is not part of the promise.
            reference::File::open(&fs::read(path).unwrap())
        };
        let disk = (case.pair)().write();
        let today = parse(&disk.compress(case.recipe).unwrap());
        let golden = parse(&golden(&format!("{}.ddct", case.name)));
        let hint = "the bytes written have changed: if that is meant, read the text above this test";
        assert!(today.metadata.keys().eq(golden.metadata.keys()), "{}: {hint}", case.name);
        assert!(today.entries.keys().eq(golden.entries.keys()), "{}: {hint}", case.name);
        for (name, content) in &today.entries {
            assert!(content == &golden.entries[name], "{}, entry {name}: {hint}", case.name);
        }
    }
}

#[test]
fn compressing_twice_gives_the_same_bytes_on_any_number_of_threads() {
    for case in CASES {
        let disk = (case.pair)().write();
        let bytes = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            fs::read(pool.install(|| disk.compress(case.recipe)).unwrap()).unwrap()
        };
        assert!(bytes(1) == bytes(5), "{}: another file on five threads than on one", case.name);
    }
}

/// The trials before leave nothing behind in the file.
#[test]
fn auto_gives_the_file_of_the_factors_that_it_found() {
    let disk = pairs::plain().write();
    let found = fs::read(disk.compress("auto size=5000").unwrap()).unwrap();
    let recipe = reference::File::open(&found).metadata["recipe"].clone();
    assert!(recipe.starts_with("factors step=") && !recipe.starts_with("factors step=13 "), "{recipe}");
    assert!(fs::read(disk.compress(&recipe).unwrap()).unwrap() == found, "{recipe} gives another file");
}
