//! `platbook bench compare`: the same work for Platbook and for what people would pick instead, in
//! turns, in one run.
//!
//! Reading order: [`systems`] (what runs), [`ways`] (how each of them is written), [`zips`] (how
//! they are read), [`live`] (at half load), [`restart`] (how one comes back), [`syncs`] (that
//! acknowledged means on disk), [`machine`] (where it ran); [`report`] is the result, [`targets`]
//! what was aimed at, [`page`] and [`plot`] show both, [`against`] compares with an earlier one.

mod against;
mod live;
mod machine;
mod page;
mod plot;
mod report;
mod restart;
mod syncs;
mod systems;
mod targets;
mod ways;
mod zips;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::bare::{self, Bare};
use super::bodies::{Bodies, compression};
use super::drive::Listing;
use crate::output::{self, Format, OutputArgs};
use crate::scratch::Scratch;
use report::Report;
use ways::{Round, Way};

/// Bytes of listings written before the clock starts: enough for a dictionary.
const WARM_UP_BYTES: usize = 8 << 20;
/// Written by one client, one by one.
const ALONE: usize = 300;
/// Written while syncs are counted.
const PROBED: usize = 25;
/// Where the report stands in the documentation.
const DOCUMENT: &str = "benchmarks.md";

/// What to compare with, and how much of it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    peers: Peers,
    /// Rounds; each starts every system afresh [default: 3, quick: 1]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Listings to write in each round [default: 40000, quick: 10000]
    #[arg(long, value_name = "N")]
    listings: Option<usize>,
    /// Bytes of one listing, about
    #[arg(long, value_name = "BYTES", default_value_t = 3_500)]
    #[arg(value_parser = clap::value_parser!(u32).range(900..=900_000))]
    bytes: u32,
    /// Shards of the Platbook cluster
    #[arg(long, value_name = "N", default_value_t = 16)]
    shards: u32,
    /// Listings on the disk of a node that is killed [default: 200000, quick: 20000]
    #[arg(long, value_name = "N")]
    restart_listings: Option<usize>,
    /// One short round
    #[arg(long)]
    quick: bool,
    /// Leave out the parts that are named
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    without: Vec<Part>,
    /// Write the report into this directory of documentation: JSON, plots, and the part of
    /// benchmarks.md between its two marks
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    /// Fail if a ratio to etcd is more than a quarter below that of this report (JSON)
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Decides the listings
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where data and logs go; default: a temporary directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which reports to show.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Reports of `bench compare` (JSON); of a part that several have, the last one's counts
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write it into this directory of documentation, as `bench compare` does
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The systems beside Platbook; one that is not named is left out.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Peers {
    /// The file of the program `etcd`
    #[arg(long, value_name = "FILE")]
    etcd: Option<PathBuf>,
    /// The file of the program `nats-server`
    #[arg(long, value_name = "FILE")]
    nats: Option<PathBuf>,
    /// The directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR")]
    postgres: Option<PathBuf>,
}

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Writes
    Ingest,
    /// Reads of whole ZIPs, and of single listings
    Reads,
    /// At half load: readers of changes, reads and writes beside each other
    Live,
    /// A node that is killed, with many listings
    Restart,
}

/// How much is done in a round.
#[derive(Clone, Copy, Debug)]
struct Scale {
    rounds: usize,
    /// Listings before the clock starts, by one client, while syncs are counted, and at full load.
    warm_up: usize,
    alone: usize,
    probed: usize,
    load: usize,
    /// Longest time at full load.
    seconds: u64,
    /// Time of one case of reading.
    read_ms: u64,
    /// Time of each kind of work at half load.
    live_ms: u64,
    /// Listings on the disk of a node that is killed.
    restart: usize,
}

impl Scale {
    fn of(args: &CompareArgs) -> Scale {
        let quick = args.quick;
        let pick = |short, long| if quick { short } else { long };
        Scale {
            rounds: args.rounds.unwrap_or(pick(1, 3)),
            warm_up: (WARM_UP_BYTES / args.bytes as usize).max(1_200).next_multiple_of(100),
            alone: pick(ALONE / 3, ALONE),
            probed: PROBED,
            load: args.listings.unwrap_or(pick(10_000, 40_000)),
            seconds: if quick { 8 } else { 60 },
            read_ms: if quick { 500 } else { 2_000 },
            live_ms: if quick { 2_000 } else { 10_000 },
            restart: args.restart_listings.unwrap_or(pick(20_000, 200_000)),
        }
    }

    fn all(&self) -> usize {
        self.warm_up + self.alone + self.probed + self.load
    }
}

/// `platbook bench compare`.
pub(crate) async fn run(args: CompareArgs) -> anyhow::Result<()> {
    let scale = Scale::of(&args);
    ensure!(scale.rounds > 0 && scale.load > 0, "nothing is to be measured");
    let mut bodies = Bodies::try_new(args.seed, args.bytes as usize)?;
    let listings = bodies.many(0, scale.all());
    let ratio = compression(&listings[..scale.warm_up])?;
    let disk = {
        let scratch = Scratch::make("platbook-bench-", None)?;
        machine::sync_latencies(args.data.as_deref().unwrap_or(scratch.path()))?
    };
    let mut report = Report::new(&args, &scale, ratio, &disk);
    if !args.without.contains(&Part::Ingest) {
        let ways = ways::all(&args.peers, args.shards);
        let (rounds, ceilings) = ingest(&args, &scale, &ways, &listings).await?;
        report.add_ingest(&ways, &rounds);
        report.add_bare(&ceilings);
    }
    if !args.without.contains(&Part::Reads) {
        let reads = zips::measure(&args, &scale).await?;
        report.add_reads(&reads);
    }
    if !args.without.contains(&Part::Live) {
        report.add_live(&live::measure(&args, &scale, report.part("ingest")).await?);
    }
    if !args.without.contains(&Part::Restart) {
        report.add_restarts(&restart::measure(&args, &scale).await?);
    }
    for system in systems_of(&args) {
        report.add_version(system.name(), system.version().await?);
    }
    let report = report.finish();
    tell(&report, args.docs.as_deref(), &args.output)?;
    let Some(path) = &args.against else { return Ok(()) };
    let lost = against::lost(&report, &read(path)?)?;
    ensure!(lost.is_empty(), "slower than it was: {}", lost.join("; "));
    Ok(())
}

/// `platbook bench report`.
pub(crate) fn show(args: &ReportArgs) -> anyhow::Result<()> {
    let reports = args.files.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    tell(&report::merged(reports)?, args.docs.as_deref(), &args.output)
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

fn tell(report: &Value, docs: Option<&Path>, output: &OutputArgs) -> anyhow::Result<()> {
    if let Some(docs) = docs {
        page::write(report, docs, DOCUMENT)?;
    }
    match output.format() {
        Format::Table => output::text(&page::markdown(report)),
        Format::Json => output::line(&serde_json::to_string_pretty(report)?),
        Format::Ndjson => output::line(&report.to_string()),
    }
}

/// Every system that takes part, Platbook first.
fn systems_of(args: &CompareArgs) -> Vec<systems::System> {
    let mut found: Vec<systems::System> = Vec::new();
    for way in ways::all(&args.peers, args.shards) {
        if !found.contains(&way.system) {
            found.push(way.system);
        }
    }
    found
}

/// All rounds of all ways, in turns: the ceiling, A, B, C, the ceiling, A, B, C, ...
async fn ingest(
    args: &CompareArgs,
    scale: &Scale,
    ways: &[Way],
    listings: &[Listing],
) -> anyhow::Result<(Vec<Vec<Round>>, Vec<Bare>)> {
    let mut rounds: Vec<Vec<Round>> = ways.iter().map(|_| Vec::new()).collect();
    let mut ceilings = Vec::new();
    let scratch = |round: usize, what: String| {
        let wanted = args.data.as_ref().map(|dir| dir.join(format!("round-{round}-{what}")));
        Scratch::make("platbook-bench-", wanted.as_deref())
    };
    for round in 0..scale.rounds {
        let dir = scratch(round, "bare".to_string())?;
        let load = &listings[listings.len() - scale.load..];
        ceilings.push(bare::measure(dir.path(), load, args.shards).await?);
        for (at, way) in ways.iter().enumerate() {
            let dir = scratch(round, at.to_string())?;
            let measured = way.round(dir.path(), scale, listings, round == 0).await;
            let measured = measured.with_context(|| format!("round {}", round + 1))?;
            let (system, rate) = (way.system.name(), measured.measured.rate());
            tracing::info!(round = round + 1, system, way = way.name, rate, "measured");
            rounds[at].push(measured);
        }
    }
    Ok((rounds, ceilings))
}
