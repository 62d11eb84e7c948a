//! The command, by its behaviour: arguments in, exit code, output and files out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
#[cfg(feature = "eval")]
mod eval;
mod failures;
#[cfg(feature = "eval")]
mod finetune;
mod help;
#[cfg(feature = "hub")]
mod hub;
mod interrupts;
mod json;
mod layers;
#[cfg(feature = "hub")]
mod predecessor;
mod run;
mod selection;
#[cfg(feature = "hub")]
#[path = "../../../eval/tests/support/server.rs"]
mod server;
#[cfg(feature = "eval")]
mod sweep;
#[cfg(feature = "eval")]
mod tune;
