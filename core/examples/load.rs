//! Decodes every tensor of a delta into memory, one after another: `load BASE DELTA ROUNDS`.
//!
//! `python/figures.py` runs it beside the same loop in Python.

use std::env;
use std::path::PathBuf;

use delta_dct::{Archive, Checkpoint, Error, Result};

fn main() -> Result<()> {
    let usage = || Error::invalid("load BASE DELTA ROUNDS");
    let mut words = env::args().skip(1);
    let mut next = || words.next().ok_or_else(usage);
    let (base, delta) = (PathBuf::from(next()?), PathBuf::from(next()?));
    let rounds: usize = next()?.parse().map_err(|_| usage())?;
    let base = Checkpoint::open(&base)?;
    for _ in 0..rounds {
        let archive = Archive::open(&delta)?;
        let load = |name: &String| archive.load(&base, name);
        let tensors = archive.names().iter().map(load).collect::<Result<Vec<_>>>()?;
        base.release();
        drop(tensors);
    }
    Ok(())
}
