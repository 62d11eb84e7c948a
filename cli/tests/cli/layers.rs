//! `compress --layers`, and the commands that read an enhancement.

use std::fs;
use std::path::Path;

use crate::json::check;
use crate::run::{demo, files, run, small_pair, succeed, tensors};

/// The small pair, as `X.ddct` and `X.exact.ddct`.
fn compressed() -> tempfile::TempDir {
    let dir = small_pair();
    succeed(dir.path(), "compress -b base -f ft -o X.ddct --layers");
    dir
}

fn size(dir: &Path, name: &str) -> u64 {
    fs::metadata(dir.join(name)).unwrap().len()
}

/// Asserts that `line` fails with `code`, with one line of error that has all of `words`, and changes no file.
#[track_caller]
fn fails(dir: &Path, line: &str, code: i32, words: &[&str]) {
    let before = files(dir);
    let run = run(dir, line);
    assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{line}: {}", run.stderr);
    assert!(run.stderr.starts_with("delta-dct: error: "), "{}", run.stderr);
    let errors = run.stderr.lines().filter(|line| !line.starts_with("delta-dct: hint: "));
    assert_eq!(errors.count(), 1, "{}", run.stderr);
    assert!(words.iter().all(|word| run.stderr.contains(word)), "{}", run.stderr);
    assert!(files(dir) == before, "{line} changed files");
}

#[test]
fn the_demo_pair_goes_there_and_back_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let demo = demo();
    let (b, f) = (demo.join("base"), demo.join("ft"));
    let (base, ft) = (b.display(), f.display());
    let report = run(dir.path(), &format!("compress -b {base} -f {ft} -o X.ddct --layers --json")).json();
    succeed(dir.path(), &format!("compress -b {base} -f {ft} -o alone.ddct"));
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("X.ddct") == read("alone.ddct"));
    check("compress", &report["enhancement"], vec!["output", "bytes", "tensors"]);
    assert_eq!(report["enhancement"]["output"], "X.exact.ddct");
    assert_eq!(report["enhancement"]["bytes"], size(dir.path(), "X.exact.ddct"));
    assert_eq!(report["output_bytes"], size(dir.path(), "X.ddct"));

    succeed(dir.path(), "verify X.exact.ddct");
    succeed(dir.path(), &format!("verify X.exact.ddct --base {base}"));
    succeed(dir.path(), &format!("apply --base {base} X.exact.ddct -o exact"));
    succeed(dir.path(), &format!("apply --base {base} X.ddct -o first"));
    let (exact, tuned) = (files(&dir.path().join("exact")), files(&f));
    let names = |files: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        files
            .iter()
            .map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes.clone()))
            .collect::<Vec<_>>()
    };
    assert!(names(&exact) == names(&tuned));
    assert!(tensors(&dir.path().join("first")) != tensors(&f));
}

#[test]
fn sizes_are_those_of_both_files() {
    let dir = compressed();
    let both = size(dir.path(), "X.ddct") + size(dir.path(), "X.exact.ddct");
    let info = run(dir.path(), "inspect X.exact.ddct --json").json();
    check("inspect", &info["layer"], vec!["file", "bytes"]);
    assert_eq!((&info["bytes"], &info["layer"]["bytes"]), (&both.into(), &size(dir.path(), "X.ddct").into()));
    assert!(info["tensors"].as_array().unwrap().iter().any(|row| row["kind"] == "refined"));
    assert_eq!(run(dir.path(), "verify X.exact.ddct --json").json()["bytes"], both);
    let text = succeed(dir.path(), "inspect X.exact.ddct");
    assert!(text.contains("X.ddct, ") && text.contains("refined"), "{text}");
    let text = succeed(dir.path(), "compress -b base -f ft -o X.ddct --layers --force");
    assert!(text.contains("X.exact.ddct: ") && text.contains("with X.ddct "), "{text}");
}

#[test]
fn the_first_layer_is_beside_it_or_named() {
    let dir = compressed();
    fs::create_dir(dir.path().join("far")).unwrap();
    fs::rename(dir.path().join("X.ddct"), dir.path().join("far/away.ddct")).unwrap();
    for line in ["apply -b base X.exact.ddct -o out", "verify X.exact.ddct", "inspect X.exact.ddct"] {
        fails(dir.path(), line, 3, &["X.ddct", "X.exact.ddct is an enhancement"]);
    }
    for line in ["apply -b base X.exact.ddct -o out", "verify X.exact.ddct -b base", "inspect X.exact.ddct"] {
        succeed(dir.path(), &format!("{line} --layer far/away.ddct"));
    }
    assert!(tensors(&dir.path().join("out")) == tensors(&dir.path().join("ft")));
    succeed(dir.path(), "compress -b base -f ft -o X.ddct --method bitdelta");
    for layer in ["", " --layer X.ddct", " --layer X.exact.ddct"] {
        fails(
            dir.path(),
            &format!("apply -b base X.exact.ddct -o wrong{layer}"),
            6,
            &["not the first layer", "hint"],
        );
    }
    fails(
        dir.path(),
        "apply -b base X.ddct -o wrong --layer far/away.ddct",
        2,
        &["X.ddct needs no first layer"],
    );
}

#[test]
fn damage_to_either_file_is_found() {
    let dir = compressed();
    let [first, second] = ["X.ddct", "X.exact.ddct"].map(|name| fs::read(dir.path().join(name)).unwrap());
    for (name, whole) in [("X.ddct", &first), ("X.exact.ddct", &second)] {
        for length in [0, 9, whole.len() / 2, whole.len() - 1] {
            fs::write(dir.path().join(name), &whole[..length]).unwrap();
            for line in ["verify X.exact.ddct", "apply -b base X.exact.ddct -o out"] {
                fails(dir.path(), line, 4, &[name]);
            }
        }
        fs::write(dir.path().join(name), whole).unwrap();
    }
    fails(dir.path(), "apply -b ft X.exact.ddct -o out", 6, &["the fine-tuned model itself"]);
}

#[test]
fn neither_output_is_overwritten() {
    let dir = compressed();
    for gone in ["X.exact.ddct", "X.ddct"] {
        fs::remove_file(dir.path().join(gone)).unwrap();
        fails(dir.path(), "compress -b base -f ft -o X.ddct --layers", 3, &["--force"]);
        succeed(dir.path(), "compress -b base -f ft -o X.ddct --layers --force");
    }
    let before = files(dir.path());
    assert!(
        succeed(dir.path(), "compress -b base -f ft -o Y.ddct --layers --dry-run").contains("Y.exact.ddct")
    );
    assert!(files(dir.path()) == before);
}
