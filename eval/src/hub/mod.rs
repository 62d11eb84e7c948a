//! Models and data by their id on the Hugging Face hub: `hf://ORG/NAME`, `hf://datasets/ORG/NAME/PATH`.
//!
//! | file | what |
//! |---|---|
//! | `settings.rs` | the environment: `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_ENDPOINT` |
//! | `id.rs` | the text form of an id, and addresses |
//! | `wanted.rs` | of the files of a repository those that are needed |
//! | `client.rs` | requests, redirects, refusals |
//! | `cache.rs` | the cache on disk, shared with `huggingface_hub` |
//! | `download.rs` | one file into the cache: continued, checked, locked |
//! | `search.rs` | models by text |

mod cache;
mod client;
mod download;
mod id;
mod search;
mod settings;
mod wanted;

use std::path::{Path, PathBuf};

use delta_dct::{Error as DeltaError, ErrorKind, Progress};
use serde::Deserialize;

use self::cache::{Cache, is_commit};
use self::client::{Client, Fault};
use self::download::Download;
use self::id::{Id, Kind, is_inside};
pub use self::search::{Found, Query};
pub use self::settings::Settings;
use crate::data;
use crate::error::{Error, Result};

/// A hub and the cache of what it has.
pub struct Hub {
    client: Client,
    settings: Settings,
}

/// What the hub says about a revision.
#[derive(Deserialize)]
struct Revision {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

/// A file of it.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A repository at one commit.
struct Repo<'a> {
    hub: &'a Hub,
    id: &'a Id,
    cache: Cache,
    commit: String,
    names: Vec<String>,
    /// Why there is nothing but the cache, if that is so.
    absent: Option<String>,
    progress: &'a dyn Progress,
}

/// Where the files of `id` are on this machine; fetches those that are needed and not in the cache. See [`Hub`].
pub fn resolve(id: &str, split: Option<&str>, training: bool, progress: &dyn Progress) -> Result<PathBuf> {
    Hub::new(Settings::from_environment()).resolve(id, split, training, progress)
}

impl Hub {
    /// The hub of `settings`.
    pub fn new(settings: Settings) -> Self {
        Self { client: Client::new(&settings), settings }
    }

    /// Where the files of `id` (`hf://...`) are on this machine.
    ///
    /// Of a model its weights (safetensors if there are any), config, tokenizer and preprocessor are fetched; of a
    /// dataset the files of `split` (by default the training split for `training`, otherwise the validation, else the
    /// test split). Files of the cache are not fetched again; where the hub cannot be reached, or `HF_HUB_OFFLINE` is
    /// set, the cache alone is used. Gives the folder of the commit, or the file if just one was meant.
    ///
    /// Errors: InvalidArgument (no id; it is not clear which file), Io (no access, no network, no space), Corrupt (a
    /// file is not what its hash says), Interrupted (what has arrived is kept, and the next call goes on).
    pub fn resolve(
        &self,
        id: &str,
        split: Option<&str>,
        training: bool,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let id: Id = id.parse()?;
        let repo = self.open(&id, progress)?;
        match id.kind {
            Kind::Model => repo.model(),
            Kind::Dataset => repo.data(split, training),
        }
    }

    /// Models that fit `query`, best first. Errors: InvalidArgument, Io (no network, or offline).
    pub fn search(&self, query: &Query) -> Result<Vec<Found>> {
        if self.settings.offline {
            return Err(DeltaError::new(
                ErrorKind::Io,
                "HF_HUB_OFFLINE is set: there is no search in the cache",
            )
            .into());
        }
        Ok(self.client.json(&query.place()?, None)?)
    }

    fn open<'a>(&'a self, id: &'a Id, progress: &'a dyn Progress) -> Result<Repo<'a>> {
        let cache = Cache::new(&self.settings.cache, id);
        let absent = match self.listing(id) {
            Ok((commit, names)) => {
                cache.remember(&id.revision, &commit);
                return Ok(Repo { hub: self, id, cache, commit, names, absent: None, progress });
            }
            Err(Fault::Absent(why)) => why,
            Err(fault) => return Err(fault.into()),
        };
        let Some(commit) = cache.commit(&id.revision) else {
            let place = self.settings.cache.display();
            let message = format!("{id}: {absent}, and the cache {place} does not have it");
            return Err(DeltaError::new(ErrorKind::Io, message).into());
        };
        let names = cache.names(&commit);
        Ok(Repo { hub: self, id, cache, commit, names, absent: Some(absent), progress })
    }

    /// Commit and files of `id`, as the hub has them now.
    fn listing(&self, id: &Id) -> std::result::Result<(String, Vec<String>), Fault> {
        if self.settings.offline {
            return Err(Fault::Absent("HF_HUB_OFFLINE is set".to_owned()));
        }
        let revision: Revision = self.client.json(&id.about(), Some(id))?;
        if !is_commit(&revision.sha) {
            let message = format!("{id}: {:?} is not a commit", revision.sha);
            return Err(Fault::Refused(DeltaError::corrupt(message)));
        }
        let names = revision.siblings.into_iter().map(|file| file.rfilename).filter(|name| is_inside(name));
        Ok((revision.sha, names.collect()))
    }
}

impl Repo<'_> {
    fn model(&self) -> Result<PathBuf> {
        let wrong = |why| DeltaError::invalid(format!("{}: {why}", self.id));
        let wanted = wanted::model(&self.names, &self.id.path).map_err(wrong)?;
        let mut files = wanted.files;
        if let Some(index) = wanted.index {
            self.fetch(std::slice::from_ref(&index))?;
            files.extend(
                wanted::shards(&self.path(&index), &index)?.into_iter().filter(|name| is_inside(name)),
            );
        }
        self.fetch(&files)?;
        Ok(self.path(&wanted.place))
    }

    fn data(&self, split: Option<&str>, training: bool) -> Result<PathBuf> {
        let path = self.id.path.as_str();
        if self.names.iter().any(|name| name == path) {
            self.fetch(&[path.to_owned()])?;
            return Ok(self.path(path));
        }
        let inside: Vec<&str> = self.names.iter().filter_map(|name| wanted::within(name, path)).collect();
        // As if the repository lay in a folder that is called by its id: that is what messages show.
        let folder = self.id.to_string();
        let chosen = data::select(Path::new(&folder), &inside, split, training)?;
        let name = |file: &PathBuf| {
            let inner = file.strip_prefix(&folder).unwrap_or(file).to_string_lossy().replace('\\', "/");
            if path.is_empty() { inner } else { format!("{path}/{inner}") }
        };
        let files: Vec<String> = chosen.iter().map(name).collect();
        self.fetch(&files)?;
        match &files[..] {
            [one] => Ok(self.path(one)),
            _ => Ok(self.path(path)),
        }
    }

    /// Where a file or folder of the commit is; empty for all of it.
    fn path(&self, name: &str) -> PathBuf {
        let snapshot = self.cache.snapshot(&self.commit);
        if name.is_empty() { snapshot } else { snapshot.join(name) }
    }

    /// Fetches those of `files` that the cache does not have.
    fn fetch(&self, files: &[String]) -> Result<()> {
        let missing: Vec<&String> = files.iter().filter(|name| !self.cache.has(&self.commit, name)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        if let Some(why) = &self.absent {
            let message = format!("{}: {why}, and the cache does not have {first}", self.id);
            return Err(DeltaError::new(ErrorKind::Io, message).into());
        }
        let client = &self.hub.client;
        let about = |name: &&String| client.about(self.id, &self.commit, name);
        let known = missing.iter().map(about).collect::<std::result::Result<Vec<_>, Fault>>()?;
        self.progress.begin("download", known.iter().filter_map(|about| about.size).sum());
        for (name, about) in missing.into_iter().zip(&known) {
            let (id, commit, progress) = (self.id, self.commit.as_str(), self.progress);
            Download { client, id, commit, name, about, progress }.run(&self.cache)?;
        }
        Ok(())
    }
}

/// The user wants to stop.
fn interrupted() -> Error {
    DeltaError::new(ErrorKind::Interrupted, "interrupted; what has arrived is kept in the cache").into()
}
