//! Why a run failed, and the exit code that says so.

use std::fmt;

/// The result of whatever a driver does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a run, or one record, failed.
#[derive(Debug)]
pub enum Error {
    /// The client cannot do this at all; the harness leaves the cell empty. Exit code 3.
    Unsupported(String),
    /// It should have worked. Exit code 1.
    Failed(String),
}

impl Error {
    /// The client cannot do this at all.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::Unsupported(what.to_string())
    }

    /// It should have worked.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}

// `Error` itself is no `std::error::Error`, so that this conversion can be for all that are.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text += &format!(": {cause}");
            source = cause.source();
        }
        Self::Failed(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(what) => write!(f, "unsupported: {what}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}
