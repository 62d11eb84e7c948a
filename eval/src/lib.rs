//! Does the model still work? Loads the real architectures, with weights straight from a checkpoint or from a base and
//! a delta, runs them on data, and measures accuracy, perplexity and divergence.
//!
//! | place | what |
//! |---|---|
//! | `weights.rs` | tensors by name, from a checkpoint or from base and delta |
//! | `models/` | one file per architecture: config and weights in, logits out |
//! | `data/` | files to examples; tokenising and pixels as the model's folder says; batches |
//! | `metrics.rs` | outputs of two models to accuracy, KL, agreement, perplexity |
//! | `evaluate.rs` | models side by side on one dataset |
//! | `sweep/` | grids of methods over pairs, one row a run; the best of them |
//! | `report/` | one HTML file with tables and plots |
//! | `tune.rs` | the smallest file that keeps the quality |
//! | `finetune.rs` | full fine-tuning |
//! | `hub.rs` | models and data by id (feature `hub`) |
#![forbid(unsafe_code)]

pub mod data;
mod error;
pub mod models;
mod weights;

pub use error::{Error, Result};
pub use weights::Weights;
