//! Why a call has no answer. A write ends in done, refused (no effect) or unknown; the three are
//! told apart here and nowhere else in the client.

use std::fmt;

use serde::Deserialize;

/// The router's own words about a failed request (`application/problem+json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// HTTP status.
    #[serde(default)]
    pub status: u16,
    /// Stable code, for instance `shard_unavailable`; empty where somebody between us and the
    /// router answered.
    #[serde(default)]
    pub code: String,
    /// The sentence for people.
    #[serde(default)]
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.code.is_empty() { "no_code" } else { &self.code };
        write!(f, "{} {code}: {}", self.status, self.detail)
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL of the router is none.
    #[error("bad router url {url:?}: {reason}")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request was refused and had no effect; sending it again gives the same.
    #[error("refused: {0}")]
    Refused(Problem),
    /// Nobody took the request before the deadline; it had no effect.
    #[error("no answer within {deadline_ms} ms after {attempts} attempts: {reason}")]
    Unavailable {
        /// The deadline of the call.
        deadline_ms: u64,
        /// Attempts made.
        attempts: u32,
        /// What the last attempt met.
        reason: String,
        /// The router's words, where it was the router.
        problem: Option<Problem>,
    },
    /// The outcome of a write is unknown: it may have happened, or still happen.
    #[error("outcome unknown after {attempts} attempts: {reason}")]
    Unknown {
        /// Attempts made.
        attempts: u32,
        /// What the last attempt met.
        reason: String,
        /// The router's words, where it was the router.
        problem: Option<Problem>,
    },
    /// The router answered something that this client does not understand.
    #[error("cannot read the router's answer: {reason}")]
    BadAnswer {
        /// What is wrong with it.
        reason: String,
    },
    /// A stream broke after it had begun.
    #[error("stream broke off: {reason}")]
    BrokenStream {
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without any harm.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Unavailable { .. } | Error::BrokenStream { .. } => true,
            Error::BadUrl { .. }
            | Error::Refused(_)
            | Error::Unknown { .. }
            | Error::BadAnswer { .. } => false,
        }
    }

    /// The router's words, where there are any.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Error::Refused(problem) => Some(problem),
            Error::Unavailable { problem, .. } | Error::Unknown { problem, .. } => problem.as_ref(),
            Error::BadUrl { .. } | Error::BadAnswer { .. } | Error::BrokenStream { .. } => None,
        }
    }
}
