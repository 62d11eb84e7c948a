//! The smallest file that keeps the quality, on the demo pair.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use delta_dct::{Archive, Checkpoint, ErrorKind, Silent};
use delta_dct_eval::data::DataOptions;
use delta_dct_eval::tune::{Goal, Tuned, Tuner};
use delta_dct_eval::{Comparison, Sources};
use tempfile::TempDir;

fn demo(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo").join(part)
}

/// Tunes the demo pair, with data if the goal is about it.
fn tune(goal: Goal, methods: &[&str]) -> (TempDir, Result<Tuned, delta_dct_eval::Error>) {
    let folder = tempfile::tempdir().unwrap();
    let comparison = goal.max_drop.or(goal.max_kl).map(|_| {
        let sources = Sources {
            base: demo("base"),
            finetuned: demo("ft"),
            data: vec![demo("eval/test.safetensors")],
            options: DataOptions::default(),
            batch: 32,
        };
        Comparison::open(&sources).unwrap()
    });
    let tuner = Tuner {
        base: &Checkpoint::open(&demo("base")).unwrap(),
        finetuned: &Checkpoint::open(&demo("ft")).unwrap(),
        comparison: comparison.as_ref(),
        goal,
        methods: methods.iter().map(|name| (*name).to_owned()).collect(),
        progress: &Silent,
    };
    let tuned = tuner.run(&folder.path().join("X.ddct"), false);
    (folder, tuned)
}

#[test]
fn the_smallest_file_that_passes_is_written_and_judged() {
    let goal = Goal { max_drop: Some(0.01), max_kl: Some(0.02), ..Goal::default() };
    let (folder, tuned) = tune(goal.clone(), &["uniform", "lowrank"]);
    let tuned = tuned.unwrap();
    let result = tuned.result.unwrap().quality;
    assert!(result.accuracy_difference.unwrap() >= -0.01 && result.kl.unwrap() <= 0.02);
    let path = folder.path().join("X.ddct");
    assert_eq!(path.metadata().unwrap().len(), tuned.bytes);
    assert_eq!(Archive::open(&path).unwrap().info().recipe, tuned.recipe);
    // Only that file is left.
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);

    let passed = |trial: &&delta_dct_eval::tune::Trial| trial.passed == Some(true);
    assert_eq!(tuned.tried.iter().filter(passed).map(|trial| trial.bytes).min(), Some(tuned.bytes));
    let chosen = tuned.tried.iter().find(|trial| trial.recipe == tuned.recipe).unwrap();
    assert_eq!(chosen.quality.as_ref().unwrap().kl, result.kl);
    // What is not judged is larger than what passed before it.
    for (i, trial) in tuned.tried.iter().enumerate().filter(|(_, trial)| trial.passed.is_none()) {
        let best = tuned.tried[..i].iter().filter(passed).map(|trial| trial.bytes).min().unwrap();
        assert!(trial.bytes >= best && trial.quality.is_none());
    }
    // Each ladder has a rung that passes or is beaten, and none is climbed step by step.
    assert!(tuned.tried.iter().any(|trial| trial.recipe.starts_with("lowrank")));
    assert!(tuned.tried.len() <= 17, "{}", tuned.tried.len());
    assert!(tuned.bytes * 5 < tuned.finetuned_bytes);
}

#[test]
fn without_data_the_goal_is_the_error_of_the_weights() {
    let (_folder, tuned) =
        tune(Goal { max_error: Some(0.1), ..Goal::default() }, &["uniform", "dct", "lowrank"]);
    let tuned = tuned.unwrap();
    assert!(tuned.relative_error.unwrap() <= 0.1 && tuned.result.is_none());
    let finer =
        tune(Goal { max_error: Some(0.01), ..Goal::default() }, &["uniform", "dct", "lowrank"]).1.unwrap();
    assert!(finer.relative_error.unwrap() <= 0.01 && finer.bytes > tuned.bytes);
}

#[test]
fn what_nothing_lossy_keeps_is_carried_exactly() {
    let (_folder, tuned) = tune(Goal { max_error: Some(0.0), ..Goal::default() }, &["bitdelta"]);
    assert!(tuned.unwrap().recipe.starts_with("lossless"));
}

#[test]
fn goals_that_make_no_sense_leave_no_file() {
    for (goal, methods) in [
        (Goal::default(), &[][..]),
        (Goal { max_error: Some(-1.0), ..Goal::default() }, &[][..]),
        (Goal { max_error: Some(0.1), ..Goal::default() }, &["magic"][..]),
    ] {
        let (folder, tuned) = tune(goal, methods);
        assert_eq!(tuned.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
