//! `platbook bench readers`: one large ZIP, read by one and by many at once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use platbook_chaos_tests::Process;
use platbook_client::Client;
use platbook_protocol::Zip;
use serde_json::json;
use tokio::task::JoinSet;

use super::bodies::Bodies;
use super::drive::drive;
use super::store::Store;
use super::usage;
use crate::output::{self, Format, OutputArgs};
use crate::scratch::Scratch;

/// The ZIP that is read.
const ZIP: &str = "98103";
/// Reads by one reader, of which the median counts.
const SINGLE_READS: usize = 9;
/// A price that no listing reaches.
const NO_PRICE: u64 = 1_000_000_000;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long one of many readers pauses for every megabyte that it got, so that all are under way
/// at the same time.
const PAUSE_PER_MIB: Duration = Duration::from_millis(200);
/// What [`ReadersArgs::check`] allows for each reader, node and router alike.
const READER_BYTES_MAX: f64 = 2.0 * 1024.0 * 1024.0;
/// And until the first byte.
const FIRST_BYTE_MAX: Duration = Duration::from_millis(10);

/// How to read.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReadersArgs {
    /// Listings of the ZIP
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    listings: usize,
    /// Bytes of one listing, about
    #[arg(long, value_name = "BYTES", default_value_t = 4_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(900..=900_000))]
    bytes: u32,
    /// Readers at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    readers: usize,
    /// Fail unless a reader costs at most 2 MiB of a node's and the router's memory, and the first
    /// byte comes within 10 ms
    #[arg(long)]
    check: bool,
    /// Where data and logs go; default: a temporary directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: ReadersArgs) -> anyhow::Result<()> {
    ensure!(args.readers > 0 && args.listings > 0, "nothing is to be measured");
    let scratch = Scratch::make("platbook-bench-", args.data.as_deref())?;
    let store = Store::start(scratch.path(), 3, 16).await?;
    let mut bodies = Bodies::try_new(1, args.bytes as usize)?;
    let listings: Vec<_> = (0..args.listings).map(|at| bodies.one(at, ZIP)).collect();
    drive(store.sink(), &listings, 200, 4, Duration::from_secs(120)).await?;

    let router = format!("http://{}", store.cluster.router_address);
    let mut first_bytes = Vec::new();
    let mut whole = Vec::new();
    for number in 0..SINGLE_READS {
        let read = read(&router, number, Duration::ZERO).await?;
        ensure!(read.listings == args.listings, "{} listings were read", read.listings);
        first_bytes.push(read.first_byte);
        whole.push(read.took);
    }
    first_bytes.sort_unstable();
    whole.sort_unstable();
    let (first_byte, whole) = (first_bytes[SINGLE_READS / 2], whole[SINGLE_READS / 2]);
    let many = many(&args, &store, &router).await?;
    store.cluster.stop().await?;

    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let report = json!({
        "listings": args.listings, "listing_bytes": args.bytes, "readers": args.readers,
        "optimised": !cfg!(debug_assertions),
        "first_byte_ms": first_byte.as_secs_f64() * 1e3,
        "whole_zip_ms": whole.as_secs_f64() * 1e3,
        "node_mib_per_reader": mib(many.node_bytes),
        "router_mib_per_reader": mib(many.router_bytes),
        "together_s": many.took.as_secs_f64(),
    });
    match args.output.format() {
        Format::Table => {
            for (name, value) in report.as_object().into_iter().flatten() {
                output::line(&format!("{name:22} {value}"))?;
            }
        }
        Format::Json => output::line(&serde_json::to_string_pretty(&report)?)?,
        Format::Ndjson => output::line(&report.to_string())?,
    }
    if args.check {
        ensure!(first_byte <= FIRST_BYTE_MAX, "the first byte took {first_byte:?}");
        let most = many.node_bytes.max(many.router_bytes);
        ensure!(most <= READER_BYTES_MAX, "a reader costs {:.1} MiB", mib(most));
    }
    Ok(())
}

/// One read of the whole ZIP.
struct Read {
    listings: usize,
    first_byte: Duration,
    took: Duration,
}

async fn read(router: &str, number: usize, pause_per_mib: Duration) -> anyhow::Result<Read> {
    let client = Client::new(router)?.with_deadline(Duration::from_secs(60));
    // The connection is not what is measured.
    client.admin().cluster().await?;
    let zip = Zip::try_parse(ZIP).context("five digits")?;
    let began = Instant::now();
    // A filter that leaves everything, another one for each read: none is answered from the cache.
    let most = NO_PRICE + number as u64;
    let mut stream = client.zip(zip).max_price(most).stream().await?;
    let (mut listings, mut bytes, mut paused) = (0, 0, 0);
    let mut first_byte = None;
    while let Some(listing) = stream.try_next().await? {
        first_byte.get_or_insert_with(|| began.elapsed());
        listings += 1;
        bytes += listing.body().len();
        if bytes >> 20 > paused {
            paused = bytes >> 20;
            tokio::time::sleep(pause_per_mib).await;
        }
    }
    Ok(Read { listings, first_byte: first_byte.unwrap_or_default(), took: began.elapsed() })
}

/// What many readers cost, each.
struct Many {
    node_bytes: f64,
    router_bytes: f64,
    took: Duration,
}

async fn many(args: &ReadersArgs, store: &Store, router: &str) -> anyhow::Result<Many> {
    let nodes: Vec<u32> = store.cluster.nodes.iter().map(Process::pid).collect();
    let router_pid = store.cluster.router.pid();
    let resident = || -> anyhow::Result<(u64, u64)> {
        let mut of_nodes = 0;
        for pid in &nodes {
            of_nodes += usage::of(*pid)?.resident_bytes;
        }
        Ok((of_nodes, usage::of(router_pid)?.resident_bytes))
    };
    let before = resident()?;
    let began = Instant::now();
    let mut readers = JoinSet::new();
    for number in 0..args.readers {
        let router = router.to_string();
        let number = SINGLE_READS + number;
        readers.spawn(async move { read(&router, number, PAUSE_PER_MIB).await });
    }
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut peak = before;
    while !readers.is_empty() {
        tokio::select! {
            ended = readers.join_next() => if let Some(ended) = ended {
                let read = ended??;
                ensure!(read.listings == args.listings, "{} listings were read", read.listings);
            },
            _ = looks.tick() => {
                let now = resident()?;
                peak = (peak.0.max(now.0), peak.1.max(now.1));
            }
        }
    }
    let each = |peak: u64, before: u64| (peak - before) as f64 / args.readers as f64;
    Ok(Many {
        node_bytes: each(peak.0, before.0),
        router_bytes: each(peak.1, before.1),
        took: began.elapsed(),
    })
}
