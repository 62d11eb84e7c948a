//! Where models and data are: a path, or with the feature `hub` an id on the Hugging Face hub.

use std::path::{Path, PathBuf};

use delta_dct::Checkpoint;

use crate::failure::Outcome;

/// The checkpoint at `place`; `about` says what it is for.
pub(crate) fn checkpoint(place: &Path) -> Outcome<Checkpoint> {
    Ok(Checkpoint::open(&local(place)?)?)
}

/// `place` as a path on this machine: itself, or where the hub's files were put.
#[cfg(feature = "hub")]
pub(crate) fn local(place: &Path) -> Outcome<PathBuf> {
    match place.to_str().filter(|text| text.starts_with("hf://")) {
        Some(id) => {
            let bar = crate::progress::Bar::new(false);
            Ok(delta_dct_eval::hub::resolve(id, &bar)?)
        }
        None => Ok(place.to_owned()),
    }
}

/// `place` as a path on this machine. Errors: Unsupported (the hub, which this build does not know).
#[cfg(not(feature = "hub"))]
pub(crate) fn local(place: &Path) -> Outcome<PathBuf> {
    if place.starts_with("hf://") || place.to_string_lossy().starts_with("hf://") {
        let message = format!("{}: this build has no access to the hub (feature hub)", place.display());
        return Err(delta_dct::Error::unsupported(message).into());
    }
    Ok(place.to_owned())
}
