//! `platbook chaos restart`.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use platbook_chaos_tests::load::Outcome;
use platbook_chaos_tests::operator::{Messages, Sales};
use platbook_chaos_tests::restart::{self, Plan, Report};

use super::{ClusterArgs, tell};
use crate::output;

/// Fewer sales a round would leave nothing to be in the middle of.
const SALES_A_ROUND_MIN: usize = 50;

/// Kill all nodes at once, round after round.
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    /// How often all nodes are killed
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Sales that are replayed in each round; fewer if there are not so many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    sales_per_round: u32,
    /// Directory of the sales
    #[arg(long, value_name = "DIR", default_value = "ops/demo/data")]
    sales: PathBuf,
    /// Messages a second
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs it.
pub(crate) async fn run(args: RestartArgs) -> anyhow::Result<()> {
    let sales = Sales::read(&args.sales)
        .context("the sales are in ops/demo/data of the repository, see --sales")?;
    let (rounds, zips) = (args.rounds, sales.zips());
    let wanted = rounds as usize * args.sales_per_round as usize;
    let limit = wanted.min(sales.count());
    let least = rounds as usize * SALES_A_ROUND_MIN;
    ensure!(limit >= least, "{rounds} rounds need at least {least} sales, there are {limit}");
    let messages = Messages::new(sales, args.cluster.seed, limit);
    let mut scratch = args.cluster.scratch()?;
    let plan = Plan {
        rounds,
        seed: args.cluster.seed,
        rate: args.rate,
        dir: scratch.path().to_owned(),
        zips,
        pause: args.cluster.pause,
    };
    let faults = restart::feed_faults(scratch.path(), args.cluster.seed);
    let mut cluster = args.cluster.start(&scratch, faults).await?;
    let ended = restart::run(&mut cluster, &plan, messages, &mut tell).await;
    let ended = ended.map(|report| {
        let violations = report.tally.violations();
        (report, violations)
    });
    let report = args.cluster.conclude(&mut scratch, ended)?;
    cluster.stop().await?;
    show(&report, rounds)
}

fn show(report: &Report, rounds: u32) -> anyhow::Result<()> {
    let Report { sent, compared, tally, longest } = report;
    let writes = |outcome| tally.writes_that(outcome);
    output::line("")?;
    output::line(&format!("rounds        {rounds}, ready again after at most {longest:.1?}"))?;
    output::line(&format!("feed          {sent} messages, resumed by itself every time"))?;
    output::line(&format!(
        "writes        {} done, {} refused, {} unknown; acknowledged ones lost: {}",
        writes(Outcome::Done),
        writes(Outcome::Refused),
        writes(Outcome::Unknown),
        tally.lost.count
    ))?;
    output::line(&format!(
        "reads         {} answered, {} failed; went back: {}",
        tally.reads, tally.failed_reads.count, tally.reads_back.count
    ))?;
    output::line(&format!(
        "compared      {} listings in {} ZIPs byte for byte, {} messages in quarantine",
        compared.listings, compared.zips, compared.quarantined
    ))?;
    output::line("replicas      hold the same")
}
