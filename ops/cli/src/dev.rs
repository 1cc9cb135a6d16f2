//! `platbook dev`: nodes, router, feed and ingester in one process, with their state in one
//! directory. For trying things out; a machine that fails takes all replicas with it.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser};
use platbook_chaos_tests::{http, wait};
use platbook_ingest::{IngestConfig, ServeConfig, feed};
use platbook_node::NodeConfig;
use platbook_router::Config as RouterConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::output;

/// Longest wait until all parts are ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Remembers the addresses that the cluster was formed with.
const PLACES: &str = "dev.json";

/// All of it in one process
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// Where state is kept
    #[arg(long, value_name = "DIR", env = "PLATBOOK_DEV_DATA", default_value = "platbook-data")]
    data: PathBuf,
    /// Storage nodes; used by the first start only
    #[arg(long, value_name = "N", env = "PLATBOOK_DEV_NODES", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Shards; used by the first start only
    #[arg(long, value_name = "N", env = "PLATBOOK_DEV_SHARDS", default_value_t = 16)]
    shards: u32,
    /// Address of the router
    #[arg(
        long,
        value_name = "ADDR",
        env = "PLATBOOK_DEV_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    listen: SocketAddr,
    /// Address of the feed
    #[arg(long, value_name = "ADDR", env = "PLATBOOK_DEV_FEED", default_value = "127.0.0.1:9324")]
    feed: SocketAddr,
}

/// Runs everything until `stop`, or until a part ends by itself.
pub(crate) async fn run(args: DevArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let places = Places::find(&args)?;
    let mut parts = Parts::new();
    let peers: Vec<String> =
        places.nodes.iter().enumerate().map(|(at, place)| format!("{}={place}", at + 1)).collect();
    for (at, place) in places.nodes.iter().enumerate() {
        let config = node(&args, at + 1, place, &peers.join(","))?;
        parts.start(format!("node {}", at + 1), |stop| async {
            Ok(platbook_node::run(config, stop.cancelled_owned()).await?)
        });
    }
    let config: ServeConfig = parsed(&["feed", "--listen", &args.feed.to_string()], |words| {
        words.extend(["--data".into(), args.data.join("feed").into_os_string()]);
    })?;
    parts.start("feed".to_string(), |stop| async { Ok(feed::serve(config, stop).await?) });
    let (listen, nodes) = (args.listen.to_string(), places.nodes.join(","));
    let config: RouterConfig = parsed(&["router", "--listen", &listen, "--nodes", &nodes], |_| {})?;
    parts.start("router".to_string(), |stop| async {
        Ok(platbook_router::run(config, stop).await?)
    });
    let queue_url = format!("http://{}/000000000000/listings", args.feed);
    let router_url = format!("http://{listen}");
    let words = ["ingest", "--no-sign-request", "--router", &router_url, "--queue-url", &queue_url];
    let config: IngestConfig = parsed(&words, |words| {
        words.extend(["--listen".into(), places.ingest.clone().into()]);
    })?;
    parts.start("ingest".to_string(), |stop| async {
        Ok(platbook_ingest::run(config, stop).await?)
    });

    let all_ready = async {
        for place in places.nodes.iter().chain([&listen, &places.ingest]) {
            ready(place).await?;
        }
        output::line(&format!("API    {router_url}\nqueue  {queue_url}"))?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        name = parts.first_end() => Err(anyhow::anyhow!("{name} ended")),
        failed = all_ready => failed,
    };
    parts.stop().await?;
    ended
}

async fn ready(place: &str) -> anyhow::Result<()> {
    let look = async || match http::get(place, "/readyz", &[]).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(answer.text()),
        Err(error) => Err(error.to_string()),
    };
    Ok(wait::until(&format!("{place} is ready"), READY_WITHIN, look).await?)
}

fn node(args: &DevArgs, id: usize, place: &str, peers: &str) -> anyhow::Result<NodeConfig> {
    let (id, shards) = (id.to_string(), args.shards.to_string());
    let words = ["node", "--id", &id, "--listen", place, "--peers", peers, "--shards", &shards];
    parsed(&words, |words| {
        words.extend(["--data".into(), args.data.join(format!("node-{id}")).into_os_string()]);
    })
}

/// Settings of a part, as its own command would read them.
fn parsed<T: Args>(words: &[&str], more: impl FnOnce(&mut Vec<OsString>)) -> anyhow::Result<T> {
    #[derive(Parser)]
    struct Part<T: Args> {
        #[command(flatten)]
        config: T,
    }
    let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
    more(&mut words);
    Ok(Part::<T>::try_parse_from(words)?.config)
}

/// Where the parts listen; kept, because the cluster's map names the nodes' addresses.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Places {
    nodes: Vec<String>,
    ingest: String,
}

impl Places {
    fn find(args: &DevArgs) -> anyhow::Result<Places> {
        std::fs::create_dir_all(&args.data)
            .with_context(|| format!("making {}", args.data.display()))?;
        let path = args.data.join(PLACES);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Places::make(&path, args.nodes)
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn make(path: &Path, nodes: u8) -> anyhow::Result<Places> {
        // Held together, so that they differ.
        let held: Vec<TcpListener> = (0..=nodes)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<_, _>>()
            .context("finding free ports")?;
        let mut free = Vec::new();
        for listener in &held {
            free.push(listener.local_addr()?.to_string());
        }
        let ingest = free.pop().context("finding a free port")?;
        let places = Places { nodes: free, ingest };
        ensure!(!places.nodes.is_empty(), "a cluster has at least one node");
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(&places)?)
            .and_then(|()| std::fs::rename(&new, path))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(places)
    }
}

/// The running parts, from the inside to the edge.
struct Parts {
    parts: Vec<Part>,
    ended: mpsc::Receiver<String>,
    tell: mpsc::Sender<String>,
}

struct Part {
    name: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Parts {
    fn new() -> Parts {
        let (tell, ended) = mpsc::channel(16);
        Parts { parts: Vec::new(), ended, tell }
    }

    fn start<F>(&mut self, name: String, serve: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (serving, tell, told) = (serve(stop.clone()), self.tell.clone(), name.clone());
        let task = tokio::spawn(async move {
            let ended = serving.await;
            // Nobody listens any more while everything is being stopped.
            let _ = tell.send(told).await;
            ended
        });
        self.parts.push(Part { name, stop, task });
    }

    async fn first_end(&mut self) -> String {
        self.ended.recv().await.unwrap_or_default()
    }

    /// Drains from the edge inwards, so that nobody loses who it works for.
    async fn stop(mut self) -> anyhow::Result<()> {
        self.ended.close();
        let nodes = self.parts.iter().take_while(|part| part.name.starts_with("node")).count();
        let servers = self.parts.split_off(nodes);
        for part in servers.into_iter().rev() {
            part.stop.cancel();
            part.end().await?;
        }
        self.parts.iter().for_each(|part| part.stop.cancel());
        for part in self.parts {
            part.end().await?;
        }
        Ok(())
    }
}

impl Part {
    async fn end(self) -> anyhow::Result<()> {
        match self.task.await {
            Ok(ended) => ended.with_context(|| self.name),
            Err(panic) => bail!("{} panicked: {panic}", self.name),
        }
    }
}
