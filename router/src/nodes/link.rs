//! One HTTP/2 connection to one node, kept up by its own task.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::net::TcpStream;

/// How long a TCP connect and an HTTP/2 handshake may take together.
const CONNECT_MS_MAX: u64 = 1_000;
/// Pause after the first failed connect; doubled up to [`PAUSE_MS_MAX`].
const PAUSE_MS_MIN: u64 = 20;
/// Longest pause between two connects. A node that is back may lead at once, by a handover, and its
/// shards' writes wait for this connection.
const PAUSE_MS_MAX: u64 = 250;
/// A ping is sent when nothing was received for so long.
const PING_INTERVAL_MS: u64 = 500;
/// A connection whose ping is not answered for so long is dead. Whatever waits for a node that is
/// silent, but not gone, waits this long and the interval before it is asked elsewhere; its shards
/// have other leaders before that.
const PING_TIMEOUT_MS: u64 = 1_000;
/// Receive window of one stream, so that a scan is not paced by round trips.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Receive window of the connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest frame taken, so that a scan comes in few pieces.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Bytes buffered for one outgoing stream; a full batch fits.
const SEND_BUFFER_BYTES: usize = 2 << 20;

type Sender = http2::SendRequest<Full<Bytes>>;

/// What is known of the connection.
#[derive(Clone)]
enum State {
    /// The first connect is under way.
    Connecting,
    /// Requests may be sent.
    Up(Sender),
    /// The last connect failed or the connection broke; the next connect is under way.
    Down(Arc<str>),
}

/// Why a request has no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// The request never left: no effect.
    #[error("not sent: {reason}")]
    NotSent {
        /// Why, for people.
        reason: Arc<str>,
    },
    /// The request may have arrived.
    #[error("connection broke: {reason}")]
    Broken {
        /// Why, for people.
        reason: Arc<str>,
    },
}

/// A cheap handle to the connection of one node. Its task ends with the last handle.
#[derive(Clone)]
pub(crate) struct Link {
    address: Arc<str>,
    state: watch::Receiver<State>,
}

impl Link {
    /// Starts keeping a connection to `address` (`host:port`).
    pub(crate) fn start(address: &str) -> Link {
        let (publish, state) = watch::channel(State::Connecting);
        let address: Arc<str> = address.into();
        tokio::spawn(keep_up(address.clone(), publish));
        Link { address, state }
    }

    /// The node's `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends `request`, waiting only for a first connect that is still under way.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, LinkError> {
        let mut sender = self.sender(deadline).await?;
        let sent = tokio::time::timeout_at(deadline, sender.try_send_request(request)).await;
        match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => {
                let kept = error.take_message().is_some();
                let reason: Arc<str> = describe(error.error()).into();
                debug!(node = %self.address, error = %reason, kept, "request failed");
                Err(if kept { LinkError::NotSent { reason } } else { LinkError::Broken { reason } })
            }
            Err(_) => Err(LinkError::Broken { reason: "no answer within the deadline".into() }),
        }
    }

    async fn sender(&self, deadline: Instant) -> Result<Sender, LinkError> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|s| !matches!(s, State::Connecting));
        let not_sent = |reason: Arc<str>| LinkError::NotSent { reason };
        match tokio::time::timeout_at(deadline, settled).await {
            Err(_) => Err(not_sent("not connected within the deadline".into())),
            Ok(Err(_)) => Err(not_sent("the router is stopping".into())),
            Ok(Ok(state)) => match &*state {
                State::Up(sender) => Ok(sender.clone()),
                State::Down(reason) => Err(not_sent(reason.clone())),
                State::Connecting => Err(not_sent("not connected".into())),
            },
        }
    }
}

async fn keep_up(address: Arc<str>, publish: watch::Sender<State>) {
    let mut pause_ms = PAUSE_MS_MIN;
    while !publish.is_closed() {
        let limit = Duration::from_millis(CONNECT_MS_MAX);
        let reason = match tokio::time::timeout(limit, connect(&address)).await {
            Err(_) => format!("connecting took more than {CONNECT_MS_MAX} ms"),
            Ok(Err(error)) => error,
            Ok(Ok((sender, connection))) => {
                info!(node = %address, "connected");
                pause_ms = PAUSE_MS_MIN;
                publish.send_replace(State::Up(sender));
                tokio::select! {
                    ended = connection => match ended {
                        Ok(()) => "the node closed the connection".to_string(),
                        Err(error) => describe(&error),
                    },
                    () = publish.closed() => return,
                }
            }
        };
        let changed = publish.send_if_modified(|state| {
            let was_down = matches!(state, State::Down(_));
            *state = State::Down(reason.as_str().into());
            !was_down
        });
        if changed {
            info!(node = %address, error = %reason, "disconnected");
        }
        let jittered = rand::rng().random_range(pause_ms / 2..=pause_ms);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(jittered)) => {}
            () = publish.closed() => return,
        }
        pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
    }
}

type Connection = http2::Connection<TokioIo<TcpStream>, Full<Bytes>, TokioExecutor>;

async fn connect(address: &str) -> Result<(Sender, Connection), String> {
    let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Duration::from_millis(PING_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(PING_TIMEOUT_MS))
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| describe(&e))
}

/// The whole chain of causes: hyper's own message names only the outermost.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_to_a_dead_node_is_known_not_to_be_sent() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let link = Link::start(&address);
        let request = Request::post("http://node/rpc/map").body(Full::default()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = link.send(request, deadline).await.expect_err("nobody listens");
        assert!(matches!(error, LinkError::NotSent { .. }), "{error}");
    }
}
