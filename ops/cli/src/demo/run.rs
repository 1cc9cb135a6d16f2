//! The demonstration from start to end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use platbook_chaos_tests::{Cluster, Layout, Scrape, http};
use serde_json::Value;

use super::messages::Messages;
use super::oracle::{self, Expected};
use super::queue::{BATCH_MAX, Queue};
use super::sales::Sales;
use super::screen::Screen;
use crate::output;

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
    zips: usize,
    listings: usize,
    quarantined: usize,
    took: Duration,
    counts: BTreeMap<&'static str, u64>,
}

/// Runs the demonstration; ends early, with nothing left running, when it is cancelled.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let sales = Sales::read(&args.sales)
        .context("the demonstration's data is in ops/demo/data of the repository")?;
    let zips: Vec<String> = sales.cities.keys().cloned().collect();
    let messages = Messages::new(sales, args.seed, args.limit.unwrap_or(usize::MAX));
    let dir = Directory::make(args.data.as_deref())?;
    let journal = dir.path.join("journal.ndjson");

    screen.say(&format!("starting {NODES} nodes, a router, a feed and an ingester on loopback"));
    let from = Instant::now();
    let layout = layout(&args, &dir.path, &journal)?;
    let mut cluster = Cluster::start(&layout).await?;
    let queue = Queue { address: cluster.feed_address.clone(), url: cluster.queue_url() };
    screen.say(&format!("ready after {:.1} s; data and logs: {}", seconds(from), dir.told()));

    let from = Instant::now();
    let sent = replay(&args, messages, &mut cluster, &queue, &mut screen).await?;
    drain(sent, &mut cluster, &queue, &mut screen).await?;
    cluster.ready().await?;
    let took = from.elapsed();

    screen.say("computing every answer a second time, from the queue's journal");
    let text = std::fs::read_to_string(&journal).context("reading the queue's journal")?;
    let expected = tokio::task::block_in_place(|| oracle::expected(&text))?;
    ensure!(expected.messages as u64 == sent, "the journal has {} messages", expected.messages);
    let (checked, listings) = check(&cluster.router_address, &zips, &expected).await?;
    let counts = counts(&cluster.ingest_address).await?;
    let quarantined = check_quarantine(&cluster.router_address, &expected).await?;
    tell(&Told { sent, kills: 1, zips: checked, listings, quarantined, took, counts })?;

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
        let batch: Vec<String> =
            std::iter::from_fn(|| messages.next(now_ms())).take(BATCH_MAX).collect();
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

/// Compares every ZIP; gives how many, and how many listings they have.
async fn check(
    router: &str,
    zips: &[String],
    expected: &Expected,
) -> anyhow::Result<(usize, usize)> {
    let nothing = BTreeMap::new();
    let mut all: Vec<&str> = zips.iter().map(String::as_str).collect();
    let more = expected.zips.keys().map(String::as_str).filter(|zip| !all.contains(zip));
    all.extend(more.collect::<Vec<_>>());
    for zip in &all {
        let wanted = expected.zips.get(*zip).unwrap_or(&nothing);
        let path = format!("/v1/zips/{zip}/listings");
        let answer = http::get(router, &path, &[("accept", "application/x-ndjson")]).await?;
        ensure!(answer.status == 200, "ZIP {zip}: {} {}", answer.status, answer.text());
        oracle::compare(zip, wanted, &answer.text())?;
        let count = answer.headers.get("platbook-count").and_then(|count| count.to_str().ok());
        ensure!(
            count == Some(&wanted.len().to_string()),
            "ZIP {zip}: Platbook-Count is {count:?}, there are {}",
            wanted.len()
        );
    }
    Ok((all.len(), expected.zips.values().map(BTreeMap::len).sum()))
}

/// Every poison is kept, and nothing else is.
async fn check_quarantine(router: &str, expected: &Expected) -> anyhow::Result<usize> {
    let answer = http::get(router, "/v1/quarantine?limit=1000", &[]).await?;
    ensure!(answer.status == 200, "quarantine: {} {}", answer.status, answer.text());
    let found: Vec<Value> = serde_json::from_slice(&answer.body).context("quarantine")?;
    let ids: BTreeSet<&str> = found.iter().filter_map(|m| m["message_id"].as_str()).collect();
    let wanted: BTreeSet<&str> = expected.quarantined.iter().map(String::as_str).collect();
    ensure!(ids == wanted, "quarantine: expected {wanted:?}, found {}", answer.text());
    Ok(ids.len())
}

async fn counts(ingest: &str) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let scrape = Scrape::of(ingest).await?;
    let outcome = |name: &'static str| {
        let label = format!("outcome=\"{name}\"");
        (name, scrape.sum("platbook_ingest_messages_total", &label) as u64)
    };
    Ok(["applied", "unchanged", "duplicate", "stale", "suspect", "quarantined"].map(outcome).into())
}

fn tell(told: &Told) -> anyhow::Result<()> {
    let rate = told.sent as f64 / told.took.as_secs_f64();
    output::line("")?;
    output::line(&format!("sent          {}", told.sent))?;
    for (name, count) in &told.counts {
        output::line(&format!("{name:13} {count}"))?;
    }
    output::line(&format!("poison        {} planted, all in quarantine", told.quarantined))?;
    output::line(&format!("nodes killed  {}", told.kills))?;
    output::line(&format!("took          {:.1} s ({rate:.0}/s)", told.took.as_secs_f64()))?;
    output::line(&format!("checked       {} listings, byte for byte", told.listings))?;
    output::line(&format!("ZIPs right    {0}/{0}", told.zips))
}

fn seconds(from: Instant) -> f64 {
    from.elapsed().as_secs_f64()
}

/// The operator's clock.
#[allow(clippy::disallowed_methods, reason = "the operator stands outside of the cluster")]
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("the clock is past 1970").as_millis() as u64
}

/// Where the run lives; a temporary one is removed at the end.
struct Directory {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Directory {
    fn make(wanted: Option<&Path>) -> anyhow::Result<Directory> {
        match wanted {
            Some(path) => {
                let empty = path.read_dir().map_or(true, |mut entries| entries.next().is_none());
                ensure!(empty, "{} is not empty; the demonstration starts fresh", path.display());
                std::fs::create_dir_all(path)
                    .with_context(|| format!("making {}", path.display()))?;
                Ok(Directory { path: path.to_owned(), temporary: None })
            }
            None => {
                let made = tempfile::Builder::new().prefix("platbook-demo-").tempdir();
                let made = made.context("making a temporary directory")?;
                Ok(Directory { path: made.path().to_owned(), temporary: Some(made) })
            }
        }
    }

    fn told(&self) -> String {
        let kept = if self.temporary.is_some() { "removed at the end" } else { "kept" };
        format!("{} ({kept})", self.path.display())
    }
}
