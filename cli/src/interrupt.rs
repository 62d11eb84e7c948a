//! SIGINT, SIGTERM and SIGHUP: a flag that long work looks at, so that it can remove what it began.

use std::sync::atomic::{AtomicBool, Ordering};

use delta_dct::{Error, ErrorKind, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on a signal sets the flag instead of ending the process.
pub(crate) fn install() {
    // Fails only where handlers cannot be set at all: then a signal ends the process, as it does without us.
    let _ = ctrlc::set_handler(|| REQUESTED.store(true, Ordering::Relaxed));
}

/// Whether a signal has come.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// An error of kind Interrupted once a signal has come.
pub(crate) fn check() -> Result<()> {
    if requested() { Err(Error::new(ErrorKind::Interrupted, "interrupted")) } else { Ok(()) }
}
