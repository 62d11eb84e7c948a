//! `eval`, and the demo's accuracy: figures of real pairs, the fields of its JSON, bad input.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::json::check;
use crate::run::{demo, run, succeed};

/// `../shared/PLACE` beside the checkout. Where it is not there the caller skips, unless `DELTA_DCT_REQUIRE_SHARED` is
/// set.
fn shared(place: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(place);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("DELTA_DCT_REQUIRE_SHARED").is_none(), "{} is not there", path.display());
    println!("skipped: {} is not there", path.display());
    None
}

/// The models that `eval` prints for these words.
fn models(words: &str) -> Vec<Value> {
    let value = run(Path::new("."), &format!("eval {words} --json")).json();
    value["models"].as_array().unwrap().clone()
}

/// A model in the place of both base and fine-tuned one: the first of two rows is as good as the second.
fn alone(model: &Path, rest: &str) -> Value {
    let model = model.display();
    let models = models(&format!("-b {model} -f {model} {rest}"));
    assert_eq!(models[0]["agreement"], 1.0);
    assert_eq!((&models[0]["kl"], &models[0]["loss"]), (&Value::from(0.0), &models[1]["loss"]));
    models[1].clone()
}

#[test]
fn the_demo_pair_is_as_good_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let pair = demo();
    let (base, ft) = (pair.join("base"), pair.join("ft"));
    let delta = dir.path().join("X.ddct");
    let sides = format!("-b {} -f {}", base.display(), ft.display());
    succeed(dir.path(), &format!("compress {sides} -o {} -m uniform", delta.display()));
    let data = pair.join("eval/test.safetensors");
    let models = models(&format!("{sides} --delta {} -d {}", delta.display(), data.display()));
    let roles: Vec<_> = models.iter().map(|model| model["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["base", "finetuned", "reconstructed"]);
    let fields =
        "role name accuracy accuracy_interval correct loss examples seconds examples_per_second notes";
    let compared = "accuracy_difference accuracy_difference_interval kl agreement";
    for model in &models {
        let more = if model["role"] == "finetuned" { "" } else { compared };
        check("eval", model, fields.split(' ').chain(more.split_whitespace()).collect());
        assert_eq!(model["examples"], 597);
    }
    assert_eq!((&models[1]["correct"], &models[1]["accuracy"]), (&573.into(), &(573.0 / 597.0).into()));
    assert_eq!(models[0]["correct"], 250);
    let kl = |i: usize| models[i]["kl"].as_f64().unwrap();
    assert!(0.0 < kl(2) && kl(2) < 0.01 && 0.1 < kl(0), "{} {}", kl(2), kl(0));
}

#[test]
fn demo_shows_accuracy() {
    let value = run(Path::new("."), &format!("demo {} --json", demo().display())).json();
    let section = "methods, demo, bench";
    let fields = "base finetuned finetuned_bytes weights examples models methods";
    check(section, &value, fields.split(' ').collect());
    assert_eq!(value["examples"], 597);
    let [base, finetuned] = [&value["models"][0], &value["models"][1]];
    check(section, base, vec!["role", "accuracy", "kl"]);
    assert_eq!((&base["role"], &finetuned["role"]), (&"base".into(), &"finetuned".into()));
    assert_eq!((&finetuned["accuracy"], &finetuned["kl"]), (&(573.0 / 597.0).into(), &Value::Null));
    let methods = value["methods"].as_array().unwrap();
    assert!(methods.iter().all(|row| row["accuracy"].is_number() && row["kl"].is_number()));
    let uniform = methods.iter().find(|row| row["method"] == "uniform").unwrap();
    assert!((uniform["accuracy"].as_f64().unwrap() - 573.0 / 597.0).abs() < 0.01, "{uniform}");
    assert!(uniform["kl"].as_f64() < Some(0.01), "{uniform}");
}

#[test]
fn sentences_are_judged_to_the_last_example() {
    let Some(pair) = shared("pairs/minilm-sst2") else { return };
    let data = ["dev", "test"].map(|name| format!("-d {}", pair.join(format!("eval/{name}.tsv")).display()));
    let model = pair.join("ft");
    let model =
        models(&format!("-b {0} -f {0} {1} --max-length 128", model.display(), data.join(" ")))[1].clone();
    assert_eq!((&model["correct"], &model["examples"]), (&(761 + 1625).into(), &2693.into()));
    let loss = (872.0 * 0.371550 + 1821.0 * 0.318494) / 2693.0;
    assert!((model["loss"].as_f64().unwrap() - loss).abs() < 1e-5, "{model}");
}

#[test]
fn images_and_tokens_are_judged() {
    let Some(pairs) = shared("pairs") else { return };
    let images = pairs.join("vit-cifar10/eval/test.safetensors");
    let model = alone(&pairs.join("vit-cifar10/ft"), &format!("-d {} --limit 500", images.display()));
    assert_eq!(model["examples"], 500);
    let (tokens, model) =
        (pairs.join("llama-code/eval/rust_heldout.safetensors"), pairs.join("llama-code/ft"));
    let model = &models(&format!("-b {0} -f {0} -d {1}", model.display(), tokens.display()))[1];
    assert!((model["perplexity"].as_f64().unwrap() - 36.45).abs() < 0.005, "{model}");
    assert_eq!(model["tokens"], 65_280);
    assert!(model.get("accuracy").is_none(), "{model}");
}

/// The line of error of `eval` with these words.
fn refused(words: &str, code: i32) -> String {
    let run = run(Path::new("."), &format!("eval {words}"));
    assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{}", run.stderr);
    assert!(run.stderr.starts_with("delta-dct: error: "), "{}", run.stderr);
    run.stderr
}

#[test]
fn bad_input_is_one_clear_line() {
    let pair = demo();
    let (base, ft, test) = (pair.join("base"), pair.join("ft"), pair.join("eval/test.safetensors"));
    let [base, ft, test] = [base, ft, test].map(|path| path.display().to_string());
    assert!(refused(&format!("-b {base} -f {ft} -d nowhere.tsv"), 3).contains("nowhere.tsv"));
    assert!(refused(&format!("-b {base} -f {ft}"), 2).contains("--data"));
    // Ten digits for a model of two labels.
    assert!(refused(&format!("-b {base} -f {ft} -d {test} --labels digits"), 6).contains("label"));

    let dir = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "preprocessor_config.json"] {
        fs::copy(Path::new(&ft).join(file), dir.path().join(file)).unwrap();
    }
    let config = r#"{"model_type": "mamba", "architectures": ["MambaForCausalLM"]}"#;
    fs::write(dir.path().join("config.json"), config).unwrap();
    let line = refused(&format!("-b {base} -f {} -d {test}", dir.path().display()), 5);
    assert!(line.contains("mamba") && line.contains("vit"), "{line}");
}
