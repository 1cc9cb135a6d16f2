//! `platbook bench changes`: how far behind followers of changes are, how fast one catches up, and
//! what they cost who only wait, or do not read.
//!
//! [`lag`] writes at half of what was possible and notes when each change arrives, [`idle`] opens
//! many followers that have nothing to read, [`catch_up`] reads everything at once, [`stall`] stops
//! reading while changes pass; [`raw`] is a reader that looks at no listing.

mod catch_up;
mod idle;
mod lag;
mod raw;
mod stall;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use super::bodies::Bodies;
use super::drive::{self, Listing};
use super::store::Store;
use crate::output::{self, Format, OutputArgs};
use crate::scratch::Scratch;

/// Listings of one request, and requests under way, where writes go as fast as they can.
const BATCH: usize = 500;
const CLIENTS: usize = 16;
/// Listings written first: a cluster trains its dictionary from some megabytes.
const WARM_UP: usize = 4_000;
/// No part of it takes longer.
const LONGEST: Duration = Duration::from_secs(900);

/// How to follow.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChangesArgs {
    /// Listings written as fast as possible, and read again by the one that catches up
    #[arg(long, value_name = "N", default_value_t = 150_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    listings: u32,
    /// Bytes of one listing, about
    #[arg(long, value_name = "BYTES", default_value_t = 3_500)]
    #[arg(value_parser = clap::value_parser!(u32).range(900..=900_000))]
    bytes: u32,
    /// Shards
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// Seconds of writing at half of that speed, while one follows
    #[arg(long, value_name = "S", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
    lag_seconds: u32,
    /// Followers that only wait
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000))]
    followers: u32,
    /// Seconds for which they wait
    #[arg(long, value_name = "S", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
    idle_seconds: u32,
    /// Changes that pass while one reader does not read; 0: that is not measured
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    stall_changes: u32,
    /// Seconds for which it does not read
    #[arg(long, value_name = "S", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    stall_seconds: u32,
    /// Where data and logs go; default: a temporary directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is measured, and how it is written to.
struct Bench {
    store: Store,
    dir: PathBuf,
    bodies: Bodies,
    /// Listings made so far: each is another one.
    made: usize,
}

impl Bench {
    fn listings(&mut self, count: usize) -> Vec<Listing> {
        let listings = self.bodies.many(self.made, count);
        self.made += count;
        listings
    }

    fn router(&self) -> String {
        self.store.cluster.router_address.clone()
    }

    /// Writes new listings as fast as possible; gives listings a second.
    async fn write(&mut self, count: usize) -> anyhow::Result<f64> {
        let (mut left, mut took, mut written) = (count, 0.0, 0);
        while left > 0 {
            // In parts, so that not all are held at once.
            let part = self.listings(left.min(50_000));
            left -= part.len();
            let done = drive::drive(self.store.sink(), &part, BATCH, CLIENTS, LONGEST).await?;
            ensure!(done.listings == part.len(), "{} of {} written", done.listings, part.len());
            written += done.listings;
            took += done.took.as_secs_f64();
        }
        Ok(written as f64 / took)
    }
}

pub(crate) async fn run(args: ChangesArgs) -> anyhow::Result<()> {
    let scratch = Scratch::make("platbook-bench-", args.data.as_deref())?;
    let dir = scratch.path().to_owned();
    let store = Store::start(&dir, 3, args.shards).await?;
    let bodies = Bodies::try_new(1, args.bytes as usize)?;
    let mut bench = Bench { store, dir, bodies, made: 0 };
    bench.write(WARM_UP).await?;
    // Few or small listings train none; then frames have none.
    let is_trained = bench.store.trained().await.is_ok();
    let rate = bench.write(args.listings as usize).await?;
    let mut report = serde_json::Map::new();
    let about = json!({
        "listings": args.listings, "listing_bytes": args.bytes, "shards": args.shards,
        "optimised": !cfg!(debug_assertions), "has_dictionary": is_trained,
        "write_per_s": rate,
    });
    report.extend(about.as_object().cloned().unwrap_or_default());
    report.extend(catch_up::measure(&bench).await?);
    report.extend(lag::measure(&mut bench, rate / 2.0, seconds(args.lag_seconds)).await?);
    if args.followers > 0 {
        let idle = idle::measure(&bench, args.followers as usize, seconds(args.idle_seconds));
        report.extend(idle.await?);
    }
    if args.stall_changes > 0 {
        let changes = args.stall_changes as usize;
        report.extend(stall::measure(&mut bench, changes, seconds(args.stall_seconds)).await?);
    }
    bench.store.cluster.stop().await?;
    print(&args.output, &report)
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn print(
    output: &OutputArgs,
    report: &serde_json::Map<String, serde_json::Value>,
) -> anyhow::Result<()> {
    match output.format() {
        Format::Table => {
            for (name, value) in report {
                output::line(&format!("{name:32} {value}"))?;
            }
            Ok(())
        }
        Format::Json => output::line(&serde_json::to_string_pretty(report)?),
        Format::Ndjson => output::line(&serde_json::to_string(report)?),
    }
}

/// Named figures of one part.
type Figures = serde_json::Map<String, serde_json::Value>;

fn figures(value: serde_json::Value) -> Figures {
    match value {
        serde_json::Value::Object(figures) => figures,
        _ => Figures::new(),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
