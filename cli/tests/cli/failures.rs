//! Bad input: one clear line, the right exit code, inputs untouched, nothing left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{Run, files, run, run_words, small_pair, succeed, write_pair};

/// A small pair and its compressed file `X.ddct`.
fn compressed() -> tempfile::TempDir {
    let dir = small_pair();
    succeed(dir.path(), "compress -b base -f ft -o X.ddct");
    dir
}

/// Asserts that `words` fail with `code` and one line of error, and change no file.
fn fails_words(dir: &Path, words: &[&str], code: i32) -> String {
    let before = files(dir);
    let run = run_words(dir, words);
    assert!(files(dir) == before, "{words:?} changed files");
    check_failure(&run, code, words)
}

fn fails(dir: &Path, line: &str, code: i32) -> String {
    fails_words(dir, &line.split_whitespace().collect::<Vec<_>>(), code)
}

fn check_failure(run: &Run, code: i32, words: &[&str]) -> String {
    assert_eq!(run.code, Some(code), "{words:?}: {}", run.stderr);
    assert_eq!(run.stdout, "", "{words:?}");
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert!(lines[0].starts_with("delta-dct: error: "), "{}", run.stderr);
    assert!(lines[1..].iter().all(|line| line.starts_with("delta-dct: hint: ")), "{}", run.stderr);
    run.stderr.clone()
}

#[test]
fn a_wrong_base_is_named() {
    let dir = compressed();
    let other = tempfile::tempdir().unwrap();
    write_pair(other.path(), 3, 64, 99);
    let base = other.path().join("base");
    for line in
        [format!("apply -b {} X.ddct -o out", base.display()), format!("verify -b {} X.ddct", base.display())]
    {
        assert!(fails(dir.path(), &line, 6).contains("base"), "{line}");
    }
}

#[test]
fn the_fine_tuned_model_is_not_its_own_base() {
    let dir = compressed();
    fails(dir.path(), "apply -b ft X.ddct -o out", 6);
}

#[test]
fn a_base_of_other_shapes_is_refused() {
    let dir = compressed();
    let other = tempfile::tempdir().unwrap();
    write_pair(other.path(), 2, 32, 1);
    fails(dir.path(), &format!("apply -b {} X.ddct -o out", other.path().join("base").display()), 6);
}

#[test]
fn unrelated_models_are_refused_unless_forced() {
    let dir = small_pair();
    let other = tempfile::tempdir().unwrap();
    write_pair(other.path(), 3, 64, 99);
    let line = format!("compress -b {} -f ft -o X.ddct", other.path().join("base").display());
    fails(dir.path(), &line, 6);
    succeed(dir.path(), &format!("{line} --force-unrelated"));
}

#[test]
fn a_truncated_file_is_damaged() {
    let dir = compressed();
    let whole = fs::read(dir.path().join("X.ddct")).unwrap();
    for length in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(dir.path().join("cut.ddct"), &whole[..length]).unwrap();
        fails(dir.path(), "verify cut.ddct", 4);
        fails(dir.path(), "inspect cut.ddct", 4);
        fails(dir.path(), "apply -b base cut.ddct -o out", 4);
    }
}

#[test]
fn a_flipped_byte_is_damage() {
    let dir = compressed();
    let whole = fs::read(dir.path().join("X.ddct")).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(dir.path().join("flip.ddct"), bytes).unwrap();
        let run = run(dir.path(), "apply -b base flip.ddct -o out");
        // A flip in the version reads like a newer format.
        assert!([Some(4), Some(5)].contains(&run.code), "byte {at}: {:?} {}", run.code, run.stderr);
        assert!(!dir.path().join("out").exists());
    }
}

#[test]
fn a_newer_format_is_said_to_be_newer() {
    let dir = compressed();
    let mut bytes = fs::read(dir.path().join("X.ddct")).unwrap();
    let key = b"\"format_version\":\"";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    bytes[at] = b'9';
    fs::write(dir.path().join("new.ddct"), bytes).unwrap();
    for line in ["inspect new.ddct", "verify new.ddct", "apply -b base new.ddct -o out"] {
        assert!(fails(dir.path(), line, 5).contains("version 9"), "{line}");
    }
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let dir = small_pair();
    fs::write(dir.path().join("text.ddct"), "not a model at all").unwrap();
    fails(dir.path(), "inspect text.ddct", 4);
    assert!([Some(4), Some(5)].contains(&run(dir.path(), "inspect ft/model.safetensors").code));
}

#[test]
fn an_existing_output_is_not_overwritten() {
    let dir = compressed();
    fs::create_dir(dir.path().join("full")).unwrap();
    fs::write(dir.path().join("full/precious"), "x").unwrap();
    assert!(fails(dir.path(), "compress -b base -f ft -o X.ddct", 3).contains("--force"));
    assert!(fails(dir.path(), "apply -b base X.ddct -o full", 3).contains("--force"));
}

#[test]
fn missing_files_are_named() {
    let dir = compressed();
    for line in [
        "compress -b nowhere -f ft",
        "compress -b base -f nowhere",
        "inspect nowhere",
        "verify X.ddct -b nowhere",
    ] {
        assert!(fails(dir.path(), line, 3).contains("nowhere"), "{line}");
    }
    fails(dir.path(), "compress -b base -f ft -o no/such/folder/X.ddct", 3);
    fails(dir.path(), "apply -b base X.ddct -o no/such/folder", 3);
}

#[test]
fn a_missing_shard_is_named() {
    let dir = small_pair();
    let sharded = dir.path().join("sharded");
    fs::create_dir(&sharded).unwrap();
    fs::copy(dir.path().join("ft/model.safetensors"), sharded.join("model-00001-of-00002.safetensors"))
        .unwrap();
    let index = r#"{"weight_map": {"classifier.weight": "model-00001-of-00002.safetensors",
                    "other.weight": "model-00002-of-00002.safetensors"}}"#;
    fs::write(sharded.join("model.safetensors.index.json"), index).unwrap();
    assert!(fails(dir.path(), "compress -b base -f sharded", 3).contains("model-00002-of-00002"));
}

#[test]
fn misspelt_methods_and_options_are_usage_errors() {
    let dir = small_pair();
    let line = ["compress", "-b", "base", "-f", "ft"];
    for (words, word) in [
        (vec!["--method", "dtc"], "dct"),
        (vec!["--method", "dct blok=3"], "blok"),
        (vec!["--method", "dct block=16", "--block", "32"], "twice"),
        (vec!["--method", "dct", "--block", "many"], "many"),
        (vec!["--block", "16"], "block"),
        (vec!["--size", "small"], "200kB"),
        (vec!["--size", "200kB", "--ratio", "9"], "one of"),
        (vec!["--rank", "4"], "rank"),
        (vec!["--rule", "layer.*"], "GLOB=RECIPE"),
        (vec!["--include", "[a"], "[a"),
        (vec!["--threads", "0"], "threads"),
    ] {
        let text = fails_words(dir.path(), &[&line, words.as_slice()].concat(), 2);
        assert!(text.contains(word), "{words:?}: {text}");
    }
    assert_eq!(run(dir.path(), "compress -b base").code, Some(2));
    assert_eq!(run(dir.path(), "compres").code, Some(2));
    assert_eq!(run(dir.path(), "verify X.ddct -T many").code, Some(2));
}

#[test]
fn a_folder_without_a_model_is_a_usage_error() {
    let dir = small_pair();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fails(dir.path(), "compress -b empty -f ft", 2);
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = compressed();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(locked.join("probe"), "").is_ok() {
        println!("skipped: root may write everywhere");
        return;
    }
    fails(dir.path(), "compress -b base -f ft -o locked/X.ddct", 3);
    fails(dir.path(), "apply -b base X.ddct -o locked/out", 3);
}

/// A limit on the size of files stands in for a full disk: writes fail half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let dir = compressed();
    let before = files(dir.path());
    for line in [
        "compress -b base -f ft -o Y.ddct --method raw",
        "compress -b base -f ft -o Y.ddct --method zero --layers",
        "apply -b base X.ddct -o out",
    ] {
        let script = format!("trap '' 25; ulimit -f 4; exec {} {line}", env!("CARGO_BIN_EXE_delta-dct"));
        let output = Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().unwrap();
        check_failure(&output.into(), 3, &[line]);
        assert!(files(dir.path()) == before, "{line} left files behind");
        assert!(!dir.path().join("out").exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_is_full_is_a_failure() {
    let dir = compressed();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = crate::run::command(dir.path()).args(["inspect", "X.ddct"]).stdout(full).output().unwrap();
    check_failure(&output.into(), 3, &["inspect"]);
}
