//! Delta to coefficients and back.

mod dct;
mod dwt;
pub(crate) mod low_rank;
pub(crate) mod mask;
mod subspace;
pub(crate) mod top;
mod wavelet;
