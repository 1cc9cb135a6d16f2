//! Work at half of the load that a system bears: how far readers of changes are behind, how fast
//! one catches up, and what reads and writes take beside each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use platbook_client::changes::{Changes, Event, Start};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::super::bodies::Bodies;
use super::super::drive::{Listing, Sink, drive};
use super::super::etcd::Watch;
use super::super::pace::pace;
use super::super::reads::{HttpReader, Seen, quantile};
use super::systems::{Running, System};
use super::targets::median;
use super::{CompareArgs, Scale, systems_of};
use crate::scratch::Scratch;

/// Listings that are there before anything is measured.
const FILLED: usize = 10_000;
const BATCH: usize = 100;
const CLIENTS: usize = 8;
/// Reads a second beside the writes, and by how many.
const READ_RATE: f64 = 2_000.0;
const READERS: usize = 64;
/// Listings a second at half load, where the full one was not measured.
const HALF_DEFAULT: f64 = 4_000.0;
const LONGEST: Duration = Duration::from_secs(120);
/// Longest wait for a reader to see what was written.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// One round of one system.
pub(super) struct Live {
    /// Listings a second that were written.
    pub(super) rate: f64,
    /// From an acknowledgement until the change was read, ascending.
    pub(super) lags: Vec<Duration>,
    /// Changes a second, of a reader that begins with the first one.
    pub(super) catch_up: f64,
    /// Requests of writes and reads beside each other, since they were due, ascending.
    pub(super) writes: Vec<Duration>,
    pub(super) reads: Vec<Duration>,
}

/// All rounds of one system.
pub(super) struct Measured {
    pub(super) system: &'static str,
    pub(super) rounds: Vec<Live>,
}

/// Platbook and etcd in turns; `ingest` are the rows of what was measured at full load.
pub(super) async fn measure(
    args: &CompareArgs,
    scale: &Scale,
    ingest: &Value,
) -> anyhow::Result<Vec<Measured>> {
    let bears = |system: &&System| matches!(system, System::Platbook { .. } | System::Etcd { .. });
    let systems = systems_of(args);
    let systems: Vec<&System> = systems.iter().filter(bears).collect();
    let blank = |system: &&System| Measured { system: system.name(), rounds: Vec::new() };
    let mut measured: Vec<Measured> = systems.iter().map(blank).collect();
    for round in 0..scale.rounds {
        for (system, measured) in systems.iter().zip(&mut measured) {
            let scratch = Scratch::make("platbook-bench-", None)?;
            let running = system.start(scratch.path()).await?;
            let half = half(ingest, system.name());
            let time = Duration::from_millis(scale.live_ms);
            let live = match &running {
                Running::Platbook(store, _) => {
                    Turn { running: &running, half, time, args }.of(store.sink()).await?
                }
                Running::Etcd(etcd) => {
                    Turn { running: &running, half, time, args }.of(etcd.sink()).await?
                }
                Running::Nats(_) | Running::Postgres(_) => continue,
            };
            let (catch_up, lag) = (live.catch_up, quantile(&live.lags, 99));
            let system = measured.system;
            tracing::info!(round = round + 1, system, half, catch_up, ?lag, "measured");
            measured.rounds.push(live);
            running.stop().await?;
        }
    }
    Ok(measured)
}

/// Half of the best rate of a system.
fn half(ingest: &Value, system: &str) -> f64 {
    let rows = ingest.as_array().into_iter().flatten();
    let rates = rows
        .filter(|row| row["system"] == system)
        .filter_map(|row| median(row, "listings_per_second"));
    rates.max_by(f64::total_cmp).map_or(HALF_DEFAULT, |rate| rate / 2.0)
}

/// Whoever follows the changes.
enum Follower {
    Platbook(Box<Changes>),
    Etcd(Box<Watch>),
}

impl Follower {
    /// From the first change on.
    async fn start(running: &Running) -> anyhow::Result<Follower> {
        match running {
            Running::Platbook(store, _) => {
                let changes = store.client().changes().from(Start::Beginning).history();
                Ok(Follower::Platbook(Box::new(changes.follow()?)))
            }
            // The revision of an empty etcd.
            Running::Etcd(etcd) => Ok(Follower::Etcd(Box::new(etcd.watch(1).await?))),
            Running::Nats(_) | Running::Postgres(_) => anyhow::bail!("it is not followed"),
        }
    }

    /// The ids of the next changes.
    async fn next(&mut self) -> anyhow::Result<Vec<String>> {
        match self {
            Follower::Platbook(changes) => {
                let event = changes.try_next().await?.context("the stream has ended")?;
                Ok(match event {
                    Event::Change(change) => vec![change.id.as_str().to_string()],
                    _ => Vec::new(),
                })
            }
            Follower::Etcd(watch) => watch.next().await,
        }
    }
}

/// One round of one system while it runs.
struct Turn<'a> {
    running: &'a Running,
    half: f64,
    time: Duration,
    args: &'a CompareArgs,
}

/// When listings were acknowledged.
type Acked = Arc<Mutex<HashMap<String, Instant>>>;

impl Turn<'_> {
    async fn of<S: Sink>(&self, sink: &S) -> anyhow::Result<Live> {
        let mut bodies = Bodies::try_new(self.args.seed, self.args.bytes as usize)?;
        let filled = bodies.many(0, FILLED);
        drive(sink, &filled, BATCH, CLIENTS, LONGEST).await?;
        let (catch_up, follower) = self.catch_up(FILLED).await?;
        let live = (self.half * self.time.as_secs_f64()) as usize / BATCH * BATCH;
        let first = bodies.many(FILLED, live.max(BATCH));
        let (lags, rate) = self.lags(sink, &first, follower).await?;
        let second = bodies.many(FILLED + first.len(), live.max(BATCH));
        let (writes, reads) = self.mixed(sink, &second, &filled).await?;
        Ok(Live { rate, lags, catch_up, writes, reads })
    }

    /// Changes a second until all are read, and the reader, who goes on from there.
    async fn catch_up(&self, count: usize) -> anyhow::Result<(f64, Follower)> {
        let began = Instant::now();
        let mut follower = Follower::start(self.running).await?;
        let mut seen = 0;
        while seen < count {
            seen += follower.next().await?.len();
        }
        Ok((count as f64 / began.elapsed().as_secs_f64(), follower))
    }

    async fn lags<S: Sink>(
        &self,
        sink: &S,
        listings: &[Listing],
        follower: Follower,
    ) -> anyhow::Result<(Vec<Duration>, f64)> {
        let acked = Acked::default();
        let count = listings.len();
        let reader: JoinHandle<anyhow::Result<_>> = tokio::spawn(read(follower, count));
        let began = Instant::now();
        self.write(sink, listings, Some(acked.clone())).await?;
        let rate = count as f64 / began.elapsed().as_secs_f64();
        let seen = tokio::time::timeout(SEEN_WITHIN, reader);
        let seen = seen.await.context("a reader of changes did not see all of them")???;
        let acked = std::mem::take(&mut *acked.lock().unwrap_or_else(PoisonError::into_inner));
        let lag =
            |(id, at): &(String, Instant)| Some(at.saturating_duration_since(*acked.get(id)?));
        let mut lags: Vec<Duration> = seen.iter().filter_map(lag).collect();
        lags.sort_unstable();
        Ok((lags, rate))
    }

    /// Writes at half load; `acked` gets the time of every acknowledgement.
    async fn write<S: Sink>(
        &self,
        sink: &S,
        listings: &[Listing],
        acked: Option<Acked>,
    ) -> anyhow::Result<Vec<Duration>> {
        let parts = listings.chunks(BATCH).map(|part| {
            let ids: Vec<String> = part.iter().map(|one| one.id.clone()).collect();
            (ids, sink.request(part))
        });
        let parts: Arc<[_]> = parts.collect();
        let time = Duration::from_secs_f64((parts.len() as f64 + 0.5) * BATCH as f64 / self.half);
        let sink = sink.clone();
        let work = move |client, number: usize| {
            let (sink, parts, acked) = (sink.clone(), parts.clone(), acked.clone());
            async move {
                let Some((ids, request)) = parts.get(number).cloned() else { return Ok(()) };
                sink.send(client, request).await?;
                if let Some(acked) = acked {
                    let now = Instant::now();
                    let mut acked = acked.lock().unwrap_or_else(PoisonError::into_inner);
                    acked.extend(ids.into_iter().map(|id| (id, now)));
                }
                Ok(())
            }
        };
        pace(self.half / BATCH as f64, CLIENTS, time, work).await
    }

    /// Reads by id and writes beside each other.
    async fn mixed<S: Sink>(
        &self,
        sink: &S,
        listings: &[Listing],
        there: &[Listing],
    ) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
        let there: Arc<[(String, String)]> =
            there.iter().map(|one| (one.zip.clone(), one.id.clone())).collect();
        let source = match self.running {
            Running::Platbook(store, _) => {
                Some(HttpReader::new(&store.cluster.router_address, READERS))
            }
            _ => None,
        };
        let etcd = match self.running {
            Running::Etcd(etcd) => Some(etcd.sink().clone()),
            _ => None,
        };
        let work = move |client, number: usize| {
            let (source, etcd, there) = (source.clone(), etcd.clone(), there.clone());
            async move {
                let (zip, id) = &there[number * 7_919 % there.len()];
                let seen: Seen = match (&source, &etcd) {
                    (Some(http), _) => http.listing(client, id).await?,
                    (None, Some(etcd)) => etcd.get(client, zip, id).await?,
                    (None, None) => anyhow::bail!("it is not read"),
                };
                anyhow::ensure!(seen.rows == 1, "{id} is not there");
                Ok(())
            }
        };
        let reads = pace(READ_RATE, READERS, self.time, work);
        let (writes, reads) = tokio::join!(self.write(sink, listings, None), reads);
        Ok((writes?, reads?))
    }
}

async fn read(mut follower: Follower, count: usize) -> anyhow::Result<Vec<(String, Instant)>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let ids = follower.next().await?;
        let now = Instant::now();
        seen.extend(ids.into_iter().map(|id| (id, now)));
    }
    Ok(seen)
}
