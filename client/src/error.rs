//! How a call can end without an answer.
//!
//! A write has three outcomes, and the types tell them apart: `Ok` is *done*,
//! [`WriteError::NotDone`] is *surely not done*, [`WriteError::Unknown`] is *nobody knows*. A read
//! has no third outcome, so its [`Error`] has none either.

use std::sync::Arc;
use std::time::Duration;

use platbook_protocol::id::BadListingId;
use platbook_protocol::listing::JsonError;
use platbook_protocol::zip::BadZip;

use crate::problem::Problem;
use crate::write::Write;

/// An error of a library below, kept as a source and shared by clones.
pub type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Keeps an error, or a reason, as a source.
pub(crate) fn source(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Source {
    Arc::from(error.into())
}

/// Why a call had no effect and no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the caller gave cannot be sent; nothing was.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// The router refused; the same call gives the same.
    #[error("refused: {0}")]
    Refused(Box<Problem>),
    /// Nobody took the call before its deadline; it may be tried later.
    #[error("no answer within {deadline:?} after {attempts} attempts")]
    Unavailable {
        /// The deadline of the call.
        deadline: Duration,
        /// Attempts made.
        attempts: u32,
        /// What the last attempt met.
        #[source]
        last: AttemptError,
    },
    /// The router answered something that this client does not understand.
    #[error("cannot read the router's answer")]
    BadAnswer {
        /// What is wrong with it.
        #[source]
        source: Source,
    },
    /// A stream broke after it had begun; what came before is right, but not all.
    #[error("stream broke off")]
    BrokenStream {
        /// What happened.
        #[source]
        source: Source,
    },
}

/// Why a write is not known to be done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// It had no effect and will have none.
    #[error(transparent)]
    NotDone(#[from] Error),
    /// It may have happened, or may still happen.
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

/// A write whose outcome nobody knows: every attempt that was made may still be carried out.
///
/// Sending the same write again finds out, and is safe: it carries the time of its first attempt,
/// by which the store knows it again.
///
/// ```no_run
/// # async fn f(client: platbook_client::Client) -> Result<(), platbook_client::WriteError> {
/// use platbook_client::WriteError;
/// match client.delete("7129300520").await {
///     Err(WriteError::Unknown(unknown)) => {
///         if let Some(write) = unknown.write() {
///             client.send(write).await?; // the same deletion, not another one
///         }
///     }
///     known => drop(known?),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("outcome unknown after {attempts} attempts")]
pub struct Unknown {
    pub(crate) attempts: u32,
    #[source]
    pub(crate) last: AttemptError,
    pub(crate) write: Option<Box<Write>>,
}

/// What one attempt met instead of an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// No connection: the request was not sent.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// The router's URL.
        endpoint: String,
        /// What the connector says.
        #[source]
        source: Source,
    },
    /// The connection broke while the request or its answer was under way.
    #[error("the connection to {endpoint} broke")]
    Broken {
        /// The router's URL.
        endpoint: String,
        /// What the connection says.
        #[source]
        source: Source,
    },
    /// No whole answer before the deadline.
    #[error("no answer from {endpoint} before the deadline")]
    Late {
        /// The router's URL.
        endpoint: String,
    },
    /// The router, or somebody before it, answered with a problem.
    #[error("{0}")]
    Answered(Box<Problem>),
    /// It was answered as done, but what was done is not readable.
    #[error("the answer cannot be read")]
    BadAnswer {
        /// What is wrong with it.
        #[source]
        source: Source,
    },
    /// Some lines of a bulk request are not done yet.
    #[error("{lines} lines are not done yet")]
    Unfinished {
        /// How many.
        lines: usize,
    },
    /// The task that carried it ended, because its runtime shuts down.
    #[error("the client's runtime was shut down")]
    Abandoned,
    /// The credentials cannot be had.
    #[error("the bearer token cannot be read")]
    Credentials {
        /// Why.
        #[source]
        source: Source,
    },
}

/// What a caller gave that cannot be sent.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// No listing id.
    #[error(transparent)]
    Id(#[from] BadListingId),
    /// No ZIP.
    #[error(transparent)]
    Zip(#[from] BadZip),
    /// No JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A value that does not serialise.
    #[error("the listing cannot be written as JSON")]
    Serialise(#[source] Arc<serde_json::Error>),
    /// A URL that is none of a router.
    #[error("bad router url {url:?}: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A bearer token over a connection that others can read.
    #[error("{url}: a bearer token is not sent in the clear; use https")]
    TokenInTheClear {
        /// The router's URL.
        url: String,
    },
    /// A bearer token that is no header text.
    #[error("the bearer token is not header text")]
    Token,
    /// Certificates or keys that cannot be used.
    #[error("bad TLS settings: {what}")]
    Tls {
        /// Which part.
        what: &'static str,
        /// What the library says.
        #[source]
        source: Source,
    },
}

impl From<std::convert::Infallible> for ArgumentError {
    fn from(never: std::convert::Infallible) -> ArgumentError {
        match never {}
    }
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Unavailable { .. } | Error::BrokenStream { .. } => true,
            Error::Argument(_) | Error::Refused(_) | Error::BadAnswer { .. } => false,
        }
    }

    /// The router's words, where there are any.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Error::Refused(problem) => Some(problem),
            Error::Unavailable { last, .. } => last.problem(),
            Error::Argument(_) | Error::BadAnswer { .. } | Error::BrokenStream { .. } => None,
        }
    }

    pub(crate) fn bad_answer(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::BadAnswer { source: source(error) }
    }
}

impl WriteError {
    /// Whether the same write, sent again, may succeed and can do no harm. For an unknown outcome
    /// that holds where [`Unknown::write`] gives the write.
    pub fn retryable(&self) -> bool {
        match self {
            WriteError::NotDone(error) => error.retryable(),
            WriteError::Unknown(unknown) => unknown.write.is_some(),
        }
    }

    /// Whether the outcome is unknown.
    pub fn is_unknown(&self) -> bool {
        matches!(self, WriteError::Unknown(_))
    }

    /// The router's words, where there are any.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            WriteError::NotDone(error) => error.problem(),
            WriteError::Unknown(unknown) => unknown.last.problem(),
        }
    }

    /// The same, with the write that it is about.
    pub(crate) fn about(self, write: &Write) -> WriteError {
        match self {
            WriteError::Unknown(unknown) => {
                WriteError::Unknown(Unknown { write: Some(Box::new(write.clone())), ..unknown })
            }
            WriteError::NotDone(error) => WriteError::NotDone(error),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error::Refused(Box::new(problem))
    }
}

impl From<ArgumentError> for WriteError {
    fn from(error: ArgumentError) -> WriteError {
        WriteError::NotDone(Error::Argument(error))
    }
}

impl Unknown {
    /// An unknown outcome, for tests of whoever has to deal with one.
    pub fn new(attempts: u32, last: AttemptError) -> Unknown {
        Unknown { attempts, last, write: None }
    }

    /// Attempts made.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What the last attempt met.
    pub fn last(&self) -> &AttemptError {
        &self.last
    }

    /// The write, to be sent again with [`crate::Client::send`]; `None` for administrative calls
    /// and for lines, which the caller keeps.
    pub fn write(&self) -> Option<&Write> {
        self.write.as_deref()
    }

    /// The write, taken out.
    pub fn into_write(self) -> Option<Write> {
        self.write.map(|write| *write)
    }
}

impl AttemptError {
    /// The router's words, where there are any.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            AttemptError::Answered(problem) => Some(problem),
            AttemptError::Connect { .. }
            | AttemptError::Broken { .. }
            | AttemptError::Late { .. }
            | AttemptError::BadAnswer { .. }
            | AttemptError::Unfinished { .. }
            | AttemptError::Abandoned
            | AttemptError::Credentials { .. } => None,
        }
    }
}

/// An error with all its sources in one line, for logs: a message alone does not repeat them.
///
/// ```
/// let inner = std::io::Error::other("disk on fire");
/// let error = platbook_client::Error::BrokenStream { source: std::sync::Arc::new(inner) };
/// assert_eq!(platbook_client::error::chain(&error), "stream broke off: disk on fire");
/// ```
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
