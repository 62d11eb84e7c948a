//! The cache on disk, shared with `huggingface_hub`:
//!
//! ```text
//! models--ORG--NAME/blobs/ETAG                  contents
//! models--ORG--NAME/refs/REVISION               the commit that a branch or tag was last seen at
//! models--ORG--NAME/snapshots/COMMIT/FILE       link to ../../blobs/ETAG
//! .locks/models--ORG--NAME/ETAG.lock            held while the blob is written
//! ```
//!
//! A blob is written as `ETAG.incomplete`, which the next run continues, and renamed when its hash is right.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use delta_dct::{Error as DeltaError, Progress};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::id::{Id, is_inside};
use super::interrupted;
use crate::error::Result;

/// Folders below a snapshot in which files are looked for.
const DEPTH: usize = 8;

/// One repository in the cache.
pub(super) struct Cache {
    root: PathBuf,
    folder: String,
}

impl Cache {
    /// That of `id` in the cache at `root`.
    pub(super) fn new(root: &Path, id: &Id) -> Self {
        Self { root: root.to_owned(), folder: id.folder() }
    }

    /// Where the files of a commit are.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo().join("snapshots").join(commit)
    }

    /// The commit that `revision` was last seen at, or is.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        let seen = fs::read_to_string(self.repo().join("refs").join(revision)).ok();
        let commit = seen.map_or_else(|| revision.to_owned(), |text| text.trim().to_owned());
        (is_commit(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Remembers that `revision` is at `commit`. A cache that cannot be written to does without.
    pub(super) fn remember(&self, revision: &str, commit: &str) {
        let path = self.repo().join("refs").join(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|text| text == commit) {
            return;
        }
        let write = || -> io::Result<()> {
            let folder = path.parent().unwrap_or(&self.root);
            fs::create_dir_all(folder)?;
            let mut file = tempfile::Builder::new().prefix(".ref").tempfile_in(folder)?;
            io::Write::write_all(&mut file, commit.as_bytes())?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        // What is lost is only that a later run can do without the hub.
        let _ = write();
    }

    /// Names of the files of a commit that are here.
    pub(super) fn names(&self, commit: &str) -> Vec<String> {
        let mut names = Vec::new();
        list(&self.snapshot(commit), "", DEPTH, &mut names);
        names
    }

    /// Whether the file `name` of a commit is here.
    pub(super) fn has(&self, commit: &str, name: &str) -> bool {
        self.snapshot(commit).join(name).is_file()
    }

    /// The blob of `etag`, and what it is called while it is written. Makes its folder.
    pub(super) fn blob(&self, etag: &str) -> Result<(PathBuf, PathBuf)> {
        let folder = self.repo().join("blobs");
        create(&folder)?;
        Ok((folder.join(etag), folder.join(format!("{etag}.incomplete"))))
    }

    /// Waits until no other process writes the blob, and keeps others waiting until the result is dropped. Where the
    /// file system knows no locks there is none: the hash tells if two have written over each other.
    pub(super) fn lock(&self, etag: &str, progress: &dyn Progress) -> Result<File> {
        let folder = self.root.join(".locks").join(&self.folder);
        create(&folder)?;
        let path = folder.join(format!("{etag}.lock"));
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(|e| DeltaError::io("write", &path, e))?;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if progress.cancelled() {
                return Err(interrupted());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(file)
    }

    /// Gives the blob its name in a commit.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        create(path.parent().unwrap_or(&self.root))?;
        let up = "../".repeat(name.split('/').count() + 1);
        // A link that leads nowhere, because a person has removed its blob.
        let _ = fs::remove_file(&path);
        match link(Path::new(&format!("{up}blobs/{etag}")), &path) {
            Err(e) if !path.is_file() => Err(DeltaError::io("write", &path, e).into()),
            _ => Ok(()),
        }
    }

    fn repo(&self) -> PathBuf {
        self.root.join(&self.folder)
    }
}

/// Whether `text` is the full name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether the file at `path` is what `etag` says: its SHA-256 (64 digits) or the SHA-1 that Git gives it (40 digits).
/// Of an etag of another form nothing can be said.
pub(super) fn is_intact(path: &Path, etag: &str) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut hash = match etag.len() {
        64 => Context::new(&SHA256),
        40 => {
            let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            hash.update(format!("blob {}\0", file.metadata()?.len()).as_bytes());
            hash
        }
        _ => return Ok(true),
    };
    let mut part = vec![0; 1 << 18];
    loop {
        match file.read(&mut part)? {
            0 => break,
            n => hash.update(part.get(..n).unwrap_or_default()),
        }
    }
    let digits: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits.eq_ignore_ascii_case(etag))
}

fn create(folder: &Path) -> Result<()> {
    Ok(fs::create_dir_all(folder).map_err(|e| DeltaError::io("create the folder", folder, e))?)
}

fn list(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() && depth > 0 {
            list(&path, &format!("{name}/"), depth - 1, names);
        } else if path.is_file() && is_inside(&name) {
            names.push(name);
        }
    }
}

#[cfg(unix)]
fn link(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Without the right to make symbolic links the content has two names.
#[cfg(not(unix))]
fn link(target: &Path, path: &Path) -> io::Result<()> {
    let blob = path.parent().unwrap_or(path).join(target);
    fs::hard_link(&blob, path).or_else(|_| fs::copy(&blob, path).map(drop))
}
