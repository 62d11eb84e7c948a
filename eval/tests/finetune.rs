//! Training: the gradients of every architecture, the demo pair, what is written, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use delta_dct::{Checkpoint, ErrorKind, Progress, Silent};
use delta_dct_eval::data::{DataOptions, Dataset, Processor};
use delta_dct_eval::models::Model;
use delta_dct_eval::{Error, Evaluation, Event, Finetuned, Job, Recipe, Result, Step, Weights, finetune};
use serde_json::{Value, json};
use tempfile::tempdir;

use support::shared;

fn demo(place: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo").join(place)
}

/// A short run on a few digits.
fn job(output: &Path) -> Job {
    Job {
        base: demo("base"),
        scratch: false,
        data: vec![demo("eval/train.safetensors")],
        options: DataOptions { limit: Some(96), ..DataOptions::default() },
        held_out: Vec::new(),
        held_out_split: None,
        classes: None,
        output: output.to_owned(),
        overwrite: false,
        recipe: Recipe { epochs: 1, learning_rate: 1e-3, ..Recipe::default() },
    }
}

fn run(job: &Job) -> Result<Finetuned> {
    finetune(job, &Silent, &mut |_| Ok(()))
}

fn steps(job: &Job) -> Vec<Step> {
    let mut steps = Vec::new();
    finetune(job, &Silent, &mut |event| {
        if let Event::Step(step) = event {
            steps.push(step.clone());
        }
        Ok(())
    })
    .unwrap();
    steps
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn values(folder: &Path, name: &str) -> Vec<f32> {
    let weights = Weights::of(&Checkpoint::open(folder).unwrap()).unwrap();
    weights.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

// ---- gradients ----

const EXAMPLES: usize = 20;

/// The data of `fixtures/make_finetune.py`.
fn write_data(path: &Path, config: &Value, labels: usize) {
    let array = |values: Vec<u8>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    let integers = |values: Vec<i64>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    let of_class = (0..EXAMPLES).map(|n| (n % labels) as i64).collect();
    let inputs = match config["image_size"].as_u64() {
        Some(side) => {
            let (side, mut levels) = (side as usize, Vec::new());
            for n in 0..EXAMPLES {
                let places = (0..side).flat_map(|y| (0..side).map(move |x| (y, x)));
                let pixel = |(y, x)| (0..3).map(move |c| (n * 31 + y * 7 + x * 3 + c * 11 + n * y * x) as u8);
                levels.extend(places.flat_map(pixel));
            }
            ("images", array(levels, &[EXAMPLES, side, side, 3]))
        }
        None => {
            let row = |n: usize| (0..12).map(move |i| (5 + (n * 7 + i * 3 + n * i) % 90) as i64);
            ("input_ids", integers((0..EXAMPLES).flat_map(row).collect(), &[EXAMPLES, 12]))
        }
    };
    let labels = ("labels", integers(of_class, &[EXAMPLES]));
    candle_core::safetensors::save(&HashMap::from([inputs, labels]), path).unwrap();
}

/// Losses and norms of the gradient, step by step, are those that PyTorch recorded: a wrong gradient of any layer, or a
/// wrong step, shows in the next loss.
#[test]
fn every_architecture_learns_as_in_torch() {
    let Some(models) = shared("fixtures/models") else { return };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/finetune.json");
    let dir = tempdir().unwrap();
    for (name, recorded) in json_file(&fixtures).as_object().unwrap() {
        let base = dir.path().join(name);
        fs::create_dir(&base).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(models.join(name).join(file), base.join(file)).unwrap();
        }
        let pixels = json!({"do_resize": false, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
        fs::write(base.join("preprocessor_config.json"), pixels.to_string()).unwrap();
        let (config, data) = (json_file(&base.join("config.json")), dir.path().join("data.safetensors"));
        let labels = config["id2label"].as_object().map_or(2, |classes| classes.len());
        write_data(&data, &config, labels);
        let job = Job {
            base,
            data: vec![data],
            options: DataOptions::default(),
            recipe: Recipe {
                epochs: 5,
                batch: EXAMPLES,
                learning_rate: 1e-3,
                warmup: 2,
                weight_decay: 0.05,
                dropout: false,
                ..Recipe::default()
            },
            ..job(&dir.path().join("out").join(name))
        };
        fs::create_dir_all(dir.path().join("out")).unwrap();
        let steps = steps(&job);
        assert_eq!(steps.len(), recorded.as_array().unwrap().len());
        for (step, recorded) in steps.iter().zip(recorded.as_array().unwrap()) {
            let close = |field: &str, found: f64| {
                let expected = recorded[field].as_f64().unwrap();
                let off = (found / expected - 1.0).abs();
                assert!(off < 2e-4, "{name}, step {}: {field} {found}, not {expected}", step.step);
            };
            close("loss", step.loss);
            close("gradient_norm", step.gradient_norm);
        }
    }
}

#[test]
fn dropout_is_drawn_anew_and_spares_the_judge() {
    let dir = tempdir().unwrap();
    let base = dir.path().join("base");
    fs::create_dir(&base).unwrap();
    for file in ["model.safetensors", "preprocessor_config.json"] {
        fs::copy(demo("ft").join(file), base.join(file)).unwrap();
    }
    let mut config = json_file(&demo("ft/config.json"));
    config["hidden_dropout_prob"] = json!(0.3);
    config["attention_probs_dropout_prob"] = json!(0.2);
    fs::write(base.join("config.json"), config.to_string()).unwrap();
    // Nothing is learned: losses differ by what is dropped.
    let still = Recipe { epochs: 2, batch: 96, learning_rate: 0.0, ..Recipe::default() };
    let with = |name: &str, recipe: Recipe| {
        let held_out = vec![demo("eval/test.safetensors")];
        let job = Job { base: base.clone(), held_out, recipe, ..job(&dir.path().join(name)) };
        let done = run(&job).unwrap();
        let correct = done.epochs[0].held_out.as_ref().unwrap().correct.unwrap();
        (done.epochs.iter().map(|epoch| epoch.loss).collect::<Vec<_>>(), correct)
    };
    let (plain, correct) = with("plain", Recipe { dropout: false, ..still.clone() });
    assert!((plain[0] - plain[1]).abs() < 1e-5, "{plain:?}");
    let (dropped, spared) = with("dropped", still.clone());
    assert!((dropped[0] - dropped[1]).abs() > 1e-3, "{dropped:?}");
    assert!(dropped.iter().all(|loss| loss > &(plain[0] + 0.01)), "{dropped:?} {plain:?}");
    assert_eq!((correct, spared), (573, 573));
    assert_eq!(with("again", still).0, dropped);
}

// ---- runs ----

#[test]
fn the_loss_falls_and_the_folder_is_read_back() {
    let dir = tempdir().unwrap();
    let output = dir.path().join("out");
    let recipe = Recipe { epochs: 4, warmup: 2, learning_rate: 1e-3, shift: 1, ..Recipe::default() };
    let held_out = vec![demo("eval/test.safetensors")];
    let done = run(&Job { held_out: held_out.clone(), recipe, ..job(&output) }).unwrap();
    let losses: Vec<f64> = done.epochs.iter().map(|epoch| epoch.loss).collect();
    assert!(losses[3] < 0.7 * losses[0], "{losses:?}");
    assert_eq!((done.examples, done.weights, done.notes), (96, 449_954, Vec::<String>::new()));
    assert_eq!(done.classes, ["even", "odd"]);

    let judged = done.epochs[3].held_out.as_ref().unwrap();
    let config = json_file(&output.join("config.json"));
    let model = Model::load(&config, &Weights::of(&Checkpoint::open(&output).unwrap()).unwrap()).unwrap();
    let data = Dataset::open(&held_out[0], &DataOptions::default()).unwrap();
    let data = data.prepare(&Processor::open(&output, &config).unwrap(), model.task()).unwrap();
    let again = Evaluation::new(model, data, 50).reference(&Silent).unwrap();
    assert_eq!((again.correct, again.examples), (judged.correct, 597));
    assert!((again.loss.unwrap() - judged.loss.unwrap()).abs() < 1e-6);
    assert!(again.correct > Some(360), "{:?} is no better than chance", again.correct);
}

#[test]
fn the_result_depends_on_the_seed_and_not_on_threads() {
    let dir = tempdir().unwrap();
    let bytes = |name: &str, threads: usize, seed: u64| {
        let recipe = Recipe { batch: 40, shift: 1, seed, ..Recipe::default() };
        let job = Job { recipe, ..job(&dir.path().join(name)) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&job)).unwrap();
        fs::read(dir.path().join(name).join("model.safetensors")).unwrap()
    };
    let one = bytes("one", 1, 7);
    assert!(one == bytes("three", 3, 7), "one thread and three give different weights");
    assert!(one != bytes("other", 3, 8), "the seed changes nothing");
}

#[test]
fn a_config_alone_is_enough_to_begin() {
    let dir = tempdir().unwrap();
    let (base, output) = (dir.path().join("base"), dir.path().join("out"));
    fs::create_dir(&base).unwrap();
    for file in ["config.json", "preprocessor_config.json"] {
        fs::copy(demo("base").join(file), base.join(file)).unwrap();
    }
    let options = DataOptions { labels: Some("digits".to_owned()), ..job(&output).options };
    let done = run(&Job { base, scratch: true, options, ..job(&output) }).unwrap();
    assert_eq!(done.notes, ["all 72 tensors were random at first"]);
    assert_eq!(done.classes.len(), 10);
    let config = json_file(&output.join("config.json"));
    assert_eq!((&config["id2label"]["9"], &config["label2id"]["LABEL_9"]), (&json!("LABEL_9"), &json!(9)));
    // As transformers begins: normal with a deviation of 0.02, biases 0, norms 1; and one epoch moves little.
    let mut weights = values(&output, "vit.encoder.layer.0.attention.attention.query.weight");
    weights.sort_by(f32::total_cmp);
    let quartile = f64::from(weights[weights.len() * 3 / 4] - weights[weights.len() / 4]) / 2.0;
    assert!((quartile / (0.6745 * 0.02) - 1.0).abs() < 0.1, "{quartile}");
    let norm = values(&output, "vit.encoder.layer.0.layernorm_before.weight");
    assert!(norm.iter().all(|weight| (weight - 1.0).abs() < 0.02));
}

#[test]
fn a_head_for_other_classes_is_fresh_and_nothing_else_is() {
    let dir = tempdir().unwrap();
    let output = dir.path().join("three");
    let names: Vec<String> = ["low", "middle", "high"].map(str::to_owned).into();
    let recipe = Recipe { epochs: 0, ..Recipe::default() };
    let done = run(&Job { classes: Some(names.clone()), recipe: recipe.clone(), ..job(&output) }).unwrap();
    assert_eq!(
        done.notes,
        ["random, because the base has no such tensors: classifier.bias, classifier.weight"]
    );
    assert_eq!((done.classes, done.epochs.len()), (names, 0));
    assert_eq!(json_file(&output.join("config.json"))["id2label"]["1"], "middle");
    assert_eq!(values(&output, "classifier.weight").len(), 3 * 96);
    let body = "vit.encoder.layer.3.output.dense.weight";
    assert_eq!(values(&output, body), values(&demo("base"), body));
    // As many classes as the base has: its head, and its names.
    let same = dir.path().join("same");
    assert_eq!(run(&Job { recipe, ..job(&same) }).unwrap().classes, ["even", "odd"]);
    assert_eq!(
        fs::read(same.join("model.safetensors")).unwrap(),
        fs::read(demo("base/model.safetensors")).unwrap()
    );
}

#[test]
fn the_body_of_a_model_becomes_a_classifier_of_named_classes() {
    let Some(models) = shared("fixtures/models") else { return };
    let dir = tempdir().unwrap();
    let (base, output) = (dir.path().join("base"), dir.path().join("out"));
    fs::create_dir(&base).unwrap();
    let whole = candle_core::safetensors::load(models.join("bert/model.safetensors"), &Device::Cpu).unwrap();
    let body: HashMap<String, Tensor> = whole
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("bert.")?.to_owned(), tensor)))
        .collect();
    candle_core::safetensors::save(&body, base.join("model.safetensors")).unwrap();
    let mut config = json_file(&models.join("bert/config.json"));
    config["architectures"] = json!(["BertModel"]);
    for field in ["id2label", "label2id"] {
        config.as_object_mut().unwrap().remove(field);
    }
    fs::write(base.join("config.json"), config.to_string()).unwrap();
    let vocabulary = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vocabularies/bert");
    for file in ["vocab.txt", "tokenizer_config.json"] {
        fs::copy(vocabulary.join(file), base.join(file)).unwrap();
    }
    let data = dir.path().join("data.jsonl");
    let line = |text: &str, label: &str| format!("{}\n", json!({"text": text, "label": label}));
    fs::write(&data, line("a", "Sunny") + &line("b c d e f", "dull")).unwrap();
    let job = Job { base, data: vec![data], options: DataOptions::default(), ..job(&output) };
    let done = run(&job).unwrap();
    assert_eq!(done.classes, ["dull", "Sunny"]);
    let fresh = "random, because the base has no such tensors: classifier.bias, classifier.weight";
    assert_eq!(done.notes, [fresh]);
    let config = json_file(&output.join("config.json"));
    assert_eq!(config["architectures"], json!(["BertForSequenceClassification"]));
    assert!(output.join("vocab.txt").exists() && output.join("tokenizer_config.json").exists());
    let weights = Weights::of(&Checkpoint::open(&output).unwrap()).unwrap();
    assert!(weights.names().all(|name| name.starts_with("bert.") || name.starts_with("classifier.")));
}

// ---- errors ----

fn refused(job: &Job) -> Error {
    let error = run(job).expect_err("this has to fail");
    let left = fs::read_dir(job.output.parent().unwrap()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).filter(|name| name != "base").collect();
    assert!(left.is_empty() || job.output.join("mine").exists(), "left behind: {left:?}");
    error
}

#[test]
fn what_cannot_be_trained_is_one_clear_error_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let good = job(&dir.path().join("out"));
    let says = |job: &Job, kind: ErrorKind, words: &str| {
        let error = refused(job);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let labels = |name: &str| DataOptions { labels: Some(name.to_owned()), ..good.options.clone() };
    let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());

    says(
        &Job { options: labels("colours"), ..good.clone() },
        ErrorKind::InvalidArgument,
        "no array `colours`",
    );
    let (classes, options) = (names(&["even", "odd"]), labels("digits"));
    says(&Job { classes, options, ..good.clone() }, ErrorKind::Mismatch, "the model has 2 classes");
    says(&Job { classes: names(&["odd", "Odd"]), ..good.clone() }, ErrorKind::InvalidArgument, "same name");
    let recipe = |recipe: Recipe| Job { recipe, ..good.clone() };
    says(&recipe(Recipe { batch: 0, ..Recipe::default() }), ErrorKind::InvalidArgument, "batch");
    says(&recipe(Recipe { clip: Some(-1.0), ..Recipe::default() }), ErrorKind::InvalidArgument, "gradient");
    let wild = Recipe { learning_rate: 1e38, epochs: 5, ..Recipe::default() };
    says(&recipe(wild), ErrorKind::InvalidArgument, "lower learning rate");

    let base = dir.path().join("base");
    fs::create_dir(&base).unwrap();
    let mut config = json_file(&demo("base/config.json"));
    config["model_type"] = json!("gpt2");
    fs::write(base.join("config.json"), config.to_string()).unwrap();
    says(&Job { base, ..good.clone() }, ErrorKind::Unsupported, "known: bert, distilbert");

    fs::create_dir(&good.output).unwrap();
    fs::write(good.output.join("mine"), "precious").unwrap();
    says(&good, ErrorKind::Io, "exists already");
    assert_eq!(fs::read(good.output.join("mine")).unwrap(), b"precious");
}

#[test]
fn data_without_labels_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("base");
    fs::create_dir(&path).unwrap();
    let path = path.join("images.safetensors");
    let images = Tensor::zeros((3, 8, 8), candle_core::DType::U8, &Device::Cpu).unwrap();
    candle_core::safetensors::save(&HashMap::from([("images", images.clone())]), &path).unwrap();
    let job = Job { data: vec![path.clone()], ..job(&dir.path().join("out")) };
    assert!(refused(&job).to_string().contains("no labels"));
    let labels = Tensor::new(&[0i64, -1, 1], &Device::Cpu).unwrap();
    candle_core::safetensors::save(&HashMap::from([("images", images), ("labels", labels)]), &path).unwrap();
    assert!(refused(&job).to_string().contains("example 2 of the training data has no label"));
}

/// Stops after the first step.
struct Stop(std::sync::atomic::AtomicU64);

impl Progress for Stop {
    fn advance(&self, examples: u64) {
        self.0.fetch_add(examples, std::sync::atomic::Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) > 0
    }
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let dir = tempdir().unwrap();
    let (job, mut steps) = (job(&dir.path().join("out")), 0);
    let error = finetune(&job, &Stop(Default::default()), &mut |_| {
        steps += 1;
        Ok(())
    });
    assert_eq!(error.err().unwrap().kind(), ErrorKind::Interrupted);
    assert_eq!(steps, 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
