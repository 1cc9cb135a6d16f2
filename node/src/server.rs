//! The port: an accept loop of our own, with limits on what a connection may take.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::error::NodeError;
use crate::net::{TcpListener, TcpStream};
use crate::rpc::Service;

/// Connections at once; each router and peer has few.
const CONNECTIONS_MAX: usize = 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;
const STREAMS_MAX: u32 = 4096;
const HEADER_BYTES_MAX: u32 = 32 << 10;
/// How long open requests may take to end when the node stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after the system refused a connection, for instance for want of file descriptors.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| NodeError::Listen { address, source })
}

/// Accepts until `stop`, then lets open requests end.
pub(crate) async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = Tasks::default();
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, from)) => {
                let serving = connection(tcp, from, service.clone(), tasks.clone(), stop.clone());
                tasks.execute(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
    // Whoever comes now must be refused: the system would take the connection for us, and nobody
    // would ever answer on it.
    drop(listener);
    tasks.tracker.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, tasks.tracker.wait()).await.is_err() {
        debug!(left = tasks.tracker.len(), "connections cut at the end of the drain");
        tasks.cut.cancel();
        // A task that was cut is gone when it would next have waited.
        tasks.tracker.wait().await;
    }
}

/// Connections, and the requests on them, which hyper runs on their own. Each of them holds the
/// node, and with it the data directory, so none outlives the server.
#[derive(Clone, Default)]
struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            cut.run_until_cancelled(task).await;
        });
    }
}

async fn connection(
    tcp: TcpStream,
    from: SocketAddr,
    service: Service,
    tasks: Tasks,
    stop: CancellationToken,
) {
    if let Err(error) = tcp.set_nodelay(true) {
        debug!(%from, %error, "TCP_NODELAY not set");
    }
    let mut builder = auto::Builder::new(tasks);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
    let port = service.clone();
    let handler = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.handle(from.ip(), request).await) }
    });
    let serving = builder.serve_connection(TokioIo::new(tcp), handler);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        match is_garbage(&*error) {
            true => port.on_garbage(from.ip(), &error.to_string()),
            false => debug!(%from, %error, "connection ended"),
        }
    }
}

/// Whether a connection ended by what was sent on it, and not by a caller that died, was cut off
/// or was too slow.
fn is_garbage(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(found) = cause {
        let went_away = found.downcast_ref::<hyper::Error>().is_some_and(|error| {
            error.is_incomplete_message() || error.is_timeout() || error.is_canceled()
        });
        if went_away || found.is::<std::io::Error>() {
            return false;
        }
        cause = found.source();
    }
    true
}
