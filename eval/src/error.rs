//! Errors of the codec and of the tensor library, as one type.

use std::fmt;

use delta_dct::ErrorKind;

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// A file, an argument, or a model that does not fit: has a kind, and one line that says what to do.
    Delta(delta_dct::Error),
    /// A computation with tensors.
    Tensor(candle_core::Error),
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What sort of error this is; a failed computation means weights that do not fit their config.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Delta(error) => error.kind(),
            Self::Tensor(_) => ErrorKind::Mismatch,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delta(error) => error.fmt(f),
            Self::Tensor(error) => write!(f, "the model cannot be run: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<delta_dct::Error> for Error {
    fn from(error: delta_dct::Error) -> Self {
        Self::Delta(error)
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error)
    }
}
