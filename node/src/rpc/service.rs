//! From an HTTP request to an answer: paths, limits, codec.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{control, data, follow, scan};
use crate::directory::NODE_HEADER;
use crate::node::Node;
use crate::objections::{Caller, Kind};
use crate::peer::{link, serve, snapshot};
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
    pub(crate) async fn handle(self, from: IpAddr, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_string();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/healthz") => text(StatusCode::OK, "ok\n"),
            (&Method::GET, "/readyz") => self.ready(),
            (&Method::GET, "/metrics") => text(StatusCode::OK, self.node.render_metrics()),
            (&Method::POST, path) if path.starts_with("/rpc/") || path.starts_with("/raft/") => {
                self.dispatch(from, request).await
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

    /// Notes a connection whose bytes are no HTTP.
    pub(crate) fn on_garbage(&self, from: IpAddr, what: &str) {
        let caller = Caller { address: from, node: None };
        self.node.objections().note(caller, Kind::Transport, what);
    }

    async fn dispatch(self, from: IpAddr, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_string();
        let caller = Caller { address: from, node: peer_of(request.headers()) };
        let objection = self.node.directory().objection(&path, request.headers());
        if let Some((kind, objection)) = objection {
            self.node.objections().note(caller, kind, &objection);
            return text(StatusCode::FORBIDDEN, objection);
        }
        match path.as_str() {
            link::LINK_PATH => {
                let (groups, objections) = (self.node.groups(), self.node.objections());
                let body = request.into_body();
                let held = caller.node.and_then(|node| self.node.peers().on_incoming(node));
                let answers = serve::serve(caller, body, groups.clone(), objections.clone(), held);
                Response::new(link::body_of(answers))
            }
            snapshot::SNAPSHOT_PATH => control::receive_snapshot(&self.node, request).await,
            _ => self.call(caller, &path, request).await,
        }
    }

    async fn call(&self, caller: Caller, path: &str, request: Request<Incoming>) -> Answer {
        let node = &self.node;
        let (body, _memory) = match self.read_body(request).await {
            Ok(read) => read,
            Err(refusal) => return self.encoded::<()>(caller, Err(refusal)),
        };
        match path {
            "/rpc/propose" => self.encoded(caller, data::propose(node, body).await),
            "/rpc/registers" => self.encoded(caller, data::registers(node, body).await),
            "/rpc/rows" => self.encoded(caller, data::rows(node, body).await),
            "/rpc/zip-state" => self.encoded(caller, data::zip_state(node, body).await),
            "/rpc/list" => self.encoded(caller, data::list(node, body).await),
            "/rpc/scan" => scan::scan(node, caller, body).await,
            "/rpc/scan-shard" => scan::scan_shard(node, caller, body).await,
            "/rpc/follow" => follow::follow(node, caller, body).await,
            "/rpc/newest-change" => self.encoded(caller, follow::newest_change(node, body).await),
            "/rpc/map" => self.encoded(caller, control::map(node, body).await),
            "/rpc/dictionary" => self.encoded(caller, control::dictionary(node, body).await),
            "/rpc/put-dictionary" => {
                self.encoded(caller, control::put_dictionary(node, body).await)
            }
            "/rpc/put-map" => self.encoded(caller, control::put_map(node, body).await),
            "/rpc/clock" => self.encoded(caller, control::clock(node, body).await),
            "/rpc/hello" => self.encoded(caller, control::hello(node, body).await),
            "/rpc/form" => self.encoded(caller, control::form(node, body).await),
            "/rpc/status" => self.encoded(caller, control::status(node, body).await),
            "/rpc/transfer" => self.encoded(caller, control::transfer(node, body).await),
            "/rpc/replace-replica" => {
                self.encoded(caller, control::replace_replica(node, body).await)
            }
            _ => text(StatusCode::NOT_FOUND, format!("no such call: {path}")),
        }
    }

    /// Encodes the answer of a call.
    fn encoded<T: Encode>(&self, caller: Caller, answer: Result<T, Refusal>) -> Answer {
        if let Err(refusal) = &answer {
            note_bad(&self.node, caller, refusal);
        }
        bytes(StatusCode::OK, codec::encode(&answer).into())
    }

    /// Reads a body within limits; the permit stands for its memory.
    async fn read_body(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        let announced = request
            .headers()
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
            .unwrap_or(REQUEST_BYTES_MAX as u64);
        let units = (announced / MEMORY_UNIT + 1).min(u64::from(u32::MAX)) as u32;
        let Ok(permit) = self.memory.clone().try_acquire_many_owned(units) else {
            let retry_after_ms = RETRY_AFTER_MS;
            return Err(Refusal::Overloaded { retry_after_ms });
        };
        let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
        match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => Ok((body.to_bytes(), permit)),
            Ok(Err(error)) => {
                let reason = format!("body not read (limit {REQUEST_BYTES_MAX} bytes): {error}");
                Err(Refusal::BadRequest { reason })
            }
            Err(_) => {
                let reason = "body did not arrive in time".to_string();
                Err(Refusal::BadRequest { reason })
            }
        }
    }
}

/// Notes a request that nobody of this cluster and version would send.
pub(super) fn note_bad(node: &Node, caller: Caller, refusal: &Refusal) {
    if let Refusal::BadRequest { reason } = refusal {
        node.objections().note(caller, Kind::Request, reason);
    }
}

fn peer_of(headers: &HeaderMap) -> Option<NodeId> {
    headers.get(NODE_HEADER)?.to_str().ok()?.parse().ok().map(NodeId)
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
    Refusal::BadRequest { reason: error.to_string() }
}

/// The instant until which a caller waits.
pub(super) fn deadline(ms: u32) -> Instant {
    Instant::now() + Duration::from_millis(u64::from(ms.min(DEADLINE_MS_MAX)))
}
