//! Options that choose how tensors are coded, seen in the records that they lead to.

use std::collections::BTreeMap;
use std::path::Path;

use crate::run::{run_words, small_pair};

/// Kind and plan by tensor after a compression with `words`.
fn coded(dir: &Path, words: &[&str]) -> BTreeMap<String, (String, String)> {
    let line = ["compress", "-b", "base", "-f", "ft", "--dry-run", "--json"];
    let summary = run_words(dir, &[&line, words].concat()).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let row = |t: &serde_json::Value| (text(&t["name"]), (text(&t["kind"]), text(&t["plan"])));
    summary["tensors"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn matrices_are_coded_vectors_and_heads_finely_or_heads_exactly() {
    let dir = small_pair();
    for words in [&["--method", "dct"][..], &["--exclude", "classifier.*"]] {
        assert_eq!(coded(dir.path(), words)["classifier.weight"].0, "raw", "{words:?}");
    }
    let tensors = coded(dir.path(), &[]);
    assert!(tensors["classifier.weight"].1.contains("uniform"), "{tensors:?}");
    assert!(tensors["layer.0.mlp.weight"].1.starts_with("factors step="), "{tensors:?}");
    assert!(tensors["layer.0.norm.weight"].1.contains("uniform"));
}

#[test]
fn a_recipe_and_its_options_say_the_same() {
    let dir = small_pair();
    let recipe = coded(dir.path(), &["--method", "dct block=16 bits=4:1 rescale=none"]);
    let options =
        coded(dir.path(), &["--method", "dct", "--block", "16", "--bits", "4:1", "--rescale", "none"]);
    assert_eq!(recipe, options);
    assert!(recipe["layer.0.mlp.weight"].1.starts_with("dct block=16"), "{recipe:?}");
}

#[test]
fn patterns_choose_tensors() {
    let dir = small_pair();
    let kinds = |words: &[&str]| {
        let tensors = coded(dir.path(), words);
        ["embeddings.word.weight", "layer.0.mlp.weight", "layer.1.mlp.weight"]
            .map(|name| tensors[name].0.clone())
    };
    assert_eq!(kinds(&["--include", "layer.*"]), ["raw", "delta", "delta"]);
    assert_eq!(kinds(&["--exclude", "layer.0.*", "--exclude", "embed*"]), ["raw", "raw", "delta"]);
    assert_eq!(kinds(&["--rule", "embed*=zero", "--rule", "layer.1.*=raw"]), ["base", "delta", "raw"]);
    let tensors = coded(dir.path(), &["--rule", "layer.1.*=dct block=16 bits=4:1"]);
    assert!(tensors["layer.1.mlp.weight"].1.starts_with("dct block=16"));
}

#[test]
fn the_predecessor_carries_vectors_exactly() {
    let dir = small_pair();
    let tensors = coded(dir.path(), &["--predecessor"]);
    assert_eq!(tensors["layer.0.norm.weight"].0, "raw");
    assert_eq!(tensors["layer.0.mlp.weight"].0, "delta");
}
