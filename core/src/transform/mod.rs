//! Delta to coefficients and back.

mod cosine;
mod dct;
mod dwt;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod fixture;
mod lattice;
mod low_rank;
mod mask;
mod top;
mod transpose;
mod wavelet;
