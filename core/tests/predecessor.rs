//! Whole models as the Python predecessor reconstructs them (`shared/fixtures/codec`), and the corrected default
//! where the predecessor was wrong: numbers of quirks are those of that folder's README.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use delta_dct::{
    Archive, Checkpoint, CompressOptions, Dtype, ErrorKind, Plan, Recipe, Selection, Silent, Summary,
    TensorView, compress, decode_tensor, encode_tensor,
};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

// ---- whole models ----

fn fixtures() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var("DELTA_DCT_REQUIRE_SHARED").as_deref() != Ok("1"),
        "{} does not exist",
        path.display()
    );
    println!("skipped: {} does not exist", path.display());
    None
}

/// A pair of checkpoints, compressed and applied again.
struct Run {
    base: Checkpoint,
    finetuned: Checkpoint,
    result: Checkpoint,
    summary: Summary,
    _dir: TempDir,
}

impl Run {
    fn new(pair: &Path, selection: Selection) -> Self {
        let (base, finetuned) =
            (Checkpoint::open(&pair.join("base")).unwrap(), Checkpoint::open(&pair.join("ft")).unwrap());
        let dir = tempdir().unwrap();
        let (file, folder) = (dir.path().join("x.ddct"), dir.path().join("out"));
        let options = CompressOptions { selection, force_unrelated: true, overwrite: false, dry_run: false };
        let summary = compress(&base, &finetuned, &file, &options, &Silent).unwrap();
        Archive::open(&file).unwrap().apply(&base, &folder, false, &Silent).unwrap();
        Self { base, finetuned, result: Checkpoint::open(&folder).unwrap(), summary, _dir: dir }
    }

    fn coded(&self) -> BTreeSet<&str> {
        self.summary.tensors.iter().filter(|t| t.kind == "delta").map(|t| t.name.as_str()).collect()
    }
}

/// The recipe of a recorded pipeline.
fn recipe(pipeline: &Value) -> Recipe {
    let map = pipeline["allocation_map"].as_array().unwrap();
    let bits: Vec<_> = map.iter().map(|pair| format!("{}:{}", pair[0], pair[1])).collect();
    let method = match pipeline["dwt_coeffs"].as_str() {
        Some(keep) => format!("dwt keep={keep}"),
        None if pipeline["jpeg"] == true => "dct-jpeg".to_owned(),
        None => "dct".to_owned(),
    };
    let (block, bits) = (&pipeline["patch_size"], bits.join(","));
    format!("{method} block={block} bits={bits}").parse().unwrap()
}

fn values(view: TensorView<'_>) -> Vec<f32> {
    match view.dtype {
        Dtype::F32 => view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        Dtype::BF16 => view
            .bytes
            .chunks_exact(2)
            .map(|b| half::bf16::from_le_bytes(b.try_into().unwrap()).to_f32())
            .collect(),
        other => panic!("{other}"),
    }
}

/// Fails unless `found` is `expected`: within rounding of the transform, which adds to the weight's own, and for bf16
/// may turn one element of many to its neighbour.
fn assert_weights(what: &str, found: TensorView<'_>, expected: TensorView<'_>) {
    assert_eq!((found.dtype, found.shape), (expected.dtype, expected.shape), "{what}");
    let (found, expected, dtype) = (values(found), values(expected), found.dtype);
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    let mut turned = 0;
    for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
        if dtype == Dtype::BF16 && a != b {
            assert!((a - b).abs() <= b.abs() / 128.0, "{what}: {a} instead of {b} at {at}");
            turned += 1;
        } else {
            assert!((a - b).abs() <= 1e-6 * largest, "{what}: {a:e} instead of {b:e} at {at}");
        }
    }
    assert!(turned * 500 <= found.len(), "{what}: {turned} of {} differ", found.len());
}

#[test]
fn pipelines_give_the_recorded_models() {
    let Some(fixtures) = fixtures() else { return };
    let index: Value =
        serde_json::from_slice(&std::fs::read(fixtures.join("codec/index.json")).unwrap()).unwrap();
    let pipelines = index["pipelines"].as_array().unwrap();
    assert_eq!(pipelines.len(), 8);
    for pipeline in pipelines {
        let id = pipeline["id"].as_str().unwrap();
        let pair = fixtures.join("models").join(pipeline["pair"].as_str().unwrap());
        let recorded =
            Checkpoint::open(&fixtures.join("codec").join(pipeline["file"].as_str().unwrap())).unwrap();
        let run = Run::new(&pair, Selection::predecessor(recipe(pipeline)).unwrap());

        let compressed = pipeline["compressed"].as_array().unwrap();
        assert_eq!(run.coded(), compressed.iter().map(|name| name.as_str().unwrap()).collect(), "{id}");
        for name in run.finetuned.names() {
            let what = format!("{id}: {name}");
            let (result, tuned) = (run.result.get(name).unwrap(), run.finetuned.get(name).unwrap());
            if !run.coded().contains(name) {
                // From the file alone: the predecessor took these from the fine-tuned model (quirk 12).
                assert_eq!(
                    (result.dtype, result.shape, result.bytes),
                    (tuned.dtype, tuned.shape, tuned.bytes),
                    "{what}"
                );
                continue;
            }
            // Quirk 22: the dtype of the base.
            assert_eq!(result.dtype, run.base.get(name).unwrap().dtype, "{what}");
            let expected = recorded.get(name).unwrap();
            if id.contains("tied") && name == "transformer.wte.weight" {
                // Quirk 19: there the exact lm_head was copied over the shared embedding, which was counted as
                // compressed nevertheless. Ours is coded like any other, and comes back as coded.
                assert_eq!(expected.bytes, tuned.bytes, "{what}");
                let tensor = run.summary.tensors.iter().find(|t| t.name == name).unwrap();
                assert!((0.1..1.0).contains(&tensor.relative_error.unwrap()), "{what}");
                continue;
            }
            assert_weights(&what, result, expected);
        }
    }
}

/// Quirk 22: a fine-tuned model comes back in its own dtypes.
#[test]
fn dtypes_are_the_finetuned_ones() {
    let Some(fixtures) = fixtures() else { return };
    for pair in ["dtype_bf16", "dtype_f16", "dtype_f32_base_bf16_ft"] {
        let selection = Selection::new("dct block=16".parse().unwrap()).unwrap();
        let run = Run::new(&fixtures.join("models/edge").join(pair), selection);
        assert!(!run.coded().is_empty());
        for name in run.finetuned.names() {
            assert_eq!(
                run.result.get(name).unwrap().dtype,
                run.finetuned.get(name).unwrap().dtype,
                "{pair}: {name}"
            );
        }
    }
}

/// Quirks 17 and 18.
#[test]
fn names_are_selected_by_substring_only_in_predecessor_mode() {
    let dct: Recipe = "dct block=8".parse().unwrap();
    let (ours, theirs) = (Selection::new(dct.clone()).unwrap(), Selection::predecessor(dct).unwrap());
    for (name, in_ours, in_theirs) in [
        ("layer.overhead.weight", true, false),
        ("attention_heads.weight", true, false),
        ("pre_classifier.weight", false, false),
        ("classifier_dropout.weight", true, false),
        ("pooler.dense.weight", true, false),
        ("classifier.weight", false, false),
        ("score.weight", false, true),
        ("embed_tokens.weight", true, true),
    ] {
        for (selection, coded) in [(&ours, in_ours), (&theirs, in_theirs)] {
            let recipe = selection.recipe(name, Dtype::F32, &[64, 64]);
            assert_eq!(recipe.to_string().starts_with("dct"), coded, "{name}: {recipe}");
        }
    }
    // Rule 1: 2-D, and more than one block of weights.
    for shape in [&[64][..], &[8, 8], &[4, 4, 8]] {
        assert_eq!(theirs.recipe("w", Dtype::F32, shape).to_string(), "raw", "{shape:?}");
    }
    assert_ne!(theirs.recipe("w", Dtype::F32, &[1, 65]).to_string(), "raw");
}

/// Quirk 14: no rescale unless it is asked for. What the predecessor did not have cannot follow it.
#[test]
fn predecessor_mode_is_part_of_the_recipe() {
    let of = |recipe: &str| Selection::predecessor(recipe.parse().unwrap());
    let text = |recipe: &str| of(recipe).unwrap().default_recipe().to_string();
    assert!(text("dct block=16").contains("predecessor=true rescale=none"));
    assert!(text("dwt keep=ll_only rescale=mean-abs").contains("predecessor=true rescale=mean-abs"));
    for recipe in ["bitdelta", "raw", "lowrank", "uniform", "dct bits=8", "dwt block=9", "dwt wavelet=db2"] {
        assert_eq!(of(recipe).unwrap_err().kind(), ErrorKind::InvalidArgument, "{recipe}");
    }
}

// ---- the corrected default, on small matrices ----

/// What comes back of `delta` on a base of zeros, and the bytes of the record.
fn round_trip(recipe: &str, shape: [usize; 2], delta: &[f32]) -> (Vec<f32>, usize) {
    let bytes: Vec<u8> = delta.iter().flat_map(|x| x.to_le_bytes()).collect();
    let zeros = vec![0; bytes.len()];
    let view = |bytes| TensorView { dtype: Dtype::F32, shape: &shape, bytes };
    let record = encode_tensor("w", view(&zeros), view(&bytes), &recipe.parse().unwrap()).unwrap();
    let mut out = zeros.clone();
    decode_tensor("w", &record, Some(view(&zeros)), &mut out).unwrap();
    (out.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(), record.len())
}

/// Deterministic values in -1..1.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 3u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A matrix of `rows` x `cols` blocks of 8 x 8, each given by a function of its index, and of row and column in it.
fn blocks(rows: usize, cols: usize, value: impl Fn(usize, usize, usize) -> f32) -> ([usize; 2], Vec<f32>) {
    let shape = [rows * 8, cols * 8];
    let at = |i: usize| (i / shape[1], i % shape[1]);
    let of = |(row, col)| value(row / 8 * cols + col / 8, row % 8, col % 8);
    (shape, (0..shape[0] * shape[1]).map(|i| of(at(i))).collect())
}

/// The values of block `index` of a matrix made by [`blocks`].
fn block(matrix: &[f32], cols: usize, index: usize) -> Vec<f32> {
    let first = index / cols * 8 * cols * 8 + index % cols * 8;
    (0..64).map(|i| matrix[first + i / 8 * cols * 8 + i % 8]).collect()
}

fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let energy = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        found.iter().zip(expected).map(|(&a, &b)| f(f64::from(a), f64::from(b)).powi(2)).sum()
    };
    (energy(&|a, b| a - b) / energy(&|_, b| b)).sqrt()
}

/// Quirks 1 to 4: a block without bits comes back as its mean, with and without a table, and has no details.
#[test]
fn pruned_blocks_are_their_means() {
    let (shape, delta) =
        blocks(4, 4, |i, row, _| (i as f32 - 7.0) / 16.0 + if row % 2 == 0 { 0.1 } else { -0.1 });
    for method in ["dct", "dct-jpeg", "dwt keep=all", "dwt keep=ll_lh_hl", "dwt keep=ll_only"] {
        let (found, bytes) = round_trip(&format!("{method} block=8 bits=0 rescale=none"), shape, &delta);
        for i in 0..16 {
            let mean = (i as f32 - 7.0) / 16.0;
            assert!(block(&found, 4, i).iter().all(|x| (x - mean).abs() < 0.01), "{method}, block {i}");
        }
        assert!(bytes < 120, "{method}: {bytes} bytes for 16 means");

        let theirs =
            round_trip(&format!("{method} block=8 bits=0 predecessor=true rescale=none"), shape, &delta);
        match method.starts_with("dct") {
            true => {
                assert!(relative_error(&theirs.0, &delta) > 2.0 * relative_error(&found, &delta), "{method}")
            }
            false => assert!(theirs.1 > bytes, "{method}: {} bytes for details and exact means", theirs.1),
        }
    }
}

/// Quirk 5: with one bit, coefficients become the means of those below zero and of the others, not the extremes.
#[test]
fn bands_of_one_bit_are_coded_by_means() {
    let delta = noise(64 * 64);
    for method in ["dct", "dwt keep=all"] {
        let error = |mode: &str| {
            let recipe = format!("{method} block=16 bits=1 {mode} rescale=none");
            relative_error(&round_trip(&recipe, [64, 64], &delta).0, &delta)
        };
        let (ours, theirs) = (error(""), error("predecessor=true"));
        assert!(ours < 0.65 && theirs > 1.0, "{method}: {ours}, {theirs}");
    }
}

/// Quirk 6: of blocks of equal scores, the first get the bits.
#[test]
fn ties_go_to_the_first_block() {
    let (shape, delta) = blocks(4, 8, |_, row, col| row as f32 - col as f32);
    let (found, _) = round_trip("dct block=8 bits=8:0.5,0:0.5 rescale=none", shape, &delta);
    for i in 0..32 {
        let error = relative_error(&block(&found, 8, i), &block(&delta, 8, i));
        assert!(if i < 16 { error < 0.05 } else { error > 0.99 }, "block {i}: {error}");
    }
}

/// Quirk 7: what rounding leaves over gets the bits of the last class.
#[test]
fn leftover_blocks_are_coded_like_the_last_class() {
    let values = noise(64);
    // Falling scores: the fifth of five blocks is left over by two halves.
    let (shape, delta) = blocks(1, 5, |i, row, col| values[row * 8 + col] * (6 - i) as f32);
    let error = |mode: &str| {
        let (found, _) =
            round_trip(&format!("dct block=8 bits=6:0.5,4:0.5 {mode} rescale=none"), shape, &delta);
        relative_error(&block(&found, 5, 4), &block(&delta, 5, 4))
    };
    let (ours, theirs) = (error(""), error("predecessor=true"));
    assert!(ours < 0.2 && theirs > 0.9, "{ours}, {theirs}");
}

/// Quirks 8 and 10: eight bits work, and the table is in the record, not in the reader's memory.
#[test]
fn eight_bits_and_the_table_are_stored() {
    let delta = noise(64 * 64);
    for method in ["dct", "dct-jpeg", "dct-post", "dwt details=8"] {
        let (found, bytes) = round_trip(&format!("{method} block=16 bits=8"), [64, 64], &delta);
        assert!(bytes < 64 * 64 * 9 / 8, "{method}: {bytes}");
        assert!(relative_error(&found, &delta) < 0.05, "{method}");
    }
    let error = "dct bits=8 predecessor=true".parse::<Recipe>().unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("7 bits"), "{error}");
}

/// Quirk 13: ranking after the transform prefers low frequencies.
#[test]
fn importance_after_the_transform_is_another_ranking() {
    // Odd blocks have more energy, even ones lower frequencies.
    let (shape, delta) = blocks(4, 4, |i, row, col| match i % 2 {
        0 => col as f32 * 0.2 - 0.7,
        _ => {
            if (row + col) % 2 == 0 {
                2.0
            } else {
                -2.0
            }
        }
    });
    for (method, fine) in [("dct", 1), ("dct-post", 0)] {
        let (found, _) =
            round_trip(&format!("{method} block=8 bits=8:0.5,0:0.5 rescale=none"), shape, &delta);
        for i in 0..16 {
            let error = relative_error(&block(&found, 4, i), &block(&delta, 4, i));
            assert!(if i % 2 == fine { error < 0.02 } else { error > 0.9 }, "{method}, block {i}: {error}");
        }
    }
}

/// Quirk 20: integers and bools are carried exactly. Quirk 24: so is a tensor with values that are not finite, though
/// their difference to equal ones is no number.
#[test]
fn what_has_no_delta_is_exact() {
    let integers: Vec<u8> = (0..400i64).flat_map(|i| (i * i * 37).to_le_bytes()).collect();
    let zeros = vec![0; integers.len()];
    let shape = [20, 20];
    let view = |bytes| TensorView { dtype: Dtype::I64, shape: &shape, bytes };
    let dct: Recipe = "dct block=8".parse().unwrap();
    let mut out = zeros.clone();
    let record = encode_tensor("index", view(&zeros), view(&integers), &dct).unwrap();
    decode_tensor("index", &record, Some(view(&zeros)), &mut out).unwrap();
    assert_eq!(out, integers);

    let numbers = |odd: f32, step: f32| -> Vec<u8> {
        let value = |i: usize| if i == 77 { odd } else { i as f32 * step };
        (0..32 * 32).flat_map(|i| value(i).to_le_bytes()).collect()
    };
    let shape = [32, 32];
    for odd in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let view = |bytes| TensorView { dtype: Dtype::F32, shape: &shape, bytes };
        let (base, finetuned) = (numbers(odd, 1e-3), numbers(odd, 1.1e-3));
        let mut out = vec![0; base.len()];
        let record = encode_tensor("w", view(&base), view(&finetuned), &dct).unwrap();
        decode_tensor("w", &record, Some(view(&base)), &mut out).unwrap();
        assert_eq!(out, finetuned, "{odd}");
    }
}

/// Quirk 26: nothing that is misspelt is ignored.
#[test]
fn misspelt_options_are_refused() {
    for plan in
        ["DWT block=8", "dwtt block=8", "dwt block=8 keep=ll_hh", "dct block=8 table=jpg", "dct blok=8"]
    {
        let error = format!("{plan} | minmax | none").parse::<Plan>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{plan}: {error}");
    }
    for recipe in ["dwt keep=everything", "dct keep=all", "dct importance=after", "dct predecessor=yes"] {
        assert_eq!(recipe.parse::<Recipe>().unwrap_err().kind(), ErrorKind::InvalidArgument, "{recipe}");
    }
}

/// Quirk 27: the smallest and the largest deltas are ranked, scaled and coded like any other.
#[test]
fn magnitudes_do_not_matter() {
    let values = noise(64 * 64);
    let (shape, delta) =
        blocks(8, 8, |i, row, col| values[i * 64 + row * 8 + col] * ((i * 29 % 64) as f32 + 1.0));
    for method in ["dct", "dct-post", "dwt"] {
        let error = |scale: f32, mode: &str| {
            let scaled: Vec<f32> = delta.iter().map(|x| x * scale).collect();
            let recipe = format!("{method} block=8 bits=4:0.5,0:0.5 {mode}");
            let (found, bytes) = round_trip(&recipe, shape, &scaled);
            assert!(bytes < 64 * 64, "{method} {scale:e}: {bytes} bytes");
            relative_error(&found, &scaled)
        };
        for mode in ["rescale=unbiased", "rescale=mean-abs", "predecessor=true rescale=none"] {
            let plain = error(1.0, mode);
            for scale in [1e-30, 1e-25, 1e25, 1e30] {
                assert!((error(scale, mode) - plain).abs() < 0.02, "{method} {mode} {scale:e}: {plain}");
            }
        }
        // Too large for any transform: exact instead.
        let huge: Vec<f32> = values.iter().map(|x| x * 3e38).collect();
        assert_eq!(round_trip(&format!("{method} block=8 bits=4"), shape, &huge).0, huge);
    }
}

/// Quirk 28: base + (finetuned - base) is not the fine-tuned weight in general; where exactness is promised, it is
/// not computed that way. Quirk 29: what would not become smaller is carried as it is.
#[test]
fn exact_is_exact_and_never_larger() {
    let scaled = |values: &[f32], factor: f32| values.iter().map(|x| x * factor).collect::<Vec<_>>();
    let values = noise(2 * 64 * 64);
    let (base, finetuned) = (scaled(&values[..64 * 64], 0.1), scaled(&values[64 * 64..], 0.07));
    let added = base.iter().zip(&finetuned).filter(|(b, f)| **b + (**f - **b) != **f).count();
    assert!(added > 100, "the test would not notice");
    let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let (base, finetuned) = (bytes(&base), bytes(&finetuned));
    let shape = [64, 64];
    let view = |bytes| TensorView { dtype: Dtype::F32, shape: &shape, bytes };
    let record = encode_tensor("w", view(&base), view(&finetuned), &"raw".parse().unwrap()).unwrap();
    let mut out = vec![0; base.len()];
    decode_tensor("w", &record, None, &mut out).unwrap();
    assert_eq!(out, finetuned);

    let layer = noise(65);
    for mode in ["predecessor=true", "predecessor=false"] {
        let (found, bytes) = round_trip(&format!("dct block=64 bits=7 {mode}"), [1, 65], &layer);
        assert!(found == layer && bytes < 65 * 4 + 32, "{mode}: {bytes} bytes");
    }
}
