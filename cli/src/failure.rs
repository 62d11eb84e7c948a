//! What can end a command early, the line that says so on stderr, and the exit code.

use std::io;

use delta_dct::{Error, ErrorKind};

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's error, and what the user can do about it with this command.
    Delta(Error, Option<&'static str>),
    /// So many of so many runs failed; each has been told.
    #[cfg(feature = "eval")]
    Runs(usize, usize),
    /// Standard output could not be written.
    Output(io::Error),
}

/// `Ok` or the reason why a command stopped.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Delta(error, None)
    }
}

#[cfg(feature = "eval")]
impl From<delta_dct_eval::Error> for Failure {
    fn from(error: delta_dct_eval::Error) -> Self {
        match error {
            delta_dct_eval::Error::Delta(error) => error.into(),
            other => Error::new(other.kind(), other.to_string()).into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

/// Adds advice to errors that the library cannot give, because it does not know the options of this command.
pub(crate) trait Advise<T> {
    /// Errors of `kind` are followed by a line `hint: ...`.
    fn advise(self, kind: ErrorKind, hint: &'static str) -> Outcome<T>;
}

impl<T, E: Into<Failure>> Advise<T> for Result<T, E> {
    fn advise(self, kind: ErrorKind, hint: &'static str) -> Outcome<T> {
        self.map_err(|error| match error.into() {
            Failure::Delta(error, None) if error.kind() == kind => Failure::Delta(error, Some(hint)),
            other => other,
        })
    }
}

impl Failure {
    /// Writes the error to stderr and gives the exit code. A reader that closed our standard output early
    /// (`| head`) has what it wanted: that is no failure.
    pub(crate) fn report(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            Self::Output(error) => say(&format!("error: cannot write to standard output: {error}")),
            #[cfg(feature = "eval")]
            Self::Runs(failed, of) => {
                say(&format!("error: {failed} of {of} runs failed"));
                say("hint: the same command tries them again");
            }
            Self::Delta(error, hint) => {
                say(&format!("error: {error}"));
                if let Some(hint) = hint {
                    say(&format!("hint: {hint}"));
                }
            }
        }
        self.exit_code()
    }

    /// The table of exit codes in the main help page.
    fn exit_code(&self) -> u8 {
        let error = match self {
            Self::Delta(error, _) => error,
            #[cfg(feature = "eval")]
            Self::Runs(..) => return 1,
            Self::Output(_) => return 3,
        };
        match error.kind() {
            ErrorKind::InvalidArgument => 2,
            ErrorKind::Io => 3,
            ErrorKind::Corrupt | ErrorKind::Truncated => 4,
            ErrorKind::Unsupported => 5,
            ErrorKind::Mismatch => 6,
            ErrorKind::Limit => 7,
            ErrorKind::Interrupted => 130,
            _ => 1,
        }
    }
}

/// One line on stderr. If even stderr is gone, the exit code still speaks.
pub(crate) fn say(line: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "delta-dct: {line}");
}
