//! The outer file: a safetensors file of U8 tensors with a seal over all of them: large entries one by one, and a
//! bundle of the small ones.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use delta_dct_mmap::Map;
use safetensors::tensor::TensorInfo;
use tempfile::NamedTempFile;

use super::bundle::Bundle;
use super::record::checksum;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::wire::{Reader, Writer};

/// Entries whose names begin so are not tensors of the model.
pub(crate) const RESERVED: &str = "__ddct__/";
/// The checkpoint's layout as JSON, compressed with zstd.
pub(crate) const LAYOUT: &str = "__ddct__/layout";
/// Key of the metadata of an enhancement: seal (16 hex digits) and file name of its first layer.
pub(crate) const LAYER: &str = "layer";
/// Prefix of the entries of side files.
pub(crate) const SIDE_FILES: &str = "__ddct__/file/";
/// Small entries, all in one.
const BUNDLE: &str = "__ddct__/bundle";
/// Digest over the metadata and the checksums of all other entries.
const SEAL: &str = "__ddct__/seal";

const FORMAT: &str = "ddct";
/// The version that this build writes, and the newest that it reads.
const VERSION: u32 = 1;
const CHECKSUM_BYTES: usize = 8;

/// Writes entries to a spool file, then all of them behind a header to their final place.
pub(crate) struct FileWriter {
    spool: BufWriter<File>,
    dir: PathBuf,
    /// (name, bytes with checksum, checksum), in the order of the data.
    entries: Vec<(String, usize, u64)>,
    bundle: Bundle,
}

impl FileWriter {
    /// Begins a file that will lie in the folder `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let spool = tempfile::tempfile_in(dir).map_err(|e| Error::io("create a file in", dir, e))?;
        Ok(Self {
            spool: BufWriter::new(spool),
            dir: dir.to_owned(),
            entries: Vec::new(),
            bundle: Bundle::new(),
        })
    }

    /// Adds an entry.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        if self.bundle.add(name, content) { Ok(()) } else { self.spool(name, content) }
    }

    fn spool(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let check = checksum(name, content);
        let written = self.spool.write_all(content).and_then(|()| self.spool.write_all(&check.to_le_bytes()));
        written.map_err(|e| Error::io("write to", &self.dir, e))?;
        let bytes = content.len() + CHECKSUM_BYTES;
        self.entries.push((name.to_owned(), bytes, check));
        Ok(())
    }

    /// Seals the file, which is complete then, but nowhere yet.
    pub(crate) fn seal(mut self, mut metadata: BTreeMap<String, String>) -> Result<Sealed> {
        metadata.insert("format".to_owned(), FORMAT.to_owned());
        metadata.insert("format_version".to_owned(), VERSION.to_string());
        let bundle = self.bundle.write()?;
        self.spool(BUNDLE, &bundle)?;
        let sizes = self.bundle.entries.iter().zip(self.bundle.sizes(bundle.len()));
        let mut sizes: BTreeMap<_, _> = sizes.map(|((name, _), size)| (name.clone(), size as u64)).collect();
        sizes.extend(self.entries.iter().map(|(name, bytes, _)| (name.clone(), *bytes as u64)));
        let checks = self.entries.iter().map(|(name, _, check)| (name.as_str(), *check)).collect();
        self.spool(SEAL, &seal(&metadata, &checks).to_le_bytes())?;
        let mut start = 0;
        let infos: Vec<_> = (self.entries.into_iter())
            .map(|(name, bytes, _)| {
                let data_offsets = (start, start + bytes);
                start += bytes;
                (name, TensorInfo { dtype: Dtype::U8, shape: vec![bytes], data_offsets })
            })
            .collect();
        let header = checkpoint::header(&metadata, &infos)?;
        Ok(Sealed { bytes: (header.len() + start) as u64, sizes, header, spool: self.spool, dir: self.dir })
    }
}

/// A file that is complete, but for its place.
pub(crate) struct Sealed {
    pub(crate) bytes: u64,
    sizes: BTreeMap<String, u64>,
    header: Vec<u8>,
    spool: BufWriter<File>,
    dir: PathBuf,
}

impl Sealed {
    /// Bytes of the entry `name`, its share of a bundle included.
    pub(crate) fn size(&self, name: &str) -> u64 {
        self.sizes.get(name).copied().unwrap_or(0)
    }

    /// Puts the file at `output`.
    pub(crate) fn keep(self, output: &Path, overwrite: bool) -> Result<()> {
        let fail = |e| Error::io("write", output, e);
        let mut file =
            NamedTempFile::new_in(&self.dir).map_err(|e| Error::io("create a file in", &self.dir, e))?;
        let mut spool = self.spool.into_inner().map_err(|e| fail(e.into_error()))?;
        spool.rewind().map_err(fail)?;
        file.write_all(&self.header).map_err(fail)?;
        std::io::copy(&mut spool, &mut file).map_err(fail)?;
        crate::output::persist(file, output, overwrite)
    }
}

/// A `.ddct` file, open for reading: header, seal and bundle are checked, other entries when they are read.
pub(crate) struct Contents {
    map: Map,
    path: PathBuf,
    metadata: BTreeMap<String, String>,
    /// Ranges of the map, with the checksums.
    entries: BTreeMap<String, Range<usize>>,
    /// Contents of the bundle, and its entries as ranges of them, with the bytes that they take in the file.
    bundle: Vec<u8>,
    bundled: BTreeMap<String, (Range<usize>, usize)>,
}

impl Contents {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let map = Map::open(path).map_err(|e| Error::io("read", path, e))?;
        let (metadata, entries) = checkpoint::entries(&map)?;
        let (bundle, bundled) = Default::default();
        let mut contents = Self { map, path: path.to_owned(), metadata, entries, bundle, bundled };
        contents.check_version()?;
        contents.check_seal()?;
        if contents.entries.contains_key(BUNDLE) {
            contents.unbundle()?;
        }
        Ok(contents)
    }

    fn unbundle(&mut self) -> Result<()> {
        let content = self.get(BUNDLE)?;
        let bundle = Bundle::read(content)?;
        let sizes = bundle.sizes(content.len());
        for ((name, range), size) in bundle.entries.into_iter().zip(sizes) {
            if self.entries.contains_key(&name) || self.bundled.contains_key(&name) {
                return Err(Error::corrupt(format!("two entries are called {name}")));
            }
            self.bundled.insert(name, (range, size));
        }
        self.bundle = bundle.bytes;
        Ok(())
    }

    fn check_version(&self) -> Result<()> {
        let name = self.path.display();
        if self.metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(Error::corrupt(format!("{name} is a safetensors file, but not a .ddct file")));
        }
        let version = self.metadata.get("format_version").and_then(|v| v.parse::<u32>().ok());
        match version {
            Some(version) if version <= VERSION => Ok(()),
            Some(version) => Err(Error::unsupported(format!(
                "{name} has format version {version}, this program reads up to {VERSION}: use a newer delta-dct"
            ))),
            None => Err(Error::corrupt(format!("{name} does not say its format version"))),
        }
    }

    fn check_seal(&self) -> Result<()> {
        let mut checks = BTreeMap::new();
        for (name, range) in &self.entries {
            let bytes = self.map.get(range.clone()).unwrap_or_default();
            let (_, check) = bytes.split_last_chunk().ok_or_else(|| Error::truncated(name))?;
            checks.insert(name.as_str(), u64::from_le_bytes(*check));
        }
        checks.remove(SEAL);
        let mut stored = Reader(self.get(SEAL)?);
        if stored.u64("seal")? == seal(&self.metadata, &checks) {
            return stored.finish("seal");
        }
        Err(Error::corrupt(format!("{}: the seal does not match: the file was damaged", self.path.display())))
    }

    /// The digest of all that the file holds.
    pub(crate) fn seal(&self) -> Result<u64> {
        Reader(self.get(SEAL)?).u64("seal")
    }

    /// Whether there is an entry `name`.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name) || self.bundled.contains_key(name)
    }

    /// The content of entry `name`, after its checksum was found right.
    pub(crate) fn get(&self, name: &str) -> Result<&[u8]> {
        if let Some((range, _)) = self.bundled.get(name) {
            return Ok(self.bundle.get(range.clone()).unwrap_or_default());
        }
        let missing = || Error::corrupt(format!("{} has no entry {name}", self.path.display()));
        let range = self.entries.get(name).ok_or_else(missing)?;
        let bytes = self.map.get(range.clone()).unwrap_or_default();
        let (content, check) = bytes.split_last_chunk().ok_or_else(|| Error::truncated(name))?;
        if u64::from_le_bytes(*check) == checksum(name, content) {
            return Ok(content);
        }
        Err(Error::corrupt(format!("{}: the checksum of entry {name} is wrong", self.path.display())))
    }

    /// Names of all entries, sorted, and the bytes that they take in the file, their share of a bundle included.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, usize)> {
        let alone = self.entries.iter().map(|(name, range)| (name.as_str(), range.len()));
        let bundled = self.bundled.iter().map(|(name, (_, size))| (name.as_str(), *size));
        alone.chain(bundled).collect::<BTreeMap<_, _>>().into_iter()
    }

    /// A value of the file's metadata, empty if it is not there.
    pub(crate) fn metadata(&self, key: &str) -> &str {
        self.metadata.get(key).map_or("", String::as_str)
    }

    /// Size of the file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }
}

/// XXH3 over the metadata (key, value, sorted by key) and the checksums (name, checksum, sorted by name).
fn seal(metadata: &BTreeMap<String, String>, checks: &BTreeMap<&str, u64>) -> u64 {
    let mut text = Writer::default();
    for (key, value) in metadata {
        text.bytes(key.as_bytes());
        text.bytes(value.as_bytes());
    }
    for (name, check) in checks {
        text.bytes(name.as_bytes());
        text.u64(*check);
    }
    super::digest(&text.0)
}
