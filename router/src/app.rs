//! What all requests of one router share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use platbook_protocol::ShardId;
use platbook_protocol::listing::Parser;
use platbook_protocol::map::Map;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::batch::{Shards, Source};
use crate::changes::lookout::Lookouts;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::cpu::Cpu;
use crate::dictionaries::Dictionaries;
use crate::error::{Failure, RouterError};
use crate::metrics::Metrics;
use crate::nodes::{Directory, Leaders, follow::follow};
use crate::read::cache::Cache;
use crate::read::places::Places;
use crate::write::edge::{Edge, Rules};
use crate::write::trainer::Trainer;

/// What all requests share.
pub(crate) struct App {
    /// Every limit.
    pub(crate) limits: Limits,
    /// The wall clock.
    pub(crate) clock: Clock,
    /// All numbers.
    pub(crate) metrics: Arc<Metrics>,
    /// What is known of the cluster.
    pub(crate) directory: Arc<Directory>,
    /// The way to the shards.
    pub(crate) shards: Arc<Shards>,
    /// Prepares messages.
    pub(crate) edge: Edge,
    /// Dictionaries for frames.
    pub(crate) dictionaries: Arc<Dictionaries>,
    /// Whole responses to reads of ZIPs.
    pub(crate) cache: Arc<Cache>,
    /// Places for scans.
    pub(crate) places: Arc<Places>,
    /// Threads for work that would keep the reactor busy.
    pub(crate) cpu: Cpu,
    /// Places for requests in flight.
    pub(crate) requests: Arc<Semaphore>,
    /// Wait for readers of changes that are up to date.
    pub(crate) lookouts: Arc<Lookouts>,
    /// Places for readers of changes.
    pub(crate) followers: Arc<Semaphore>,
    /// Room for bytes of request bodies.
    pub(crate) body_bytes: Arc<Semaphore>,
    sources: AtomicU64,
    draining: CancellationToken,
    stop: CancellationToken,
}

impl App {
    /// Starts to follow the map.
    pub(crate) fn start(config: Config, clock: Clock) -> Result<Arc<App>, RouterError> {
        let Config { nodes, limits, fields, ordering, .. } = config;
        let parser = Parser::try_new(fields)?;
        let metrics = Arc::new(Metrics::default());
        let directory = Arc::new(Directory::new(&nodes));
        let leaders = Leaders::new(directory.clone());
        let dictionaries = Arc::new(Dictionaries::new(leaders.clone()));
        let trainer = Trainer::new(leaders.clone());
        let cpu = Cpu::new();
        let rules = Rules { ordering, sent_ahead_ms_max: limits.sent_ahead_ms_max };
        let edge = Edge::new(parser, dictionaries.clone(), trainer, cpu.clone(), rules);
        let shards = Arc::new(Shards::new(leaders, &limits, &metrics));
        let lookouts = Lookouts::new(directory.clone(), metrics.clone());
        let stop = CancellationToken::new();
        tokio::spawn(follow(directory.clone(), stop.clone()));
        Ok(Arc::new(App {
            edge,
            cache: Cache::new(limits.cache_bytes_max, limits.cache_entry_bytes_max),
            places: Places::new(limits.scans_max, limits.scans_per_zip_max),
            cpu,
            dictionaries,
            lookouts,
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            followers: Arc::new(Semaphore::new(limits.followers_max)),
            body_bytes: Arc::new(Semaphore::new(limits.request_bytes_in_flight_max)),
            limits,
            clock,
            metrics,
            directory,
            shards,
            sources: AtomicU64::new(0),
            draining: CancellationToken::new(),
            stop,
        }))
    }

    /// The map; waits for the first one until `deadline`.
    pub(crate) async fn map(&self, deadline: Instant) -> Result<Arc<Map>, Failure> {
        if let Some(map) = self.directory.map() {
            return Ok(map);
        }
        let formed = tokio::time::timeout_at(deadline, self.directory.formed()).await;
        let unavailable = || Failure::Unavailable {
            shard: ShardId::SYSTEM,
            reason: "no node has told the map".into(),
        };
        formed.ok().and_then(|()| self.directory.map()).ok_or_else(unavailable)
    }

    /// A number for one request, under which it waits for its turns.
    pub(crate) fn source(&self) -> Source {
        Source(self.sources.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether requests can be served: the map is known and nobody asked to stop.
    pub(crate) fn is_ready(&self) -> bool {
        self.directory.map().is_some() && !self.draining.is_cancelled()
    }

    /// From now on `/readyz` says no.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    /// Returns when the process drains: what would go on for ever ends.
    pub(crate) async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Ends the tasks that outlive requests.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}
