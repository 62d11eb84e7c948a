//! Stage 6: records in a `.ddct` file, which is a valid safetensors file (FORMAT.md).

mod bundle;
mod file;
mod packed;
mod record;

pub(crate) use delta_dct_digest::{Digest, digest};
pub(crate) use file::{Contents, FileWriter, LAYER, LAYOUT, RESERVED, SIDE_FILES, Sealed};
pub(crate) use packed::{BEST, GOOD, MAX_PACKED, QUICK, pack, unpack};
pub(crate) use record::{Body, Link, Record};
