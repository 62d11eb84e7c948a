//! The delta-dct command.
fn main() {}
