//! Real pairs through every method: sizes recounted from the files, values from the weights, bytes the same every time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use delta_dct::{Archive, Dtype, METHODS, Method, Silent, compress};
use rayon::prelude::*;

use support::{RoundTrip, available, open, options, shared, workspace};

/// A folder with `base` and `ft`.
#[derive(Debug)]
struct Model {
    base: PathBuf,
    finetuned: PathBuf,
}

impl Model {
    fn in_folder(dir: &Path) -> Self {
        Self { base: dir.join("base"), finetuned: dir.join("ft") }
    }

    fn demo() -> Self {
        Self::in_folder(&workspace().join("demo"))
    }

    fn beside(name: &str) -> Option<Self> {
        shared(&format!("pairs/{name}")).map(|dir| Self::in_folder(&dir))
    }

    /// The pair whose base is fetched by the test command.
    fn minilm() -> Option<Self> {
        let base = available(workspace().join("target/pairs/minilm-base"))?;
        Some(Self { base, finetuned: shared("pairs/minilm-sst2/ft")? })
    }

    fn round_trip(&self, recipe: &str) -> RoundTrip {
        RoundTrip::new(&self.base, &self.finetuned, &options(recipe))
    }

    /// The `.ddct` file and every file of the result, made by `threads` threads.
    fn files(&self, recipe: &str, threads: usize) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let (file, output) = (dir.path().join("x.ddct"), dir.path().join("out"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            compress(&open(&self.base), &open(&self.finetuned), &file, &options(recipe), &Silent).unwrap();
            Archive::open(&file).unwrap().apply(&open(&self.base), &output, false, &Silent).unwrap();
        });
        let result = support::snapshot(&output).into_values();
        std::iter::once(fs::read(&file).unwrap()).chain(result).collect()
    }
}

/// Bits per weight of the coded matrices, records whole.
fn bits_per_weight(trip: &RoundTrip) -> f64 {
    let coded = trip.summary.tensors.iter().filter(|row| row.kind == "delta" && row.shape.len() >= 2);
    let (bytes, weights) = coded.fold((0, 0), |(b, w), row| (b + row.bytes, w + row.weights));
    bytes as f64 * 8.0 / weights as f64
}

/// `<d', d> / <d, d>` of each matrix that is coded by the method's own plan.
fn projections(trip: &RoundTrip) -> Vec<(String, f64)> {
    let is_coded = |row: &&delta_dct::TensorSummary| row.kind == "delta" && !row.plan.contains("uniform");
    let coded: Vec<_> = trip.summary.tensors.iter().filter(is_coded).collect();
    let projection = |row: &&delta_dct::TensorSummary| {
        let (d, r) = trip.deltas(&row.name);
        let (dr, dd) = d.iter().zip(&r).fold((0.0, 0.0), |(dr, dd), (d, r)| (dr + d * r, dd + d * d));
        (row.name.clone(), dr / dd)
    };
    coded.par_iter().map(projection).collect()
}

/// One method at its defaults on one pair. What holds for every pair is checked by `RoundTrip`.
fn check(model: &Model, method: &Method) {
    let trip = model.round_trip(method.name);
    let float = trip.finetuned.values().find(|tensor| tensor.shape.len() == 2).unwrap().dtype;
    println!(
        "{} {}: {} bytes, ratio {:.2}, {:.4} bpw, {:.2} s",
        model.finetuned.display(),
        method.name,
        trip.summary.output_bytes,
        trip.summary.finetuned_bytes as f64 / trip.summary.output_bytes as f64,
        bits_per_weight(&trip),
        trip.summary.seconds,
    );
    for row in trip.summary.tensors.iter().filter(|row| row.name.starts_with("classifier")) {
        match row.relative_error {
            None => assert!(trip.is_exact(&row.name), "{row:?}"),
            Some(error) => {
                let coded = ["auto", "factors"].contains(&method.name) && row.shape.len() == 2;
                assert!(coded && row.plan.starts_with("none | uniform") && error < 0.05, "{row:?}");
            }
        }
    }
    if ["raw", "lossless"].contains(&method.name) {
        let file = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
        assert!(
            file(&trip.output) == file(&model.finetuned),
            "{} restores the file byte for byte",
            method.name
        );
    } else if method.name != "zero" {
        let lossy = trip.summary.tensors.iter().filter(|row| row.kind == "delta").count();
        assert!(lossy * 2 > trip.summary.tensors.len(), "{}: only {lossy} tensors are coded", method.name);
    }
    if method.plan.ends_with("unbiased") && float == Dtype::F32 {
        for (name, projection) in projections(&trip) {
            assert!((projection - 1.0).abs() < 0.01, "{} {name}: <d', d> is {projection} |d|^2", method.name);
        }
    }
}

fn check_all(model: &Model) {
    METHODS.iter().for_each(|method| check(model, method));
}

#[test]
fn every_method_on_the_demo_pair() {
    check_all(&Model::demo());
}

#[test]
fn every_method_on_vit_cifar10() {
    Model::beside("vit-cifar10").iter().for_each(check_all);
}

#[test]
fn every_method_on_llama_code() {
    Model::beside("llama-code").iter().for_each(check_all);
}

#[test]
fn every_method_on_minilm_sst2() {
    let Some(model) = Model::minilm() else { return };
    check_all(&model);
    let trip = model.round_trip("dct block=32 bits=2:0.5,0:0.5");
    assert!(bits_per_weight(&trip) <= 0.95, "{} bits per weight", bits_per_weight(&trip));
    // The base is the bare encoder: a prefix is missing, and the classifier.
    assert_eq!(trip.summary.rename.as_ref().map(|rename| rename.finetuned.as_str()), Some("bert."));
    let new: Vec<_> =
        trip.summary.tensors.iter().filter(|row| row.relation == "new").map(|row| &row.name).collect();
    assert_eq!(new, ["classifier.bias", "classifier.weight"]);
}

#[test]
fn bytes_do_not_depend_on_threads_or_chance() {
    for model in [Some(Model::demo()), Model::beside("llama-code")].into_iter().flatten() {
        for method in METHODS {
            let once = model.files(method.name, 1);
            for threads in [1, 2, 3] {
                assert!(model.files(method.name, threads) == once, "{} with {threads} threads", method.name);
            }
        }
    }
}
