//! Models by their id on the hub, played by a server on this machine.

use std::fs;
use std::path::Path;

use crate::run::{Run, command, run, small_pair, tensors};
use crate::server::{Reply, Request, Server, Stored, hub};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The files of `folder` that have these names, with etags that begin with `mark`.
fn stored(folder: &Path, mark: &str, names: &[&'static str]) -> Vec<Stored> {
    let store = |(i, name): (usize, &&'static str)| Stored {
        name,
        content: fs::read(folder.join(name)).unwrap(),
        etag: format!("{mark}-{i}"),
        elsewhere: None,
    };
    names.iter().enumerate().map(store).collect()
}

/// A hub with the repositories `org/base`, `org/ft` and `org/delta`, of what `dir` holds.
fn serve(dir: &Path) -> Server {
    let model = ["config.json", "model.safetensors"];
    let base = hub("models", "org/base", COMMIT, stored(&dir.join("base"), "base", &model));
    let finetuned = hub("models", "org/ft", COMMIT, stored(&dir.join("ft"), "ft", &model));
    let delta = hub("models", "org/delta", COMMIT, stored(dir, "delta", &["X.ddct"]));
    Server::start(move |request: &Request| {
        let asks = |part: &str| request.path.contains(part);
        if asks("/org/base") || asks("/small/base") {
            base(request)
        } else if asks("/org/ft") || asks("/small/ft") {
            finetuned(request)
        } else if asks("/api/models?") {
            let found = r#"[{"id":"org/ft","downloads":1234,"likes":5,"pipeline_tag":"fill-mask","tags":["bert","en"]}]"#;
            Reply::bytes(request, found.as_bytes())
        } else {
            delta(request)
        }
    })
}

/// Runs a line in `dir` with the hub at `endpoint` and a cache of its own.
fn run_with(dir: &Path, endpoint: &str, offline: &str, line: &str) -> Run {
    let mut command = command(dir);
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", dir.join("hf")).env("HF_HUB_OFFLINE", offline);
    command.args(line.split_whitespace()).output().unwrap().into()
}

#[test]
fn commands_take_ids_in_place_of_paths() {
    let dir = small_pair();
    let dir = dir.path();
    run(dir, "compress -b base -f ft -o X.ddct");
    let server = serve(dir);
    let hub = |line: &str| run_with(dir, &server.address, "0", line);
    let made = hub("compress -b hf://org/base -f hf://org/ft@v1 --json").json();
    assert_eq!(made["output"], "ft@v1.ddct");
    let seen = hub("inspect ft@v1.ddct --json").json();
    assert_eq!(seen["base"], format!("org/base@{COMMIT}"));
    assert_eq!(hub("verify hf://org/delta/X.ddct -b hf://org/base --json").json()["decoded"], true);
    assert_eq!(hub("inspect hf://org/delta --json").json()["base"], "base");
    let line = "apply hf://org/delta/X.ddct -b hf://org/base -o out --json";
    hub(line).json();
    let local = run(dir, "apply X.ddct -b base -o here --json");
    assert_eq!(local.code, Some(0));
    assert_eq!(tensors(&dir.join("out")), tensors(&dir.join("here")));

    server.asked();
    run_with(dir, &server.address, "1", &format!("{line} --force")).json();
    assert_eq!(server.asked(), [""; 0]);
}

#[test]
fn what_the_hub_does_not_have_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::status(404, &[("x-error-code", "RepoNotFound")]));
    let run = run_with(dir.path(), &server.address, "0", "verify hf://org/none/X.ddct");
    assert_eq!(run.code, Some(3));
    assert!(run.stderr.starts_with("delta-dct: error: hf://org/none/X.ddct: is not there, or is private"));
    assert_eq!(run.stderr.lines().count(), 1);
}

#[test]
fn search_prints_a_table_or_json() {
    let dir = small_pair();
    run(dir.path(), "compress -b base -f ft -o X.ddct");
    let server = serve(dir.path());
    let text = run_with(dir.path(), &server.address, "0", "search sst-2 --limit 3 --author org");
    assert_eq!(server.asked(), ["GET /api/models?search=sst-2&author=org&sort=downloads&limit=3"]);
    let row: Vec<&str> = text.stdout.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row, ["org/ft", "1,234", "5", "fill-mask", "bert,", "en"]);
    let json = run_with(dir.path(), &server.address, "0", "search sst-2 --json").json();
    let fields: Vec<&String> = json["models"][0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "downloads", "likes", "task", "tags"]);
    let readme = include_str!("../../README.md");
    assert!(fields.iter().all(|field| readme.contains(&format!("`models[].{field}`"))));
}
