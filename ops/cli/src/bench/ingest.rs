//! `platbook bench ingest`: durable writes, alone or beside etcd, in turns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};

use super::bodies::{Bodies, compression};
use super::drive::{Listing, Measured, Sink, drive};
use super::etcd::Etcd;
use super::store::Store;
use super::usage::{self, Servers, Usage};
use crate::output::{self, Format, OutputArgs};
use crate::scratch::Scratch;
use crate::table::{self, Column};

/// Bytes of listings written before the clock starts: enough for a dictionary.
const WARM_UP_BYTES: usize = 8 << 20;
/// In how large batches; the warm-up is not measured.
const WARM_UP_BATCH: usize = 100;
const WARM_UP_CLIENTS: usize = 8;

/// How to write.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct IngestArgs {
    /// Listings to write in each round
    #[arg(long, value_name = "N", default_value_t = 40_000)]
    listings: usize,
    /// Bytes of one listing, about
    #[arg(long, value_name = "BYTES", default_value_t = 3_500)]
    #[arg(value_parser = clap::value_parser!(u32).range(900..=900_000))]
    bytes: u32,
    /// Clients, each with one request under way
    #[arg(long, value_name = "N", default_value_t = 16)]
    clients: usize,
    /// Listings in one request
    #[arg(long, value_name = "N", default_value_t = 500)]
    batch: usize,
    /// Shards of the cluster; several values are measured in turns
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "16")]
    shards: Vec<u32>,
    /// Storage nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Rounds; each starts every system afresh
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Longest time of one round, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Also measure etcd, in turns: the file of the program `etcd`
    #[arg(long, value_name = "FILE")]
    etcd: Option<PathBuf>,
    /// Clients and listings in one request for etcd
    #[arg(long, value_name = "CLIENTS,BATCH", value_delimiter = ',', num_args = 1)]
    #[arg(default_value = "256,1")]
    etcd_shape: Vec<usize>,
    /// Decides the listings
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where data and logs go; default: a temporary directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl IngestArgs {
    fn warm_up(&self) -> usize {
        (WARM_UP_BYTES / self.bytes as usize).max(1_200)
    }
}

/// One system in one way of using it.
#[derive(Clone, Debug)]
enum System {
    Platbook { shards: u32 },
    Etcd { binary: PathBuf },
}

/// One round of one system.
struct Round {
    measured: Measured,
    cpu: Duration,
    router_cpu: Option<Duration>,
    load_cpu: Duration,
    peak_bytes: u64,
    disk_bytes: u64,
    syncs: Option<f64>,
    nodes: usize,
}

pub(crate) async fn run(args: IngestArgs) -> anyhow::Result<()> {
    ensure!(args.batch > 0 && args.clients > 0 && args.rounds > 0, "nothing is to be measured");
    ensure!(args.etcd_shape.len() == 2, "--etcd-shape is CLIENTS,BATCH");
    let platbook = |shards: &u32| System::Platbook { shards: *shards };
    let mut systems: Vec<System> = args.shards.iter().map(platbook).collect();
    systems.extend(args.etcd.clone().map(|binary| System::Etcd { binary }));

    let mut bodies = Bodies::try_new(args.seed, args.bytes as usize)?;
    let listings = bodies.many(0, args.warm_up() + args.listings);
    let ratio = compression(&listings[..args.warm_up()])?;
    let mut rounds: Vec<Vec<Round>> = systems.iter().map(|_| Vec::new()).collect();
    let table = args.output.format() == Format::Table;
    for round in 0..args.rounds {
        for (at, system) in systems.iter().enumerate() {
            let wanted = args.data.as_ref().map(|dir| dir.join(format!("round-{round}-{at}")));
            let scratch = Scratch::make("platbook-bench-", wanted.as_deref())?;
            let measured = measure(&args, system, scratch.path(), &listings).await?;
            if table {
                report_progress(&args, system, round, &measured);
            }
            rounds[at].push(measured);
        }
    }
    tell(&args, &systems, &rounds, ratio)
}

/// Progress for people, on stderr: rounds take a while.
fn report_progress(args: &IngestArgs, system: &System, round: usize, measured: &Round) {
    let rate = measured.measured.rate();
    tracing::info!(round = round + 1, of = args.rounds, system = name(system), rate, "measured");
}

async fn measure(
    args: &IngestArgs,
    system: &System,
    dir: &Path,
    listings: &[Listing],
) -> anyhow::Result<Round> {
    match system {
        System::Platbook { shards } => {
            let store = Store::start(dir, args.nodes, *shards).await?;
            let servers = store.servers(dir);
            warm_up(store.sink(), &listings[..args.warm_up()]).await?;
            store.trained().await?;
            let syncs = store.syncs().await?;
            let shape = (args.clients, args.batch);
            let mut round = load(args, store.sink(), &servers, listings, shape).await?;
            round.syncs = Some(store.syncs().await? - syncs);
            round.nodes = args.nodes;
            store.cluster.stop().await?;
            Ok(round)
        }
        System::Etcd { binary } => {
            let etcd = Etcd::start(binary, dir).await?;
            let servers = etcd.servers();
            warm_up(etcd.sink(), &listings[..args.warm_up()]).await?;
            let shape = (args.etcd_shape[0], args.etcd_shape[1]);
            load(args, etcd.sink(), &servers, listings, shape).await
        }
    }
}

async fn warm_up<S: Sink>(sink: &S, listings: &[Listing]) -> anyhow::Result<()> {
    let longest = Duration::from_secs(60);
    drive(sink, listings, WARM_UP_BATCH, WARM_UP_CLIENTS, longest).await.map(|_| ())
}

async fn load<S: Sink>(
    args: &IngestArgs,
    sink: &S,
    servers: &Servers,
    listings: &[Listing],
    (clients, batch): (usize, usize),
) -> anyhow::Result<Round> {
    let own = || usage::of(std::process::id());
    let (before, own_before): (Usage, Usage) = (servers.usage()?, own()?);
    let router_before = servers.router_cpu()?;
    let longest = Duration::from_secs(args.seconds);
    let measured = drive(sink, &listings[args.warm_up()..], batch, clients, longest).await?;
    let (after, own_after) = (servers.usage()?, own()?);
    let router_after = servers.router_cpu()?;
    Ok(Round {
        measured,
        cpu: after.cpu - before.cpu,
        router_cpu: router_after.zip(router_before).map(|(after, before)| after - before),
        load_cpu: own_after.cpu - own_before.cpu,
        peak_bytes: after.peak_bytes,
        disk_bytes: servers.disk_bytes(),
        syncs: None,
        nodes: servers.pids.len(),
    })
}

fn name(system: &System) -> String {
    match system {
        System::Platbook { shards } => format!("platbook, {shards} shards"),
        System::Etcd { .. } => "etcd".to_string(),
    }
}

/// A figure of a round: what it is called, and how it is read.
type Figure = (&'static str, fn(&Round) -> Option<f64>);

const FIGURES: [Figure; 10] = [
    ("listings_per_second", |r| Some(r.measured.rate())),
    ("request_ms_p50", |r| Some(r.measured.latency(50).as_secs_f64() * 1e3)),
    ("request_ms_p99", |r| Some(r.measured.latency(99).as_secs_f64() * 1e3)),
    ("server_cpu_us_per_listing", |r| Some(per_listing(r, r.cpu.as_secs_f64() * 1e6))),
    ("router_cpu_us_per_listing", |r| Some(per_listing(r, r.router_cpu?.as_secs_f64() * 1e6))),
    ("load_cpu_us_per_listing", |r| Some(per_listing(r, r.load_cpu.as_secs_f64() * 1e6))),
    ("syncs_per_listing_and_node", |r| Some(per_listing(r, r.syncs?) / r.nodes as f64)),
    ("peak_memory_mib", |r| Some(r.peak_bytes as f64 / f64::from(1 << 20))),
    ("disk_mib", |r| Some(r.disk_bytes as f64 / f64::from(1 << 20))),
    ("listings", |r| Some(r.measured.listings as f64)),
];

fn per_listing(round: &Round, value: f64) -> f64 {
    value / round.measured.listings as f64
}

/// Lowest, middle and highest of the rounds.
pub(super) fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.get(values.len() / 2)?;
    Some([*values.first()?, *middle, *values.last()?])
}

fn tell(
    args: &IngestArgs,
    systems: &[System],
    rounds: &[Vec<Round>],
    ratio: f64,
) -> anyhow::Result<()> {
    let mut results = Vec::new();
    for (system, rounds) in systems.iter().zip(rounds) {
        let mut figures = serde_json::Map::new();
        for (figure, read) in FIGURES {
            if let Some([low, middle, high]) = spread(rounds.iter().filter_map(read).collect()) {
                let spread = json!({"min": low, "median": middle, "max": high});
                figures.insert(figure.to_string(), spread);
            }
        }
        let (clients, batch) = match system {
            System::Platbook { .. } => (args.clients, args.batch),
            System::Etcd { .. } => (args.etcd_shape[0], args.etcd_shape[1]),
        };
        results.push(json!({
            "system": name(system), "clients": clients, "batch": batch, "figures": figures,
        }));
    }
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "optimised": !cfg!(debug_assertions),
        "listing_bytes": args.bytes, "zstd_ratio": ratio, "nodes": args.nodes,
        "rounds": args.rounds, "seed": args.seed, "results": results,
    });
    match args.output.format() {
        Format::Table => print(&report),
        Format::Json => output::line(&serde_json::to_string_pretty(&report)?),
        Format::Ndjson => output::line(&report.to_string()),
    }
}

const COLUMNS: [Column; 4] = [
    table::text("FIGURE", 28),
    table::number("MEDIAN", 12),
    table::number("LOWEST", 12),
    table::number("HIGHEST", 12),
];

fn print(report: &Value) -> anyhow::Result<()> {
    for result in report["results"].as_array().into_iter().flatten() {
        let (clients, batch) = (&result["clients"], &result["batch"]);
        let system = table::shown(&result["system"]);
        output::line(&format!("\n{system}, {clients} clients, {batch} listings a request"))?;
        output::line(&table::head(&COLUMNS))?;
        for (figure, spread) in result["figures"].as_object().into_iter().flatten() {
            let number = |name: &str| shown(spread[name].as_f64().unwrap_or_default());
            let values = [figure.clone(), number("median"), number("min"), number("max")];
            output::line(&table::row(&COLUMNS, values))?;
        }
    }
    let ratio = report["zstd_ratio"].as_f64().unwrap_or_default();
    let bytes = &report["listing_bytes"];
    output::line(&format!("\nlistings of {bytes} bytes that zstd makes {ratio:.2} times smaller"))
}

/// Four digits that count.
pub(super) fn shown(value: f64) -> String {
    match value.abs() {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_lowest_middle_highest() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(spread(Vec::new()), None);
    }
}
