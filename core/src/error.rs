//! One error type for the whole crate: a kind, a message that says what, where and what to do, and the
//! tensor or file that it is about.

use std::fmt;
use std::io;
use std::path::Path;

/// Whose fault it is, and so what a front end does about it (exit code, exception class, HTTP status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes of a file contradict its format or its own checksum.
    Corrupt,
    /// The file ends before it should.
    Truncated,
    /// The file is valid, but needs a feature or a format version that this build does not have.
    Unsupported,
    /// The file asks for more than a declared limit allows.
    Limit,
    /// Base, fine-tuned model and file do not belong together.
    Mismatch,
    /// The caller asked for something that makes no sense.
    InvalidArgument,
    /// The operating system refused (missing file, permission, no space).
    Io,
    /// The caller's progress callback asked to stop.
    Interrupted,
}

/// What went wrong. `Display` gives one line: `[tensor NAME: ]message`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    tensor: Option<String>,
    source: Option<io::Error>,
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), tensor: None, source: None }
    }

    /// Bytes that contradict the format.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A file or record that ends early; `what` names the part that was being read.
    pub fn truncated(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Truncated, format!("the data ends inside {what}"))
    }

    /// A feature or version that this build does not have.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A declared limit was exceeded.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    /// Inputs that do not belong together.
    pub fn mismatch(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Mismatch, message)
    }

    /// A request that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// The operating system's `source` while doing `what` with `path`.
    pub fn io(what: &str, path: &Path, source: io::Error) -> Self {
        let message = format!("cannot {what} {}: {source}", path.display());
        Self { kind: ErrorKind::Io, message, tensor: None, source: Some(source) }
    }

    /// The same error, said to be about tensor `name` (the innermost name is kept).
    pub fn in_tensor(mut self, name: &str) -> Self {
        self.tensor.get_or_insert_with(|| name.to_owned());
        self
    }

    /// The same error, said to be about the file at `path`.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        if self.kind != ErrorKind::Io && !self.message.contains(&*path.to_string_lossy()) {
            self.message = format!("{}: {}", path.display(), self.message);
        }
        self
    }

    /// What sort of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The tensor that the error is about, where there is one.
    pub fn tensor(&self) -> Option<&str> {
        self.tensor.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tensor) = &self.tensor {
            write!(f, "tensor {tensor}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}
