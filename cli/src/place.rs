//! Where models and data are: a path, or with the feature `hub` an id on the Hugging Face hub.

use std::path::{Path, PathBuf};

use delta_dct::Checkpoint;

use crate::failure::Outcome;

/// The checkpoint at `place`. Here and below a download shows a bar, unless `quiet`.
pub(crate) fn checkpoint(place: &Path, quiet: bool) -> Outcome<Checkpoint> {
    Ok(Checkpoint::open(&local(place, quiet)?)?)
}

/// The `.ddct` file at `place`.
#[cfg(feature = "eval")]
pub(crate) fn archive(place: &Path, quiet: bool) -> Outcome<delta_dct::Archive> {
    Ok(delta_dct::Archive::open(&local(place, quiet)?)?)
}

/// `place` as a path on this machine: itself, or where the hub's files were put.
pub(crate) fn local(place: &Path, quiet: bool) -> Outcome<PathBuf> {
    data(place, None, false, quiet)
}

/// The same for data, of which the hub may have several splits: `split`, or else one for `training` or to judge on.
pub(crate) fn data(place: &Path, split: Option<&str>, training: bool, quiet: bool) -> Outcome<PathBuf> {
    match place.to_str().filter(|text| text.starts_with("hf://")) {
        Some(id) => fetch(id, split, training, quiet),
        None => Ok(place.to_owned()),
    }
}

#[cfg(feature = "hub")]
fn fetch(id: &str, split: Option<&str>, training: bool, quiet: bool) -> Outcome<PathBuf> {
    Ok(delta_dct_eval::hub::resolve(id, split, training, &crate::progress::Bar::new(quiet))?)
}

/// Errors: Unsupported.
#[cfg(not(feature = "hub"))]
fn fetch(id: &str, _split: Option<&str>, _training: bool, _quiet: bool) -> Outcome<PathBuf> {
    let message = format!("{id}: this build has no access to the hub: install it with --features hub");
    Err(delta_dct::Error::unsupported(message).into())
}
