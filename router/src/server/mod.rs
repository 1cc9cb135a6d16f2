//! Serves HTTP: own accept loop, because every wait on a client needs a limit.
//!
//! [`guarded`] puts the limits on the connection itself; what happens inside a request is
//! `crate::http`'s business.

mod guarded;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::error::RouterError;
use crate::http;
use crate::net::{TcpListener, TcpStream};
use guarded::{Guarded, Patience};

/// Pause after a failed accept: the usual cause, too many open files, needs time to go away.
const ACCEPT_PAUSE_MS: u64 = 50;
/// Longest wait in the end for what nobody waits for.
const RELEASED_WITHIN: Duration = Duration::from_millis(500);
/// Streams of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 256;
/// Receive window of one HTTP/2 stream, so that bulk writes are not paced by round trips.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Receive window of one HTTP/2 connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// A ping is sent on an idle HTTP/2 connection after this long.
const PING_INTERVAL_MS: u64 = 20_000;
/// An HTTP/2 connection whose ping is not answered for so long is dead.
const PING_TIMEOUT_MS: u64 = 20_000;
/// Bytes buffered for one HTTP/2 response.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// A router that listens but does not serve yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
}

impl Server {
    /// Checks `config` and takes its address. The nodes need not be there yet.
    pub async fn bind(config: Config, clock: Clock) -> Result<Server, RouterError> {
        let address = config.listen;
        if !address.ip().is_loopback() && !config.insecure {
            return Err(RouterError::NotLoopback { address });
        }
        if config.nodes.is_empty() {
            return Err(RouterError::NoNodes);
        }
        let Limits { idle_ms_max, deadline_ms_max, .. } = config.limits;
        if idle_ms_max <= deadline_ms_max {
            return Err(RouterError::Limits { idle_ms_max, deadline_ms_max });
        }
        let app = App::start(config, clock)?;
        let failed = |source| RouterError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server { listener, address, app })
    }

    /// Where it listens; the port is a real one also where 0 was configured.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`; then answers what is under way, for a limited time.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Server { listener, address, app } = self;
        info!(%address, "router listens");
        let limits = app.limits.clone();
        let permits = Arc::new(Semaphore::new(limits.connections_max));
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        loop {
            // Beyond the limit, clients wait in the listen queue.
            let Ok(permit) = permits.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    continue;
                }
            };
            let (app, shutdown, cut) = (app.clone(), shutdown.clone(), cut.clone());
            connections.spawn(async move {
                app.metrics.connections.add(1);
                tokio::select! {
                    () = converse(stream, &app, shutdown) => {}
                    () = cut.cancelled() => {}
                }
                app.metrics.connections.add(-1);
                drop(permit);
            });
        }
        app.drain();
        drop(listener);
        connections.close();
        let limit = Duration::from_millis(limits.drain_ms_max);
        if tokio::time::timeout(limit, connections.wait()).await.is_err() {
            warn!(connections = connections.len(), "drain took too long, cutting");
            cut.cancel();
            connections.wait().await;
        }
        // What is cut off here, the shards' sweepers do.
        if tokio::time::timeout(RELEASED_WITHIN, app.shards.released()).await.is_err() {
            debug!("registers are left holding bodies");
        }
        app.stop();
        info!(%address, "router stopped");
    }
}

/// Serves one connection to its end, or until what is under way at `shutdown` is answered.
async fn converse(stream: TcpStream, app: &Arc<App>, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection lost before it was served");
        return;
    }
    let io = TokioIo::new(Guarded::new(stream, patience(&app.limits)));
    let builder = builder(&app.limits);
    let service = TowerToHyperService::new(http::routes(app.clone()));
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(error = %error, "connection ended");
    }
}

fn patience(limits: &Limits) -> Patience {
    Patience {
        first_bytes: Duration::from_millis(limits.header_ms_max),
        idle: Duration::from_millis(limits.idle_ms_max),
        stalled_write: Duration::from_millis(limits.stalled_reader_ms),
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_ms_max))
        .max_buf_size(limits.header_bytes_max as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits.header_bytes_max)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Duration::from_millis(PING_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(PING_TIMEOUT_MS));
    builder
}
