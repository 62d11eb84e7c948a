//! Files to examples and batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use delta_dct_eval::Result;
use delta_dct_eval::data::{DataOptions, Dataset, Prepared, Processor};
use delta_dct_eval::models::{Batch, Task};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use support::shared;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
}

fn processor(folder: &Path) -> Processor {
    Processor::open(folder, &config(folder)).unwrap()
}

/// BERT's tokenizer of the fixtures, for a model with two classes.
fn bert() -> Processor {
    let names = json!({"0": "negative", "1": "positive"});
    let config = json!({"model_type": "bert", "id2label": names, "type_vocab_size": 2});
    Processor::open(&fixtures().join("vocabularies/bert"), &config).unwrap()
}

fn options() -> DataOptions {
    DataOptions::default()
}

/// A folder with one file.
fn file(name: &str, content: &str) -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    (dir, path)
}

fn sentences(path: &Path, options: &DataOptions) -> Result<Prepared> {
    Dataset::open(path, options)?.prepare(&bert(), Task::TextClassification)
}

fn error<T>(result: Result<T>) -> String {
    result.err().expect("this has to fail").to_string()
}

type Rows = Vec<Vec<u32>>;

/// Ids, mask and segments of all examples.
fn tokens(prepared: &Prepared) -> (Rows, Option<Rows>, Option<Rows>) {
    let all: Vec<usize> = (0..prepared.len()).collect();
    let Batch::Tokens { ids, mask, types } = prepared.batch(&all).unwrap().0 else { panic!("tokens") };
    let rows = |tensor: Tensor| tensor.to_vec2().unwrap();
    (rows(ids), mask.map(rows), types.map(rows))
}

// ---- texts ----

#[test]
fn the_same_examples_from_every_format() {
    let texts = [
        ("a.tsv", "sentence\tlabel\na small test\t1\nup, low\t0\n"),
        ("glue.tsv", "idx\tsentence\tlabel\n0\ta small test\t1\n1\tup, low\t0\n"),
        ("names.tsv", "\u{feff}sentence\tlabel\r\na small test\tPositive\r\nup, low\tnegative\r\n"),
        ("a.csv", "label,text\n1,a small test\n0,\"up, low\"\n"),
        (
            "a.jsonl",
            "{\"text\": \"a small test\", \"label\": 1}\n\n{\"text\": \"up, low\", \"label\": \"negative\"}\n",
        ),
        (
            "a.json",
            "[{\"sentence\": \"a small test\", \"label\": 1}, {\"label\": 0, \"sentence\": \"up, low\"}]",
        ),
    ];
    for (name, content) in texts {
        let (_dir, path) = file(name, content);
        let prepared = sentences(&path, &options()).unwrap();
        assert_eq!(prepared.labels(), [Some(1), Some(0)], "{name}");
        let (ids, mask, types) = tokens(&prepared);
        let [first, second] = ids.as_slice() else { panic!("two rows") };
        assert_eq!(prepared.lengths(), [5, 5], "{name}");
        assert_eq!((first[0], first[4]), (2, 3), "{name}");
        assert_ne!(first, second);
        assert_eq!((mask, types), (None, Some(vec![vec![0; 5]; 2])), "{name}");
    }
}

#[test]
fn rows_are_padded_to_the_longest_of_their_batch() {
    let (_dir, path) = file("a.tsv", "sentence\tlabel\na\t1\na small test and\t0\nup\t1\n");
    let prepared = sentences(&path, &options()).unwrap();
    assert_eq!(prepared.lengths(), [3, 6, 3]);
    let (batch, labels) = prepared.batch(&[2, 1]).unwrap();
    let Batch::Tokens { ids, mask: Some(mask), .. } = batch else { panic!("a mask") };
    assert_eq!(labels, [Some(1), Some(0)]);
    assert_eq!(ids.to_vec2::<u32>().unwrap()[0][3..], [0, 0, 0]);
    assert_eq!(mask.to_vec2::<u32>().unwrap(), [[1, 1, 1, 0, 0, 0], [1; 6]]);
    let Batch::Tokens { ids, mask: None, .. } = prepared.batch(&[0, 2]).unwrap().0 else { panic!("no mask") };
    assert_eq!(ids.dims(), [2, 3]);
    assert!(error(prepared.batch(&[3])).contains("not all there"));
    assert!(error(prepared.batch(&[])).contains("not all there"));
}

#[test]
fn the_last_tab_ends_the_sentence() {
    let (_dir, path) = file("a.tsv", "sentence\tlabel\na \"small\ttest\t1\n");
    assert_eq!(sentences(&path, &options()).unwrap().labels(), [Some(1)]);
    let (_dir, path) = file("a.tsv", "sentence1\tsentence2\tlabel\na\tb\t1\na\tb\tc\t1\n");
    assert!(error(sentences(&path, &options())).contains("line 3: 4 columns, the header has 3"));
}

#[test]
fn columns_can_be_chosen() {
    let (_dir, path) = file("a.csv", "left,right,class,label\na,small test,0,1\n");
    assert!(
        error(sentences(&path, &options()))
            .contains("which column holds the text? There are left, right, class")
    );
    let pair = DataOptions { text: Some("left, right".into()), labels: Some("class".into()), ..options() };
    let prepared = sentences(&path, &pair).unwrap();
    assert_eq!(prepared.labels(), [Some(0)]);
    let (ids, _, types) = tokens(&prepared);
    assert_eq!(types.unwrap(), [[0, 0, 0, 1, 1, 1]]);
    assert_eq!(ids[0][2], 3);
    let wrong = DataOptions { labels: Some("klass".into()), ..pair };
    assert!(
        error(sentences(&path, &wrong)).contains("no column `klass`, there are left, right, class, label")
    );
}

#[test]
fn labels_have_to_be_the_models() {
    for (label, expected) in
        [("2", "a label 2, the model has 2 classes"), ("maybe", "a label \"maybe\", the model has")]
    {
        let (_dir, path) = file("a.tsv", &format!("sentence\tlabel\na\t{label}\n"));
        assert!(error(sentences(&path, &options())).contains(expected));
    }
    let (_dir, path) = file("a.tsv", "sentence\tlabel\na\t-1\nb\t1\nc\t\n");
    assert_eq!(sentences(&path, &options()).unwrap().labels(), [None, Some(1), None]);
    let (_dir, path) = file("a.tsv", "idx\tsentence\n0\ta\n");
    assert_eq!(sentences(&path, &options()).unwrap().labels(), [None]);
}

#[test]
fn limit_and_length_cut() {
    let (_dir, path) = file("a.tsv", "sentence\tlabel\na small test and up and low and a\t1\nb\t0\n");
    let prepared =
        sentences(&path, &DataOptions { limit: Some(1), max_length: Some(8), ..options() }).unwrap();
    assert_eq!((prepared.len(), prepared.lengths()), (1, vec![8]));
    assert_eq!(tokens(&prepared).0[0][7], 3);
    assert!(
        error(sentences(&path, &DataOptions { max_length: Some(1), ..options() })).contains("at least 8")
    );
}

#[test]
fn vocabularies_make_the_tokenizers_of_transformers() {
    let expected: Value = config_of(&fixtures().join("vocabularies/expected.json"));
    let lines = |pair: bool| {
        let sentences = expected["sentences"].as_array().unwrap().iter();
        let row = |row: &Value| {
            if pair { json!({"sentence1": row[0], "sentence2": row[1]}) } else { json!({"text": row[0]}) }
        };
        sentences.map(|x| row(x).to_string()).collect::<Vec<_>>().join("\n")
    };
    for (kind, segments) in [("bert", 2), ("roberta", 1), ("gpt2", 0)] {
        let config = json!({"model_type": kind, "type_vocab_size": segments});
        let processor = Processor::open(&fixtures().join("vocabularies").join(kind), &config).unwrap();
        for (name, pair) in [("single", false), ("pair", true)] {
            let (_dir, path) = file("a.jsonl", &lines(pair));
            let prepared =
                Dataset::open(&path, &options()).unwrap().prepare(&processor, Task::TextClassification);
            let prepared = prepared.unwrap();
            for row in 0..2 {
                let Batch::Tokens { ids, types, .. } = prepared.batch(&[row]).unwrap().0 else {
                    panic!("tokens")
                };
                assert_eq!(
                    json!(ids.to_vec2::<u32>().unwrap()[0]),
                    expected[kind][name][row],
                    "{kind} {name} {row}"
                );
                assert_eq!(types.is_some(), kind == "bert");
                if let (Some(types), true) = (types, pair) {
                    assert_eq!(json!(types.to_vec2::<u32>().unwrap()[0]), expected[kind]["segments"][row]);
                }
            }
        }
    }
}

fn config_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn tokens_of_the_minilm_pair_equal_those_of_transformers() {
    let Some(pair) = shared("pairs/minilm-sst2") else { return };
    let read = |name: &str| Dataset::open(&pair.join("eval").join(name), &options()).unwrap();
    let all = Dataset::concat(vec![read("dev.tsv"), read("test.tsv")]).unwrap();
    let prepared = all.prepare(&processor(&pair.join("ft")), Task::TextClassification).unwrap();
    let bytes = fs::read(fixtures().join("minilm-tokens.safetensors")).unwrap();
    let recorded = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let lengths: Vec<usize> = recorded.tensor("lengths").unwrap().data().iter().map(|&n| n.into()).collect();
    assert_eq!((prepared.len(), prepared.lengths()), (2693, lengths));
    let ids = recorded
        .tensor("ids")
        .unwrap()
        .data()
        .chunks(2)
        .map(|b| u32::from(u16::from_le_bytes([b[0], b[1]])))
        .collect::<Vec<_>>();
    let mut found = Vec::new();
    for row in 0..prepared.len() {
        let Batch::Tokens { ids, .. } = prepared.batch(&[row]).unwrap().0 else { panic!("tokens") };
        found.extend(ids.to_vec2::<u32>().unwrap().remove(0));
    }
    assert!(found == ids);
    let positive = prepared.labels().iter().filter(|label| **label == Some(1)).count();
    assert!(prepared.labels().iter().all(Option::is_some) && (1200..1500).contains(&positive));
}

// ---- images and arrays ----

#[test]
fn the_demo_pair_brings_its_own_recipe() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo");
    let dataset = Dataset::open(&demo.join("eval"), &options()).unwrap();
    assert!(dataset.source().ends_with("test.safetensors"), "{}", dataset.source());
    let prepared = dataset.prepare(&processor(&demo.join("ft")), Task::ImageClassification).unwrap();
    assert_eq!(prepared.len(), 597);
    let (Batch::Pixels(pixels), labels) = prepared.batch(&[5, 0]).unwrap() else { panic!("pixels") };
    let file = candle_core::safetensors::load(demo.join("eval/test.safetensors"), &Device::Cpu);
    let images = file.unwrap()["images"].to_dtype(DType::F32).unwrap();
    for (row, index) in [5, 0].into_iter().enumerate() {
        let expected = images.get(index).unwrap().affine(1.0 / 8.0, -1.0).unwrap();
        let found = pixels.get(row).unwrap().squeeze(0).unwrap();
        assert_eq!(found.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
        assert_eq!(labels[row], prepared.labels()[index]);
    }
    let digits = DataOptions { labels: Some("digits".into()), split: Some("train".into()), ..options() };
    let digits = Dataset::open(&demo.join("eval"), &digits).unwrap();
    assert_eq!(digits.len(), 1200);
    let wrong = digits.prepare(&processor(&demo.join("ft")), Task::ImageClassification);
    assert!(error(wrong).contains("the model has 2 classes"));
}

#[test]
fn the_vit_pair() {
    let Some(pair) = shared("pairs/vit-cifar10") else { return };
    let dataset = Dataset::open(&pair.join("eval"), &DataOptions { limit: Some(7), ..options() }).unwrap();
    let prepared = dataset.prepare(&processor(&pair.join("ft")), Task::ImageClassification).unwrap();
    assert_eq!(prepared.len(), 7);
    let (Batch::Pixels(pixels), _) = prepared.batch(&[6]).unwrap() else { panic!("pixels") };
    let images = candle_core::safetensors::load(pair.join("eval/test.safetensors"), &Device::Cpu).unwrap();
    let level: f32 = images["images"]
        .get(6)
        .unwrap()
        .get(3)
        .unwrap()
        .get(9)
        .unwrap()
        .get(1)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
        .to_scalar()
        .unwrap();
    let found: f32 =
        pixels.get(0).unwrap().get(1).unwrap().get(3).unwrap().get(9).unwrap().to_scalar().unwrap();
    assert!((found - (level / 255.0 - 0.4822) / 0.2435).abs() < 1e-6);
}

/// A processor for images that changes nothing.
fn plain(config: &Value) -> Processor {
    let recipe = json!({"do_resize": false, "do_rescale": false, "do_normalize": false}).to_string();
    Processor::from_files(
        &|name| Ok((name == "preprocessor_config.json").then(|| recipe.clone().into_bytes())),
        config,
    )
    .unwrap()
}

#[test]
fn cifar_as_published() {
    let dir = tempdir().unwrap();
    let record = |class: u8| {
        std::iter::once(class)
            .chain((0..3072).map(move |n| (n / 1024 * 10) as u8 + class))
            .collect::<Vec<u8>>()
    };
    fs::write(dir.path().join("data_batch_1.bin"), record(1)).unwrap();
    fs::write(dir.path().join("data_batch_2.bin"), record(2)).unwrap();
    fs::write(dir.path().join("test_batch.bin"), [record(9), record(4)].concat()).unwrap();
    let labels = |options: &DataOptions| {
        let prepared =
            Dataset::open(dir.path(), options)?.prepare(&plain(&json!({})), Task::ImageClassification)?;
        let (Batch::Pixels(pixels), labels) = prepared.batch(&[0, 1])? else { panic!("pixels") };
        assert_eq!(pixels.dims(), [2, 3, 32, 32]);
        let blue: f32 = pixels.get(0)?.get(2)?.get(31)?.get(31)?.to_scalar()?;
        assert_eq!(blue, 20.0 + labels[0].unwrap() as f32);
        Ok(labels)
    };
    assert_eq!(labels(&options()).unwrap(), [Some(9), Some(4)]);
    assert_eq!(
        labels(&DataOptions { split: Some("train".into()), ..options() }).unwrap(),
        [Some(1), Some(2)]
    );
    assert!(
        error(labels(&DataOptions { split: Some("dev".into()), ..options() }))
            .contains("no file of the split dev")
    );
    fs::write(dir.path().join("test_batch.bin"), [0; 3074]).unwrap();
    assert!(error(labels(&options())).contains("not CIFAR-10"));
}

#[test]
fn image_folders_take_classes_in_turn() {
    let dir = tempdir().unwrap();
    for (split, class, level) in [("val", "dog", 1), ("val", "cat", 2), ("train", "dog", 3)] {
        let folder = dir.path().join(split).join(class);
        fs::create_dir_all(&folder).unwrap();
        for n in 0..2 {
            image::GrayImage::from_pixel(2, 3, image::Luma([level * 10 + n]))
                .save(folder.join(format!("{n}.png")))
                .unwrap();
        }
        fs::write(folder.join("notes"), "no image").unwrap();
    }
    let prepare = |config: Value| {
        Dataset::open(dir.path(), &options())?.prepare(&plain(&config), Task::ImageClassification)
    };
    let prepared = prepare(json!({})).unwrap();
    assert_eq!(prepared.labels(), [Some(0), Some(1), Some(0), Some(1)]);
    let (Batch::Pixels(pixels), _) = prepared.batch(&[0, 1, 2, 3]).unwrap() else { panic!("pixels") };
    assert_eq!(pixels.dims(), [4, 3, 3, 2]);
    let corner = |n: usize| pixels.get(n).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
    assert_eq!([0, 1, 2, 3].map(corner), [20.0, 10.0, 21.0, 11.0]);
    let named = json!({"id2label": {"0": "Dog", "1": "Cat"}});
    assert_eq!(prepare(named).unwrap().labels()[..2], [Some(1), Some(0)]);
    let other = json!({"label2id": {"apple": 0, "pear": 1}});
    assert!(error(prepare(other)).contains("a label \"cat\", the model has apple, pear"));
    fs::write(dir.path().join("val/cat/0.png"), "no image").unwrap();
    assert!(error(prepare(json!({})).unwrap().batch(&[0])).contains("0.png"));
    assert!(
        error(Processor::from_files(&|_| Ok(None), &json!({})).and_then(|processor| {
            Dataset::open(dir.path(), &options())?.prepare(&processor, Task::ImageClassification)
        }))
        .contains("preprocessor_config.json")
    );
}

// ---- Parquet ----

#[cfg(feature = "parquet")]
#[test]
fn parquet_as_the_hub_has_it() {
    let glue = Dataset::open(&fixtures().join("glue.parquet"), &options()).unwrap();
    let prepared = glue.prepare(&bert(), Task::TextClassification).unwrap();
    assert_eq!((prepared.labels(), prepared.lengths().len()), ([Some(1), Some(0), None].as_slice(), 3));
    assert_eq!(prepared.lengths()[1], 2);
    let cifar = Dataset::open(&fixtures().join("cifar.parquet"), &options()).unwrap();
    let prepared = cifar.prepare(&plain(&json!({})), Task::ImageClassification).unwrap();
    let (Batch::Pixels(pixels), labels) = prepared.batch(&[2, 1]).unwrap() else { panic!("pixels") };
    assert_eq!(labels, [Some(0), Some(8)]);
    let first = pixels.get(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!((first[0], first[16], first[32]), (20.0, 20.0, 30.0));
}

#[cfg(feature = "parquet")]
#[test]
fn damaged_parquet_is_an_error_or_read() {
    std::panic::set_hook(Box::new(|_| ()));
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let whole = fs::read(fixtures().join("glue.parquet")).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(error(Dataset::open(&path, &options())).contains("a.parquet"), "{end}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        if let Err(error) = Dataset::open(&path, &options()) {
            assert!(error.to_string().contains("a.parquet"), "{at}: {error}");
        }
    }
}

#[test]
fn shards_are_one_file_and_configurations_are_not() {
    let dir = tempdir().unwrap();
    let line = |text: &str| format!("sentence\tlabel\n{text}\t1\n");
    for (name, text) in [("dev-00000-of-00002.tsv", "a"), ("dev-00001-of-00002.tsv", "b"), ("train.tsv", "c")]
    {
        fs::write(dir.path().join(name), line(text)).unwrap();
    }
    fs::write(dir.path().join("dataset_infos.json"), "{}").unwrap();
    assert_eq!(Dataset::open(dir.path(), &options()).unwrap().len(), 2);
    for config in ["sst2", "cola"] {
        fs::create_dir(dir.path().join(config)).unwrap();
        fs::write(dir.path().join(config).join("validation-00000-of-00001.tsv"), line("d")).unwrap();
    }
    let message = error(Dataset::open(dir.path(), &options()));
    assert!(message.contains("it is not clear which file to read") && message.contains("sst2"), "{message}");
    assert_eq!(Dataset::open(&dir.path().join("sst2"), &options()).unwrap().len(), 1);
}

// ---- language models ----

#[test]
fn text_makes_the_recorded_rows_of_the_llama_pair() {
    let Some(pair) = shared("pairs/llama-code") else { return };
    let processor = processor(&pair.join("ft"));
    let rows = |name: &str| {
        let dataset = Dataset::open(&pair.join("eval").join(name), &options()).unwrap();
        dataset.prepare(&processor, Task::LanguageModel).unwrap()
    };
    let (arrays, text) = (rows("rust_heldout.safetensors"), rows("rust_heldout.txt"));
    assert_eq!(arrays.lengths(), vec![256; 256]);
    assert!(tokens(&arrays) == tokens(&text));
    assert!(error(Dataset::open(&pair.join("eval"), &options())).contains("rust_heldout.txt"));
}

#[test]
fn rows_of_tokens_have_to_fit_the_model() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let ids =
        |ids: Vec<i64>| HashMap::from([("input_ids", Tensor::from_vec(ids, (2, 2), &Device::Cpu).unwrap())]);
    let prepare = |values: Vec<i64>| {
        candle_core::safetensors::save(&ids(values), &path).unwrap();
        let processor = Processor::from_files(&|_| Ok(None), &json!({"vocab_size": 10}))?;
        Dataset::open(&path, &options())?.prepare(&processor, Task::LanguageModel)
    };
    assert_eq!(tokens(&prepare(vec![1, 2, 3, 9]).unwrap()).0, [[1, 2], [3, 9]]);
    assert!(error(prepare(vec![1, 2, 3, 10])).contains("the token 10, the model knows 10"));
    assert!(error(prepare(vec![1, -2, 3, 9])).contains("-2, which is no token"));
}

#[test]
fn a_text_is_cut_into_rows() {
    let (_dir, path) = file("a.txt", &"a small test and ".repeat(10));
    let folder = fixtures().join("vocabularies/gpt2");
    let rows = |length: Option<usize>, positions: usize, limit: Option<usize>| {
        let processor = Processor::open(&folder, &json!({"model_type": "gpt2", "n_positions": positions}))?;
        let options = DataOptions { max_length: length, limit, ..options() };
        Ok(Dataset::open(&path, &options)?.prepare(&processor, Task::LanguageModel)?.lengths())
    };
    let all: usize = rows(None, 4096, None).unwrap().iter().sum();
    assert_eq!(rows(None, 20, None).unwrap(), vec![20; all / 20]);
    assert_eq!(rows(Some(7), 20, Some(3)).unwrap(), [7; 3]);
    assert!(error(rows(Some(1), 20, None)).contains("nothing to predict"));
}

// ---- what does not fit ----

#[test]
fn data_of_another_kind_is_an_error() {
    let (_dir, path) = file("a.tsv", "sentence\tlabel\na\t1\n");
    let texts = Dataset::open(&path, &options()).unwrap();
    let message = error(texts.prepare(&plain(&json!({})), Task::ImageClassification));
    assert!(message.contains("the model takes images") && message.contains("holds texts"), "{message}");
    assert!(error(texts.prepare(&plain(&json!({})), Task::TextClassification)).contains("tokenizer.json"));
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/eval");
    let images = Dataset::open(&demo, &options()).unwrap();
    assert!(error(Dataset::concat(vec![texts, images])).contains("give data of one kind"));
    assert!(error(Dataset::concat(Vec::new())).contains("no data"));
}

#[test]
fn files_that_cannot_be_read() {
    let wrong = [
        ("a.xyz", "", "the name has to end in"),
        ("a.csv", "sentence,label\n\"a,1,2\nb", "a.csv"),
        ("a.jsonl", "{\"sentence\": ", "a.jsonl"),
        ("a.jsonl", "{\"sentence\": 3}", "row 1 has no text"),
        ("a.jsonl", "[1, 2]", "which column holds the text"),
        ("a.safetensors", "not safetensors", "a.safetensors"),
        ("a.parquet", "not parquet", "a.parquet"),
        ("a.bin", "", "not CIFAR-10"),
    ];
    for (name, content, expected) in wrong {
        let (_dir, path) = file(name, content);
        let message = error(Dataset::open(&path, &options()));
        assert!(message.contains(expected), "{name}: {message}");
    }
    let empty = tempdir().unwrap();
    assert!(error(Dataset::open(empty.path(), &options())).contains("no data file in it"));
    assert!(error(Dataset::open(&empty.path().join("gone"), &options())).contains("gone"));
    let broken = |name: &str| name == "tokenizer.json";
    let broken = Processor::from_files(&|name| Ok(broken(name).then(|| b"{}".to_vec())), &json!({}));
    assert!(error(broken).contains("tokenizer.json"));
}
