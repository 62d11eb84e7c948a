//! Logits of every architecture are those that `transformers` recorded.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use delta_dct::{Checkpoint, ErrorKind};
use delta_dct_eval::models::{Batch, Model};
use delta_dct_eval::{Result, Weights};
use serde_json::Value;

/// Largest difference of a logit.
const TOLERANCE: f32 = 5e-5;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn load(folder: &Path, config: &str) -> Result<Model> {
    Model::load(&json(&folder.join(config)), &Weights::of(&Checkpoint::open(folder)?)?)
}

fn batch(path: &Path) -> Batch {
    let inputs = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let ids = |name: &str| inputs.get(name).map(|ids| ids.to_dtype(DType::U32).unwrap());
    match (inputs.get("pixel_values"), ids("decoder_input_ids")) {
        (Some(pixels), _) => Batch::Pixels(pixels.clone()),
        (None, Some(decoder_ids)) => {
            Batch::Seq2Seq { ids: ids("input_ids").unwrap(), mask: ids("attention_mask"), decoder_ids }
        }
        (None, None) => Batch::Tokens {
            ids: ids("input_ids").unwrap(),
            mask: ids("attention_mask"),
            types: ids("token_type_ids"),
        },
    }
}

/// The largest difference to the recorded logits, where they count.
fn difference(model: &Model, folder: &Path, inputs: &str, expected: &str, only: Option<&str>) -> f32 {
    let logits = model.logits(&batch(&folder.join(inputs))).unwrap();
    let recorded = candle_core::safetensors::load(folder.join(expected), &Device::Cpu).unwrap();
    let mut off = (logits - &recorded["logits"]).unwrap().abs().unwrap();
    if let Some(name) = only {
        let mask = &candle_core::safetensors::load(folder.join(inputs), &Device::Cpu).unwrap()[name];
        off = off.broadcast_mul(&mask.to_dtype(DType::F32).unwrap().unsqueeze(2).unwrap()).unwrap();
    }
    off.max_all().unwrap().to_scalar::<f32>().unwrap()
}

#[test]
fn logits_are_those_of_transformers() {
    let Some(models) = support::shared("fixtures/models") else { return };
    let mut runs = 0;
    for model in json(&models.join("index.json"))["models"].as_array().unwrap() {
        let Some(recorded) = model["runs"].as_array() else { continue };
        let folder = models.join(model["dir"].as_str().unwrap());
        let configs = ["config.json", "config_v4.json"].into_iter().filter(|name| folder.join(name).exists());
        for config in configs {
            let loaded = load(&folder, config).unwrap();
            for run in recorded {
                let word = |name: &str| run[name].as_str();
                let (inputs, expected) = (word("inputs").unwrap(), word("expected").unwrap());
                let only = word("compare_logits_only_where");
                let worst = difference(&loaded, &folder, inputs, expected, only);
                assert!(worst < TOLERANCE, "{} {inputs}: {worst:e}", folder.display());
                runs += 1;
            }
        }
    }
    assert!(runs >= 15, "only {runs} runs");
}

#[test]
fn pairs_and_torch_containers_give_the_recorded_logits() {
    let Some(models) = support::shared("fixtures/models") else { return };
    for folder in ["roberta_pair/base", "roberta_pair/ft", "swin_pair/base", "swin_pair/ft"] {
        let folder = models.join(folder);
        let model = load(&folder, "config.json").unwrap();
        let worst = difference(&model, &folder, "inputs.safetensors", "expected.safetensors", None);
        assert!(worst < TOLERANCE, "{}: {worst:e}", folder.display());
    }
    let roberta = models.join("roberta");
    for format in ["sharded", "bin_zip"] {
        let model = load(&models.join("formats").join(format), "config.json").unwrap();
        let worst = difference(&model, &roberta, "inputs.safetensors", "expected.safetensors", None);
        assert!(worst < TOLERANCE, "{format}: {worst:e}");
    }
}

#[test]
fn a_model_that_does_not_fit_its_config_is_one_clear_error() {
    let Some(models) = support::shared("fixtures/models") else { return };
    let folder = models.join("bert");
    let weights = Weights::of(&Checkpoint::open(&folder).unwrap()).unwrap();
    let mut config = json(&folder.join("config.json"));
    let refused = |config: &Value| Model::load(config, &weights).err().unwrap();

    config["num_hidden_layers"] = 3.into();
    let error = refused(&config);
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("bert.encoder.layer.2."), "{error}");
    config["num_hidden_layers"] = (-1).into();
    assert_eq!(refused(&config).kind(), ErrorKind::InvalidArgument);
    config["num_hidden_layers"] = 2.into();
    config["num_attention_heads"] = 5.into();
    assert_eq!(refused(&config).kind(), ErrorKind::InvalidArgument);
    config["model_type"] = "mamba".into();
    let error = refused(&config);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("mamba") && error.to_string().contains("distilbert"), "{error}");
}

#[test]
fn older_names_are_understood() {
    let Some(models) = support::shared("fixtures/models") else { return };
    let folder = models.join("gpt2");
    let weights = Weights::of(&Checkpoint::open(&folder).unwrap()).unwrap();
    let mut bare = Weights::default();
    for name in weights.names() {
        bare.insert(name.trim_start_matches("transformer."), weights.get(name).unwrap().clone());
    }
    let mask = Tensor::ones((1, 1, 4, 4), DType::F32, &Device::Cpu).unwrap();
    bare.insert("h.0.attn.bias", mask);
    let model = Model::load(&json(&folder.join("config.json")), &bare).unwrap();
    let worst =
        difference(&model, &folder, "inputs.safetensors", "expected.safetensors", Some("attention_mask"));
    assert!(worst < TOLERANCE, "{worst:e}");
}
