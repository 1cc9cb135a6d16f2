//! `platbook chaos changes`, and the consumer that it kills.

use std::path::PathBuf;

use platbook_chaos_tests::changes::consume;
use platbook_chaos_tests::changes::run::{self, Plan};
use platbook_chaos_tests::load::Outcome;

use super::{ClusterArgs, tell};
use crate::output;

/// Kill a consumer of changes.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangesArgs {
    /// How often the consumer is killed
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// A node is killed, too, at every so many of them; 0: never
    #[arg(long, value_name = "N", default_value_t = 10)]
    kills_per_node: u32,
    /// Clients of each shard
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: u8,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The consumer.
#[derive(Debug, clap::Args)]
pub(crate) struct ConsumerArgs {
    /// The router, `host:port`
    #[arg(long, value_name = "ADDR")]
    router: String,
    /// Where it keeps what it was told
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
}

/// Runs it.
pub(crate) async fn run(args: ChangesArgs) -> anyhow::Result<()> {
    let mut scratch = args.cluster.scratch()?;
    let mut cluster = args.cluster.start(&scratch, Vec::new()).await?;
    let plan = Plan {
        kills: args.kills,
        kills_per_node: args.kills_per_node,
        seed: args.cluster.seed,
        clients: usize::from(args.clients.max(1)),
        pause: args.cluster.pause,
    };
    let dir = scratch.path().to_owned();
    let ended = run::run(&mut cluster, &dir, plan, &mut tell).await;
    let ended = ended.map(|report| {
        let violations = report.violations();
        (report, violations)
    });
    let report = args.cluster.conclude(&mut scratch, ended)?;
    cluster.stop().await?;
    let (told, tally) = (&report.judgement, &report.tally);
    output::line("")?;
    output::line(&format!("kills    consumer {}, nodes {}", args.kills, report.nodes_killed))?;
    output::line(&format!("writes   {} done", tally.writes_that(Outcome::Done)))?;
    output::line(&format!("told     {} rows, {} changes", told.rows, told.changes))?;
    output::line("gaps     0, told twice: 0, out of order: 0")?;
    output::line(&format!("state    equals the store's in {} ZIPs", report.zips))
}

/// Consumes until it is killed.
pub(crate) async fn consumer(args: ConsumerArgs) -> anyhow::Result<()> {
    Ok(consume::consume(&args.router, &args.journal).await?)
}
