//! Delta to coefficients and back.

mod dct;
mod dwt;
mod low_rank;
mod mask;
mod top;
mod wavelet;
