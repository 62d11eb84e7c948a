//! Stores a fine-tuned model as a very small file against its base model, and gives the weights back.
#![forbid(unsafe_code)]

mod checkpoint;
mod delta;
mod entropy;
mod error;
mod pair;
mod tensor;
mod transform;
mod wire;

pub use checkpoint::{Checkpoint, CheckpointWriter, Layout, Shard, SideFile};
pub use error::{Error, ErrorKind, Result};
pub use pair::{Link, Pairing, Relation, Rename, pair};
pub use tensor::{Dtype, TensorInfo, TensorView};
