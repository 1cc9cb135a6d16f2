//! `platbook chaos run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use platbook_chaos_tests::links::Links;
use platbook_chaos_tests::run::{self, Fault, Plan, Report, page};

use super::{ClusterArgs, duration, tell};
use crate::output;

/// Do fault after fault, and judge.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// For how long faults are done, such as 90s or 10m
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    length: Duration,
    /// Which ones: all, oneway (deaf and mute), or any of kill, kill-all, pause, partition, deaf,
    /// mute, bridge, flap, late, router-cut, slow-disk, fsync-error
    #[arg(long, value_name = "F,F", default_value = "all")]
    faults: String,
    /// Write the report to this file (HTML) and beside it as JSON; default: into the data
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs it.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<()> {
    let faults = Fault::parse_list(&args.faults).map_err(anyhow::Error::msg)?;
    let mut scratch = args.cluster.scratch()?;
    let links = Links::default();
    let mut cluster = args.cluster.start_over(&scratch, Vec::new(), Some(links.clone())).await?;
    let plan = Plan {
        length: args.length,
        faults,
        seed: args.cluster.seed,
        pause: args.cluster.pause,
        version: env!("CARGO_PKG_VERSION").to_string(),
    };
    let ended = match run::run(&mut cluster, links, &plan, &mut tell).await {
        Ok(report) => {
            show(&report)?;
            let path = args.report.clone().unwrap_or_else(|| scratch.path().join("report.html"));
            write(&report, &path)?;
            if args.report.is_some() || !report.violations.is_empty() {
                output::line(&format!("report     {}", path.display()))?;
            }
            let violations = report.violations.clone();
            Ok((report, violations))
        }
        Err(error) => Err(error),
    };
    args.cluster.conclude(&mut scratch, ended)?;
    Ok(cluster.stop().await?)
}

fn show(report: &Report) -> anyhow::Result<()> {
    let [done, refused, unknown] = report.calls;
    output::line("")?;
    output::line(&format!("faults     {}", report.faults.len()))?;
    output::line(&format!("calls      {done} done, {refused} refused, {unknown} unknown"))?;
    for checked in &report.checked {
        output::line(&format!("checked    {checked}"))?;
    }
    Ok(())
}

/// Writes the page, and the same as JSON beside it.
fn write(report: &Report, path: &Path) -> anyhow::Result<()> {
    let put = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    };
    put(path, page::render(report))?;
    put(&path.with_extension("json"), serde_json::to_string_pretty(report)? + "\n")
}
