//! `platbook chaos`: starts a cluster of its own on loopback, breaks it on purpose, and checks what
//! must hold all the same. A violation ends with exit code 1, the seed, and the data kept.

mod changes;
mod failover;
mod restart;
mod rolling;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use platbook_chaos_tests::links::Links;
use platbook_chaos_tests::{Cluster, Layout, undo};

use crate::output;
use crate::scratch::Scratch;

/// Violations that are printed; the rest is only counted.
const PRINTED_MAX: usize = 20;

/// Breaks a cluster of its own on purpose.
#[derive(Debug, clap::Args)]
pub(crate) struct ChaosArgs {
    #[command(subcommand)]
    action: ChaosAction,
}

/// What to do to it.
#[derive(Debug, clap::Subcommand)]
enum ChaosAction {
    /// SIGKILL to all nodes at once in the middle of the feed, then compare with the right answer
    Restart(restart::RestartArgs),
    /// Leaders killed, paused or cut off under load: how long their shards take no write
    Failover(failover::FailoverArgs),
    /// SIGTERM to one node after the other under load: no call may fail
    Rolling(rolling::RollingArgs),
    /// SIGKILL to a consumer of changes, and to nodes, under load: what it misses or is told twice
    Changes(changes::ChangesArgs),
    /// Fault after fault (kills, pauses, cut networks, bad disks and clocks) under load, judged in
    /// the end
    Run(run::RunArgs),
    #[command(hide = true)]
    Keeper,
    #[command(hide = true)]
    Consumer(changes::ConsumerArgs),
}

/// What every run can be told.
#[derive(Debug, clap::Args)]
struct ClusterArgs {
    /// Keep data and logs in this directory; default: a temporary one, kept after a violation
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Storage nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Shards
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// Decides when what is broken
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Least time between two writes of a client
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = duration)]
    pause: Duration,
}

/// `platbook chaos`.
pub(crate) async fn run(args: ChaosArgs) -> anyhow::Result<()> {
    match args.action {
        ChaosAction::Restart(args) => restart::run(args).await,
        ChaosAction::Failover(args) => failover::run(args).await,
        ChaosAction::Rolling(args) => rolling::run(args).await,
        ChaosAction::Changes(args) => changes::run(args).await,
        ChaosAction::Run(args) => run::run(args).await,
        ChaosAction::Consumer(args) => changes::consumer(args).await,
        ChaosAction::Keeper => {
            undo::keep(std::io::stdin().lock());
            Ok(())
        }
    }
}

impl ClusterArgs {
    fn scratch(&self) -> anyhow::Result<Scratch> {
        Scratch::make("platbook-chaos-", self.data.as_deref())
    }

    async fn start(&self, scratch: &Scratch, feed: Vec<String>) -> anyhow::Result<Cluster> {
        self.start_over(scratch, feed, None).await
    }

    /// Starts a cluster whose processes reach each other over `links`.
    async fn start_over(
        &self,
        scratch: &Scratch,
        feed: Vec<String>,
        links: Option<Links>,
    ) -> anyhow::Result<Cluster> {
        Ok(Cluster::start(&self.layout(scratch, feed, links)?).await?)
    }

    /// What to start, which is told.
    fn layout(
        &self,
        scratch: &Scratch,
        feed: Vec<String>,
        links: Option<Links>,
    ) -> anyhow::Result<Layout> {
        let (nodes, shards, seed) = (self.nodes, self.shards, self.seed);
        let told = scratch.told();
        output::line(&format!(
            "{nodes} nodes, {shards} shards, seed {seed}; data and logs: {told}"
        ))?;
        Ok(Layout {
            binary: std::env::current_exe().context("finding this program's own file")?,
            dir: scratch.path().to_owned(),
            nodes: usize::from(nodes),
            shards,
            feed,
            router: None,
            links,
            node_env: Vec::new(),
        })
    }

    /// Passes `ended` on; whatever is wrong keeps the data and tells how to see it again.
    fn conclude<T>(
        &self,
        scratch: &mut Scratch,
        ended: Result<(T, Vec<String>), platbook_chaos_tests::Error>,
    ) -> anyhow::Result<T> {
        let failed = match ended {
            Ok((report, violations)) if violations.is_empty() => return Ok(report),
            Ok((_, violations)) => {
                for violation in violations.iter().take(PRINTED_MAX) {
                    output::line(&format!("VIOLATION  {violation}"))?;
                }
                anyhow::anyhow!("{} violations", violations.len())
            }
            Err(error) => error.into(),
        };
        scratch.keep();
        let (seed, path) = (self.seed, scratch.path().display());
        Err(failed.context(format!("chaos, seed {seed}; data and logs are kept in {path}")))
    }
}

/// Prints a line while a run goes on. Nobody listens any more: then the result tells.
fn tell(line: &str) {
    let _ = output::line(line);
}

/// `2s`, `1500ms`, `10m`, or seconds without a unit.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 60_000),
        (None, None) => (text.strip_suffix('s').unwrap_or(text), 1_000),
    };
    match number.trim().parse::<u64>() {
        Ok(number) if number > 0 => Ok(Duration::from_millis(number * unit)),
        Ok(_) | Err(_) => bail!("not a time such as 2s or 1500ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_are_never_nothing() {
        assert_eq!(duration("2s").expect("seconds"), Duration::from_secs(2));
        assert_eq!(duration("3").expect("seconds"), Duration::from_secs(3));
        assert_eq!(duration("10m").expect("minutes"), Duration::from_secs(600));
        assert_eq!(duration("1500ms").expect("milliseconds"), Duration::from_millis(1_500));
        for bad in ["", "0s", "s", "1.5s", "2h", "-1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
