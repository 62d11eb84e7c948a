//! Stores a fine-tuned model as a very small file against its base model, and gives the weights back.
#![forbid(unsafe_code)]

mod checkpoint;
mod entropy;
mod error;
mod pair;
mod tensor;
mod transform;
mod wire;

pub use checkpoint::{Checkpoint, CheckpointWriter, Layout, Shard, SideFile};
pub use error::{Error, ErrorKind, Result};
pub use tensor::{Dtype, TensorView};
