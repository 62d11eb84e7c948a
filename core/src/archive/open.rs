//! A `.ddct` file, open, and the first layer under it where it is an enhancement (FORMAT.md, "Layers").

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::report::{FirstLayer, Info, TensorSummary};
use crate::checkpoint::Layout;
use crate::container::{Body, Contents, LAYER, LAYOUT, RESERVED, Record, SIDE_FILES, unpack};
use crate::error::{Error, ErrorKind, Result};
use crate::output;
use crate::tensor::TensorInfo;

/// An open `.ddct` file; of an enhancement, together with its first layer.
pub struct Archive {
    contents: Contents,
    pub(super) path: PathBuf,
    /// Names of the model's tensors, sorted.
    pub(super) names: Vec<String>,
    /// What it is an enhancement of: whatever the file lacks is there.
    pub(super) layer: Option<Box<Archive>>,
}

impl Archive {
    /// Opens `path`; checks its version and its seal. Records are checked when they are read. The first layer of an
    /// enhancement is looked for beside it.
    ///
    /// Errors: Io (also: no first layer), Truncated, Corrupt, Unsupported (a newer format), Mismatch (the first layer is
    /// another one than the enhancement was made with).
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with_layer(path, None)
    }

    /// [`Archive::open`], where the first layer of an enhancement is at `layer`.
    ///
    /// Errors: also InvalidArgument (a layer is given, and `path` is no enhancement).
    pub fn open_with_layer(path: &Path, layer: Option<&Path>) -> Result<Self> {
        let contents = Contents::open(path).map_err(|e| e.in_file(path))?;
        let layer = match (contents.metadata(LAYER), layer) {
            ("", None) => None,
            ("", Some(layer)) => {
                let (path, layer) = (path.display(), layer.display());
                return Err(Error::invalid(format!("{path} needs no first layer, such as {layer}")));
            }
            (needed, layer) => Some(Box::new(open_layer(path, needed, layer)?)),
        };
        Ok(Self::new(path, contents, layer))
    }

    fn new(path: &Path, contents: Contents, layer: Option<Box<Archive>>) -> Self {
        let mut archive = Self { contents, path: path.to_owned(), names: Vec::new(), layer };
        let names = archive.sizes().into_keys().filter(|name| !name.starts_with(RESERVED));
        archive.names = names.map(str::to_owned).collect();
        archive
    }

    /// What the file says about itself.
    pub fn info(&self) -> Info {
        let text = |key| self.metadata(key).to_owned();
        let first_layer = |layer: &Self| FirstLayer {
            file: layer.path.to_string_lossy().into_owned(),
            bytes: layer.contents.bytes(),
        };
        let layer = self.layer.as_deref().map(first_layer);
        Info {
            format_version: text("format_version"),
            created_by: text("created_by"),
            base: text("base"),
            finetuned: text("finetuned"),
            recipe: text("recipe"),
            finetuned_bytes: text("finetuned_bytes").parse().unwrap_or(0),
            bytes: self.contents.bytes() + layer.as_ref().map_or(0, |layer| layer.bytes),
            layer,
        }
    }

    /// The names of the model's tensors, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Dtype and shape of a tensor.
    ///
    /// Errors: InvalidArgument (no such tensor), Corrupt, Unsupported (a record of a newer version).
    pub fn tensor(&self, name: &str) -> Result<TensorInfo> {
        let record = self.record(self.known(name)?)?;
        Ok(TensorInfo { dtype: record.dtype, shape: record.shape })
    }

    /// One row a tensor, sorted by name. A record that this version cannot read is of kind `unknown`.
    pub fn tensors(&self) -> Result<Vec<TensorSummary>> {
        let sizes = self.sizes();
        let row = |name: &String| {
            let bytes = sizes.get(name.as_str()).copied().unwrap_or(0);
            match self.record(name) {
                Ok(record) => Ok(self.row(name, &record, bytes)),
                Err(e) if e.kind() == ErrorKind::Unsupported => Ok(TensorSummary::unknown(name, bytes)),
                Err(e) => Err(e),
            }
        };
        self.names.iter().map(row).collect()
    }

    /// What is told about a tensor; a refined one has the plan of the first layer.
    fn row(&self, name: &str, record: &Record<'_>, bytes: usize) -> TensorSummary {
        let mut row = TensorSummary::new(name, record, bytes);
        if let (Body::Refined { .. }, Some(layer)) = (&record.body, &self.layer)
            && let Ok((_, below)) = layer.values(name)
        {
            row.plan = TensorSummary::new(name, &below, 0).plan;
        }
        row
    }

    /// The files that travel along, and the bytes that they take.
    pub fn files(&self) -> Vec<(String, u64)> {
        let side =
            |(name, bytes): (&str, usize)| Some((name.strip_prefix(SIDE_FILES)?.to_owned(), bytes as u64));
        self.sizes().into_iter().filter_map(side).collect()
    }

    /// The digest of all that the file holds.
    pub(super) fn seal(&self) -> Result<u64> {
        self.contents.seal()
    }

    /// Names of all entries, and the bytes that they take: in the file and in its first layer.
    fn sizes(&self) -> BTreeMap<&str, usize> {
        let mut sizes = self.layer.as_deref().map(Self::sizes).unwrap_or_default();
        self.contents.entries().for_each(|(name, bytes)| *sizes.entry(name).or_default() += bytes);
        sizes
    }

    /// A value of the metadata, empty if it is not there.
    pub(super) fn metadata(&self, key: &str) -> &str {
        match (self.contents.metadata(key), &self.layer) {
            ("", Some(layer)) => layer.metadata(key),
            (own, _) => own,
        }
    }

    /// The content of entry `name`.
    pub(super) fn entry(&self, name: &str) -> Result<&[u8]> {
        match &self.layer {
            Some(layer) if !self.contents.contains(name) => layer.entry(name),
            _ => self.contents.get(name),
        }
    }

    pub(super) fn record(&self, name: &str) -> Result<Record<'_>> {
        Record::read(name, self.entry(name)?).map_err(|e| e.in_tensor(name))
    }

    /// `name`, if the model has such a tensor. Errors: InvalidArgument.
    fn known(&self, name: &str) -> Result<&str> {
        let at = self.names.binary_search_by(|known| known.as_str().cmp(name));
        let found = at.ok().and_then(|at| self.names.get(at));
        found
            .map(String::as_str)
            .ok_or_else(|| Error::invalid(format!("{} has no tensor {name}", self.path.display())))
    }

    /// The record with the values of the model's tensor `name`, and the tensor that it belongs to: the one that `name` is
    /// tied to, or itself. Errors: InvalidArgument (no such tensor), Corrupt.
    pub(super) fn values(&self, name: &str) -> Result<(&str, Record<'_>)> {
        let owner = self.known(name)?;
        let record = self.record(owner)?;
        let Body::Alias { name: target } = &record.body else { return Ok((owner, record)) };
        let none = |_| Error::corrupt(format!("tied to {target}, which has no values")).in_tensor(name);
        let target = self.known(target).map_err(none)?;
        Ok((target, self.record(target)?))
    }

    pub(super) fn layout(&self) -> Result<Layout> {
        let text = unpack(self.entry(LAYOUT)?, &[])?;
        let layout: Layout =
            serde_json::from_slice(&text).map_err(|e| Error::corrupt(format!("layout: {e}")))?;
        let names: BTreeSet<&str> = self.names.iter().map(String::as_str).collect();
        layout.validate(&names)?;
        Ok(layout)
    }
}

/// Opens what the enhancement `path` is `needed` for: at `place`, or beside it.
fn open_layer(path: &Path, needed: &str, place: Option<&Path>) -> Result<Archive> {
    let is_name = |name: &str| Path::new(name).file_name() == Some(OsStr::new(name));
    let unnamed = || Error::corrupt(format!("{} does not name its first layer", path.display()));
    let (seal, name) = needed.split_once(' ').filter(|(_, name)| is_name(name)).ok_or_else(unnamed)?;
    let beside = output::parent(path).join(name);
    let place = place.unwrap_or(&beside);
    let contents = Contents::open(place).map_err(|e| match e.kind() {
        ErrorKind::Io => {
            let hint = "keep the two together, or say where it is";
            Error::new(ErrorKind::Io, format!("{e}; {} is an enhancement of it: {hint}", path.display()))
        }
        _ => e.in_file(place),
    })?;
    if format!("{:016x}", contents.seal()?) != seal {
        return Err(Error::mismatch(format!(
            "{} is not the first layer that {} was made with",
            place.display(),
            path.display()
        )));
    }
    if !contents.metadata(LAYER).is_empty() {
        let place = place.display();
        return Err(Error::corrupt(format!("{place} is an enhancement itself: it cannot be a first layer")));
    }
    Ok(Archive::new(place, contents, None))
}
