//! The commands that scripts rely on, end to end.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::run::{command, demo, files, run, small_pair, succeed, tensors, values};

#[test]
fn the_demo_pair_goes_there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let demo = demo();
    let (base, ft) = (demo.join("base"), demo.join("ft"));
    let (b, f) = (base.display(), ft.display());
    let line = format!(
        "compress --base {b} --finetuned {f} -o X.ddct --method dct --block 32 --bits 2:0.5,0:0.5 --json"
    );
    let summary = run(dir.path(), &line).json();
    assert_eq!(summary["output_bytes"], fs::metadata(dir.path().join("X.ddct")).unwrap().len());
    assert_eq!(summary["finetuned_bytes"], fs::metadata(ft.join("model.safetensors")).unwrap().len());

    succeed(dir.path(), "verify X.ddct");
    succeed(dir.path(), &format!("verify X.ddct --base {b}"));
    let info = run(dir.path(), "inspect X.ddct --json").json();
    assert_eq!(info["bytes"], summary["output_bytes"]);
    succeed(dir.path(), &format!("apply --base {b} X.ddct -o DIR"));

    let restored = dir.path().join("DIR");
    assert_eq!(fs::read(restored.join("config.json")).unwrap(), fs::read(ft.join("config.json")).unwrap());
    let (old, new, result) = (tensors(&base), tensors(&ft), tensors(&restored));
    assert_eq!(new.keys().collect::<Vec<_>>(), result.keys().collect::<Vec<_>>());
    assert_eq!(new["classifier.weight"], result["classifier.weight"]);
    for tensor in summary["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        assert_eq!((new[name].0, &new[name].1), (result[name].0, &result[name].1), "{name}");
        check_error(tensor, [&old[name].2, &new[name].2, &result[name].2].map(|bytes| values(bytes)));
    }
}

/// The error that was reported is the one that an independent reading of the three files finds.
fn check_error(tensor: &Value, [old, new, result]: [Vec<f64>; 3]) {
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let (noise, delta) = (square(&result, &new), square(&new, &old));
    match tensor["relative_error"].as_f64() {
        None => assert_eq!(noise, 0.0, "{tensor}"),
        Some(reported) => {
            assert!((reported - noise / delta).abs() <= 1e-3 * reported + 1e-6, "{tensor} {}", noise / delta)
        }
    }
}

#[test]
fn a_single_file_can_be_compressed_and_written() {
    let dir = small_pair();
    succeed(dir.path(), "compress -b base/model.safetensors -f ft/model.safetensors -q");
    succeed(dir.path(), "apply -b base/model.safetensors model.ddct -o out.safetensors -q");
    assert!(dir.path().join("out.safetensors").is_file());
}

#[test]
fn outputs_have_default_names_and_appear_alone() {
    let dir = small_pair();
    succeed(dir.path(), "compress -b base -f ft");
    fs::rename(dir.path().join("ft.ddct"), dir.path().join("again.ddct")).unwrap();
    succeed(dir.path(), "apply -b base again.ddct");
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["again", "again.ddct", "base", "ft"]);
}

#[test]
fn a_dry_run_tells_the_exact_size_and_writes_nothing() {
    let dir = small_pair();
    let before = files(dir.path());
    let dry = run(dir.path(), "compress -b base -f ft --dry-run --json").json();
    assert_eq!(files(dir.path()), before);
    assert!(succeed(dir.path(), "compress -b base -f ft --dry-run").contains("nothing was written"));
    let real = run(dir.path(), "compress -b base -f ft --json").json();
    assert_eq!(dry["output_bytes"], real["output_bytes"]);
    assert_eq!((&dry["output"], &real["output"]), (&Value::Null, &Value::from("ft.ddct")));
}

#[test]
fn neither_threads_nor_repetition_change_a_byte() {
    let dir = small_pair();
    for (threads, output) in [(1, "a.ddct"), (1, "b.ddct"), (3, "c.ddct")] {
        succeed(dir.path(), &format!("compress -b base -f ft -o {output} --threads {threads}"));
    }
    let read = |name| fs::read(dir.path().join(name)).unwrap();
    assert!(read("a.ddct") == read("b.ddct") && read("a.ddct") == read("c.ddct"));
}

#[test]
fn force_overwrites_both_outputs() {
    let dir = small_pair();
    for _ in 0..2 {
        succeed(dir.path(), "compress -b base -f ft --force");
        succeed(dir.path(), "apply -b base ft.ddct -o restored --force");
    }
}

#[test]
fn the_table_of_a_compression_adds_up() {
    let dir = small_pair();
    let text = succeed(dir.path(), "compress -b base -f ft -o X.ddct");
    let bytes = |row: &str| {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(row))
            .unwrap_or_else(|| panic!("{row}: {text}"));
        let column = if ["side files", "header"].contains(&row) {
            row.split(' ').count()
        } else {
            row.split(' ').count() + 2
        };
        line.split_whitespace().nth(column).unwrap().replace(',', "").parse::<u64>().unwrap()
    };
    let rows = ["embeddings", "mlp", "norm & bias", "head", "side files", "header"];
    assert_eq!(rows.map(bytes).iter().sum::<u64>(), bytes("total"));
    assert_eq!(bytes("total"), fs::metadata(dir.path().join("X.ddct")).unwrap().len());
    assert!(text.contains("smaller") && text.contains("bits per weight"), "{text}");
}

#[test]
fn verbose_adds_a_row_per_tensor_and_quiet_leaves_nothing() {
    let dir = small_pair();
    assert!(succeed(dir.path(), "compress -b base -f ft -v").contains("layer.0.mlp.weight"));
    assert_eq!(succeed(dir.path(), "verify ft.ddct -q"), "");
    assert_eq!(succeed(dir.path(), "apply -b base ft.ddct -o out --quiet"), "");
    assert!(succeed(dir.path(), "inspect ft.ddct").contains("layer.2.norm.weight"));
}

#[test]
fn the_demo_verifies_every_lossy_method() {
    let pair = small_pair();
    let report = run(pair.path(), "demo . --json").json();
    let methods = report["methods"].as_array().unwrap();
    let listed = run(pair.path(), "methods --json").json();
    assert_eq!(methods.len() + 1, listed.as_array().unwrap().len());
    assert!(methods.iter().all(|row| row["verified"] == true && row["bytes"].as_u64() > Some(0)));
    assert!(succeed(pair.path(), "demo .").contains("yes"));
}

#[test]
fn bench_measures_real_and_synthetic_pairs() {
    let dir = small_pair();
    for line in [
        "bench --rows 64 --cols 64 --runs 1 --json",
        "bench -b base -f ft --runs 1 --threads 2 -m bitdelta --json",
    ] {
        let report = run(dir.path(), line).json();
        assert!(report["memory_copy_gb_per_s"].as_f64() > Some(0.0));
        for row in report["methods"].as_array().unwrap() {
            assert!(row["apply_gb_per_s"].as_f64() > Some(0.0), "{row}");
        }
    }
    assert!(succeed(dir.path(), "bench --rows 64 --cols 64 --runs 1 --dtype bf16").contains("bitdelta"));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let dir = small_pair();
    succeed(dir.path(), "compress -b base -f ft");
    for line in ["inspect ft.ddct", "inspect ft.ddct --json", "methods", "completions bash", "--help"] {
        let mut child = command(dir.path())
            .args(line.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
            (Some(0), ""),
            "{line}"
        );
    }
}
