//! Read-only memory maps whose pages can be given back to the system.
//!
//! This crate holds all of the project's `unsafe` code, so that the codec itself can forbid it.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::{Advice, Mmap, UncheckedAdvice};

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

    /// Asks the system to read `range` (bytes) soon, without waiting for it; a range outside the file is cut to it.
    pub fn prefetch(&self, range: Range<usize>) {
        let Some(map) = &self.0 else { return };
        let end = range.end.min(map.len());
        if range.start < end {
            // Only a hint: where it fails, pages are read when they are touched.
            let _ = map.advise_range(Advice::WillNeed, range.start, end - range.start);
        }
    }

    /// Gives the resident pages back to the system; each is read again from the file when it is next touched.
    pub fn release(&self) {
        if let Some(map) = &self.0 {
            // SAFETY: the map is shared and read-only, so dropping its pages loses nothing: the next read
            // faults them in from the file. A failure only means that the memory stays resident.
            let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_are_the_same_after_they_were_given_back() {
        let path = std::env::temp_dir().join(format!("delta-dct-mmap-{}", std::process::id()));
        let bytes: Vec<u8> = (0..5_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = Map::open(&path).unwrap();
        map.prefetch(1..usize::MAX);
        assert!(map[..] == bytes[..]);
        map.release();
        assert!(map[..] == bytes[..]);
        std::fs::remove_file(&path).unwrap();
    }
}
