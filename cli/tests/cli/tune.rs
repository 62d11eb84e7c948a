//! `tune`: the smallest file that keeps the quality.

use crate::run::{demo, run, small_pair, succeed};

const README: &str = include_str!("../../README.md");

#[test]
fn tune_writes_the_file_and_says_what_it_tried() {
    let dir = tempfile::tempdir().unwrap();
    let demo = demo();
    let place = demo.display();
    let line = format!(
        "tune -b {place}/base -f {place}/ft --data {place}/eval/test.safetensors --max-kl 0.05 --max-drop 1% \
         --methods uniform,bitdelta -o X.ddct"
    );
    let value = run(dir.path(), &format!("{line} --json")).json();
    let section = README.split("\n### ").find(|part| part.starts_with("tune")).unwrap();
    for key in value.as_object().unwrap().keys().chain(value["tried"][0].as_object().unwrap().keys()) {
        assert!(
            section.contains(&format!("`{key}`")) || section.contains(&format!("`tried[].{key}`")),
            "{key}"
        );
    }
    assert_eq!(value["goal"]["max_drop"], 0.01);
    assert!(value["result"]["kl"].as_f64().unwrap() <= 0.05);
    assert_eq!(dir.path().join("X.ddct").metadata().unwrap().len(), value["bytes"].as_u64().unwrap());

    let again = run(dir.path(), &line);
    assert_eq!(again.code, Some(3));
    assert!(again.stderr.contains("it exists already (--force overwrites it)"), "{}", again.stderr);
    let text = run(dir.path(), &format!("{line} --force"));
    assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""));
    for part in ["yes: smallest", "judged again on 597 examples: accuracy", "recipe: "] {
        assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
    }
}

#[test]
fn goals_are_read_with_their_units() {
    let dir = small_pair();
    for (goal, code, message) in [
        ("--max-drop 0.5", 2, "percentage points, as in 0.5%"),
        ("--data none.tsv", 2, "say what the file has to keep"),
        ("--sure --max-kl 0.1", 2, "--max-drop"),
    ] {
        let run = run(dir.path(), &format!("tune -b base -f ft {goal}"));
        assert_eq!(run.code, Some(code), "{goal}");
        assert!(run.stderr.contains(message), "{goal}: {}", run.stderr);
    }
}

#[test]
fn without_data_the_goal_is_the_error_of_the_weights() {
    let dir = small_pair();
    for (goal, most, note) in [
        ("", 0.1, "weights of at most 0.1"),
        ("--max-kl 0.1", 0.1, "at most 0.1; accuracy and KL cannot be measured"),
        ("--max-drop 1% --max-error 0.3", 0.3, "at most 0.3; accuracy and KL cannot be measured"),
    ] {
        let line = format!("tune -b base -f ft --methods uniform,lowrank --force {goal}");
        let value = run(dir.path(), &format!("{line} --json")).json();
        assert!(value["relative_error"].as_f64().unwrap() <= most, "{goal}");
        assert_eq!((&value["goal"]["max_error"], &value["goal"]["max_kl"]), (&most.into(), &().into()));
        let text = succeed(dir.path(), &line);
        assert!(text.contains(note) && !text.contains("KL  "), "{goal}: {text}");
    }
    assert!(dir.path().join("ft.ddct").is_file());
}
