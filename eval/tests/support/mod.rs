//! What the tests of this crate share.

use std::path::PathBuf;

/// `../shared/PLACE` beside the checkout. Where it is not there the caller skips, unless
/// `DELTA_DCT_REQUIRE_SHARED` is set.
pub(crate) fn shared(place: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(place);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("DELTA_DCT_REQUIRE_SHARED").is_none(), "{} is not there", path.display());
    println!("skipped: {} is not there", path.display());
    None
}
