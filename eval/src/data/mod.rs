//! Files to examples, and examples to batches.
//!
//! | file | what |
//! |---|---|
//! | `source.rs` | a path to the files that are read: the split of a folder, its shards |
//! | `table.rs`, `parquet.rs` | TSV, CSV, JSON lines, Parquet to columns, and columns to examples |
//! | `arrays.rs`, `images.rs` | safetensors arrays; CIFAR-10 as published, folders of images |
//! | `processor.rs`, `labels.rs` | what a model's folder says: tokenizer, pixels, classes |
//! | `tokens.rs`, `pixels.rs`, `resample.rs` | texts to tokens, images to pixels |
//! | `prepared.rs` | examples that a model can take, in batches |

mod arrays;
mod dataset;
mod images;
mod labels;
#[cfg(feature = "parquet")]
mod parquet;
mod pixels;
mod prepared;
mod processor;
mod resample;
mod source;
mod table;
mod tokens;

pub use dataset::{DataOptions, Dataset};
pub(crate) use pixels::Shift;
pub use prepared::Prepared;
pub use processor::Processor;
#[cfg(feature = "hub")]
pub(crate) use source::select;
