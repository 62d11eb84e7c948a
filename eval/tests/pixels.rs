//! Pixels against those recorded from `transformers`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use delta_dct_eval::data::{DataOptions, Dataset, Processor};
use delta_dct_eval::models::{Batch, Task};
use serde_json::{Value, json};
use tempfile::tempdir;

const IMAGES: [&str; 4] = ["grey", "square", "tall", "wide"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pixels")
}

fn recipes() -> BTreeMap<String, Value> {
    serde_json::from_slice(&fs::read(fixtures().join("recipes.json")).unwrap()).unwrap()
}

/// What `recipe` makes of the image `name`: channels x height x width.
fn pixels(recipe: &Value, name: &str) -> delta_dct_eval::Result<Tensor> {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("class")).unwrap();
    let file = format!("{name}.png");
    fs::copy(fixtures().join(&file), dir.path().join("class").join(&file)).unwrap();
    let read = |name: &str| Ok((name == "preprocessor_config.json").then(|| recipe.to_string().into_bytes()));
    let processor = Processor::from_files(&read, &json!({}))?;
    let dataset = Dataset::open(dir.path(), &DataOptions::default())?;
    let (batch, _) = dataset.prepare(&processor, Task::ImageClassification)?.batch(&[0])?;
    let Batch::Pixels(pixels) = batch else { panic!("images make pixels") };
    Ok(pixels.squeeze(0)?)
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference.
fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    flat(a).into_iter().zip(flat(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn recorded() -> std::collections::HashMap<String, Tensor> {
    candle_core::safetensors::load(fixtures().join("recorded.safetensors"), &Device::Cpu).unwrap()
}

/// Pillow takes the columns before the rows where that is less work, by a rule that differs from version to version. We
/// always take the rows first, so where these recipes shrink an image, a few levels may be one off.
const EITHER_ORDER: [&str; 4] = ["box", "hamming", "lanczos", "unscaled"];

/// Whether `found` is `expected`, but for rounding, and for one level in some places where `recipe` shrinks.
fn agrees(found: &Tensor, expected: &Tensor, recipe: &str, level: f32) -> bool {
    let scale = flat(expected).into_iter().fold(1.0, |max: f32, x| max.max(x.abs()));
    let differences = flat(found).into_iter().zip(flat(expected)).map(|(a, b)| (a - b).abs());
    let off: Vec<f32> = differences.filter(|&off| off > 2e-7 * scale).collect();
    let few = off.len() * 4 <= expected.elem_count() && off.iter().all(|off| *off < 1.001 * level);
    found.dims() == expected.dims() && (off.is_empty() || EITHER_ORDER.contains(&recipe) && few)
}

#[test]
fn levels_are_those_of_transformers() {
    let recorded = recorded();
    for (name, mut recipe) in recipes().into_iter().filter(|(name, _)| name != "old") {
        recipe["do_rescale"] = json!(false);
        recipe["do_normalize"] = json!(false);
        for image in IMAGES {
            let found = pixels(&recipe, image).unwrap();
            assert!(agrees(&found, &recorded[&format!("{name}.{image}")], &name, 1.0), "{name} {image}");
        }
    }
}

#[test]
fn values_are_those_of_transformers() {
    let recorded = recorded();
    for (name, recipe) in recipes() {
        let deviation = recipe["image_std"][0].as_f64().unwrap_or(1.0);
        let level = (recipe["rescale_factor"].as_f64().unwrap_or(1.0) / deviation) as f32;
        for image in IMAGES {
            let Some(expected) = recorded.get(&format!("{name}.{image}.first")) else { continue };
            let found = pixels(&recipe, image).unwrap().narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
            assert!(agrees(&found, expected, &name, level), "{name} {image}");
        }
    }
}

#[test]
fn an_image_that_keeps_its_size_keeps_its_levels() {
    let recipe = json!({"size": 32, "do_rescale": false, "do_normalize": false});
    let original = image::open(fixtures().join("square.png")).unwrap().into_rgb8().into_raw();
    let original = Tensor::from_vec(original, (32, 32, 3), &Device::Cpu).unwrap().permute((2, 0, 1)).unwrap();
    assert_eq!(apart(&pixels(&recipe, "square").unwrap(), &original), 0.0);
}

#[test]
fn recipes_that_make_no_sense_are_errors() {
    let wrong = [
        (json!({"size": 0}), "`size`"),
        (json!({"size": 1_000_000_000}), "`size`"),
        (json!({"size": {"height": 8}}), "`size`"),
        (json!({"size": {"width": -8, "height": 8}}), "`size`"),
        (json!({"resample": 9}), "`resample` is 9"),
        (json!({"image_mean": [0.5, 0.5]}), "`image_mean` has no number for channel 2"),
        (json!({"image_std": [0.5, 0.0, 0.5]}), "`image_std` has no number for channel 1"),
        (json!({"do_center_crop": true}), "`crop_size`"),
        (json!({"image_processor_type": "CLIPImageProcessor"}), "`size`"),
        (json!({"image_processor_type": "ConvNextImageProcessor", "size": 8, "crop_pct": 0}), "`crop_pct`"),
    ];
    for (recipe, expected) in wrong {
        let error = pixels(&recipe, "grey").unwrap_err().to_string();
        assert!(error.contains(expected), "{recipe}: {error}");
    }
}
