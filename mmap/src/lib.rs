//! Read-only memory maps whose pages can be given back to the system.
//!
//! This crate holds all of the project's `unsafe` code, so that the codec itself can forbid it.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

/// A file mapped read-only; dereferences to its bytes.
///
/// The file must not be truncated by another process while the map lives: reading past the new end would
/// raise SIGBUS. Everything that delta-dct writes goes to a new file and is renamed into place, so it never
/// does this to itself.
#[derive(Debug)]
pub struct Map(Option<Mmap>);

impl Map {
    /// Maps the file at `path`. An empty file gives an empty slice.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is private to this value and only ever read; see the type's note on truncation.
        Ok(Self(Some(unsafe { Mmap::map(&file)? })))
    }

    /// Gives the resident pages of `range` (bytes) back; they are read again from the file when next touched.
    /// A range outside the file is cut to it. Only whole pages inside the range are given back.
    pub fn release(&self, range: Range<usize>) {
        const PAGE: usize = 4096;
        let Some(map) = &self.0 else { return };
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end.min(map.len()) / PAGE * PAGE;
        if start < end {
            // SAFETY: the map is shared and read-only, so dropping its pages loses nothing: the next read
            // faults them in from the file. A failure only means that the memory stays resident.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
