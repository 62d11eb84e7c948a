//! Files that lie beside the weights: config, tokenizer and the like.

use std::borrow::Cow;
use std::path::Path;

use super::pretty::pretty;
use crate::checkpoint::Checkpoint;
use crate::container::{BEST, GOOD, MAX_PACKED, QUICK, digest, pack, unpack};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// How a file is told (FORMAT.md, "Layout and side files"): by its kind.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Packed by itself.
    Packed = 0,
    /// As the file of the same name beside the base.
    Same = 1,
    /// Packed with that file as the prefix.
    Patch = 2,
    /// Packed with the pretty form of that file as the prefix.
    PrettyPatch = 3,
}

impl Kind {
    fn read(input: &mut Reader<'_>) -> Result<Self> {
        let id = input.u8("side file")?;
        let known = [Self::Packed, Self::Same, Self::Patch, Self::PrettyPatch].get(usize::from(id)).copied();
        known.ok_or_else(|| Error::unsupported(format!("side file kind {id} is not known to this version")))
    }
}

/// The smallest entry that tells the file.
pub(super) fn encode(content: &[u8], name: &str, base: &Checkpoint) -> Result<Vec<u8>> {
    let other = in_base(name, base)?;
    let kinds: &[Kind] = match &other {
        Some(other) if other == content => &[Kind::Same],
        Some(_) => &[Kind::Packed, Kind::Patch, Kind::PrettyPatch],
        None => &[Kind::Packed],
    };
    let other = other.unwrap_or_default();
    let entry = |kind, level| {
        let mut out = Writer::default();
        out.u8(kind as u8);
        if kind != Kind::Packed {
            out.u64(digest(&other));
        }
        if kind != Kind::Same {
            out.0.extend(pack(content, &prefix(kind, &other)?, level)?);
        }
        Ok(out.0)
    };
    // Packing well takes long: once is enough, and spared where hardly anything is new.
    let quick = kinds.iter().filter_map(|&kind| Some((entry(kind, QUICK).ok()?.len(), kind)));
    let (len, kind) = quick.min_by_key(|&(len, _)| len).unwrap_or((usize::MAX, Kind::Packed));
    entry(kind, if len < content.len() / 1000 { GOOD } else { BEST })
}

/// The content of the file from its entry. Errors: Mismatch where the base lacks the file that it depends on.
pub(super) fn decode(entry: &[u8], name: &str, base: &Checkpoint) -> Result<Vec<u8>> {
    let mut input = Reader(entry);
    let kind = Kind::read(&mut input)?;
    if kind == Kind::Packed {
        return unpack(input.0, &[]);
    }
    let expected = input.u64("digest of a side file")?;
    let path = base.path().display();
    let missing =
        || Error::mismatch(format!("{name} is needed beside the base, as at compress: {path} has none"));
    let other = in_base(name, base)?.ok_or_else(missing)?;
    if digest(&other) != expected {
        return Err(Error::mismatch(format!(
            "{name} beside the base is another than at compress: see {path}"
        )));
    }
    if kind == Kind::Same {
        input.finish("side file")?;
        return Ok(other);
    }
    unpack(input.0, &prefix(kind, &other)?)
}

/// What a file of this kind may refer to, given the file of the base.
fn prefix<'a>(kind: Kind, other: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    match kind {
        Kind::Packed | Kind::Same => Ok(Cow::Borrowed(&[])),
        Kind::Patch => Ok(Cow::Borrowed(other)),
        Kind::PrettyPatch => {
            let long = || Error::limit("the pretty form of a side file of the base is too long");
            pretty(other, MAX_PACKED).map(Cow::Owned).ok_or_else(long)
        }
    }
}

/// The file of that name beside the base.
fn in_base(name: &str, base: &Checkpoint) -> Result<Option<Vec<u8>>> {
    let file = base.side_files().iter().find(|file| file.name == name);
    file.map(|file| read(&file.path)).transpose()
}

/// The content of a file of a model.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("read", path, e))
}
