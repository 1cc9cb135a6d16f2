//! Lines of messages as one request, for callers that batch by themselves.

use std::future::IntoFuture;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use platbook_protocol::TimeMs;

use crate::answer::BulkAnswer;
use crate::client::{Client, NDJSON};
use crate::error::WriteError;
use crate::transport::Call;
use crate::write::SENT;

/// Messages about to be posted; `.await` posts them.
///
/// It is safe to repeat, and is repeated, where every line carries its `sent` or
/// [`PostRequest::at`] says it for all. A line that is in neither list of the answer is done; lines
/// that are `busy`, and those rejected through no fault of their own, are the caller's to send
/// again.
#[derive(Debug)]
#[must_use = "nothing is posted before `.await`"]
pub struct PostRequest {
    client: Client,
    lines: Bytes,
    sent: Option<TimeMs>,
    is_resent: bool,
}

impl PostRequest {
    pub(crate) fn new(client: Client, lines: Bytes) -> PostRequest {
        PostRequest { client, lines, sent: None, is_resent: false }
    }

    /// Lines without a `sent` of their own were sent then, at every attempt.
    pub fn at(self, sent: TimeMs) -> PostRequest {
        PostRequest { sent: Some(sent), ..self }
    }

    /// The caller promises to send each line again until it is done, even after a crash of its own,
    /// so that the store need not keep the bodies of unfinished messages.
    pub fn will_resend(self) -> PostRequest {
        PostRequest { is_resent: true, ..self }
    }
}

impl IntoFuture for PostRequest {
    type Output = Result<BulkAnswer, WriteError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let PostRequest { client, lines, sent, is_resent } = self;
        Box::pin(async move { client.write_json(&call(lines, sent, is_resent)).await })
    }
}

/// The request for these lines.
pub(crate) fn call(body: Bytes, sent: Option<TimeMs>, is_resent: bool) -> Call {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, NDJSON);
    if let Some(sent) = sent {
        headers.insert(SENT, HeaderValue::from(sent.0));
    }
    if is_resent {
        let promised = HeaderValue::from_static("promised");
        headers.insert(HeaderName::from_static("platbook-resend"), promised);
    }
    Call { method: Method::POST, path: "/v1/listings".to_string(), headers, body }
}
