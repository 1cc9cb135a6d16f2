//! The router's own words about a failed request.

use std::fmt;

use platbook_protocol::Revision;
use platbook_protocol::problem::Code;
use serde::Deserialize;

use crate::answer::revision;
use crate::token::Token;

/// `application/problem+json` (RFC 9457) with a stable code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
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
    /// The current revision, where a condition on it failed.
    #[serde(default, deserialize_with = "revision")]
    pub revision: Option<Revision>,
    /// Where a new state phase begins, where the changes behind a position are gone.
    #[serde(default)]
    pub resync: Option<Token>,
    /// The router's name for the request, to be found in its logs.
    #[serde(skip)]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem, for tests of whoever has to deal with one.
    pub fn new(status: u16, code: &str, detail: &str) -> Problem {
        let (code, detail) = (code.to_string(), detail.to_string());
        Problem { status, code, detail, ..Problem::default() }
    }

    /// The code, where this build knows it.
    pub fn known_code(&self) -> Option<Code> {
        Code::try_parse(&self.code)
    }

    /// Whether it has this code.
    pub fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.code.is_empty() { "no_code" } else { &self.code };
        write!(f, "{} {code}: {}", self.status, self.detail)?;
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}
