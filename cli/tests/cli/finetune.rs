//! `finetune` on a few examples of the demo.

use std::fs;

use serde_json::Value;

use crate::json::check;
use crate::run::{demo, run, succeed};

/// A quick run, whose data is the folder with both splits.
fn line(more: &str) -> String {
    let demo = demo().display().to_string();
    format!("finetune --base {demo}/base --data {demo}/eval --limit 48 {more}")
}

#[test]
fn a_run_its_log_and_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data = demo().join("eval");
    let eval_data = data.display();
    let value = run(
        dir.path(),
        &line(&format!("--eval-data {eval_data} --epochs 2 --lr 1e-3 --log log.jsonl -o F --json")),
    )
    .json();
    check("finetune", &value, "output weights examples classes recipe epochs notes".split(' ').collect());
    check(
        "finetune",
        &value["epochs"][1],
        "epoch loss seconds examples_per_second held_out".split(' ').collect(),
    );
    assert_eq!((&value["examples"], &value["weights"]), (&48.into(), &449_954.into()));
    assert_eq!(value["recipe"]["learning_rate"], 1e-3);

    let log = fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<&Value> = events.iter().filter(|event| event.get("step").is_some()).collect();
    assert_eq!((steps.len(), events.len()), (4, 6));
    let fields = "step epoch loss gradient_norm learning_rate examples";
    check("finetune", steps[3], fields.split(' ').collect());
    assert_eq!((&events[2], &events[5]), (&value["epochs"][0], &value["epochs"][1]));

    // Judged on the test split, all of it, as eval judges the folder.
    let judged = &value["epochs"][1]["held_out"];
    let eval = format!("eval -b {}/base -f F -d {eval_data} --json", demo().display());
    let again = &run(dir.path(), &eval).json()["models"][1];
    assert_eq!((&judged["examples"], &judged["correct"]), (&597.into(), &again["correct"]));

    let text = succeed(dir.path(), &line("-o F --epochs 1 --force"));
    for part in ["48 examples", "449,954 weights", "classes: even, odd"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn splits_are_those_that_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let losses = |more: &str| {
        let value = run(dir.path(), &line(&format!("{more} --epochs 1 -o F --force --json"))).json();
        value["epochs"][0].clone()
    };
    let data = format!("--eval-data {}", demo().join("eval").display());
    let (train, test) = (losses(""), losses("--split test"));
    assert_eq!(train["loss"], losses("--split train")["loss"]);
    assert_ne!(train["loss"], test["loss"]);
    assert_eq!(losses(&data)["held_out"]["examples"], 597);
    assert_ne!(losses(&format!("{data} --eval-split train"))["held_out"]["examples"], 597);
}

#[test]
fn what_cannot_be_done_is_one_line_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("mine")).unwrap();
    fs::write(dir.path().join("mine/precious"), "").unwrap();
    for (more, code, message) in [
        ("-o mine", 3, "mine"),
        ("-o F --classes one,two,three --labels digits", 6, "the model has 3 classes"),
        ("-o F --split dev", 2, "no file of the split dev among"),
        ("-o F --lr 1e38 --epochs 3", 2, "lower learning rate"),
        ("-o F --eval-split test", 2, "--eval-data"),
    ] {
        let run = run(dir.path(), &line(more));
        assert_eq!(run.code, Some(code), "{more}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{more}: {}", run.stderr);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{more}");
    }
}
