//! A write of one listing: what it is, when it was first meant, and how it ended.

use std::fmt;
use std::future::IntoFuture;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::header::{CONTENT_TYPE, IF_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use platbook_protocol::planted::Bug;
use platbook_protocol::{ListingId, Revision, TimeMs};
use serde::Deserialize;

use crate::answer::revision;
use crate::client::{Client, JSON, listing_path};
use crate::clock;
use crate::error::{ArgumentError, Error, WriteError};
use crate::transport::Call;

/// Header with the time of the first attempt.
pub(crate) const SENT: HeaderName = HeaderName::from_static("platbook-sent");

/// One write of one listing, with its identity: the time at which it was first meant. However often
/// it is sent, it happens once.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    id: ListingId,
    /// The listing to put, or `None` to delete.
    body: Option<Bytes>,
    sent: TimeMs,
    if_match: Option<Revision>,
}

impl Write {
    /// Puts `listing`, a JSON document, under `id`.
    pub fn put<I>(id: I, listing: impl Into<Bytes>) -> Result<Write, ArgumentError>
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        Write::new(id, Some(listing.into()))
    }

    /// Deletes the listing.
    pub fn delete<I>(id: I) -> Result<Write, ArgumentError>
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        Write::new(id, None)
    }

    fn new<I>(id: I, body: Option<Bytes>) -> Result<Write, ArgumentError>
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        let id = id.try_into().map_err(Into::into)?;
        Ok(Write { id, body, sent: clock::now(), if_match: None })
    }

    /// The same, meant at `sent` instead of now: for changes that somebody else has stamped.
    #[must_use]
    pub fn at(self, sent: TimeMs) -> Write {
        Write { sent, ..self }
    }

    /// The same, only if `revision` is the current one.
    #[must_use]
    pub fn if_match(self, revision: Revision) -> Write {
        Write { if_match: Some(revision), ..self }
    }

    /// The listing it is about.
    pub fn id(&self) -> &ListingId {
        &self.id
    }

    /// When it was meant.
    pub fn sent(&self) -> TimeMs {
        self.sent
    }

    pub(crate) fn call(&self) -> Call {
        let mut headers = HeaderMap::new();
        let sent = if Bug::RetryUnderNewKey.is_planted() { later() } else { self.sent.0 };
        headers.insert(SENT, HeaderValue::from(sent));
        if let Some(revision) = self.if_match {
            let tag = format!("\"{revision}\"");
            let value = HeaderValue::try_from(tag).expect("digits and quotes are header text");
            headers.insert(IF_MATCH, value);
        }
        let (method, body) = match &self.body {
            Some(body) => {
                headers.insert(CONTENT_TYPE, JSON);
                (Method::PUT, body.clone())
            }
            None => (Method::DELETE, Bytes::new()),
        };
        Call { method, path: listing_path(&self.id), headers, body }
    }
}

/// Another time at every call.
fn later() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    clock::now().0 + CALLS.fetch_add(1, Ordering::Relaxed)
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never a body.
        f.debug_struct("Write")
            .field("id", &self.id)
            .field("bytes", &self.body.as_ref().map(Bytes::len))
            .field("sent", &self.sent)
            .field("if_match", &self.if_match)
            .finish()
    }
}

/// A write about to be made; `.await` makes it.
#[derive(Debug)]
#[must_use = "nothing is written before `.await`"]
pub struct WriteRequest {
    client: Client,
    write: Result<Write, ArgumentError>,
}

impl WriteRequest {
    pub(crate) fn new(client: Client, write: Result<Write, ArgumentError>) -> WriteRequest {
        WriteRequest { client, write }
    }

    /// Only if `revision` is the current one; else it is refused as `precondition_failed`.
    pub fn if_match(self, revision: Revision) -> WriteRequest {
        WriteRequest { write: self.write.map(|write| write.if_match(revision)), ..self }
    }

    /// As of `sent` instead of now: for changes that somebody else has stamped.
    pub fn at(self, sent: TimeMs) -> WriteRequest {
        WriteRequest { write: self.write.map(|write| write.at(sent)), ..self }
    }
}

impl IntoFuture for WriteRequest {
    type Output = Result<Written, WriteError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let WriteRequest { client, write } = self;
        Box::pin(async move { client.send(&write.map_err(Error::Argument)?).await })
    }
}

/// A write that is done, and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Written {
    /// What it did.
    pub outcome: Outcome,
    /// Revision of the last decision about the id, where the router knows it.
    #[serde(default, deserialize_with = "revision")]
    pub revision: Option<Revision>,
}

/// What a write did. All of these are final and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// It changed the listing.
    Applied,
    /// Same body, newer time.
    Unchanged,
    /// It had been done before: a retry.
    Duplicate,
    /// Something newer is known.
    Stale,
    /// Recorded, but the operator's clock and the time it was sent disagree about it.
    Suspect,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_of_a_write_carries_the_time_of_the_first() {
        let write = Write::delete("a").expect("an id").if_match(Revision(9));
        let (first, again) = (write.call().headers, write.clone().call().headers);
        assert_eq!(first[SENT], again[SENT]);
        assert_eq!(first[SENT], write.sent().to_string().as_str());
        assert_eq!(first[IF_MATCH], "\"9\"");
    }

    #[test]
    fn a_revision_above_two_to_the_53_survives() {
        let text = r#"{"outcome":"applied","revision":"18446744073709551615"}"#;
        let answer: Written = serde_json::from_str(text).expect("parses");
        assert_eq!(answer.revision, Some(Revision(u64::MAX)));
    }

    #[test]
    fn a_body_is_never_printed() {
        let write = Write::put("a", "secret").expect("an id");
        assert!(!format!("{write:?}").contains("secret"));
    }
}
