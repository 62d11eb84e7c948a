//! `sweeps/predecessor.toml` as it is, with a server on this machine in the place of the hub: small models under the
//! names of the real ones.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::run::{Run, command, succeed};
use crate::server::{Reply, Request, Server, Stored, hub};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const SWEEP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sweeps/predecessor.toml");

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../eval/tests/fixtures")
}

/// Writes a base whose head is for three classes to `NAME`, and a model of other classes made from it to `NAME-ft`:
/// `config` and the files beside it say what kind of model, `data` and its `options` what the fine-tuned one learns.
fn write_pair(dir: &Path, name: &str, config: &serde_json::Value, three: &str, data: &str, options: &str) {
    let start = dir.join(format!("{name}-config"));
    fs::write(start.join("config.json"), config.to_string()).unwrap();
    succeed(
        dir,
        &format!("finetune --base {name}-config --scratch --data {three} --epochs 0 --seed 1 -q -o {name}"),
    );
    let tune = "--epochs 2 --lr 1e-2 -q";
    succeed(dir, &format!("finetune --base {name} --data {data} {options} {tune} -o {name}-ft"));
}

/// A small ViT and a small DistilBERT, each with a base.
fn write_pairs(dir: &Path) {
    let pixels = fixtures().join("pixels");
    for (class, image) in [("a", "square"), ("b", "tall"), ("c", "wide")] {
        fs::create_dir_all(dir.join("images").join(class)).unwrap();
        let name = format!("{image}.png");
        fs::copy(pixels.join(&name), dir.join("images").join(class).join(name)).unwrap();
    }
    fs::create_dir(dir.join("vit-config")).unwrap();
    let pixels = json!({"do_resize": true, "size": {"height": 16, "width": 16}, "resample": 2,
                        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
    fs::write(dir.join("vit-config/preprocessor_config.json"), pixels.to_string()).unwrap();
    let vit = json!({"model_type": "vit", "image_size": 16, "patch_size": 4, "hidden_size": 32,
                     "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2});
    let cifar = fixtures().join("cifar.parquet");
    write_pair(dir, "vit", &vit, "images", cifar.to_str().unwrap(), "--classes 10");

    let lines = ["a", "b", "c"].map(|class| json!({"text": class, "label": class}).to_string());
    fs::write(dir.join("three.jsonl"), lines.join("\n")).unwrap();
    fs::create_dir(dir.join("text-config")).unwrap();
    for name in ["vocab.txt", "tokenizer_config.json"] {
        fs::copy(fixtures().join("vocabularies/bert").join(name), dir.join("text-config").join(name))
            .unwrap();
    }
    let text = json!({"model_type": "distilbert", "vocab_size": 109, "dim": 32, "hidden_dim": 64, "n_layers": 1,
                      "n_heads": 2, "max_position_embeddings": 32});
    let glue = fixtures().join("glue.parquet");
    // The third sentence has no label.
    write_pair(dir, "text", &text, "three.jsonl", glue.to_str().unwrap(), "--classes 2 --limit 2");
}

/// The hub with models and data under these names.
fn serve(dir: &Path) -> Server {
    // Etags begin with a mark, by which a file is known that is asked for without its repository.
    let store = |mark: &str, name: &'static str, content: Vec<u8>| Stored {
        name,
        content,
        etag: format!("{mark}-{}", name.replace(['/', '.', '_'], "-")),
        elsewhere: None,
    };
    let model = |repo: &'static str, folder: &'static str, mark: &'static str| {
        let names = ["config.json", "model.safetensors", "preprocessor_config.json", "vocab.txt"];
        let found = names.map(|name| Some(store(mark, name, fs::read(dir.join(folder).join(name)).ok()?)));
        (repo, mark, hub("models", repo, COMMIT, found.into_iter().flatten().collect()))
    };
    let data = |repo: &'static str, file: &'static str, mark: &'static str, names: [&'static str; 2]| {
        let content = fs::read(fixtures().join(file)).unwrap();
        let files = names.map(|name| store(mark, name, content.clone())).to_vec();
        (repo, mark, hub("datasets", repo, COMMIT, files))
    };
    let models = [
        model("google/vit-base-patch16-224-in21k", "vit", "vit0"),
        model("nateraw/vit-base-patch16-224-cifar10", "vit-ft", "vit1"),
        model("distilbert/distilbert-base-uncased", "text", "text0"),
        model("distilbert/distilbert-base-uncased-finetuned-sst-2-english", "text-ft", "text1"),
    ];
    let data = [
        data(
            "uoft-cs/cifar10",
            "cifar.parquet",
            "cifar",
            ["plain_text/train.parquet", "plain_text/test.parquet"],
        ),
        data("nyu-mll/glue", "glue.parquet", "glue", ["sst2/train.parquet", "sst2/validation.parquet"]),
    ];
    Server::start(move |request: &Request| {
        let asks = |repo: &str, mark: &str| {
            request.path.contains(&format!("/{repo}/"))
                || request.path.starts_with(&format!("/small/{mark}-"))
        };
        let of_models = models.iter().find(|(repo, mark, _)| asks(repo, mark)).map(|found| found.2(request));
        let of_data = || data.iter().find(|(repo, mark, _)| asks(repo, mark)).map(|found| found.2(request));
        of_models.or_else(of_data).unwrap_or_else(|| Reply::status(404, &[]))
    })
}

/// Runs `words` in `dir` with this hub, and a cache of its own.
fn run_with(dir: &Path, server: &Server, offline: &str, words: &[&str]) -> Run {
    let mut command = command(dir);
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", &server.address).env("HF_HOME", dir.join("hf")).env("HF_HUB_OFFLINE", offline);
    command.args(words).output().unwrap().into()
}

#[test]
fn the_predecessors_tables_are_made_from_the_hub_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pairs(dir);
    let server = serve(dir);
    let sweep = |pair: &str, runs: usize, offline: &str| {
        let runs = runs.to_string();
        let words = ["sweep", SWEEP, "-o", "out", "--pairs", pair, "--limit", "2", "--runs", &runs, "--json"];
        run_with(dir, &server, offline, &words).json()
    };
    let vit = "vit-base-patch16-224-cifar10";
    let made = sweep(vit, 2, "0");
    let asked = server.asked().join("\n");
    assert!(asked.contains("plain_text/test.parquet") && !asked.contains("plain_text/train.parquet"));
    let pair = &made["pairs"][0];
    assert_eq!(
        pair["notes"][0],
        "base: random, because the base has them in another shape: classifier.bias, classifier.weight"
    );
    assert_eq!(
        (&pair["base_quality"]["examples"], &pair["finetuned_quality"]["examples"]),
        (&2.into(), &2.into())
    );
    for row in made["rows"].as_array().unwrap() {
        assert_eq!(row["predecessor"], true);
        assert!(row["predecessor_ratio"].as_f64().unwrap() > 1.0 && row["bytes"].as_u64().unwrap() > 0);
        assert!(row["kl"].as_f64().unwrap().is_finite());
    }

    // What has arrived is enough from then on.
    assert_eq!(sweep(vit, 1, "1")["rows"].as_array().unwrap().len(), 3);
    assert_eq!(server.asked(), [""; 0]);
    let text = "distilbert-base-uncased-finetuned-sst-2-english";
    let made = sweep(text, 2, "0");
    assert_eq!(made["rows"].as_array().unwrap().len(), 2);
    assert_eq!(made["pairs"][0]["finetuned_quality"]["examples"], 2);

    let picks = succeed(dir, "best out");
    assert!(picks.contains(vit) && picks.contains(text) && picks.contains("as the predecessor"), "{picks}");
    succeed(dir, "report out -o r.html");
    let page = fs::read_to_string(dir.join("r.html")).unwrap();
    let place =
        "--base hf://google/vit-base-patch16-224-in21k --finetuned hf://nateraw/vit-base-patch16-224-cifar10";
    assert!(page.contains(place) && page.contains("--split test"));
}

#[test]
fn of_a_dataset_one_split_is_learned_and_another_judged() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pairs(dir);
    let server = serve(dir);
    let data = "hf://datasets/uoft-cs/cifar10/plain_text";
    let words =
        ["finetune", "--base", "hf://google/vit-base-patch16-224-in21k", "--data", data, "--classes", "10"];
    let more = ["--epochs", "1", "-o", "F", "--json"];
    let made = run_with(dir, &server, "0", &[&words[..], &more[..]].concat()).json();
    assert_eq!(made["examples"], 3);
    let asked = server.asked().join("\n");
    assert!(asked.contains("plain_text/train.parquet") && !asked.contains("plain_text/test.parquet"));
    let judged = ["--eval-data", data, "--force"];
    let made = run_with(dir, &server, "0", &[&words[..], &more[..], &judged[..]].concat()).json();
    assert_eq!(made["epochs"][0]["held_out"]["examples"], 3);
    assert!(server.asked().join("\n").contains("plain_text/test.parquet"));
}
