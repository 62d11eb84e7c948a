//! Small checkpoints made of whole numbers alone, so that they are the same on every machine, and the files that
//! are made of them.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use delta_dct::{
    Checkpoint, CompressOptions, Dtype, Error, Recipe, Selection, Silent, compress, compress_layers,
};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use tempfile::{TempDir, tempdir};

/// A golden file: its name, its recipe, and the pair that it is made of.
pub struct Case {
    pub name: &'static str,
    pub recipe: &'static str,
    pub pair: fn() -> Pair,
    /// Whether encoding takes floating-point sums whose order is free, so that only decoding is fixed to the bit.
    pub free_encoder: bool,
}

const fn case(name: &'static str, recipe: &'static str) -> Case {
    Case { name, recipe, pair: plain, free_encoder: false }
}

/// At least one for each method.
pub const CASES: &[Case] = &[
    case("dct", "dct block=8 bits=2:0.5,0:0.5"),
    case("dct-predecessor", "dct block=7 bits=4:0.3,2:0.3,0:0.4 predecessor=true rescale=mean-abs"),
    case("dct-jpeg", "dct-jpeg block=16 bits=8:0.25,3:0.75"),
    case("dct-post", "dct-post block=12 bits=5:0.5,1:0.25,0:0.25 importance=post3"),
    case("dwt", "dwt block=8 bits=3:0.5,0:0.5"),
    case("dwt-levels", "dwt block=21 wavelet=cdf9/7 levels=3 keep=ll_lh_hl bits=5:0.5,2:0.5 details=2"),
    case("dwt-predecessor", "dwt block=8 table=jpeg bits=4:0.5,0:0.5 predecessor=true rescale=mean-abs"),
    Case { free_encoder: true, ..case("dwt-learned", "dwt block=16 wavelet=learned bits=3:1") },
    case("bitdelta", "bitdelta"),
    Case { free_encoder: true, ..case("lowrank", "lowrank rank=3 bits=4") },
    Case { free_encoder: true, ..case("factors", "factors step=3 rank=12") },
    Case { pair: several, free_encoder: true, ..case("factors-several", "factors step=2") },
    Case { pair: words, free_encoder: true, ..case("factors-words", "factors step=2") },
    Case { free_encoder: true, ..case("factors-rest", "factors step=0.9 rank=5") },
    Case { pair: words, free_encoder: true, ..case("factors-words-rest", "factors step=0.5 rank=1") },
    Case { free_encoder: true, ..case("auto", "auto size=4000") },
    Case { pair: stack, free_encoder: true, ..case("factors-stack", "factors step=2") },
    Case { pair: alone, free_encoder: true, ..case("alone", "factors step=13") },
    case("sparse", "sparse share=0.05"),
    case("dare", "dare keep=0.3 seed=7 bits=2"),
    case("uniform", "uniform step=0.7"),
    case("zero", "zero"),
    case("lossless", "lossless rank=0"),
    Case { pair: odd, ..case("lossless-odd", "lossless rank=0") },
    Case { pair: directions, free_encoder: true, ..case("lossless-rank", "lossless rank=2") },
    case("raw", "raw"),
    Case { pair: odd, ..case("odd", "dct block=8 bits=3:1") },
    // As those without the 2, by an encoder that sums for the factor in another way.
    case("dct-2", "dct block=8 bits=2:0.5,0:0.5"),
    case("dct-post-2", "dct-post block=12 bits=5:0.5,1:0.25,0:0.25 importance=post3"),
    case("dwt-predecessor-2", "dwt block=8 table=jpeg bits=4:0.5,0:0.5 predecessor=true rescale=mean-abs"),
    Case { pair: odd, ..case("odd-2", "dct block=8 bits=3:1") },
    Case { pair: patched, ..case("bundle", "uniform step=0.7") },
];

/// A tensor, owned.
#[derive(Clone)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

type Tensors = BTreeMap<String, Tensor>;

/// A base and a fine-tuned model, with the shards and the side files of both.
pub struct Pair {
    pub base: Tensors,
    pub finetuned: Tensors,
    /// Names of the fine-tuned tensors that lie in the second shard, if there are any.
    pub second_shard: Vec<&'static str>,
    /// Names and contents of files beside the weights: of the base, of the fine-tuned model.
    pub side_files: [Vec<(&'static str, String)>; 2],
}

/// Word `i` of the noise called `seed` (splitmix64).
pub fn word(seed: u64, i: u64) -> u64 {
    let mut x = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Nearly Gaussian noise of standard deviation 1: sums of four whole numbers of 16 bits, exact in f32.
pub fn noise(seed: u64, i: usize) -> f32 {
    let word = word(seed, i as u64);
    let sum: i64 = (0..4).map(|part| (word >> (16 * part) & 0xffff) as i64).sum();
    (sum - 131_070) as f32 / 37_837.0
}

/// `values` as `dtype`, which has to be one of the coded ones.
pub fn tensor(dtype: Dtype, shape: &[usize], value: impl Fn(usize) -> f64) -> Tensor {
    let values = (0..shape.iter().product::<usize>()).map(value);
    let bytes = match dtype {
        Dtype::F64 => values.flat_map(f64::to_le_bytes).collect(),
        Dtype::F32 => values.flat_map(|x| (x as f32).to_le_bytes()).collect(),
        Dtype::F16 => values.flat_map(|x| f16::from_f32(x as f32).to_le_bytes()).collect(),
        Dtype::BF16 => values.flat_map(|x| bf16::from_f32(x as f32).to_le_bytes()).collect(),
        other => panic!("{other} is not coded"),
    };
    Tensor { dtype, shape: shape.to_vec(), bytes }
}

/// A base and a fine-tuned tensor: noise of size 2^-4, and a change of size 2^-8.
pub fn tensors(base: Dtype, finetuned: Dtype, shape: &[usize], seed: u64) -> (Tensor, Tensor) {
    let weight = move |i| f64::from(noise(seed, i)) / 16.0;
    let change = move |i| f64::from(noise(seed + 1000, i)) / 256.0;
    (tensor(base, shape, weight), tensor(finetuned, shape, move |i| weight(i) + change(i)))
}

/// Every coded dtype, a kernel of four dimensions, a vector, a head and integers.
pub fn plain() -> Pair {
    let list: [(&str, Dtype, Dtype, &[usize]); 6] = [
        ("layer.attention.weight", Dtype::F32, Dtype::F32, &[40, 33]),
        ("layer.conv.weight", Dtype::F16, Dtype::F16, &[16, 3, 3, 3]),
        ("layer.dense.weight", Dtype::F32, Dtype::BF16, &[25, 21]),
        ("layer.wide.weight", Dtype::F64, Dtype::F64, &[9, 31]),
        ("layer.norm.bias", Dtype::BF16, Dtype::F32, &[37]),
        ("classifier.weight", Dtype::F32, Dtype::F32, &[2, 8]),
    ];
    let mut pair = Pair {
        base: Tensors::new(),
        finetuned: Tensors::new(),
        second_shard: vec![],
        side_files: Default::default(),
    };
    for (i, (name, base, finetuned, shape)) in list.into_iter().enumerate() {
        let (base, finetuned) = tensors(base, finetuned, shape, i as u64);
        pair.base.insert(name.to_owned(), base);
        pair.finetuned.insert(name.to_owned(), finetuned);
    }
    pair
}

/// A matrix and a change of it that is of rank 1, but for what f16 rounds off.
pub fn directions() -> Pair {
    of_rank(1, Dtype::F16, 64, |_| true)
}

/// A matrix and a change of it in several directions, each half as strong as the one before.
pub fn several() -> Pair {
    of_rank(6, Dtype::F32, 64, |_| true)
}

/// The same for a table of words, of which only some were in the examples.
pub fn words() -> Pair {
    of_rank(6, Dtype::F32, 2000, is_in_the_examples)
}

/// Whether word `i` of [`words`] was.
pub fn is_in_the_examples(i: usize) -> bool {
    i / 500 % 3 == 1
}

/// Four matrices of one tensor, such as those of experts, and a change of each in a direction of its own.
pub fn stack() -> Pair {
    let (rows, cols) = (30, 24);
    let weight = |i| f64::from(noise(50, i)) / 16.0;
    let change = move |i: usize| {
        let (matrix, row, col) = ((i / cols / rows) as u64, i / cols % rows, i % cols);
        f64::from(noise(51 + matrix, row)) * f64::from(noise(61 + matrix, col)) / 64.0
    };
    let tensor = |value: &dyn Fn(usize) -> f64| tensor(Dtype::F32, &[4, rows, cols], value);
    of_one("layer.experts.gate_up_proj", tensor(&weight), tensor(&|i| weight(i) + change(i)))
}

fn of_rank(rank: usize, dtype: Dtype, rows: usize, is_changed: fn(usize) -> bool) -> Pair {
    let cols = 80;
    let weight = |i| f64::from(noise(30, i)) / 16.0;
    let change = move |i: usize| -> f64 {
        if !is_changed(i / cols) {
            return 0.0;
        }
        let one = |k: usize| {
            let (u, v) = (noise(31 + 2 * k as u64, i / cols), noise(32 + 2 * k as u64, i % cols));
            f64::from(u) * f64::from(v) / f64::from(64 << k)
        };
        (0..rank).map(one).sum()
    };
    let finetuned = tensor(dtype, &[rows, cols], move |i| weight(i) + change(i));
    of_one("layer.dense.weight", tensor(dtype, &[rows, cols], weight), finetuned)
}

/// Models of a single tensor.
fn of_one(name: &str, base: Tensor, finetuned: Tensor) -> Pair {
    let one = |tensor| [(name.to_owned(), tensor)].into_iter().collect();
    Pair { base: one(base), finetuned: one(finetuned), second_shard: vec![], side_files: Default::default() }
}

/// Matrices that the base does not have, among them a stack.
pub fn alone() -> Pair {
    let mut pair = directions();
    for (seed, name, dtype, shape) in [
        (80, "adapter.weight", Dtype::BF16, &[24, 40][..]),
        (81, "classifier.dense.weight", Dtype::F32, &[40, 33]),
        (82, "experts.down_proj", Dtype::F16, &[3, 24, 20]),
        (83, "score.weight", Dtype::F64, &[9, 80]),
    ] {
        pair.finetuned.insert(name.to_owned(), tensors(dtype, dtype, shape, seed).1);
    }
    pair
}

/// A resized vocabulary, tied weights, a renamed prefix, integers, new, identical, empty and 0-d tensors, NaN, two
/// shards and side files.
pub fn odd() -> Pair {
    let (words, more_words) = tensors(Dtype::F32, Dtype::F32, &[43, 24], 20);
    let (dense, new_dense) = tensors(Dtype::F32, Dtype::F32, &[24, 24], 21);
    let (norm, mut new_norm) = tensors(Dtype::F32, Dtype::F32, &[24], 22);
    new_norm.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let same = tensor(Dtype::BF16, &[12, 12], |i| f64::from(noise(23, i)));
    let scalar = |value: f64| tensor(Dtype::F32, &[], move |_| value);
    let empty = tensor(Dtype::F16, &[0, 5], |_| 0.0);
    let integers =
        |first: u8| Tensor { dtype: Dtype::I64, shape: vec![1, 5], bytes: (first..first + 40).collect() };
    let rows = |tensor: &Tensor, n: usize| Tensor {
        shape: vec![n, 24],
        bytes: tensor.bytes[..n * 96].to_vec(),
        ..tensor.clone()
    };

    let base = [
        ("embeddings.word_embeddings.weight", rows(&words, 40)),
        ("encoder.dense.weight", dense),
        ("encoder.norm.weight", norm),
        ("encoder.same.weight", same.clone()),
        ("encoder.scale", scalar(1.0)),
        ("encoder.empty", empty.clone()),
        ("position_ids", integers(0)),
        ("pooler.weight", scalar(0.5)),
    ];
    let finetuned = [
        ("bert.embeddings.word_embeddings.weight", more_words.clone()),
        ("lm_head.weight", more_words),
        ("bert.encoder.dense.weight", new_dense),
        ("bert.encoder.norm.weight", new_norm),
        ("bert.encoder.same.weight", same),
        ("bert.encoder.scale", scalar(1.25)),
        ("bert.encoder.empty", empty),
        ("position_ids", integers(7)),
        ("extra.weight", tensor(Dtype::F16, &[3, 7], |i| f64::from(noise(24, i)))),
    ];
    let owned =
        |list: &[(&str, Tensor)]| list.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
    Pair {
        base: owned(&base),
        finetuned: owned(&finetuned),
        second_shard: vec!["lm_head.weight", "extra.weight"],
        side_files: [
            vec![("config.json", "{\"labels\": 3}".to_owned()), ("vocab.txt", "a\nb\nc\n".to_owned())],
            vec![("config.json", "{\"labels\": 2}".to_owned()), ("vocab.txt", "a\nb\nc\n".to_owned())],
        ],
    }
}

/// Side files of every kind: one that the base lacks, its own, one of a changed line, and JSON in another form.
pub fn patched() -> Pair {
    let words = "the quick brown fox jumps over the lazy dog while seven wizards box with five quiet jugs";
    let vocab =
        |last: &str| words.split(' ').chain([last]).map(|word| format!("{word}\n")).collect::<String>();
    let json = |cased: bool| {
        let ids = words.split(' ').enumerate().map(|(i, word)| (format!("##{word}\\\"{i}"), i.into()));
        let vocab: serde_json::Map<String, serde_json::Value> = ids.collect();
        serde_json::json!({"version": "1.0", "added": [], "model": {"cased": cased, "vocab": vocab}})
    };
    let config = "{\"labels\": 2}".to_owned();
    let base = [
        ("config.json", config.clone()),
        ("tokenizer.json", json(false).to_string()),
        ("vocab.txt", vocab("zebra")),
    ];
    let finetuned = [
        ("config.json", config),
        ("sub/notes.txt", "trained on seven sentences".to_owned()),
        ("tokenizer.json", serde_json::to_string_pretty(&json(true)).unwrap()),
        ("vocab.txt", vocab("aardvark")),
    ];
    Pair { side_files: [base.to_vec(), finetuned.to_vec()], ..plain() }
}

/// A pair on disk.
pub struct OnDisk {
    pub folder: TempDir,
    pub base: Checkpoint,
    pub finetuned: Checkpoint,
}

impl Pair {
    /// Writes both checkpoints, as folders called `base` and `finetuned`.
    pub fn write(&self) -> OnDisk {
        let folder = tempdir().unwrap();
        let (base, finetuned) = (folder.path().join("base"), folder.path().join("finetuned"));
        write_files(&base, &self.side_files[0]);
        write_files(&finetuned, &self.side_files[1]);
        write_weights(&base.join("model.safetensors"), self.base.iter());
        if self.second_shard.is_empty() {
            write_weights(&finetuned.join("model.safetensors"), self.finetuned.iter());
        } else {
            let second = |name: &str| self.second_shard.contains(&name);
            let file =
                |name: &str| format!("model-0000{}-of-00002.safetensors", 1 + usize::from(second(name)));
            for half in [false, true] {
                let tensors = self.finetuned.iter().filter(|(name, _)| second(name) == half);
                let first = self.finetuned.keys().find(|name| second(name) == half).unwrap();
                write_weights(&finetuned.join(file(first)), tensors);
            }
            let map: BTreeMap<_, _> = self.finetuned.keys().map(|name| (name, file(name))).collect();
            let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
            fs::write(finetuned.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
        let open = |path: &Path| Checkpoint::open(path).unwrap();
        OnDisk { base: open(&base), finetuned: open(&finetuned), folder }
    }
}

fn write_files(folder: &Path, files: &[(&str, String)]) {
    fs::create_dir(folder).unwrap();
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn write_weights<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a Tensor)>) {
    let view = |(name, t): (&'a String, &'a Tensor)| {
        (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap())
    };
    fs::write(path, safetensors::serialize(tensors.map(view).collect::<Vec<_>>(), None).unwrap()).unwrap();
}

impl OnDisk {
    /// Compresses the pair to a file in its folder; by the recipe `layers: RECIPE` to two, and gives the enhancement.
    pub fn compress(&self, recipe: &str) -> Result<PathBuf, Error> {
        let output = self.folder.path().join("pair.ddct");
        let (layers, recipe) = match recipe.strip_prefix("layers: ") {
            Some(recipe) => (true, recipe),
            None => (false, recipe),
        };
        let selection = Selection::new(recipe.parse::<Recipe>()?)?;
        let options = CompressOptions { selection, force_unrelated: false, overwrite: true, dry_run: false };
        if layers {
            compress_layers(&self.base, &self.finetuned, &output, &options, &Silent)?;
            return Ok(output.with_extension("exact.ddct"));
        }
        compress(&self.base, &self.finetuned, &output, &options, &Silent)?;
        Ok(output)
    }
}
