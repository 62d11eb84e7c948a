//! Errors by kind to the exception classes of `delta_dct.errors`.

use delta_dct::{Error, ErrorKind};
use pyo3::PyErr;

mod classes {
    use pyo3::import_exception;

    import_exception!(delta_dct.errors, DeltaError);
    import_exception!(delta_dct.errors, CorruptError);
    import_exception!(delta_dct.errors, TruncatedError);
    import_exception!(delta_dct.errors, UnsupportedError);
    import_exception!(delta_dct.errors, LimitError);
    import_exception!(delta_dct.errors, MismatchError);
    import_exception!(delta_dct.errors, InvalidArgumentError);
    import_exception!(delta_dct.errors, IoError);
    import_exception!(delta_dct.errors, Interrupted);
}

/// The exception for `error`: its class says the kind, its attribute `tensor` the tensor where there is one.
pub(crate) fn exception(error: Error) -> PyErr {
    let arguments = (error.to_string(), error.tensor().map(str::to_owned));
    match error.kind() {
        ErrorKind::Corrupt => classes::CorruptError::new_err(arguments),
        ErrorKind::Truncated => classes::TruncatedError::new_err(arguments),
        ErrorKind::Unsupported => classes::UnsupportedError::new_err(arguments),
        ErrorKind::Limit => classes::LimitError::new_err(arguments),
        ErrorKind::Mismatch => classes::MismatchError::new_err(arguments),
        ErrorKind::InvalidArgument => classes::InvalidArgumentError::new_err(arguments),
        ErrorKind::Io => classes::IoError::new_err(arguments),
        ErrorKind::Interrupted => classes::Interrupted::new_err(arguments),
        _ => classes::DeltaError::new_err(arguments),
    }
}
