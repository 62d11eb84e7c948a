//! One file of the hub into the cache.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use delta_dct::{Error as DeltaError, ErrorKind, Progress};

use super::cache::{Cache, is_intact};
use super::client::{About, Client, Fault};
use super::id::Id;
use super::interrupted;
use crate::error::Result;

/// How often a connection may break without a byte before this gives up.
const TRIALS: usize = 4;
/// Pause after a connection broke.
const PAUSE: Duration = Duration::from_millis(500);

/// How an attempt ended.
enum End {
    /// The other side has sent all that it has.
    Done,
    /// The connection broke; why, and after how many bytes.
    Broken(String, u64),
}

/// One file, and where it goes.
pub(super) struct Download<'a> {
    /// Who is asked.
    pub(super) client: &'a Client,
    /// The repository.
    pub(super) id: &'a Id,
    /// Its commit.
    pub(super) commit: &'a str,
    /// The file.
    pub(super) name: &'a str,
    /// What the hub knows it by.
    pub(super) about: &'a About,
    /// Told of its bytes.
    pub(super) progress: &'a dyn Progress,
}

impl Download<'_> {
    /// Puts the file into the cache; what an earlier run has left is continued.
    pub(super) fn run(&self, cache: &Cache) -> Result<()> {
        let etag = &self.about.etag;
        let _lock = cache.lock(etag, self.progress)?;
        let (blob, partial) = cache.blob(etag)?;
        if !blob.is_file() {
            self.receive(&partial)?;
            if !is_intact(&partial, etag).map_err(|e| DeltaError::io("read", &partial, e))? {
                remove(&partial)?;
                let (id, name) = (self.id, self.name);
                let message =
                    format!("{id}: {name} arrived damaged (its hash is not {etag}); run this again");
                return Err(DeltaError::corrupt(message).into());
            }
            fs::rename(&partial, &blob).map_err(|e| DeltaError::io("write", &blob, e))?;
        }
        cache.link(self.commit, self.name, etag)
    }

    /// Completes the file at `partial`, through broken connections.
    fn receive(&self, partial: &Path) -> Result<()> {
        let mut trials = TRIALS;
        self.progress.advance(length(partial));
        loop {
            let have = length(partial);
            if self.about.size.is_some_and(|size| have > size) {
                remove(partial)?;
                continue;
            }
            if have > 0 && self.about.size == Some(have) {
                return Ok(());
            }
            let (why, received) = match self.attempt(partial, have)? {
                End::Done if self.about.size.is_none_or(|size| length(partial) == size) => return Ok(()),
                End::Done => ("the other side sent too little".to_owned(), 0),
                End::Broken(why, received) => (why, received),
            };
            trials = if received > 0 { TRIALS } else { trials - 1 };
            if trials == 0 {
                let (id, name) = (self.id, self.name);
                let message = format!(
                    "{id}: {name}: {why}; what has arrived is kept, and the next run goes on from there"
                );
                return Err(DeltaError::new(ErrorKind::Io, message).into());
            }
            sleep(PAUSE);
        }
    }

    /// Asks for the bytes from `have` on and appends them to `partial`; all of them, if the other side knows no ranges.
    fn attempt(&self, partial: &Path, have: u64) -> Result<End> {
        let response = match self.client.file(self.id, self.commit, self.name, have) {
            Ok(response) => response,
            Err(Fault::Absent(why)) => return Ok(End::Broken(why, 0)),
            Err(fault) => return Err(fault.into()),
        };
        let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
        let from = match response.status().as_u16() {
            206 if range.is_some_and(|range| range.starts_with(&format!("bytes {have}-"))) => have,
            206 | 416 => {
                remove(partial)?;
                return Ok(End::Broken("the other side sent other bytes than those asked for".to_owned(), 0));
            }
            _ => 0,
        };
        self.append(response.into_body().into_reader(), partial, from)
    }

    fn append(&self, mut body: impl Read, partial: &Path, from: u64) -> Result<End> {
        let open = File::options().create(true).write(true).truncate(from == 0).open(partial);
        let mut file = open.map_err(|e| not_written(partial, e))?;
        file.seek(SeekFrom::Start(from)).map_err(|e| not_written(partial, e))?;
        let (mut part, mut received) = (vec![0; 1 << 18], 0);
        loop {
            if self.progress.cancelled() {
                return Err(interrupted());
            }
            match body.read(&mut part) {
                Ok(0) => return Ok(End::Done),
                Ok(n) => {
                    file.write_all(part.get(..n).unwrap_or_default()).map_err(|e| not_written(partial, e))?;
                    received += n as u64;
                    self.progress.advance(n as u64);
                }
                Err(e) => return Ok(End::Broken(e.to_string(), received)),
            }
        }
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DeltaError::io("remove", path, e).into()),
        _ => Ok(()),
    }
}

fn not_written(path: &Path, error: io::Error) -> DeltaError {
    let full = error.kind() == io::ErrorKind::StorageFull;
    let advice =
        "no space is left; make room, or set HF_HUB_CACHE to a folder with more (what has arrived is kept)";
    let error = if full { io::Error::new(error.kind(), advice) } else { error };
    DeltaError::io("write", path, error)
}
