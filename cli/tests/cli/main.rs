//! The command, by its behaviour: arguments in, exit code, output and files out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
#[cfg(feature = "eval")]
mod eval;
mod failures;
mod help;
#[cfg(feature = "hub")]
mod hub;
mod interrupts;
mod json;
mod run;
mod selection;
#[cfg(feature = "eval")]
mod sweep;
#[cfg(feature = "eval")]
mod tune;
