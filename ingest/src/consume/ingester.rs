//! Puts the stages together, and drains them.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use platbook_client::Client;
use platbook_protocol::listing::Parser;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::applied::AppliedObjects;
use super::held::Held;
use super::room::Room;
use super::stats::Stats;
use super::{acker, poller, poster, quarantiner, status, visibility};
use crate::clock::Clock;
use crate::config::IngestConfig;
use crate::error::{IngestError, ListenError};
use crate::listen;
use crate::queue::{BATCH_ENTRIES_MAX, Bodies, QueueClient};

/// Messages between two stages.
const CHANNEL_MESSAGES: usize = 4_096;
/// Giving back what is left may take so long: a process has 10 s after `SIGTERM`.
const RELEASE_MAX: Duration = Duration::from_millis(1_500);
/// Calls at a time that give messages back.
const RELEASE_CALLS_MAX: usize = 16;

/// What all stages share; cheap to clone.
#[derive(Clone)]
pub(super) struct Ingest(Arc<Shared>);

pub(super) struct Shared {
    pub(super) config: IngestConfig,
    pub(super) queue: QueueClient,
    pub(super) bodies: Arc<dyn Bodies>,
    pub(super) router: Client,
    pub(super) parser: Parser,
    pub(super) clock: Clock,
    pub(super) room: Room,
    pub(super) held: Held,
    pub(super) applied_objects: AppliedObjects,
    pub(super) stats: Stats,
    /// No more polls.
    pub(super) stopping: CancellationToken,
}

impl Deref for Ingest {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// An ingester that is ready to run.
pub struct Ingester {
    ingest: Ingest,
    listener: TcpListener,
    address: SocketAddr,
}

/// Moves messages from the queue to the router until `shutdown`, then drains within 10 s.
pub async fn run(config: IngestConfig, shutdown: CancellationToken) -> Result<(), IngestError> {
    Ingester::bind(config).await?.run(shutdown).await
}

impl Ingester {
    /// Checks the settings, finds credentials, and listens for health checks.
    pub async fn bind(config: IngestConfig) -> Result<Ingester, IngestError> {
        let least = Room::least_bytes(config.consumers);
        check("held_bytes_max", config.held_bytes_max, least)?;
        let polls = (config.consumers * BATCH_ENTRIES_MAX) as u64;
        check("held_messages_max", config.held_messages_max as u64, polls)?;
        check("consumers", config.consumers as u64, 1)?;
        check("visibility_seconds", u64::from(config.visibility_seconds), 4)?;
        let listener = listen::bind(config.listen, config.insecure).await?;
        let address = listener
            .local_addr()
            .map_err(|source| ListenError::Bind { address: config.listen, source })?;
        let clock = Clock::system();
        let s3_endpoint = config.s3_endpoint_url.as_deref();
        let (queue, bodies) =
            QueueClient::connect_with_bodies(&config.queue, s3_endpoint, clock.clone()).await;
        let shared = Shared {
            queue,
            bodies,
            router: Client::new(&config.router)?,
            parser: Parser::try_new(config.fields.clone())?,
            clock,
            room: Room::new(config.held_bytes_max, config.held_messages_max),
            held: Held::default(),
            applied_objects: AppliedObjects::default(),
            stats: Stats::default(),
            stopping: CancellationToken::new(),
            config,
        };
        Ok(Ingester { ingest: Ingest(Arc::new(shared)), listener, address })
    }

    /// Where health and metrics are.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Runs until `shutdown`, and drains.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), IngestError> {
        let Ingester { ingest, listener, address } = self;
        info!(%address, consumers = ingest.config.consumers, "ingester is running");
        let mut beside = JoinSet::new();
        beside.spawn(visibility::keep_hidden(ingest.clone()));
        beside.spawn(status::watch_depth(ingest.clone()));
        let answering = ingest.clone();
        let handle = move |request| status::answer(answering.clone(), request);
        beside.spawn(listen::serve(listener, CancellationToken::new(), handle));
        let mut stages = start(&ingest);
        let ended = tokio::select! {
            ended = stages.join_next() => ended,
            () = shutdown.cancelled() => None,
        };
        let drain = Duration::from_secs(u64::from(ingest.config.drain_seconds));
        let deadline = Instant::now() + drain;
        ingest.stopping.cancel();
        let drained = timeout_at(deadline, async { while stages.join_next().await.is_some() {} });
        if drained.await.is_err() {
            warn!(messages = ingest.held.oldest().0, "drain was cut");
            stages.shutdown().await;
        }
        beside.shutdown().await;
        release(&ingest).await;
        info!(done = ingest.stats.done.get(), "ingester has stopped");
        if ended.is_some() { Err(IngestError::StageEnded) } else { Ok(()) }
    }
}

/// Starts all stages; each ends when those before it have ended and its channel is empty.
fn start(ingest: &Ingest) -> JoinSet<()> {
    let (lines, lines_out) = mpsc::channel(CHANNEL_MESSAGES);
    let (refused, refused_out) = mpsc::channel(CHANNEL_MESSAGES);
    let (settled, settled_out) = mpsc::channel(CHANNEL_MESSAGES);
    let mut stages = JoinSet::new();
    for _ in 0..ingest.config.consumers {
        let (lines, refused, settled) = (lines.clone(), refused.clone(), settled.clone());
        stages.spawn(poller::run(ingest.clone(), poller::Outlets { lines, refused, settled }));
    }
    let outlets = poster::Outlets { refused, settled: settled.clone() };
    stages.spawn(poster::run(ingest.clone(), lines_out, outlets));
    stages.spawn(quarantiner::run(ingest.clone(), refused_out, settled));
    stages.spawn(acker::run(ingest.clone(), settled_out));
    stages
}

/// Makes visible at once whatever is still held.
async fn release(ingest: &Ingest) {
    let handles = ingest.held.release_all();
    let all = stream::iter(handles.chunks(BATCH_ENTRIES_MAX))
        .for_each_concurrent(RELEASE_CALLS_MAX, |chunk| visibility::set(ingest, chunk, 0));
    if timeout(RELEASE_MAX, all).await.is_err() {
        warn!("some messages come again only when their visibility timeout ends");
    }
}

fn check(name: &'static str, value: u64, least: u64) -> Result<(), IngestError> {
    if value < least { Err(IngestError::LimitTooSmall { name, least }) } else { Ok(()) }
}
