//! The demonstration from start to end.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use platbook_chaos_tests::operator::answers::{self, Compared};
use platbook_chaos_tests::operator::queue::BATCH_MAX;
use platbook_chaos_tests::operator::{Messages, Queue, Sales, now_ms};
use platbook_chaos_tests::{Cluster, Layout, Scrape};

use crate::output;
use crate::scratch::Scratch;
use crate::screen::Screen;

const NODES: usize = 3;
const SHARDS: u32 = 16;
/// The node that is killed, and when: in per cent of the messages sent.
const VICTIM: usize = 1;
const KILL_AT: u64 = 45;
const START_AGAIN_AT: u64 = 70;
/// What the queue does to the messages, as SQS may.
const FAULTS: [&str; 8] =
    ["--shuffle", "500", "--duplicate", "0.05", "--resurrect", "0.01", "--fail-delete", "0.01"];
/// A queue that does not get shorter for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(90);
/// How often the queue is asked how much is left.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Replays real sales through a cluster that loses a node, and checks every ZIP
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// End after the check instead of serving until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Keep data and logs in this directory; default: a temporary one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Directory of the sales
    #[arg(long, value_name = "DIR", default_value = "ops/demo/data")]
    sales: PathBuf,
    /// Replay only so many sales
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Messages a second
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Decides what happens, and what goes wrong
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Address of the router; another free port if it is taken
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
}

/// What is reported in the end.
struct Told {
    sent: u64,
    kills: u32,
    compared: Compared,
    took: Duration,
    counts: Vec<(&'static str, u64)>,
}

/// Runs the demonstration; ends early, with nothing left running, when it is cancelled.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let sales = Sales::read(&args.sales)
        .context("the demonstration's data is in ops/demo/data of the repository")?;
    let zips = sales.zips();
    let messages = Messages::new(sales, args.seed, args.limit.unwrap_or(usize::MAX));
    let dir = Scratch::make("platbook-demo-", args.data.as_deref())?;
    let journal = dir.path().join("journal.ndjson");

    screen.say(&format!("starting {NODES} nodes, a router, a feed and an ingester on loopback"));
    let from = Instant::now();
    let layout = layout(&args, dir.path(), &journal)?;
    let mut cluster = Cluster::start(&layout).await?;
    let queue = Queue::of(&cluster);
    screen.say(&format!("ready after {:.1} s; data and logs: {}", seconds(from), dir.told()));

    let from = Instant::now();
    let sent = replay(&args, messages, &mut cluster, &queue, &mut screen).await?;
    drain(sent, &mut cluster, &queue, &mut screen).await?;
    cluster.ready().await?;
    let took = from.elapsed();

    screen.say("computing every answer a second time, from the queue's journal");
    let expected = tokio::task::block_in_place(|| answers::expected(&journal))?;
    ensure!(expected.messages as u64 == sent, "the journal has {} messages", expected.messages);
    let compared = answers::compare(&cluster.router_address, &zips, &expected).await?;
    let counts = counts(&cluster.ingest_address).await?;
    tell(&Told { sent, kills: 1, compared, took, counts })?;

    if !args.once {
        let url = format!("http://{}/v1/zips/98103/listings?limit=2", cluster.router_address);
        output::line(&format!("\ntry:  curl -s '{url}'\nserving until Ctrl-C"))?;
        loop {
            cluster.check()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(cluster.stop().await?)
}

fn layout(args: &DemoArgs, dir: &Path, journal: &Path) -> anyhow::Result<Layout> {
    let mut feed: Vec<String> = FAULTS.iter().map(ToString::to_string).collect();
    feed.extend(["--seed".to_string(), args.seed.to_string()]);
    feed.extend(["--journal".to_string(), journal.display().to_string()]);
    let router = TcpListener::bind(&args.listen).is_ok().then(|| args.listen.clone());
    Ok(Layout {
        binary: std::env::current_exe().context("finding this program's own file")?,
        dir: dir.to_owned(),
        nodes: NODES,
        shards: SHARDS,
        feed,
        router,
        links: None,
        node_env: Vec::new(),
    })
}

/// Sends everything at the wanted rate; a node dies and comes back on the way.
async fn replay(
    args: &DemoArgs,
    mut messages: Messages,
    cluster: &mut Cluster,
    queue: &Queue,
    screen: &mut Screen,
) -> anyhow::Result<u64> {
    let all = messages.remaining() as u64;
    let mut beat = tokio::time::interval(Duration::from_secs(BATCH_MAX as u64) / args.rate);
    let (mut sent, mut killed, mut back) = (0, false, false);
    let mut looked = Instant::now();
    let mut left = 0;
    loop {
        beat.tick().await;
        let batch = messages.batch(now_ms(), BATCH_MAX);
        if batch.is_empty() {
            return Ok(sent);
        }
        queue.send(&batch).await?;
        sent += batch.len() as u64;
        if !killed && sent * 100 >= all * KILL_AT {
            killed = true;
            cluster.kill_node(VICTIM)?;
            screen.say(&format!("SIGKILL to {}", cluster.nodes[VICTIM].name()));
        }
        if !back && sent * 100 >= all * START_AGAIN_AT {
            back = true;
            cluster.start_node(VICTIM)?;
            screen.say(&format!("started {} again", cluster.nodes[VICTIM].name()));
        }
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            cluster.check()?;
            left = queue.left().await?;
        }
        screen.progress(sent, all, &format!("{sent} sent, {left} in the queue"));
    }
}

/// Waits until the ingester has acknowledged everything.
async fn drain(
    sent: u64,
    cluster: &mut Cluster,
    queue: &Queue,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let mut beat = tokio::time::interval(LOOK_EVERY);
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        beat.tick().await;
        cluster.check()?;
        let left = queue.left().await?;
        if left == 0 {
            screen.say(&format!("all {sent} messages are acknowledged"));
            return Ok(());
        }
        if left < least {
            (least, since) = (left, Instant::now());
        }
        ensure!(since.elapsed() < STUCK_AFTER, "the queue is stuck at {left} messages");
        screen.progress(sent.saturating_sub(left), sent, &format!("{left} in the queue"));
    }
}

async fn counts(ingest: &str) -> anyhow::Result<Vec<(&'static str, u64)>> {
    let scrape = Scrape::of(ingest).await?;
    let outcome = |name: &'static str| {
        let label = format!("outcome=\"{name}\"");
        (name, scrape.sum("platbook_ingest_messages_total", &label) as u64)
    };
    let outcomes = ["applied", "unchanged", "duplicate", "stale", "suspect", "quarantined"];
    let received = scrape.sum("platbook_ingest_messages_received_total", "") as u64;
    let mut counts = vec![("received", received)];
    counts.extend(outcomes.map(outcome));
    Ok(counts)
}

fn tell(told: &Told) -> anyhow::Result<()> {
    let Told { compared, took, .. } = told;
    let rate = told.sent as f64 / took.as_secs_f64();
    output::line("")?;
    output::line(&format!("sent          {}", told.sent))?;
    for (name, count) in &told.counts {
        output::line(&format!("{name:13} {count}{}", remark(name)))?;
    }
    output::line(&format!("poison        {} planted, all in quarantine", compared.quarantined))?;
    output::line(&format!("nodes killed  {0}, survived {0}", told.kills))?;
    output::line(&format!("took          {:.1} s ({rate:.0}/s)", took.as_secs_f64()))?;
    output::line(&format!("checked       {} listings, byte for byte", compared.listings))?;
    output::line(&format!("ZIPs checked  {0}/{0} right", compared.zips))
}

/// What a count means, where the word alone does not tell.
fn remark(name: &str) -> &'static str {
    match name {
        "received" => " (some more than once, as from any queue)",
        "duplicate" => " (dropped: seen before)",
        "stale" => " (dropped: a newer message came first)",
        _ => "",
    }
}

fn seconds(from: Instant) -> f64 {
    from.elapsed().as_secs_f64()
}
