//! The fields of `--json`: exactly those that README.md documents.

use serde_json::Value;

use crate::run::{run, small_pair};

const README: &str = include_str!("../../README.md");

/// Names of the fields of an object.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Asserts that `value` has these fields and no others, and that the README's section names each.
pub(crate) fn check(section: &str, value: &Value, mut fields: Vec<&str>) {
    let text = README.split("\n### ").find(|part| part.starts_with(section)).unwrap();
    for field in &fields {
        let named = [format!("`{field}`"), format!(".{field}`")];
        assert!(
            named.iter().any(|name| text.contains(name.as_str())),
            "{section}: {field} is not documented"
        );
    }
    let mut found = keys(value);
    found.sort_unstable();
    fields.sort_unstable();
    assert_eq!(found, fields, "{section}");
}

/// Fields of a tensor.
fn tensor() -> Vec<&'static str> {
    vec!["name", "dtype", "shape", "weights", "kind", "plan", "relation", "bytes", "relative_error"]
}

#[test]
fn compress() {
    let dir = small_pair();
    let value = run(dir.path(), "compress -b base -f ft --json").json();
    let fields = "output ratio bpw mb_per_s groups output_bytes finetuned_bytes weights tensors removed rename notes files \
                  skipped_files seconds enhancement";
    check("compress", &value, fields.split_whitespace().collect());
    check(
        "compress",
        &value["groups"][0],
        vec!["group", "tensors", "weights", "bytes", "bpw", "relative_error"],
    );
    check("A tensor", &value["tensors"][0], tensor());
    let bytes = value["output_bytes"].as_f64().unwrap();
    let close = |field: &str, expected: f64| {
        assert!((value[field].as_f64().unwrap() / expected - 1.0).abs() < 1e-12, "{field}");
    };
    close("bpw", 8.0 * bytes / value["weights"].as_f64().unwrap());
    close("ratio", value["finetuned_bytes"].as_f64().unwrap() / bytes);
}

#[test]
fn inspect_verify_and_apply() {
    let dir = small_pair();
    run(dir.path(), "compress -b base -f ft -o X.ddct");
    let value = run(dir.path(), "inspect X.ddct --json").json();
    let fields = "file format_version created_by base finetuned recipe finetuned_bytes bytes ratio weights bpw tensors files \
                  layer";
    check("inspect", &value, fields.split_whitespace().collect());
    check("A tensor", &value["tensors"][0], tensor());
    assert_eq!(keys(&value["files"][0]), ["name", "bytes"]);
    for line in ["verify X.ddct --json", "verify X.ddct -b base --json"] {
        let value = run(dir.path(), line).json();
        check("apply, verify", &value, vec!["file", "decoded", "tensors", "bytes", "seconds"]);
        assert_eq!(value["decoded"], line.contains("-b"));
    }
    let value = run(dir.path(), "apply -b base X.ddct -o out --json").json();
    check("apply, verify", &value, vec!["output", "mb_per_s", "tensors", "bytes", "files", "seconds"]);
}

#[test]
fn methods_demo_and_bench() {
    let dir = small_pair();
    let section = "methods, demo, bench";
    check(section, &run(dir.path(), "methods --json").json()[0], vec!["name", "paper", "summary", "plan"]);
    let value = run(dir.path(), "demo . --json").json();
    check(section, &value, vec!["base", "finetuned", "finetuned_bytes", "weights", "methods"]);
    let row = "method bytes ratio bpw relative_error compress_seconds apply_seconds verified";
    check(section, &value["methods"][0], row.split_whitespace().collect());
    let value = run(dir.path(), "bench --rows 64 --cols 64 --runs 1 -m bitdelta --json").json();
    let fields = "tensors weights bytes threads runs memory_copy_gb_per_s methods";
    check(section, &value, fields.split_whitespace().collect());
    let row =
        "method bytes bpw relative_error compress_gb_per_s compress_to_copy apply_gb_per_s apply_to_copy";
    check(section, &value["methods"][0], row.split_whitespace().collect());
}
