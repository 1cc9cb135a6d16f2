//! The gatherers of all shards, started when first needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use platbook_protocol::op::OpOutcome;
use platbook_protocol::rpc::{Consistency, RegisterView, RowView};
use platbook_protocol::{ListingId, ShardId, Zip};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::fair_queue::Source;
use super::gatherer::{Gatherer, Kind, QueueLimits};
use super::homes::Homes;
use super::kinds::{Proposals, Registers, Rows};
use crate::config::Limits;
use crate::error::Failure;
use crate::metrics::Metrics;
use crate::nodes::Leaders;

/// Bodies that registers are letting go of at the same time, while nobody waits for that.
const RELEASES_MAX: u32 = 4_096;

/// One gatherer for each shard that was asked so far.
struct OfKind<K: Kind> {
    kind: Arc<K>,
    limits: QueueLimits,
    metrics: Arc<Metrics>,
    started: Mutex<HashMap<ShardId, Gatherer<K>>>,
}

impl<K: Kind> OfKind<K> {
    fn new(kind: K, limits: QueueLimits, metrics: Arc<Metrics>) -> OfKind<K> {
        OfKind { kind: Arc::new(kind), limits, metrics, started: Mutex::default() }
    }

    fn of(&self, shard: ShardId) -> Gatherer<K> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || Gatherer::start(self.kind.clone(), shard, self.limits, self.metrics.clone());
        started.entry(shard).or_insert_with(start).clone()
    }
}

/// Asks shards, many requests in one call. Results are in the order of the items.
pub(crate) struct Shards {
    leaders: Leaders,
    proposals: OfKind<Proposals>,
    registers: [OfKind<Registers>; 2],
    rows: OfKind<Rows<false>>,
    bodies: [OfKind<Rows<true>>; 2],
    releases: Arc<Semaphore>,
    homes: Homes,
}

impl Shards {
    /// Gathers within `limits` and asks `leaders`.
    pub(crate) fn new(leaders: Leaders, limits: &Limits, metrics: &Arc<Metrics>) -> Shards {
        let queue = QueueLimits {
            bytes_max: limits.queue_bytes_max,
            wait: Duration::from_millis(limits.queue_wait_ms_max),
        };
        let registers = |consistency| {
            let kind = Registers { leaders: leaders.clone(), consistency };
            OfKind::new(kind, queue, metrics.clone())
        };
        let bodies = |consistency| {
            let kind = Rows::<true> { leaders: leaders.clone(), consistency };
            OfKind::new(kind, queue, metrics.clone())
        };
        let consistency = Consistency::Linearizable;
        let rows = Rows::<false> { leaders: leaders.clone(), consistency };
        Shards {
            proposals: OfKind::new(Proposals { leaders: leaders.clone() }, queue, metrics.clone()),
            registers: [registers(Consistency::Linearizable), registers(Consistency::Lease)],
            rows: OfKind::new(rows, queue, metrics.clone()),
            bodies: [bodies(Consistency::Linearizable), bodies(Consistency::Lease)],
            homes: Homes::new(),
            releases: Arc::new(Semaphore::new(RELEASES_MAX as usize)),
            leaders,
        }
    }

    /// Who is asked where nothing is gathered.
    pub(crate) fn leaders(&self) -> &Leaders {
        &self.leaders
    }

    /// Where listings may stand.
    pub(crate) fn homes(&self) -> &Homes {
        &self.homes
    }

    /// Room for so many releases that nobody waits for; `None`: whoever caused them must.
    pub(crate) fn try_release(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(count).ok()?;
        self.releases.clone().try_acquire_many_owned(count).ok()
    }

    /// Returns once no release is under way.
    pub(crate) async fn released(&self) {
        // The semaphore is never closed.
        drop(self.releases.acquire_many(RELEASES_MAX).await);
    }

    /// Proposes encoded operations.
    pub(crate) async fn propose(
        &self,
        shard: ShardId,
        source: Source,
        ops: Vec<Bytes>,
        deadline: Instant,
    ) -> Vec<Result<OpOutcome, Failure>> {
        self.proposals.of(shard).submit(source, ops, deadline).await
    }

    /// Reads rows without their bodies, linearizably.
    pub(crate) async fn rows(
        &self,
        shard: ShardId,
        source: Source,
        rows: Vec<(Zip, ListingId)>,
        deadline: Instant,
    ) -> Vec<Result<Option<RowView>, Failure>> {
        self.rows.of(shard).submit(source, rows, deadline).await
    }

    /// Reads rows with their bodies.
    pub(crate) async fn bodies(
        &self,
        shard: ShardId,
        source: Source,
        consistency: Consistency,
        rows: Vec<(Zip, ListingId)>,
        deadline: Instant,
    ) -> Vec<Result<Option<RowView>, Failure>> {
        self.bodies[index(consistency)].of(shard).submit(source, rows, deadline).await
    }

    /// Reads registers.
    pub(crate) async fn registers(
        &self,
        shard: ShardId,
        source: Source,
        consistency: Consistency,
        ids: Vec<ListingId>,
        deadline: Instant,
    ) -> Vec<Result<Option<RegisterView>, Failure>> {
        self.registers[index(consistency)].of(shard).submit(source, ids, deadline).await
    }
}

fn index(consistency: Consistency) -> usize {
    match consistency {
        Consistency::Linearizable => 0,
        Consistency::Lease => 1,
    }
}
