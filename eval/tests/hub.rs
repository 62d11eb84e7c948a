//! The hub, played by a server on this machine, and the cache that is shared with `huggingface_hub`.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use delta_dct::{ErrorKind, Silent};
use delta_dct_eval::hub::{Hub, Query, Settings};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use server::{Reply, Server, Stored, hub};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A small file, which lies on the hub and is known by the hash that Git gives it.
fn small(name: &'static str, content: &str) -> Stored {
    let object = [format!("blob {}\0", content.len()).as_bytes(), content.as_bytes()].concat();
    let etag = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &object).as_ref());
    Stored { name, content: content.into(), etag, elsewhere: None }
}

/// A large file, which lies at `elsewhere` and is known by its SHA-256.
fn large(name: &'static str, content: &[u8], elsewhere: &str) -> Stored {
    let etag = hex(digest(&SHA256, content).as_ref());
    Stored { name, content: content.into(), etag, elsewhere: Some(elsewhere.to_owned()) }
}

fn weights() -> Vec<u8> {
    (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Serves the weights under any name.
fn elsewhere() -> Server {
    Server::start(|request| Reply::bytes(request, &weights()))
}

fn model_files(elsewhere: &str) -> Vec<Stored> {
    vec![
        small(".gitattributes", "*.safetensors lfs"),
        small("README.md", "# A model"),
        small("config.json", "{}"),
        large("model.safetensors", &weights(), elsewhere),
        large("pytorch_model.bin", b"the same in another form", elsewhere),
        small("vocab.txt", "a b c"),
    ]
}

fn settings(endpoint: &str, cache: &Path) -> Settings {
    Settings {
        endpoint: endpoint.to_owned(),
        cache: cache.to_owned(),
        token: Some("secret".to_owned()),
        offline: false,
    }
}

fn resolve(endpoint: &str, cache: &TempDir, id: &str) -> Result<PathBuf, delta_dct_eval::Error> {
    Hub::new(settings(endpoint, cache.path())).resolve(id, None, false, &Silent)
}

/// The error's kind and line.
fn refused(result: Result<PathBuf, delta_dct_eval::Error>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn a_model_comes_into_the_cache_as_huggingface_hub_lays_it_out() {
    let (cdn, cache) = (elsewhere(), tempfile::tempdir().unwrap());
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    let folder = resolve(&hub.address, &cache, "hf://org/name").unwrap();

    let repo = cache.path().join("models--org--name");
    assert_eq!(folder, repo.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "vocab.txt"]);
    for file in [small("config.json", "{}"), large("model.safetensors", &weights(), "")] {
        assert_eq!(fs::read(repo.join("blobs").join(&file.etag)).unwrap(), file.content);
        assert_eq!(fs::read(folder.join(file.name)).unwrap(), file.content);
        #[cfg(unix)]
        assert_eq!(fs::read_link(folder.join(file.name)).unwrap(), Path::new("../../blobs").join(&file.etag));
    }
    assert!(cache.path().join(".locks/models--org--name").is_dir());

    hub.requests();
    assert_eq!(resolve(&hub.address, &cache, "hf://org/name").unwrap(), folder);
    assert_eq!(hub.asked(), ["GET /api/models/org/name/revision/main"]);
}

#[test]
fn only_the_hub_sees_the_token() {
    let (cdn, cache) = (elsewhere(), tempfile::tempdir().unwrap());
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    resolve(&hub.address, &cache, "hf://org/name").unwrap();
    let to_hub = hub.requests();
    assert!(
        to_hub.len() > 5
            && to_hub.iter().all(|request| request.header("authorization") == Some("Bearer secret"))
    );
    let to_cdn = cdn.requests();
    assert!(!to_cdn.is_empty() && to_cdn.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_download_goes_on_where_it_broke() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    // The first connection breaks, the second one knows nothing of ranges.
    let cdn = Server::start(|request| match CALLS.fetch_add(1, Ordering::Relaxed) {
        0 => Reply { cut: Some(300_000), ..Reply::bytes(request, &weights()) },
        _ => Reply::bytes(request, &weights()),
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    let blobs = cache.path().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let etag = large("", &weights(), "").etag;
    fs::write(blobs.join(format!("{etag}.incomplete")), &weights()[..400_000]).unwrap();

    let folder = resolve(&hub.address, &cache, "hf://org/name").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let ranges: Vec<_> =
        cdn.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [Some("bytes=400000-".to_owned()), Some("bytes=700000-".to_owned())]);
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let cdn = Server::start(|_| Reply { status: 200, body: weights(), ..Reply::default() });
    let cache = tempfile::tempdir().unwrap();
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    let blobs = cache.path().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", large("", &weights(), "").etag)), b"something else")
        .unwrap();
    let folder = resolve(&hub.address, &cache, "hf://org/name").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_damaged_file_never_becomes_part_of_the_cache() {
    let cdn = Server::start(|request| {
        let mut bytes = weights();
        bytes[5] ^= 1;
        Reply::bytes(request, &bytes)
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    let (kind, message) = refused(resolve(&hub.address, &cache, "hf://org/name"));
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(message.contains("model.safetensors arrived damaged"), "{message}");
    let repo = cache.path().join("models--org--name");
    assert!(!repo.join("snapshots").join(COMMIT).join("model.safetensors").exists());
    let etag = large("", &weights(), "").etag;
    assert!(
        fs::read_dir(repo.join("blobs")).unwrap().all(|e| !e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains(&etag))
    );
}

#[test]
fn refusals_say_what_to_do() {
    let gated = Server::start(|_| Reply::status(403, &[("x-error-code", "GatedRepo")]));
    let cache = tempfile::tempdir().unwrap();
    let (kind, message) = refused(resolve(&gated.address, &cache, "hf://org/name"));
    assert_eq!(kind, ErrorKind::Io);
    assert!(message.contains("accept its conditions at ") && message.contains("HF_TOKEN"), "{message}");

    let hub = Server::start(hub("models", "org/name", COMMIT, model_files("")));
    for (id, expected) in [
        (
            "hf://org/other",
            "hf://org/other: is not there, or is private: look at the name, and give its owner's token",
        ),
        ("hf://org/name@v2", "hf://org/name@v2: has no such revision"),
        (
            "hf://org/name/x.ddct",
            "there is no file or folder \"x.ddct\"; there are: .gitattributes, README.md",
        ),
        ("hf://org", "hf://org: is not there, or is private"),
    ] {
        let (_, message) = refused(resolve(&hub.address, &cache, id));
        assert!(message.contains(expected), "{message}");
    }
    let (kind, message) = refused(resolve(&hub.address, &cache, "hf://a/b/../c"));
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(message.contains("is written hf://"), "{message}");
    let rude = Server::start(|_| Reply::status(418, &[("x-error-message", "tea only")]));
    let (_, message) = refused(resolve(&rude.address, &cache, "hf://org/name"));
    assert!(message.contains("status 418: tea only"), "{message}");
}

#[test]
fn a_cache_serves_without_the_hub() {
    let (cdn, cache) = (elsewhere(), tempfile::tempdir().unwrap());
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    let offline = || Hub::new(Settings { offline: true, ..settings(&hub.address, cache.path()) });
    let (kind, message) = refused(offline().resolve("hf://org/name", None, false, &Silent));
    assert_eq!(kind, ErrorKind::Io);
    assert!(message.contains("HF_HUB_OFFLINE is set, and the cache"), "{message}");

    let folder = resolve(&hub.address, &cache, "hf://org/name").unwrap();
    hub.requests();
    for id in ["hf://org/name", &format!("hf://org/name@{COMMIT}")] {
        assert_eq!(offline().resolve(id, None, false, &Silent).unwrap(), folder);
    }
    assert_eq!(hub.asked(), [""; 0]);
    assert!(offline().search(&query()).unwrap_err().to_string().contains("HF_HUB_OFFLINE"));
    // Nobody listens there.
    assert_eq!(resolve("http://127.0.0.1:1", &cache, "hf://org/name").unwrap(), folder);
    let (_, message) = refused(resolve("http://127.0.0.1:1", &cache, "hf://org/unknown"));
    assert!(message.contains("cannot reach the hub at http://127.0.0.1:1"), "{message}");
}

#[test]
fn a_revision_is_kept_by_its_name() {
    let (cdn, cache) = (elsewhere(), tempfile::tempdir().unwrap());
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    let file = resolve(&hub.address, &cache, "hf://org/name@v1/config.json").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
    let refs = cache.path().join("models--org--name/refs");
    assert_eq!(fs::read_to_string(refs.join("v1")).unwrap(), COMMIT);
    assert!(!refs.join("main").exists());
}

#[test]
fn of_shards_those_that_the_index_names() {
    let index =
        r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"one.safetensors","d":"../x"}}"#;
    let files = vec![
        small("model.safetensors.index.json", index),
        small("one.safetensors", "1"),
        small("two.safetensors", "2"),
        small("three.safetensors", "3"),
    ];
    let (hub, cache) =
        (Server::start(hub("models", "org/name", COMMIT, files)), tempfile::tempdir().unwrap());
    let folder = resolve(&hub.address, &cache, "hf://org/name").unwrap();
    let here = |name: &str| folder.join(name).exists();
    assert!(here("one.safetensors") && here("two.safetensors") && !here("three.safetensors"));
}

#[test]
fn of_a_dataset_the_split_that_is_asked_for() {
    let files = vec![
        small("README.md", "about"),
        small("sst2/train-00000-of-00002.parquet", "a"),
        small("sst2/train-00001-of-00002.parquet", "b"),
        small("sst2/validation-00000-of-00001.parquet", "c"),
        small("sst2/notes.txt", "d"),
    ];
    let (server, cache) =
        (Server::start(hub("datasets", "org/glue", COMMIT, files)), tempfile::tempdir().unwrap());
    let hub = Hub::new(settings(&server.address, cache.path()));
    let place = "hf://datasets/org/glue/sst2";
    let file = hub.resolve(place, None, false, &Silent).unwrap();
    assert!(
        file.ends_with(format!(
            "datasets--org--glue/snapshots/{COMMIT}/sst2/validation-00000-of-00001.parquet"
        ))
    );
    #[cfg(unix)]
    assert!(fs::read_link(&file).unwrap().starts_with("../../../blobs"));
    let train = hub.resolve(place, Some("train"), false, &Silent).unwrap();
    assert!(train.join("train-00001-of-00002.parquet").is_file() && !train.join("notes.txt").exists());
    assert_eq!(hub.resolve(place, None, true, &Silent).unwrap(), train);
    let (_, message) = refused(hub.resolve(place, Some("test"), false, &Silent));
    assert!(
        message.contains("hf://datasets/org/glue/sst2: no file of the split test among train-00000"),
        "{message}"
    );
}

#[test]
fn two_at_a_time_fetch_a_file_once() {
    let (cdn, cache) = (elsewhere(), tempfile::tempdir().unwrap());
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    let fetch = || resolve(&hub.address, &cache, "hf://org/name").unwrap();
    let folders =
        std::thread::scope(|scope| [scope.spawn(fetch), scope.spawn(fetch)].map(|run| run.join().unwrap()));
    assert_eq!(folders[0], folders[1]);
    assert_eq!(cdn.requests().len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let (cdn, cache) = (elsewhere(), tempfile::tempdir().unwrap());
    let hub = Server::start(hub("models", "org/name", COMMIT, model_files(&cdn.address)));
    let blobs = cache.path().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{}.incomplete", large("", &weights(), "").etag));
    std::os::unix::fs::symlink("/dev/full", partial).unwrap();
    let (kind, message) = refused(resolve(&hub.address, &cache, "hf://org/name"));
    assert_eq!(kind, ErrorKind::Io);
    assert!(message.contains("no space is left; make room, or set HF_HUB_CACHE"), "{message}");
}

fn query() -> Query {
    Query { text: "sst 2".to_owned(), author: Some("org".to_owned()), sort: "trending".to_owned(), limit: 5 }
}

#[test]
fn search_asks_the_hub_and_reads_what_it_says() {
    let server = Server::start(|request| {
        let found = r#"[{"id":"org/name","downloads":7,"likes":2,"pipeline_tag":"text-classification","tags":["bert"],
                         "private":false},{"id":"org/other"}]"#;
        Reply::bytes(request, found.as_bytes())
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(settings(&server.address, cache.path()));
    let found = hub.search(&query()).unwrap();
    assert_eq!(server.asked(), ["GET /api/models?search=sst%202&author=org&sort=trendingScore&limit=5"]);
    assert_eq!((found[0].id.as_str(), found[0].downloads, found[0].likes), ("org/name", 7, 2));
    assert_eq!(
        (found[0].task.as_deref(), found[0].tags.as_slice()),
        (Some("text-classification"), &["bert".to_owned()][..])
    );
    assert_eq!((found[1].downloads, found[1].task.as_deref()), (0, None));
    for wrong in [Query { sort: "size".to_owned(), ..query() }, Query { limit: 0, ..query() }] {
        assert_eq!(hub.search(&wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
