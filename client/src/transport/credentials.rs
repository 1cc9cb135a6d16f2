//! As whom a client calls: a bearer token (RFC 6750), fixed or from a file that is renewed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{ArgumentError, AttemptError, source};

/// A token file is read again after so long; whoever renews it does so well before it expires.
const TOKEN_FILE_AGE: Duration = Duration::from_secs(30);

/// Where the bearer token comes from.
pub(crate) enum Credentials {
    None,
    Fixed(HeaderValue),
    File(TokenFile),
}

pub(crate) struct TokenFile {
    path: PathBuf,
    read: Mutex<Option<(HeaderValue, Instant)>>,
}

impl Credentials {
    pub(crate) fn fixed(token: &str) -> Result<Credentials, ArgumentError> {
        bearer(token).map(Credentials::Fixed).ok_or(ArgumentError::Token)
    }

    pub(crate) fn file(path: PathBuf) -> Credentials {
        Credentials::File(TokenFile { path, read: Mutex::new(None) })
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Credentials::None)
    }

    /// The header of the next attempt.
    pub(crate) async fn header(&self) -> Result<Option<HeaderValue>, AttemptError> {
        match self {
            Credentials::None => Ok(None),
            Credentials::Fixed(header) => Ok(Some(header.clone())),
            Credentials::File(file) => file.header(TOKEN_FILE_AGE).await.map(Some),
        }
    }

    /// Whether there is another token now than the one that was turned down.
    pub(crate) async fn is_renewed(&self, refused: Option<&HeaderValue>) -> bool {
        match self {
            Credentials::None | Credentials::Fixed(_) => false,
            Credentials::File(file) => {
                file.header(Duration::ZERO).await.is_ok_and(|now| Some(&now) != refused)
            }
        }
    }
}

impl TokenFile {
    async fn header(&self, age_max: Duration) -> Result<HeaderValue, AttemptError> {
        let mut read = self.read.lock().await;
        if let Some((header, at)) = &*read
            && at.elapsed() < age_max
        {
            return Ok(header.clone());
        }
        let found = tokio::fs::read_to_string(&self.path).await.map_err(source);
        let found =
            found.and_then(|text| bearer(text.trim()).ok_or_else(|| source(ArgumentError::Token)));
        match (found, &*read) {
            (Ok(header), _) => {
                *read = Some((header.clone(), Instant::now()));
                Ok(header)
            }
            // It is being replaced, perhaps. The router says when the old one is no longer good.
            (Err(_), Some((header, _))) => Ok(header.clone()),
            (Err(source), None) => Err(AttemptError::Credentials { source }),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::None => "None",
            Credentials::Fixed(_) => "Fixed(..)",
            Credentials::File(_) => "File(..)",
        })
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let is_token = |byte: u8| byte.is_ascii_graphic();
    if token.is_empty() || !token.bytes().all(is_token) {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}
