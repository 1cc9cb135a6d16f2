//! Reads of whole ZIPs and of single listings, all systems filled alike and asked in turns.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::StatusCode;

use super::super::bodies::{self, Bodies};
use super::super::drive::{Listing, Sink, drive};
use super::super::etcd::EtcdSink;
use super::super::nats::{NatsSink, Publish};
use super::super::postgres::{Compression, PostgresSink, Writes};
use super::super::reads::{HttpReader, ReadLoop, Seen, read_for};
use super::systems::{Running, System};
use super::{CompareArgs, Scale};
use crate::scratch::Scratch;

/// The ZIPs, each with how many listings it has.
const ZIPS: [(&str, usize); 3] = [("98101", 50), ("98102", 600), ("98103", 5_000)];
/// Bytes of one listing, about.
const BYTES: usize = 4_000;
const READERS: [usize; 2] = [1, 16];
const READERS_MAX: usize = 16;
/// A prime.
const STRIDE: usize = 7_919;
/// A price that no listing reaches: a filter with a greater one leaves everything.
const NO_PRICE: u64 = 1_000_000_000;
const LONGEST: Duration = Duration::from_secs(120);

/// What is read, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// A whole ZIP that the router has not kept; its query differs from every earlier one.
    Fresh,
    /// The same request again: from the router's cache where the answer is small enough for it.
    Again,
    /// Whether it has changed.
    NotModified,
    /// The dearest hundredth of it.
    Dear,
    /// A whole ZIP, as a peer gives it.
    Whole,
    /// One listing by its key.
    One,
}

impl Case {
    pub(super) fn name(self) -> &'static str {
        match self {
            Case::Fresh => "uncached",
            Case::Again => "asked again",
            Case::NotModified => "304",
            Case::Dear => "price filter, 1 %",
            Case::Whole => "whole",
            Case::One => "by id",
        }
    }
}

/// All rounds of one case.
pub(super) struct Measured {
    pub(super) system: &'static str,
    pub(super) case: Case,
    pub(super) zip_listings: usize,
    pub(super) readers: usize,
    pub(super) rounds: Vec<ReadLoop>,
}

/// A filled system that can be read.
#[derive(Clone)]
enum Source {
    Platbook { reader: HttpReader, etags: Arc<[String]> },
    Etcd(EtcdSink),
    Nats(NatsSink),
    Postgres(PostgresSink),
}

/// Starts and fills every system, then reads from them in turns.
pub(super) async fn measure(args: &CompareArgs, scale: &Scale) -> anyhow::Result<Vec<Measured>> {
    let mut bodies = Bodies::try_new(args.seed, BYTES)?;
    let homes: Vec<&str> =
        ZIPS.iter().flat_map(|(zip, count)| std::iter::repeat_n(*zip, *count)).collect();
    // The stride shares no factor with the count: every place is taken once, and the listings of a
    // ZIP are not written one after the other.
    let home = |at: usize| homes[at * STRIDE % homes.len()];
    let listings: Arc<[Listing]> = (0..homes.len()).map(|at| bodies.one(at, home(at))).collect();
    let scratch = Scratch::make("platbook-bench-", None)?;
    let mut running = Vec::new();
    for (at, system) in super::systems_of(args).into_iter().enumerate() {
        let dir = scratch.path().join(format!("system-{at}"));
        std::fs::create_dir_all(&dir).context("making a data directory")?;
        let started = system.start(&dir).await?;
        let source = fill(&started, &listings).await?;
        running.push((system, started, source));
    }
    let mut measured = plan(&running, &listings);
    for round in 0..scale.rounds {
        for (case, source) in &mut measured {
            let job = Job { case: case.case, at: zip_at(case.zip_listings), listings: &listings };
            let time = Duration::from_millis(scale.read_ms);
            let read = job.run(source, case.readers, time, round).await;
            case.rounds.push(read.with_context(|| {
                format!("{}, {}, {} listings", case.system, case.case.name(), case.zip_listings)
            })?);
        }
        tracing::info!(round = round + 1, of = scale.rounds, "reads are measured");
    }
    for (_, started, _) in running {
        started.stop().await?;
    }
    Ok(measured.into_iter().map(|(measured, _)| measured).collect())
}

fn zip_at(listings: usize) -> usize {
    ZIPS.iter().position(|(_, count)| *count == listings).unwrap_or(0)
}

/// What is measured, in its order: the systems stand next to each other in every case.
fn plan(running: &[(System, Running, Source)], listings: &[Listing]) -> Vec<(Measured, Source)> {
    let mut planned = Vec::new();
    let mut add = |system: &System, source: &Source, case, zip_listings, readers| {
        let (system, rounds) = (system.name(), Vec::new());
        let measured = Measured { system, case, zip_listings, readers, rounds };
        planned.push((measured, source.clone()));
    };
    for (_, count) in ZIPS {
        for readers in READERS {
            for (system, _, source) in running {
                let cases: &[Case] = match source {
                    Source::Platbook { .. } => {
                        &[Case::Fresh, Case::Again, Case::NotModified, Case::Dear]
                    }
                    Source::Postgres(_) => &[Case::Whole, Case::Dear],
                    Source::Etcd(_) | Source::Nats(_) => &[Case::Whole],
                };
                for case in cases {
                    add(system, source, *case, count, readers);
                }
            }
        }
    }
    for readers in READERS {
        for (system, _, source) in running {
            add(system, source, Case::One, listings.len(), readers);
        }
    }
    planned
}

async fn fill(running: &Running, listings: &[Listing]) -> anyhow::Result<Source> {
    let source = match running {
        Running::Platbook(store, _) => {
            write(store.sink(), listings).await?;
            store.trained().await?;
            let reader = HttpReader::new(&store.cluster.router_address, READERS_MAX);
            let mut etags = Vec::new();
            for (zip, _) in ZIPS {
                let answer = reader.get(0, &format!("/v1/zips/{zip}/listings"), None).await?;
                etags.push(answer.etag.context("a ZIP has an entity tag")?);
            }
            Source::Platbook { reader, etags: etags.into() }
        }
        Running::Etcd(etcd) => {
            write(etcd.sink(), listings).await?;
            Source::Etcd(etcd.sink().clone())
        }
        Running::Nats(nats) => {
            let sink = nats.sink(Publish::InFlight);
            write(&sink, listings).await?;
            Source::Nats(sink)
        }
        Running::Postgres(postgres) => {
            let sink = postgres.sink(Writes::Upsert, Compression::Default, READERS_MAX).await?;
            write(&sink, listings).await?;
            postgres.analyse().await?;
            Source::Postgres(postgres.connect(READERS_MAX).await?)
        }
    };
    Ok(source)
}

async fn write<S: Sink>(sink: &S, listings: &[Listing]) -> anyhow::Result<()> {
    drive(sink, listings, 100, 4, LONGEST).await.map(|_| ())
}

/// One case in one round.
struct Job<'a> {
    case: Case,
    /// Which ZIP.
    at: usize,
    listings: &'a Arc<[Listing]>,
}

impl Job<'_> {
    async fn run(
        &self,
        source: &Source,
        readers: usize,
        time: Duration,
        round: usize,
    ) -> anyhow::Result<ReadLoop> {
        let (case, at) = (self.case, self.at);
        let (source, listings) = (source.clone(), self.listings.clone());
        let zip = ZIPS[at].0;
        let dear = bodies::dear();
        let wanted = match case {
            Case::Fresh | Case::Again | Case::Whole => ZIPS[at].1,
            Case::NotModified => 0,
            Case::Dear => listings.iter().filter(|one| one.zip == zip && one.price >= dear).count(),
            Case::One => 1,
        };
        let read = move |reader: usize, number: usize| {
            let (source, listings) = (source.clone(), listings.clone());
            async move {
                let which =
                    Which { at, number, round, listing: &listings[spread(number, &listings)] };
                let seen = source.read(case, reader, &which).await?;
                ensure!(seen.rows == wanted, "{} listings of {wanted} came", seen.rows);
                Ok(seen)
            }
        };
        read_for(readers, time, read).await
    }
}

/// Some listing, another one for every number.
fn spread(number: usize, listings: &[Listing]) -> usize {
    number.wrapping_mul(STRIDE) % listings.len()
}

/// What exactly is read.
struct Which<'a> {
    at: usize,
    number: usize,
    round: usize,
    listing: &'a Listing,
}

impl Source {
    async fn read(&self, case: Case, reader: usize, which: &Which<'_>) -> anyhow::Result<Seen> {
        let (zip, count) = ZIPS[which.at];
        let (id, dear) = (&which.listing.id, bodies::dear());
        match (self, case) {
            (Source::Platbook { reader: http, .. }, Case::Fresh) => {
                let most = NO_PRICE + (which.round << 24 | which.number) as u64;
                http.zip(reader, zip, &format!("?max_price={most}")).await
            }
            (Source::Platbook { reader: http, .. }, Case::Dear) => {
                http.zip(reader, zip, &format!("?min_price={dear}")).await
            }
            (Source::Platbook { reader: http, .. }, Case::One) => http.listing(reader, id).await,
            (Source::Platbook { reader: http, etags }, Case::NotModified) => {
                let path = format!("/v1/zips/{zip}/listings");
                let answer = http.get(reader, &path, Some(&etags[which.at])).await?;
                ensure!(answer.status == StatusCode::NOT_MODIFIED, "{}", answer.status);
                Ok(answer.seen)
            }
            (Source::Platbook { reader: http, .. }, _) => http.zip(reader, zip, "").await,
            (Source::Etcd(etcd), Case::One) => etcd.get(reader, &which.listing.zip, id).await,
            (Source::Etcd(etcd), _) => etcd.zip(reader, zip).await,
            (Source::Nats(nats), Case::One) => nats.get(reader, &which.listing.zip, id).await,
            (Source::Nats(nats), _) => nats.zip(reader, zip, count).await,
            (Source::Postgres(postgres), Case::One) => postgres.get(reader, id).await,
            (Source::Postgres(postgres), Case::Dear) => postgres.dear(reader, zip, dear).await,
            (Source::Postgres(postgres), _) => postgres.zip(reader, zip).await,
        }
    }
}
