//! The folder of a sweep: a line of JSON for each pair and each run, on disk before the next one begins.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use delta_dct::{Error, Result, write_whole};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::definition::{Cell, Sweep};
use super::fingerprint::fingerprint;
use super::row::{FailedRow, PairRow, Row, RowKey};
use crate::comparison::Sources;

/// Version of the program that makes the rows.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

const PAIRS: &str = "pairs.jsonl";
const ROWS: &str = "rows.jsonl";
const SWEEP: &str = "sweep.toml";
const LOCK: &str = ".lock";

/// A run, or why there is none.
type Outcome = std::result::Result<Row, FailedRow>;

/// What a folder holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Results {
    /// The pairs.
    pub pairs: Vec<PairRow>,
    /// The runs, in the order in which they were made.
    pub rows: Vec<Row>,
    /// The runs that could not be made; none that has been made since.
    pub failures: Vec<FailedRow>,
}

/// The folder of a sweep, to be added to.
pub struct Ledger {
    folder: PathBuf,
    results: Results,
    pairs: File,
    rows: File,
    /// Held as long as this value lives.
    _lock: File,
}

impl Results {
    /// What `folder` holds; a last line that was never finished does not count. Errors: Io, Corrupt.
    pub fn read(folder: &Path) -> Result<Self> {
        Ok(Self::new(lines(&folder.join(PAIRS), json)?.0, lines(&folder.join(ROWS), outcome)?.0))
    }

    fn new(pairs: Vec<PairRow>, runs: Vec<Outcome>) -> Self {
        let mut results = Self { pairs, ..Self::default() };
        runs.into_iter().for_each(|run| results.add(run));
        results
    }

    /// Adds a run; one of the same cell that failed before is forgotten.
    fn add(&mut self, run: Outcome) {
        let key = match &run {
            Ok(row) => row.key(),
            Err(failed) => failed.key(),
        };
        self.failures.retain(|known| known.key() != key);
        match run {
            Ok(row) => self.rows.push(row),
            Err(failed) => self.failures.push(failed),
        }
    }

    /// A pair.
    pub fn pair(&self, name: &str) -> Option<&PairRow> {
        self.pairs.iter().find(|pair| pair.pair == name)
    }

    /// The runs of a pair.
    pub fn rows_of(&self, name: &str) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.pair == name).collect()
    }

    /// The rows of the cells of `sweep`, in its order, and how many others there are that have been made.
    pub fn of(&self, sweep: &Sweep) -> Result<(Self, usize)> {
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        for cell in &sweep.cells {
            rows.extend(self.row(cell)?.cloned());
            let recipe = cell.text()?;
            failures.extend(self.failures.iter().find(|failed| failed.key() == key(cell, &recipe)).cloned());
        }
        let others = self.rows.len() - rows.len();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.pair.as_str()).collect();
        let pairs = self.pairs.iter().filter(|pair| names.contains(pair.pair.as_str())).cloned().collect();
        Ok((Self { pairs, rows, failures }, others))
    }

    /// The row of a cell that has been made.
    pub fn row(&self, cell: &Cell) -> Result<Option<&Row>> {
        let recipe = cell.text()?;
        Ok(self.rows.iter().find(|row| row.key() == key(cell, &recipe)))
    }
}

fn key<'a>(cell: &'a Cell, recipe: &'a str) -> RowKey<'a> {
    (&cell.pair, recipe, cell.predecessor)
}

impl Ledger {
    /// Opens or creates `folder`; with `fresh`, what it has is thrown away.
    ///
    /// Errors: Io (also if another sweep is using it, or if it holds something else), Corrupt.
    pub fn open(folder: &Path, fresh: bool) -> Result<Self> {
        let fail = |e| Error::io("use", folder, e);
        fs::create_dir_all(folder).map_err(fail)?;
        let is_empty = fs::read_dir(folder).map_err(fail)?.next().is_none();
        if !is_empty && !folder.join(LOCK).exists() {
            let message = "it holds something else than a sweep: give a new folder";
            return Err(fail(std::io::Error::new(ErrorKind::AlreadyExists, message)));
        }
        let lock = append(&folder.join(LOCK))?;
        if lock.try_lock().is_err() {
            return Err(fail(std::io::Error::new(ErrorKind::WouldBlock, "another sweep is using it")));
        }
        let (pairs, rows) = (append(&folder.join(PAIRS))?, append(&folder.join(ROWS))?);
        if fresh {
            pairs.set_len(0).and_then(|()| rows.set_len(0)).map_err(fail)?;
        }
        // What was cut off in the middle of a line goes, so that the next one begins on a line of its own.
        let (known_pairs, pairs_end) = lines(&folder.join(PAIRS), json)?;
        let (known_rows, rows_end) = lines(&folder.join(ROWS), outcome)?;
        pairs.set_len(pairs_end).and_then(|()| rows.set_len(rows_end)).map_err(fail)?;
        let results = Results::new(known_pairs, known_rows);
        Ok(Self { folder: folder.to_owned(), results, pairs, rows, _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it holds.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// The digest of the inputs of a pair. Errors: Io; Mismatch, if the folder has the pair with others, or of another
    /// version of the program.
    pub fn check(&self, pair: &str, sources: &Sources) -> Result<String> {
        let inputs = fingerprint(sources)?;
        let changed = |known: &PairRow| known.inputs != inputs || known.version != VERSION;
        if !self.results.pair(pair).is_some_and(changed) {
            return Ok(inputs);
        }
        Err(Error::mismatch(format!(
            "{} has runs of {pair} with other models, data or options, or of another version: take a new folder, or \
             throw its runs away (--force)",
            self.folder.display()
        )))
    }

    /// Notes the text of the sweep file; gives whether there was another one.
    pub fn note_sweep(&self, text: &str) -> Result<bool> {
        let path = self.folder.join(SWEEP);
        let other = fs::read_to_string(&path).is_ok_and(|known| known != text);
        write_whole(&path, text.as_bytes(), true)?;
        Ok(other)
    }

    /// Adds a pair; it is on disk when this returns.
    pub fn add_pair(&mut self, pair: &PairRow) -> Result<()> {
        add(&mut self.pairs, &self.folder.join(PAIRS), pair)?;
        self.results.pairs.push(pair.clone());
        Ok(())
    }

    /// Adds a run, or one that could not be made; it is on disk when this returns.
    pub fn add_run(&mut self, run: Outcome) -> Result<()> {
        let path = self.folder.join(ROWS);
        match &run {
            Ok(row) => add(&mut self.rows, &path, row)?,
            Err(failed) => add(&mut self.rows, &path, failed)?,
        }
        self.results.add(run);
        Ok(())
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(|e| Error::io("open", path, e))
}

fn add(file: &mut File, path: &Path, value: &impl Serialize) -> Result<()> {
    let fail = |e| Error::io("write", path, e);
    let mut line = serde_json::to_vec(value).map_err(|e| fail(e.into()))?;
    line.push(b'\n');
    file.write_all(&line).and_then(|()| file.sync_data()).map_err(fail)
}

fn json<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(line)
}

fn outcome(line: &[u8]) -> serde_json::Result<Outcome> {
    json(line).map(Ok).or_else(|wrong| json(line).map(Err).map_err(|_| wrong))
}

/// The values of the whole lines of a file, and where these end.
fn lines<T>(path: &Path, value: fn(&[u8]) -> serde_json::Result<T>) -> Result<(Vec<T>, u64)> {
    let text = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let end = text.iter().rposition(|&b| b == b'\n').map_or(0, |last| last + 1);
    let whole = text.get(..end).unwrap_or_default();
    let read = |(i, line): (usize, &[u8])| {
        let wrong = |e| Error::corrupt(format!("{}, line {}: {e}", path.display(), i + 1));
        value(line).map_err(wrong)
    };
    let values = whole.split_inclusive(|&b| b == b'\n').enumerate().map(read).collect::<Result<_>>()?;
    Ok((values, end as u64))
}
