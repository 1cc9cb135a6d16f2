//! From an HTTP request to an answer: paths, limits, codec.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bincode::Encode;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use platbook_protocol::NodeId;
use platbook_protocol::codec::{self, CodecError};
use platbook_protocol::rpc::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;

use super::{control, data, scan};
use crate::directory::NODE_HEADER;
use crate::node::Node;
use crate::peer::{link, serve, snapshot};

/// Body of an answer.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Largest request body, in bytes: a full batch, or one operation with a listing of 1 MiB.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Time a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest deadline that a caller may ask for.
const DEADLINE_MS_MAX: u32 = 10 * 60 * 1000;
/// When to come again after `Overloaded`.
const RETRY_AFTER_MS: u32 = 100;
/// Unit in which memory for request bodies is given out.
const MEMORY_UNIT: u64 = 1024;

/// Serves one node. Clones share it.
#[derive(Clone)]
pub(crate) struct Service {
    node: Arc<Node>,
    memory: Arc<Semaphore>,
}

impl Service {
    /// `request_bytes_max` bounds the request bodies held at once.
    pub(crate) fn new(node: Arc<Node>, request_bytes_max: u64) -> Service {
        let units = (request_bytes_max / MEMORY_UNIT).min(Semaphore::MAX_PERMITS as u64);
        Service { node, memory: Arc::new(Semaphore::new(units as usize)) }
    }

    /// Answers any request; nothing a caller sends is an error of this node.
    pub(crate) async fn handle(self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_string();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/healthz") => text(StatusCode::OK, "ok\n"),
            (&Method::GET, "/readyz") => self.ready(),
            (&Method::GET, "/metrics") => text(StatusCode::OK, self.node.render_metrics()),
            (&Method::POST, path) if path.starts_with("/rpc/") || path.starts_with("/raft/") => {
                self.dispatch(request).await
            }
            _ => text(StatusCode::NOT_FOUND, "this is a storage node: ask a router\n"),
        }
    }

    fn ready(&self) -> Answer {
        match self.node.unready() {
            None => text(StatusCode::OK, "ready\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
        }
    }

    async fn dispatch(self, request: Request<Incoming>) -> Answer {
        if let Some(objection) = self.node.directory().objection(request.headers()) {
            let from = peer_of(request.headers());
            self.node.note_objection(from, &objection);
            return text(StatusCode::FORBIDDEN, objection);
        }
        let path = request.uri().path().to_string();
        match path.as_str() {
            link::LINK_PATH => {
                let from = peer_of(request.headers());
                let groups = self.node.groups().clone();
                let answers = serve::serve(from, request.into_body(), groups);
                Response::new(link::body_of(answers))
            }
            snapshot::SNAPSHOT_PATH => control::receive_snapshot(&self.node, request).await,
            _ => self.call(&path, request).await,
        }
    }

    async fn call(&self, path: &str, request: Request<Incoming>) -> Answer {
        let node = &self.node;
        let (body, _memory) = match self.read_body(request).await {
            Ok(read) => read,
            Err(refused) => return *refused,
        };
        match path {
            "/rpc/propose" => encoded(data::propose(node, body).await),
            "/rpc/registers" => encoded(data::registers(node, body).await),
            "/rpc/rows" => encoded(data::rows(node, body).await),
            "/rpc/zip-state" => encoded(data::zip_state(node, body).await),
            "/rpc/list" => encoded(data::list(node, body).await),
            "/rpc/scan" => scan::scan(node, body).await,
            "/rpc/scan-shard" => scan::scan_shard(node, body).await,
            "/rpc/map" => encoded(control::map(node, body).await),
            "/rpc/dictionary" => encoded(control::dictionary(node, body).await),
            "/rpc/put-dictionary" => encoded(control::put_dictionary(node, body).await),
            "/rpc/put-map" => encoded(control::put_map(node, body).await),
            "/rpc/clock" => encoded(control::clock(node, body).await),
            "/rpc/hello" => encoded(control::hello(node, body).await),
            "/rpc/form" => encoded(control::form(node, body).await),
            "/rpc/status" => encoded(control::status(node, body).await),
            "/rpc/transfer" => encoded(control::transfer(node, body).await),
            "/rpc/replace-replica" => encoded(control::replace_replica(node, body).await),
            _ => text(StatusCode::NOT_FOUND, format!("no such call: {path}")),
        }
    }

    /// Reads a body within limits; the permit stands for its memory.
    async fn read_body(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Box<Answer>> {
        let announced = request
            .headers()
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
            .unwrap_or(REQUEST_BYTES_MAX as u64);
        let units = (announced / MEMORY_UNIT + 1).min(u64::from(u32::MAX)) as u32;
        let Ok(permit) = self.memory.clone().try_acquire_many_owned(units) else {
            let retry_after_ms = RETRY_AFTER_MS;
            return Err(Box::new(encoded::<()>(Err(Refusal::Overloaded { retry_after_ms }))));
        };
        let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
        match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => Ok((body.to_bytes(), permit)),
            Ok(Err(error)) => {
                let reason = format!("body not read (limit {REQUEST_BYTES_MAX} bytes): {error}");
                Err(Box::new(encoded::<()>(Err(Refusal::BadRequest { reason }))))
            }
            Err(_) => {
                let reason = "body did not arrive in time".to_string();
                Err(Box::new(encoded::<()>(Err(Refusal::BadRequest { reason }))))
            }
        }
    }
}

fn peer_of(headers: &HeaderMap) -> Option<NodeId> {
    headers.get(NODE_HEADER)?.to_str().ok()?.parse().ok().map(NodeId)
}

/// Encodes the answer of a call.
pub(super) fn encoded<T: Encode>(answer: Result<T, Refusal>) -> Answer {
    bytes(StatusCode::OK, codec::encode(&answer).into())
}

pub(super) fn bytes(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    bytes(status, body.into().into())
}

/// A request that cannot be decoded had no effect.
pub(super) fn bad_request(error: CodecError) -> Refusal {
    warn!(%error, "request is malformed");
    Refusal::BadRequest { reason: error.to_string() }
}

/// The instant until which a caller waits.
pub(super) fn deadline(ms: u32) -> Instant {
    Instant::now() + Duration::from_millis(u64::from(ms.min(DEADLINE_MS_MAX)))
}
