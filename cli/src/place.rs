//! Where models and data are: a path, or with the feature `hub` an id on the Hugging Face hub.

use std::path::{Path, PathBuf};

use delta_dct::{Archive, Checkpoint};

use crate::failure::Outcome;

/// The checkpoint at `place`.
pub(crate) fn checkpoint(place: &Path) -> Outcome<Checkpoint> {
    Ok(Checkpoint::open(&local(place)?)?)
}

/// The `.ddct` file at `place`.
pub(crate) fn archive(place: &Path) -> Outcome<Archive> {
    Ok(Archive::open(&local(place)?)?)
}

/// `place` as a path on this machine: itself, or where the hub's files were put.
pub(crate) fn local(place: &Path) -> Outcome<PathBuf> {
    data(place, None)
}

/// The same for data, of which the hub may have several splits.
pub(crate) fn data(place: &Path, split: Option<&str>) -> Outcome<PathBuf> {
    match place.to_str().filter(|text| text.starts_with("hf://")) {
        Some(id) => fetch(id, split),
        None => Ok(place.to_owned()),
    }
}

#[cfg(feature = "hub")]
fn fetch(id: &str, split: Option<&str>) -> Outcome<PathBuf> {
    // Places are looked up before and beside a command's own work, which is why its options are not at hand.
    let quiet = std::env::args_os().any(|word| word == "-q" || word == "--quiet");
    Ok(delta_dct_eval::hub::resolve(id, split, &crate::progress::Bar::new(quiet))?)
}

/// Errors: Unsupported.
#[cfg(not(feature = "hub"))]
fn fetch(id: &str, _split: Option<&str>) -> Outcome<PathBuf> {
    let message = format!("{id}: this build has no access to the hub: install it with --features hub");
    Err(delta_dct::Error::unsupported(message).into())
}
