//! `platbook chaos rolling`.

use platbook_chaos_tests::load::Outcome;
use platbook_chaos_tests::rolling::{self, Plan};

use super::{ClusterArgs, tell};
use crate::output;

/// Restart one node after the other.
#[derive(Debug, clap::Args)]
pub(crate) struct RollingArgs {
    /// How often every node is restarted
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Clients of each shard
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: u8,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs it.
pub(crate) async fn run(args: RollingArgs) -> anyhow::Result<()> {
    let mut scratch = args.cluster.scratch()?;
    let mut cluster = args.cluster.start(&scratch, Vec::new()).await?;
    let clients = usize::from(args.clients.max(1));
    let plan = Plan { rounds: args.rounds, clients, pause: args.cluster.pause };
    let ended = rolling::run(&mut cluster, plan, &mut tell).await;
    let ended = match ended {
        Ok(report) => match cluster.verify().await {
            Ok(()) => {
                let violations = report.violations();
                Ok((report, violations))
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let report = args.cluster.conclude(&mut scratch, ended)?;
    cluster.stop().await?;
    let tally = &report.tally;
    let done = tally.writes_that(Outcome::Done);
    output::line("")?;
    output::line(&format!("drains    {}", report.drains))?;
    output::line(&format!("writes    {done} done, none failed; {}", report.writes))?;
    output::line(&format!("reads     {} answered, none failed, none went back", tally.reads))?;
    output::line("replicas  hold the same")
}
