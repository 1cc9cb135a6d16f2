//! A position in the change stream, as services keep it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where a reader of changes stands: good on any router, for as long as the store keeps the changes
/// behind it. Opaque text of at most 8,191 bytes of `A-Z a-z 0-9 - _`; keep it as it is. Cheap to
/// clone.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(Arc<str>);

impl Token {
    /// The text to be kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Token {
        Token(text.into())
    }
}

impl From<String> for Token {
    fn from(text: String) -> Token {
        Token(text.into())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.0)
    }
}
