//! `sweep`, `best` and `report` on the first examples of the demo pair.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::json::check;
use crate::run::{demo, run, succeed};

/// Writes `s.toml`.
fn write_sweep(dir: &Path, grid: &str) {
    let demo = demo().display().to_string();
    let pair = format!(
        "[[pair]]\nname = 'digits'\nbase = '{demo}/base'\nfinetuned = '{demo}/ft'\n\
         data = '{demo}/eval/test.safetensors'\nlimit = 30\n"
    );
    fs::write(dir.join("s.toml"), pair + grid).unwrap();
}

const QUALITY: &str = "accuracy accuracy_interval correct loss examples seconds examples_per_second";
const COMPARED: &str = "accuracy_difference accuracy_difference_interval kl agreement";
const ROW: &str = "pair method recipe predecessor bytes finetuned_bytes ratio bpw relative_error compress_seconds \
                   apply_seconds predecessor_bytes predecessor_ratio file inputs version";

#[test]
fn a_sweep_its_picks_and_its_report() {
    let dir = tempfile::tempdir().unwrap();
    write_sweep(dir.path(), "[[grid]]\nmethod = ['dct', 'zero']\n");
    let section = "sweep, best, report";
    let words =
        |texts: &[&'static str]| texts.iter().flat_map(|text| text.split_whitespace()).collect::<Vec<_>>();

    let first = run(dir.path(), "sweep s.toml -o out --runs 1 --json").json();
    assert_eq!(first["rows"].as_array().unwrap().len(), 1);
    let value = run(dir.path(), "sweep s.toml -o out --keep --json").json();
    check(section, &value, vec!["pairs", "rows", "failures"]);
    check(section, &value["rows"][0], words(&[ROW, QUALITY, COMPARED, "tensors"]));
    check(section, &value["rows"][0]["tensors"][0], words(&["name dimensions bytes relative_error"]));
    let pair = "pair base finetuned data options sweep inputs version notes base_quality finetuned_quality";
    check(section, &value["pairs"][0], words(&[pair]));
    check(section, &value["pairs"][0]["base_quality"], words(&[QUALITY, COMPARED]));
    check(section, &value["pairs"][0]["finetuned_quality"], words(&[QUALITY]));
    let kept = Path::new(value["rows"][1]["file"].as_str().unwrap()).to_owned();
    assert_eq!(value["rows"][1]["bytes"], fs::metadata(dir.path().join(kept)).unwrap().len());
    let written: Value =
        serde_json::from_slice(&fs::read(dir.path().join("out/results.json")).unwrap()).unwrap();
    assert_eq!(written, value);
    let header = fs::read_to_string(dir.path().join("out/results.csv")).unwrap();
    let readme = include_str!("../../README.md");
    for column in header.lines().next().unwrap().split(',') {
        assert!(readme.contains(&format!("`{column}`")), "{column} is not documented");
    }

    let value = run(dir.path(), "best out --json").json();
    check(section, &value[0], words(&["pair pick front"]));
    check(section, &value[0]["pick"], words(&["reason harm row"]));
    check(section, &value[0]["front"][0], words(&[ROW, QUALITY, COMPARED]));
    assert!(succeed(dir.path(), "best out").contains("front"));

    assert_eq!(succeed(dir.path(), "report out -o r.html"), "");
    assert!(fs::read_to_string(dir.path().join("r.html")).unwrap().contains("</html>"));
    assert_eq!(run(dir.path(), "report out -o r.html").code, Some(3), "it is there already");
    succeed(dir.path(), "report out -o r.html --force");

    let text = succeed(dir.path(), "sweep s.toml -o out");
    assert!(text.contains("0 runs made now, 2 made before"), "{text}");

    let unknown = run(dir.path(), "sweep s.toml -o out --pairs letters");
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("no pair is called \"letters\"; there are digits"), "{}", unknown.stderr);
    let other = run(dir.path(), "sweep s.toml -o out --limit 20");
    assert_eq!(other.code, Some(6));
    let value = run(dir.path(), "sweep s.toml -o fewer --limit 20 --json").json();
    assert_eq!(value["rows"][0]["examples"], 20);
    succeed(dir.path(), "report fewer -o r.html --force");
    let again = "delta-dct sweep s.toml -o fewer --limit 20\n";
    assert!(fs::read_to_string(dir.path().join("r.html")).unwrap().contains(again));

    let picked = run(dir.path(), "best out --methods zero --json").json();
    assert_eq!(picked[0]["front"].as_array().unwrap().len(), 1);
    assert_eq!(picked[0]["pick"]["row"]["method"], "zero");
}

#[test]
fn one_run_that_cannot_be_made_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    write_sweep(dir.path(), "[[grid]]\nmethod = ['auto size=10B', 'zero']\n");
    for made in [1, 0] {
        let ended = run(dir.path(), "sweep s.toml -o out");
        assert_eq!(ended.code, Some(1));
        let lines: Vec<&str> = ended.stderr.lines().collect();
        let [warning, error, _] = lines.as_slice() else { panic!("{}", ended.stderr) };
        assert!(warning.contains("warning: digits, auto size=10B: "), "{warning}");
        assert!(error.ends_with("error: 1 of 2 runs failed"), "{error}");
        assert!(
            ended.stdout.contains(&format!("{made} run")) && !ended.stdout.contains("auto"),
            "{}",
            ended.stdout
        );
    }
    let value: Value =
        serde_json::from_slice(&fs::read(dir.path().join("out/results.json")).unwrap()).unwrap();
    let words = "pair method recipe predecessor error inputs version".split(' ').collect();
    check("sweep, best, report", &value["failures"][0], words);
    assert!(!succeed(dir.path(), "best out").contains("auto"));
    succeed(dir.path(), "report out -o r.html");
    assert_eq!(run(dir.path(), "report out --markdown").code, Some(2), "it has no run of the default codec");
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    write_sweep(dir.path(), "[[grid]]\nmethod = 'dct'\nblocks = 3\n");
    let broken = run(dir.path(), "sweep s.toml -o out");
    assert_eq!(broken.code, Some(2));
    assert!(broken.stderr.contains("s.toml, line 9: "), "{}", broken.stderr);
    assert_eq!(broken.stderr.lines().count(), 1);
    assert!(!dir.path().join("out").exists());
    for line in ["best out", "report out"] {
        assert_eq!(run(dir.path(), line).code, Some(3), "{line}");
    }
}
