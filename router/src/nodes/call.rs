//! One request and its answer over a link, with the certainty of what a fault means.

use std::sync::Arc;

use bincode::Decode;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use platbook_protocol::codec::{self, MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use platbook_protocol::map::ClusterId;
use platbook_protocol::rpc::Refusal;
use tokio::time::Instant;

use super::link::{Link, LinkError};

/// Header that names the cluster, so that a node of another one refuses.
pub(crate) const CLUSTER_HEADER: &str = "platbook-cluster";
/// Header with the version of the protocol.
pub(crate) const PROTOCOL_HEADER: &str = "platbook-protocol";

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The node answered that it does not do it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request never left: no effect.
    #[error("not sent: {0}")]
    NotSent(Arc<str>),
    /// The request may have been carried out.
    #[error("no answer: {0}")]
    Broken(Arc<str>),
}

impl From<LinkError> for CallError {
    fn from(error: LinkError) -> CallError {
        match error {
            LinkError::NotSent { reason } => CallError::NotSent(reason),
            LinkError::Broken { reason } => CallError::Broken(reason),
        }
    }
}

/// Sends the encoded `request` to `POST /rpc/<name>` and decodes the whole answer.
pub(crate) async fn call<A: Decode<()>>(
    link: &Link,
    name: &str,
    cluster: Option<ClusterId>,
    request: Bytes,
    deadline: Instant,
) -> Result<A, CallError> {
    let response = open(link, name, cluster, request, deadline).await?;
    let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX).collect();
    let bytes = match tokio::time::timeout_at(deadline, body).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) => {
            let too_long = error.is::<LengthLimitError>();
            let reason = if too_long { "answer is too long".into() } else { error.to_string() };
            return Err(CallError::Broken(reason.into()));
        }
        Err(_) => return Err(CallError::Broken("no answer within the deadline".into())),
    };
    match codec::decode::<Result<A, Refusal>>(&bytes) {
        Ok(answer) => answer.map_err(CallError::Refused),
        Err(error) => Err(CallError::Broken(error.to_string().into())),
    }
}

/// Sends the encoded `request` and gives the response as soon as its headers are there.
pub(crate) async fn open(
    link: &Link,
    name: &str,
    cluster: Option<ClusterId>,
    request: Bytes,
    deadline: Instant,
) -> Result<Response<Incoming>, CallError> {
    let mut built = Request::post(format!("http://{}/rpc/{name}", link.address()))
        .header(PROTOCOL_HEADER, HeaderValue::from(u16::from(PROTOCOL_VERSION)));
    if let Some(cluster) = cluster {
        built = built.header(CLUSTER_HEADER, cluster.to_string());
    }
    let built = built
        .body(Full::new(request))
        .map_err(|error| CallError::NotSent(error.to_string().into()))?;
    let response = link.send(built, deadline).await?;
    match response.status() {
        StatusCode::OK => Ok(response),
        status => Err(CallError::Broken(format!("node answered {status}").into())),
    }
}
