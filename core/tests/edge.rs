//! Odd pairs: nothing is dropped, nothing is widened, what cannot be coded comes back bit for bit, and all of it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;

use delta_dct::{CompressOptions, Dtype, METHODS, Recipe, Rename, Selection};

use support::{
    Folders, RoundTrip, Tensor, Tensors, load, options, shared, small_pair, tensors, with_selection,
};

/// Recipes and the relative error that they may leave in the matrices of a pair, all together.
const RECIPES: [(&str, f64); 6] = [
    ("raw", 0.0),
    ("zero", 1.0 + 1e-6),
    ("uniform", 0.02),
    ("bitdelta", 2.0),
    ("dct block=8", 4.0),
    ("dct block=16 bits=4:0.5,2:0.5", 0.5),
];

/// Takes the fixture `name` through every recipe, and gives each round trip to `check`.
fn fixture(name: &str, check: impl Fn(&RoundTrip, &str)) {
    let Some(dir) = shared(&format!("fixtures/models/edge/{name}")) else { return };
    every_recipe(&dir.join("base"), &dir.join("ft"), check);
}

fn every_recipe(base: &Path, finetuned: &Path, check: impl Fn(&RoundTrip, &str)) {
    for (recipe, most) in RECIPES {
        let trip = RoundTrip::new(base, finetuned, &options(recipe));
        let found = trip.matrix_error();
        assert!(found <= most, "{recipe}: the matrices have a relative error of {found}");
        if recipe == "raw" {
            assert!(trip.summary.tensors.iter().all(|row| row.relative_error.is_none()));
            let file = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
            assert!(file(&trip.output) == file(finetuned), "raw restores the file byte for byte");
        }
        check(&trip, recipe);
    }
}

#[track_caller]
fn assert_exact(trip: &RoundTrip, names: &[&str]) {
    for name in names {
        assert!(trip.is_exact(name), "{name}: {:?}", trip.row(name));
        assert_eq!(trip.row(name).relative_error, None, "{name}");
    }
}

/// Names of the tensors that `keep` is true of.
fn names_where(trip: &RoundTrip, keep: impl Fn(&str) -> bool) -> Vec<&str> {
    trip.summary.tensors.iter().map(|row| row.name.as_str()).filter(|name| keep(name)).collect()
}

// ---- the fixtures beside the project ----

#[test]
fn fixture_vocab_resized() {
    fixture("vocab_resized", |trip, recipe| {
        let name = "bert.embeddings.word_embeddings.weight";
        let row = trip.row(name);
        assert_eq!((row.relation, row.shape.as_slice()), ("resized", &[104, 32][..]));
        assert_eq!(
            row.kind,
            match recipe {
                "raw" => "raw",
                "zero" => "base",
                _ => "delta",
            }
        );
        trip.assert_note(&[name, "104 rows", "99", "5 new rows"]);
        let new_rows = |tensors: &Tensors| tensors[name].bytes[99 * 32 * 4..].to_vec();
        assert_eq!(new_rows(&trip.result), new_rows(&trip.finetuned));
        assert_exact(trip, &["classifier.weight", "classifier.bias"]);
    });
}

#[test]
fn fixture_new_tensor() {
    fixture("new_tensor", |trip, _| {
        let new = names_where(trip, |name| name.starts_with("classifier."));
        assert_eq!(new.len(), 4);
        assert_exact(trip, &new);
        for name in new {
            assert_eq!((trip.row(name).relation, trip.row(name).kind), ("new", "raw"));
            trip.assert_note(&[name, "not in the base"]);
        }
        assert!(trip.summary.removed.is_empty());
    });
}

#[test]
fn fixture_removed_tensor() {
    fixture("removed_tensor", |trip, _| {
        let removed = ["bias", "dense.bias", "dense.weight", "layer_norm.bias", "layer_norm.weight"];
        assert!(trip.summary.removed.iter().eq(&removed.map(|name| format!("lm_head.{name}"))));
        trip.assert_note(&["lm_head.dense.weight", "not in the fine-tuned model"]);
        assert!(trip.summary.tensors.iter().all(|row| row.relation == "same"));
    });
}

#[test]
fn fixture_head_swap() {
    fixture("head_swap", |trip, _| {
        let head = names_where(trip, |name| name.starts_with("classifier."));
        assert_exact(trip, &head);
        assert_eq!(trip.row("classifier.out_proj.weight").relation, "reshaped");
        assert_eq!(trip.row("classifier.dense.weight").relation, "new");
        trip.assert_note(&["classifier.out_proj.weight", "[7, 32]", "by itself"]);
        assert_eq!(trip.summary.removed.len(), 5);
    });
}

#[test]
fn fixture_renamed_prefix() {
    fixture("renamed_prefix", |trip, recipe| {
        let rename = Rename { finetuned: "roberta.".into(), base: String::new() };
        assert_eq!(trip.summary.rename, Some(rename));
        trip.assert_note(&["roberta."]);
        for row in trip.summary.tensors.iter().filter(|row| row.name.starts_with("roberta.")) {
            assert_eq!(row.relation, "same", "{}", row.name);
            assert!(recipe == "raw" || row.kind != "raw" || row.weights < 64, "{row:?}");
        }
        assert_exact(trip, &names_where(trip, |name| name.starts_with("classifier.")));
    });
}

#[test]
fn fixture_half_precision() {
    for (name, dtype) in
        [("dtype_bf16", Dtype::BF16), ("dtype_f16", Dtype::F16), ("dtype_f32_base_bf16_ft", Dtype::BF16)]
    {
        fixture(name, |trip, _| assert!(trip.result.values().all(|tensor| tensor.dtype == dtype)));
    }
}

#[test]
fn fixture_of_a_narrow_base_and_a_wide_finetune() {
    let Some(dir) = shared("fixtures/models/edge/dtype_f32_base_bf16_ft") else { return };
    every_recipe(&dir.join("ft"), &dir.join("base"), |trip, recipe| {
        assert!(trip.result.values().all(|tensor| tensor.dtype == Dtype::F32));
        assert!(recipe == "raw" || trip.row("lm_head.weight").kind != "raw");
    });
}

#[test]
fn fixture_tied_weights_are_stored_once() {
    let Some(dir) = shared("fixtures/models/edge/tied_gpt2") else { return };
    let (head, embedding) = ("lm_head.weight", "transformer.wte.weight");
    fixture("tied_gpt2", |trip, _| assert!(!trip.result.contains_key(head)));
    let mut tied = load(&dir.join("ft"));
    tied.insert(head.to_owned(), tied[embedding].clone());
    for folder in ["ft_both_names", "ft_two_copies"] {
        for (recipe, most) in RECIPES {
            let trip = RoundTrip::with(&dir.join("base"), &dir.join(folder), tied.clone(), &options(recipe));
            assert!(trip.matrix_error() <= most || recipe == "raw");
            // The name that the base has is the one that is coded.
            let (alias, values) = (trip.row(head), trip.row(embedding));
            assert_eq!((alias.kind, alias.relation), ("alias", "tied"));
            assert!(alias.bytes < 64, "{folder}: {alias:?}");
            assert_eq!(trip.result[head], trip.result[embedding]);
            assert!(recipe == "raw" || values.kind != "raw", "{folder} {recipe}: {values:?}");
            trip.assert_note(&[head, embedding, "once"]);
            assert!(trip.summary.notes.iter().all(|note| !note.contains("not in the base")));
        }
    }
}

#[test]
fn fixture_misc_tensors() {
    fixture("misc_tensors", |trip, recipe| {
        let exact =
            ["idx.bool", "idx.i32", "idx.i64", "idx.u8", "step", "w.empty", "w.inf", "w.neg_zero", "w.same"];
        assert_exact(trip, &exact);
        for name in ["idx.i32", "idx.i64", "idx.u8", "w.empty", "w.inf", "w.same"] {
            let row = trip.row(name);
            assert_eq!(row.kind, "base", "{name}");
            assert!(row.bytes < 64, "{name} does not change, and takes {} bytes", row.bytes);
        }
        if recipe.starts_with("dct") {
            assert!(trip.row("w.f64").plan.starts_with("dct") && trip.row("w.conv").plan.starts_with("dct"));
            assert!(
                trip.row("w.vector").plan.contains("uniform")
                    && trip.row("w.one_row").plan.contains("uniform")
            );
        }
    });
}

// ---- pairs made here ----

#[test]
fn every_kind_of_tensor_of_a_small_pair() {
    let folders = Folders::small();
    every_recipe(&folders.base, &folders.finetuned, |trip, recipe| {
        assert_exact(trip, &["classifier.bias", "classifier.weight"]);
        assert!(trip.summary.notes.is_empty(), "{:?}", trip.summary.notes);
        if recipe.starts_with("dct") {
            assert!(
                trip.row("encoder.conv.weight").plan.starts_with("dct"),
                "a kernel is a matrix of (out, in*kh*kw)"
            );
            assert!(trip.row("encoder.layer.0.dense.bias").plan.contains("uniform"));
        }
    });
}

#[test]
fn the_vocabulary_grows_and_shrinks() {
    let (name, cols) = ("model.embed_tokens.weight", 40);
    let with_rows = |rows: usize, seed, std| {
        let full = Tensor::random(Dtype::F32, &[90, cols], 1, 0.05).nudged(seed, std);
        Tensor::of_bytes(Dtype::F32, &[rows, cols], &full.bytes[..rows * cols * 4])
    };
    for (base_rows, rows) in [(80, 90), (90, 80)] {
        let layer = Tensor::random(Dtype::F32, &[40, 40], 2, 0.05);
        let bias = |rows, seed| Tensor::random(Dtype::BF16, &[rows], 9, 0.05).nudged(seed, 0.002);
        let base = tensors([
            ("lm_head.bias", bias(base_rows, 1)),
            (name, with_rows(base_rows, 0, 0.0)),
            ("model.layer.weight", layer.clone()),
        ]);
        let mut tuned = tensors([
            ("lm_head.bias", bias(rows, 2).cast(Dtype::F32)),
            (name, with_rows(rows, 3, 0.002)),
            ("model.layer.weight", layer.nudged(4, 0.002)),
        ]);
        if rows > base_rows {
            // A new row may hold anything.
            let end = rows * cols * 4;
            tuned.get_mut(name).unwrap().bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        let folders = Folders::new(&base, &tuned);
        for (recipe, most) in RECIPES {
            let trip = folders.round_trip(recipe);
            assert_eq!(trip.row(name).relation, "resized");
            trip.assert_note(&[name, &rows.to_string(), &base_rows.to_string()]);
            assert!(trip.matrix_error() <= most);
            let new_rows = |tensors: &Tensors| tensors[name].bytes[80 * cols * 4..].to_vec();
            assert_eq!(new_rows(&trip.result), new_rows(&trip.finetuned));
            assert!(recipe == "raw" || trip.row(name).kind != "raw");
            assert_eq!(trip.row("lm_head.bias").relation, "resized");
        }
    }
}

#[test]
fn values_that_are_not_finite_are_carried_exactly() {
    let base = Tensor::random(Dtype::F32, &[64, 64], 1, 0.05);
    let with = |tensor: &Tensor, at: usize, value: f32| {
        let mut tensor = tensor.clone();
        tensor.bytes[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
        tensor
    };
    let tuned = base.nudged(2, 0.002);
    let folders = Folders::new(
        &tensors([
            ("a.weight", base.clone()),
            ("b.weight", base.clone()),
            ("c.weight", with(&base, 9, f32::INFINITY)),
            ("d.weight", with(&base, 9, f32::NEG_INFINITY)),
            ("e.bias", with(&base, 9, f32::NAN)),
        ]),
        &tensors([
            ("a.weight", tuned.clone()),
            // A NaN with a payload of its own.
            ("b.weight", with(&tuned, 4000, f32::from_bits(0x7fa1_2345))),
            ("c.weight", with(&tuned, 9, f32::INFINITY)),
            ("d.weight", base.nudged(5, 0.002)),
            ("e.bias", with(&base, 9, f32::NAN)),
        ]),
    );
    let methods = METHODS.iter().map(|method| method.name);
    for recipe in methods.chain(["dct block=16 bits=4:1", "dct block=16 bits=8:0.5,4:0.5 importance=post4"]) {
        let trip = folders.round_trip(recipe);
        assert_exact(&trip, &["b.weight", "c.weight", "d.weight", "e.bias"]);
        assert!(trip.row("e.bias").bytes < 64);
        if !["raw", "lossless"].contains(&recipe) {
            assert_ne!(trip.row("a.weight").kind, "raw");
            trip.assert_note(&["b.weight", "not finite", "exactly"]);
            trip.assert_note(&["d.weight", "not finite in the base"]);
        }
    }
}

#[test]
fn results_stay_inside_the_range_of_their_dtype() {
    // Noise on top of the largest f16 values would make infinities of them.
    let near_limit =
        |seed| Tensor::random(Dtype::F16, &[64, 64], seed, 0.0).values().iter().map(|_| 65_400.0).collect();
    let large: Vec<f64> = near_limit(1);
    let base = Tensor::new(Dtype::F16, &[64, 64], &large);
    let folders =
        Folders::new(&tensors([("a.weight", base.clone())]), &tensors([("a.weight", base.nudged(3, 30.0))]));
    for (recipe, _) in RECIPES {
        let trip = folders.round_trip(recipe);
        assert!(trip.result["a.weight"].values().iter().all(|x| x.is_finite()), "{recipe}");
    }
}

#[test]
fn deltas_of_any_size_and_form() {
    let base = Tensor::random(Dtype::F32, &[64, 64], 1, 1.0);
    let scaled = |tensor: &Tensor, scale: f64| {
        let values: Vec<f64> = tensor.values().iter().map(|x| x * scale).collect();
        Tensor::new(tensor.dtype, &tensor.shape, &values)
    };
    let mut single = base.clone();
    single.bytes[4 * 99..4 * 100].copy_from_slice(&0.5f32.to_le_bytes());
    let shifted =
        Tensor::new(Dtype::F32, &[64, 64], &base.values().iter().map(|x| x + 0.125).collect::<Vec<_>>());
    let pairs = [
        ("huge", scaled(&base, 5e37), scaled(&base.nudged(2, 0.3), 5e37)),
        ("tiny", scaled(&base, 1e-41), scaled(&base.nudged(2, 0.3), 1e-41)),
        ("single", base.clone(), single),
        ("constant", base.clone(), shifted),
        ("from zero", scaled(&base, 0.0), scaled(&base, 1e-3)),
    ];
    for (what, base, tuned) in pairs {
        let folders = Folders::new(&tensors([("a.weight", base)]), &tensors([("a.weight", tuned)]));
        for recipe in METHODS.iter().map(|method| method.name).chain(["dct block=8 bits=8:1"]) {
            let forced = CompressOptions { force_unrelated: true, ..options(recipe) };
            let trip = RoundTrip::new(&folders.base, &folders.finetuned, &forced);
            assert!(trip.result["a.weight"].values().iter().all(|x| x.is_finite()), "{what}, {recipe}");
        }
    }
}

#[test]
fn any_name_will_do() {
    let names = [
        "",
        " ",
        "a b",
        "a/b",
        "../../x",
        "naïve.重み",
        "\"quoted\" \\ \n",
        "__metadata__.x",
        "CON",
        "__ddct__",
    ];
    let model = |seed| -> Tensors {
        let tensor =
            |(i, name): (u64, &&str)| ((*name).to_owned(), Tensor::random(Dtype::F32, &[40, 40], i, 0.05));
        let model = (0..).zip(&names).map(tensor);
        model.map(|(name, tensor)| (name, tensor.nudged(seed, if seed == 0 { 0.0 } else { 0.002 }))).collect()
    };
    let folders = Folders::new(&model(0), &model(77));
    every_recipe(&folders.base, &folders.finetuned, |trip, recipe| {
        assert!(trip.summary.tensors.iter().all(|row| (row.kind == "raw") == (recipe == "raw")));
    });
}

#[test]
fn zeros_of_another_sign_are_carried_exactly() {
    let mut signs = vec![0.0; 64 * 64];
    signs[77] = -0.0;
    let base = tensors([("a.weight", Tensor::new(Dtype::F32, &[64, 64], &vec![0.0; 64 * 64]))]);
    let folders = Folders::new(&base, &tensors([("a.weight", Tensor::new(Dtype::F32, &[64, 64], &signs))]));
    for (recipe, _) in RECIPES {
        let trip = folders.round_trip(recipe);
        assert_exact(&trip, &["a.weight"]);
    }
}

#[test]
fn empty_tensors_scalars_and_dtypes_that_are_not_coded() {
    let bytes = |seed: u8| (0..64).map(|i: u8| i.wrapping_mul(37).wrapping_add(seed)).collect::<Vec<u8>>();
    let side = |seed: u8| {
        let nudge = f64::from(seed) * 0.01;
        tensors([
            (
                "body.weight",
                Tensor::random(Dtype::F32, &[40, 40], 5, 0.05).nudged(u64::from(seed), nudge * 0.1),
            ),
            ("empty.first", Tensor::new(Dtype::F32, &[0, 7], &[])),
            ("empty.last", Tensor::new(Dtype::BF16, &[7, 0], &[])),
            ("empty.list", Tensor::new(Dtype::I64, &[0], &[])),
            ("scalar.f32", Tensor::new(Dtype::F32, &[], &[0.5 + nudge])),
            ("scalar.f64", Tensor::new(Dtype::F64, &[], &[0.5 + nudge])),
            ("scalar.bf16", Tensor::new(Dtype::BF16, &[], &[0.5 + nudge * 10.0])),
            ("scalar.i64", Tensor::new(Dtype::I64, &[], &[f64::from(seed)])),
            (
                "x.bool",
                Tensor::of_bytes(
                    Dtype::BOOL,
                    &[8, 8],
                    &bytes(seed).iter().map(|b| b & 1).collect::<Vec<_>>(),
                ),
            ),
            ("x.f8_e4m3", Tensor::of_bytes(Dtype::F8_E4M3, &[8, 8], &bytes(seed))),
            ("x.f8_e5m2", Tensor::of_bytes(Dtype::F8_E5M2, &[8, 8], &bytes(seed))),
            ("x.i16", Tensor::of_bytes(Dtype::I16, &[4, 8], &bytes(seed))),
            ("x.u32", Tensor::of_bytes(Dtype::U32, &[16], &bytes(seed))),
            ("x.u8", Tensor::of_bytes(Dtype::U8, &[2, 32], &bytes(seed))),
            ("x.c64", Tensor::of_bytes(Dtype::C64, &[2, 4], &bytes(seed))),
            ("x.f4", Tensor::of_bytes(Dtype::F4, &[2, 64], &bytes(seed))),
        ])
    };
    let folders = Folders::new(&side(0), &side(1));
    every_recipe(&folders.base, &folders.finetuned, |trip, _| {
        assert_exact(trip, &names_where(trip, |name| name.starts_with("x.") || name.starts_with("empty.")));
        assert_exact(trip, &["scalar.i64"]);
        assert!(
            names_where(trip, |name| name.starts_with("empty.")).iter().all(|name| trip.row(name).bytes < 64)
        );
    });
}

#[test]
fn dtypes_of_base_and_finetune_may_differ() {
    let (base, tuned) = small_pair();
    let cast = |model: &Tensors, dtype| {
        model.iter().map(|(name, t)| (name.clone(), t.cast(dtype))).collect::<Tensors>()
    };
    for from in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
        for to in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
            let folders = Folders::new(&cast(&base, from), &cast(&tuned, to));
            for (recipe, most) in [("uniform", 0.1), ("bitdelta", 2.0)] {
                let trip = folders.round_trip(recipe);
                assert!(trip.result.values().all(|tensor| tensor.dtype == to));
                assert!(trip.matrix_error() <= most, "{from} to {to}, {recipe}: {}", trip.matrix_error());
                assert_eq!(trip.row("encoder.layer.0.dense.weight").kind, "delta");
            }
            // The same model in another dtype costs nothing where that is a mere rounding.
            if from != to && from.bitsize() > to.bitsize() {
                let folders = Folders::new(&cast(&base, from), &cast(&cast(&base, from), to));
                let trip = folders.round_trip("dct");
                assert!(
                    trip.summary.tensors.iter().all(|row| row.kind == "base" && row.bytes < 80),
                    "{from} to {to}"
                );
            }
        }
    }
}

#[test]
fn identical_models_cost_nothing() {
    let (base, _) = small_pair();
    let folders = Folders::new(&base, &base);
    for (recipe, _) in RECIPES {
        let trip = folders.round_trip(recipe);
        assert!(trip.summary.tensors.iter().all(|row| row.kind == "base" && row.bytes < 64));
        assert!(trip.result == base);
    }
}

#[test]
fn tied_weights_follow_what_is_chosen_for_each() {
    let layer = Tensor::random(Dtype::F32, &[64, 64], 1, 0.05);
    let pair = |nudge| {
        let tied = layer.nudged(2, nudge);
        tensors([
            ("lm_head.weight", tied.clone()),
            ("model.embed_tokens.weight", tied),
            ("model.x.weight", layer.clone()),
        ])
    };
    let folders = Folders::new(&pair(0.0), &pair(0.002));
    let trip = folders.round_trip("bitdelta");
    assert_eq!(
        (trip.row("model.embed_tokens.weight").kind, trip.row("model.embed_tokens.weight").relation),
        ("alias", "tied")
    );
    for excluded in ["lm_head.weight", "model.embed_tokens.weight"] {
        let selection = Selection::new("bitdelta".parse().unwrap()).unwrap().exclude(excluded).unwrap();
        let trip = RoundTrip::new(&folders.base, &folders.finetuned, &with_selection(selection));
        assert_exact(&trip, &[excluded]);
    }
}

#[test]
fn a_renamed_prefix_on_either_side() {
    let (base, tuned) = small_pair();
    let prefixed = |model: &Tensors, prefix: &str| -> Tensors {
        model.iter().map(|(name, t)| (format!("{prefix}{name}"), t.clone())).collect()
    };
    for (base_prefix, prefix) in [("", "module."), ("_orig_mod.", ""), ("model.", "bert.")] {
        let folders = Folders::new(&prefixed(&base, base_prefix), &prefixed(&tuned, prefix));
        let trip = folders.round_trip("dct block=16");
        let rename = Rename { finetuned: prefix.into(), base: base_prefix.into() };
        assert_eq!(trip.summary.rename, Some(rename));
        assert!(trip.summary.tensors.iter().all(|row| row.relation == "same"));
        assert!(trip.row(&format!("{prefix}encoder.layer.0.dense.weight")).plan.starts_with("dct"));
        trip.assert_note(&["names differ"]);
    }
}

// ---- selection ----

/// A model of a head and a matrix that the base does not have, of one with another shape there, and of vectors.
fn with_new_tensors() -> Folders {
    let (base, mut finetuned) = small_pair();
    for (seed, name, shape) in [
        (70, "score.dense.weight", &[64, 48][..]),
        (71, "score.dense.bias", &[64]),
        (72, "adapter.weight", &[96, 64]),
        (73, "classifier.weight", &[50, 32]),
    ] {
        finetuned.insert(name.to_owned(), Tensor::random(Dtype::F32, shape, seed, 0.05));
    }
    Folders::new(&base, &finetuned)
}

#[test]
fn what_the_base_does_not_have_is_coded_finely_beside_factors_and_else_exact() {
    let folders = with_new_tensors();
    let trip = |selection| RoundTrip::new(&folders.base, &folders.finetuned, &with_selection(selection));
    let new = |recipe: &str| Selection::new(recipe.parse().unwrap()).unwrap();
    let names = ["adapter.weight", "classifier.weight", "score.dense.weight"];
    for recipe in ["auto", "factors step=13", "auto size=10kB"] {
        let trip = trip(new(recipe));
        for name in names {
            let row = trip.row(name);
            assert!(row.kind == "alone" && row.plan.starts_with("none | uniform"), "{recipe}: {row:?}");
            trip.assert_note(&[name]);
        }
        assert_exact(&trip, &["score.dense.bias"]);
        if recipe != "auto size=10kB" {
            assert!(trip.relative_error("score.dense.weight") < 0.05);
            assert!(trip.relative_error("adapter.weight") < 0.005);
        }
    }
    let chosen = trip(new("auto").exclude("score.*").unwrap().rule("adapter.*", recipe("bitdelta")).unwrap());
    assert_exact(&chosen, &["score.dense.weight"]);
    assert!(chosen.row("adapter.weight").plan.contains("sign"));
    // So few bytes that no reader would take them.
    let sparse = trip(new("auto").rule("adapter.*", recipe("sparse share=0.001")).unwrap());
    assert_exact(&sparse, &["adapter.weight"]);
    for recipe in ["dct", "bitdelta", "zero", "uniform"] {
        assert_exact(&trip(new(recipe)), &names);
    }
    assert_exact(&trip(Selection::predecessor(recipe("dct block=16")).unwrap()), &names);
}

fn recipe(text: &str) -> Recipe {
    text.parse().unwrap()
}

#[test]
fn include_exclude_and_rules_decide_by_name() {
    let folders = Folders::small();
    let new = || Selection::new("bitdelta".parse().unwrap()).unwrap();
    let trip = |selection| RoundTrip::new(&folders.base, &folders.finetuned, &with_selection(selection));
    let lossy = |trip: &RoundTrip| -> Vec<String> {
        trip.summary.tensors.iter().filter(|r| r.relative_error.is_some()).map(|r| r.name.clone()).collect()
    };

    let included = trip(new().include("encoder.layer.*.weight").unwrap());
    assert_eq!(lossy(&included), ["encoder.layer.0.dense.weight", "encoder.layer.1.dense.weight"]);
    // A head that is named is coded, although it is exact by default.
    let head = trip(new().include("classifier.weight").unwrap());
    assert_eq!(lossy(&head), ["classifier.weight"]);
    let excluded = trip(new().exclude("*.layer.0.*").unwrap().exclude("embeddings.*").unwrap());
    assert_eq!(lossy(&excluded), ["encoder.conv.weight", "encoder.layer.1.dense.weight"]);

    let rules = new()
        .rule("encoder.*", recipe("dct block=16"))
        .unwrap()
        .rule("*.layer.1.*", recipe("uniform step=0.5"))
        .unwrap()
        .rule("classifier.weight", recipe("zero"))
        .unwrap()
        .rule("embeddings.*", recipe("raw"))
        .unwrap();
    let ruled = trip(rules);
    assert!(ruled.row("encoder.layer.0.dense.weight").plan.starts_with("dct block=16"));
    assert!(ruled.row("encoder.layer.1.dense.weight").plan.contains("uniform"));
    assert_eq!(ruled.row("classifier.weight").kind, "base");
    assert_exact(&ruled, &["embeddings.word.weight", "classifier.bias"]);
    assert!(new().include("[").is_err());
}

#[test]
fn vectors_do_not_dominate_the_file() {
    let side = |seed| {
        let mut model =
            tensors([("layer.weight", Tensor::random(Dtype::F32, &[256, 256], 1, 0.05).nudged(seed, 0.001))]);
        let bias = Tensor::random(Dtype::F32, &[4096], 2, 0.05).nudged(seed + 1, 0.001);
        model.insert("layer.bias".to_owned(), bias);
        model
    };
    let folders = Folders::new(&side(10), &side(20));
    let trip = folders.round_trip("dct");
    let row = trip.row("layer.bias");
    assert!(row.bytes * 8 < 4096 * 5, "{} bytes for 4096 weights", row.bytes);
    assert!(trip.relative_error("layer.bias") < 0.01);
}

/// A network divides by the smallest variances, and all vectors of an image have the bias of what reads it.
#[test]
fn few_numbers_that_all_goes_through_stay_fine() {
    let side = |seed| {
        let of = |n: usize, seed: u64| Tensor::random(Dtype::F32, &[n], 2, 0.05).nudged(seed, 0.01);
        tensors([
            ("patch_embed.proj.weight", Tensor::random(Dtype::F32, &[64, 64], 1, 0.05).nudged(seed, 0.001)),
            ("patch_embed.proj.bias", of(64, seed + 1)),
            ("norm.bias", of(64, seed + 2)),
            ("norm.running_mean", of(64, seed + 3)),
            ("norm.running_var", of(64, seed + 4)),
        ])
    };
    let folders = Folders::new(&side(10), &side(20));
    for recipe in ["factors step=13", "dct block=8", "uniform"] {
        let trip = folders.round_trip(recipe);
        assert_exact(&trip, &["norm.running_mean", "norm.running_var"]);
        assert!(trip.relative_error("patch_embed.proj.bias") < 0.01, "{recipe}");
    }
    let coarse = folders.round_trip("factors step=13");
    assert!(coarse.relative_error("norm.bias") > 0.1);

    // A rule for all of a model means its matrices, too; one that can be meant for them counts.
    let ruled = |recipe: &str| {
        let recipe = recipe.parse().unwrap();
        let selection = Selection::new("factors".parse().unwrap()).unwrap().rule("norm.*", recipe).unwrap();
        RoundTrip::new(&folders.base, &folders.finetuned, &with_selection(selection))
    };
    assert_exact(&ruled("dct block=8"), &["norm.running_mean", "norm.running_var"]);
    assert!(ruled("uniform step=0.01").row("norm.running_mean").relative_error.is_some());
}
