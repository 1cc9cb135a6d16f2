//! HTTP/1.1 listeners of this crate: accept loop, limits, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::error::ListenError;

/// Connections at a time; a further one waits in the listen queue.
const CONNECTIONS_MAX: usize = 1_024;
/// A connection that begins no request for so long is closed. Longer than the 90 s for which
/// clients keep idle connections, so that it is they who close them.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests that run at shutdown have so long to end.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a handler answers with.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Binds `address`; nothing but loopback while there is no TLS, unless `insecure`.
pub(crate) async fn bind(address: SocketAddr, insecure: bool) -> Result<TcpListener, ListenError> {
    if !address.ip().is_loopback() && !insecure {
        return Err(ListenError::NotLoopback { address });
    }
    TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source })
}

/// Serves requests until `shutdown`, and then lets the running ones end.
pub(crate) async fn serve<H, F>(listener: TcpListener, shutdown: CancellationToken, handle: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tracker = TaskTracker::new();
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit.expect("the semaphore is never closed"), listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve_one(stream, shutdown.clone(), handle.clone());
                tracker.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tracker.close();
    if tokio::time::timeout(DRAIN_MAX, tracker.wait()).await.is_err() {
        warn!(connections = tracker.len(), "cut at the end of the drain");
    }
}

async fn serve_one<H, F>(stream: TcpStream, shutdown: CancellationToken, handle: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    // Without this the last small piece of an answer waits for the client's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set nodelay");
    }
    let service = service_fn(|request| {
        let answer = handle(request);
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}

/// An answer of plain text.
pub(crate) fn text(status: u16, text: impl Into<String>) -> Answer {
    Response::builder()
        .status(status)
        .header(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(Full::new(Bytes::from(text.into())))
        .expect("status and header are valid")
}
