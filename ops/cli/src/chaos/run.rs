//! `platbook chaos run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use platbook_chaos_tests::links::Links;
use platbook_chaos_tests::operator::{Messages, Sales};
use platbook_chaos_tests::run::packets::enter_own_network;
use platbook_chaos_tests::run::{
    self, Clocks, Disks, Fault, Feed, Own, Packets, Plan, Report, Running, Target, page,
};
use platbook_chaos_tests::undo::Keeper;
use platbook_chaos_tests::{Cluster, restart};

use super::{ClusterArgs, duration, tell};
use crate::output;
use crate::scratch::Scratch;

/// Do fault after fault, and judge.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// For how long faults are done, such as 90s or 10m
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    length: Duration,
    /// Which ones: all, oneway (deaf and mute), or any of kill, kill-all, pause, power, power-all,
    /// turns, partition, deaf, mute, bridge, flap, late, router-cut, loss, slow-disk, fsync-error,
    /// disk-full, disks-full, clock, strobe; what cannot be done here is left out, and told
    #[arg(long, value_name = "F,F", default_value = "all")]
    faults: String,
    /// Write the report to this file (HTML) and beside it as JSON; default: into the data
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Hurt the nodes that listen at these addresses of this machine (`IP:PORT`), instead of a
    /// cluster of the run's own; whatever runs them must start them again. Listings named chaos-*
    /// are written, and deleted in the end, but not after Ctrl-C
    #[arg(long, value_name = "ADDR,ADDR", value_delimiter = ',', requires = "router")]
    running: Vec<String>,
    /// Their router, `HOST:PORT`, plain HTTP
    #[arg(long, value_name = "ADDR", requires = "running")]
    router: Option<String>,
    /// Directory of the sales that are fed meanwhile
    #[arg(long, value_name = "DIR", default_value = "ops/demo/data")]
    sales: PathBuf,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs it.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<()> {
    let faults = Fault::parse_list(&args.faults).map_err(anyhow::Error::msg)?;
    let binary = std::env::current_exe().context("finding this program's own file")?;
    if args.router.is_none() && faults.iter().any(|fault| fault.needs_network()) {
        enter_own_network(&binary);
    }
    let keeper = Keeper::start(&binary)?;
    let mut scratch = args.cluster.scratch()?;
    let plan = Plan {
        length: args.length,
        faults,
        seed: args.cluster.seed,
        pause: args.cluster.pause,
        version: env!("CARGO_PKG_VERSION").to_string(),
    };
    let (mut target, feed) = match &args.router {
        Some(router) => (running(&args.running, router, binary)?, None),
        None => start(&args, &scratch, &plan.faults, &keeper).await?,
    };
    let ended = match run::run(&mut target, feed, keeper, &plan, &mut tell).await {
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
    if let Target::Own(own) = target {
        let Own { cluster, disks, .. } = *own;
        cluster.stop().await?;
        // Only now: the nodes are in them.
        drop(disks);
    }
    Ok(())
}

/// A cluster of our own, its feed, and what the faults need.
async fn start(
    args: &RunArgs,
    scratch: &Scratch,
    faults: &[Fault],
    keeper: &Keeper,
) -> anyhow::Result<(Target, Option<Feed>)> {
    let (dir, nodes) = (scratch.path(), usize::from(args.cluster.nodes));
    let disks = match faults.iter().any(|fault| fault.needs_disks()) {
        true => Disks::mount(dir, nodes, keeper)?,
        false => None,
    };
    let clocks = match faults.iter().any(|fault| fault.needs_clocks()) {
        true => Clocks::find(dir, nodes)?,
        false => None,
    };
    let links = Links::default();
    let feed = restart::feed_faults(dir, args.cluster.seed);
    let mut layout = args.cluster.layout(scratch, feed, Some(links.clone()))?;
    if let Some(clocks) = &clocks {
        layout.node_env = (0..nodes).map(|at| clocks.env(at)).collect();
    }
    let cluster = Cluster::start(&layout).await?;
    let feed = feed_of(args, dir)?;
    let packets = Packets::find();
    Ok((Target::Own(Box::new(Own { cluster, links, disks, clocks, packets })), feed))
}

/// All sales, where they are.
fn feed_of(args: &RunArgs, dir: &Path) -> anyhow::Result<Option<Feed>> {
    if !args.sales.is_dir() {
        let sales = args.sales.display();
        tell(&format!("left out: the feed; {sales} (of the repository) is not here, see --sales"));
        return Ok(None);
    }
    let sales = Sales::read(&args.sales)?;
    let zips = sales.zips();
    let messages = Messages::new(sales, args.cluster.seed, usize::MAX);
    Ok(Some(Feed { messages, dir: dir.to_owned(), zips }))
}

fn running(nodes: &[String], router: &str, binary: PathBuf) -> anyhow::Result<Target> {
    for node in nodes {
        let is_address = node.parse::<std::net::SocketAddr>().is_ok();
        ensure!(is_address, "--running: `{node}` is not IP:PORT");
    }
    let (nodes, router) = (nodes.to_vec(), router.to_string());
    Ok(Target::Running(Running { nodes, router, binary }))
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
