//! `platbook chaos failover`.

use std::time::Duration;

use platbook_chaos_tests::failover::{self, By, Plan, Report};
use platbook_chaos_tests::links::Links;
use platbook_chaos_tests::load::Outcome;

use super::{ClusterArgs, duration, tell};
use crate::output;

/// How a leader is taken away.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum How {
    /// SIGKILL
    Kill,
    /// SIGSTOP
    Pause,
    /// A network that reaches nobody
    Partition,
}

/// Take leaders away, and measure.
#[derive(Debug, clap::Args)]
pub(crate) struct FailoverArgs {
    /// How leaders are taken away
    #[arg(long, value_name = "HOW", value_enum, default_value_t = How::Kill)]
    by: How,
    /// Leaders to take away, one after the other
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Fail when a shard takes no write for longer than this, such as 2s or 1500ms
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_resume: Option<Duration>,
    /// Fail when elections took place that nobody caused, and more of them than this
    #[arg(long, value_name = "N")]
    max_false_elections: Option<u64>,
    /// Clients of each shard
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: u8,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs it.
pub(crate) async fn run(args: FailoverArgs) -> anyhow::Result<()> {
    let mut scratch = args.cluster.scratch()?;
    let (by, links) = match args.by {
        How::Kill => (By::Kill, None),
        How::Pause => (By::Pause, None),
        How::Partition => (By::Partition, Some(Links::default())),
    };
    let mut cluster = args.cluster.start_over(&scratch, Vec::new(), links.clone()).await?;
    let plan = Plan {
        by,
        links,
        kills: args.kills,
        seed: args.cluster.seed,
        clients: usize::from(args.clients.max(1)),
        pause: args.cluster.pause,
    };
    let ended = failover::run(&mut cluster, plan, &mut tell).await;
    let ended = match ended {
        Ok(report) => {
            show(&report, by)?;
            let mut violations = report.violations(args.max_resume);
            let count = report.false_elections;
            if args.max_false_elections.is_some_and(|max| count > max) {
                violations.push(format!("{count} elections that nobody caused"));
            }
            match cluster.verify().await {
                Ok(()) => Ok((report, violations)),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    args.cluster.conclude(&mut scratch, ended)?;
    output::line("replicas           hold the same")?;
    Ok(cluster.stop().await?)
}

fn show(report: &Report, by: By) -> anyhow::Result<()> {
    let tally = &report.tally;
    let writes = |outcome| tally.writes_that(outcome);
    let quantiles = report.quantiles();
    output::line("")?;
    let spared: Vec<String> = report.spared.iter().map(ToString::to_string).collect();
    let spared = if spared.is_empty() { "none".to_string() } else { spared.join(", ") };
    let (kills, by) = (report.kills, by.name());
    output::line(&format!("{by:<18} {kills} times; shards whose leader was spared: {spared}"))?;
    output::line(&format!(
        "until writes again {quantiles} ({} times a shard lost its leader)",
        quantiles.count()
    ))?;
    for bar in quantiles.bars() {
        output::line(&format!("    {bar}"))?;
    }
    output::line(&format!(
        "elections          {} by that, {} handed over, {} false",
        report.elections, report.handed_over, report.false_elections
    ))?;
    output::line(&format!(
        "writes             {} done, {} refused, {} unknown; acknowledged ones lost: {}",
        writes(Outcome::Done),
        writes(Outcome::Refused),
        writes(Outcome::Unknown),
        tally.lost.count
    ))?;
    output::line(&format!(
        "reads              {} answered, {} failed; went back: {}",
        tally.reads, tally.failed_reads.count, tally.reads_back.count
    ))
}
