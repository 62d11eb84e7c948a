//! Does the model still work? Loads the real architectures, with weights straight from a checkpoint or from a base and
//! a delta, runs them on data, and measures accuracy, perplexity and divergence.
//!
//! | place | what |
//! |---|---|
//! | `weights.rs` | tensors by name, from a checkpoint or from base and delta |
//! | `models/` | one file per architecture: config and weights in, logits out |
//! | `data/` | files to examples; tokenising and pixels as the model's folder says; batches |
//! | `parallel.rs` | threads that each run whole batches |
//! | `storage.rs` | the memory of tensors |
//! | `metrics.rs` | outputs of two models to accuracy, KL, agreement, perplexity |
//! | `evaluate.rs` | models side by side on one dataset |
//! | `hub/` | models and data by their id on the Hugging Face hub (feature `hub`) |
//! | `comparison.rs` | a base, its fine-tuned model and data: what a delta gives is judged |
//! | `tune.rs` | the smallest file that keeps the quality |
//! | `sweep/` | many recipes on many pairs: a row each, kept in a folder |
//! | `report/` | the rows as one HTML file |
//! | `finetune/` | a base and labelled data to a fine-tuned model |
#![forbid(unsafe_code)]

mod comparison;
pub mod data;
mod error;
mod evaluate;
mod finetune;
#[cfg(feature = "hub")]
pub mod hub;
mod metrics;
pub mod models;
mod parallel;
mod random;
pub mod report;
mod storage;
pub mod sweep;
pub mod tune;
mod weights;

pub use comparison::{Comparison, Judged, Sources, read_config};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Quality};
pub use finetune::{Epoch, Event, Finetuned, Job, Recipe, Step, finetune};
pub use weights::Weights;
