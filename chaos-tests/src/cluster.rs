//! A whole installation on loopback: nodes, a router, a feed and an ingester as processes.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::links::door::Door;
use crate::links::{Links, Place};
use crate::process::{PARENT, Process, Program};
use crate::{Error, http, wait};

/// Longest wait for a process to answer that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for a drain: the processes promise 10 s.
const DRAIN_WITHIN: Duration = Duration::from_secs(12);

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The `platbook` binary.
    pub binary: PathBuf,
    /// Data and logs; kept.
    pub dir: PathBuf,
    /// Storage nodes.
    pub nodes: usize,
    /// Shards.
    pub shards: u32,
    /// Flags for `feed serve`: its faults and its seed.
    pub feed: Vec<String>,
    /// Address of the router; any free port if `None`.
    pub router: Option<String>,
    /// What nodes and router reach each other through, to be cut; directly if `None`.
    pub links: Option<Links>,
    /// Added to the environment of each node, by position; nothing where it is shorter.
    pub node_env: Vec<Vec<(String, String)>>,
}

/// The started processes, and where they listen (`host:port`).
#[derive(Debug)]
pub struct Cluster {
    /// The storage nodes, by position.
    pub nodes: Vec<Process>,
    /// The router.
    pub router: Process,
    /// The queue.
    pub feed: Process,
    /// The ingester.
    pub ingest: Process,
    /// Addresses of the nodes.
    pub node_addresses: Vec<String>,
    /// Address of the router.
    pub router_address: String,
    /// Address of the feed.
    pub feed_address: String,
    /// Address of the ingester's metrics.
    pub ingest_address: String,
    links: Option<Links>,
    /// In front of the nodes, where there are links.
    _doors: Vec<Door>,
}

/// The queue's name at the feed.
const QUEUE: &str = "listings";
/// What the AWS SDK wants to have; the feed takes any.
const CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "local"),
    ("AWS_SECRET_ACCESS_KEY", "local"),
    ("AWS_REGION", "us-east-1"),
];

impl Cluster {
    /// Starts everything and waits until all are ready.
    pub async fn start(layout: &Layout) -> Result<Cluster, Error> {
        Cluster::start_with(layout, &[]).await
    }

    /// The same, with these flags for every node.
    pub async fn start_with(layout: &Layout, node_flags: &[&str]) -> Result<Cluster, Error> {
        let mut free = free_addresses(layout.nodes + 3)?;
        let router_address = layout.router.clone().unwrap_or_else(|| free.remove(0));
        let (feed_address, ingest_address) = (free.remove(0), free.remove(0));
        let node_addresses: Vec<String> = free.into_iter().take(layout.nodes).collect();
        let mut doors = Vec::new();
        if let Some(links) = &layout.links {
            for (at, address) in node_addresses.iter().enumerate() {
                doors.push(Door::open(links.clone(), at, address.clone()).await?);
            }
        }
        let advertised: Vec<String> = match doors.is_empty() {
            true => node_addresses.clone(),
            false => doors.iter().map(|door| door.address.to_string()).collect(),
        };
        let mut nodes = Vec::new();
        for (at, listen) in node_addresses.iter().enumerate() {
            let mut node = node(layout, at, listen, &advertised);
            node.args.extend(words(node_flags));
            nodes.push(Process::start(node)?);
        }
        let feed = Process::start(feed(layout, &feed_address))?;
        let router = Process::start(router(layout, &router_address, &advertised))?;
        let queue_url = queue_url(&feed_address);
        let ingest = ingest(layout, &router_address, &queue_url, &ingest_address);
        let mut cluster = Cluster {
            nodes,
            router,
            feed,
            ingest: Process::start(ingest)?,
            node_addresses,
            router_address,
            feed_address,
            ingest_address,
            links: layout.links.clone(),
            _doors: doors,
        };
        cluster.tell_links();
        cluster.ready().await?;
        Ok(cluster)
    }

    /// Where messages are sent.
    pub fn queue_url(&self) -> String {
        queue_url(&self.feed_address)
    }

    /// Waits until every process says that it is ready; fails at once if one has ended.
    pub async fn ready(&mut self) -> Result<(), Error> {
        let addresses = self.node_addresses.iter().cloned();
        let all = self.nodes.iter_mut().zip(addresses).chain([
            (&mut self.feed, self.feed_address.clone()),
            (&mut self.router, self.router_address.clone()),
            (&mut self.ingest, self.ingest_address.clone()),
        ]);
        for (process, address) in all {
            ready(process, &address).await?;
        }
        Ok(())
    }

    /// Lets the links know which processes they connect.
    fn tell_links(&self) {
        let Some(links) = &self.links else { return };
        links.set_pid(Place::Router, self.router.pid());
        for (at, node) in self.nodes.iter().enumerate() {
            links.set_pid(Place::Node(at), node.pid());
        }
    }

    /// An error if a process has ended other than by [`Cluster::kill_node`].
    pub fn check(&mut self) -> Result<(), Error> {
        let servers = [&mut self.feed, &mut self.router, &mut self.ingest];
        let nodes = self.nodes.iter_mut().filter(|node| !node.is_killed());
        nodes.chain(servers).try_for_each(Process::check)
    }

    /// SIGKILL to one node, while the others go on.
    pub fn kill_node(&mut self, at: usize) -> Result<(), Error> {
        self.nodes[at].kill()
    }

    /// SIGKILL to all nodes at the same moment.
    pub fn kill_all_nodes(&mut self) -> Result<(), Error> {
        self.nodes.iter_mut().try_for_each(Process::start_killing)?;
        self.nodes.iter_mut().try_for_each(Process::kill)
    }

    /// Starts every node again after [`Cluster::kill_all_nodes`] and waits until all are ready.
    pub async fn restart_all_nodes(&mut self) -> Result<(), Error> {
        self.nodes.iter_mut().try_for_each(Process::start_again)?;
        self.tell_links();
        self.ready().await
    }

    /// Drains a node, starts it again, and waits until it is ready; gives how long the drain took.
    pub async fn roll_node(&mut self, at: usize) -> Result<Duration, Error> {
        let from = Instant::now();
        let status = self.nodes[at].terminate(DRAIN_WITHIN).await?;
        let drained = from.elapsed();
        if !status.success() {
            let what = format!("{} drained, but ended with {status}", self.nodes[at].name());
            return Err(Error::Violated { what });
        }
        self.restart_node(at).await?;
        Ok(drained)
    }

    /// Starts a killed node again; [`Cluster::ready`] tells when it serves.
    pub fn start_node(&mut self, at: usize) -> Result<(), Error> {
        self.nodes[at].start_again()?;
        self.tell_links();
        Ok(())
    }

    /// Starts a killed node again and waits until it is ready.
    pub async fn restart_node(&mut self, at: usize) -> Result<(), Error> {
        self.start_node(at)?;
        ready(&mut self.nodes[at], &self.node_addresses[at]).await
    }

    /// Whether all replicas of each shard hold the same.
    pub async fn verify(&self) -> Result<(), Error> {
        verify(self.router.binary(), &self.router_address).await
    }

    /// Drains everything, from the edge inwards; the nodes together, because the last ones could
    /// not hand anything over.
    pub async fn stop(mut self) -> Result<(), Error> {
        for process in [&mut self.ingest, &mut self.router, &mut self.feed] {
            process.terminate(DRAIN_WITHIN).await?;
        }
        self.nodes.iter_mut().try_for_each(Process::ask_to_end)?;
        for node in &mut self.nodes {
            node.ended_within(DRAIN_WITHIN).await?;
        }
        Ok(())
    }
}

/// Runs `platbook cluster verify` against a router (`host:port`).
pub(crate) async fn verify(binary: &Path, router: &str) -> Result<(), Error> {
    let failed = |source| Error::Start { name: "cluster verify".to_string(), source };
    let router = format!("http://{router}");
    let output = tokio::process::Command::new(binary)
        .args(["cluster", "verify", "--router", &router, "--deadline-ms", "60000"])
        // It is our child, and no part of whoever has us as one.
        .env_remove(PARENT)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Error::Violated { what: format!("cluster verify ended with {}: {said}", output.status) })
}

async fn ready(process: &mut Process, address: &str) -> Result<(), Error> {
    let what = format!("{} is ready", process.name());
    wait::until(&what, READY_WITHIN, async || {
        // Waiting longer for a process that has ended is no use: the error says why it did.
        if let Err(ended) = process.check() {
            return Ok(Err(ended));
        }
        match http::get(address, "/readyz", &[]).await {
            Ok(answer) if answer.status == 200 => Ok(Ok(())),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?
}

fn queue_url(feed: &str) -> String {
    format!("http://{feed}/000000000000/{QUEUE}")
}

fn program(layout: &Layout, name: String, args: Vec<OsString>) -> Program {
    let env = CREDENTIALS.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
    Program { name, binary: layout.binary.clone(), args, env, logs: layout.dir.join("logs") }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn data(dir: &Path, name: &str) -> Vec<OsString> {
    vec!["--data".into(), dir.join(name).into_os_string()]
}

fn node(layout: &Layout, at: usize, listen: &str, advertised: &[String]) -> Program {
    let id = (at + 1).to_string();
    let peers: Vec<String> = advertised
        .iter()
        .enumerate()
        .map(|(at, address)| format!("{}={address}", at + 1))
        .collect();
    let name = format!("node-{id}");
    let mut args = words(&["node", "--id", &id, "--listen", listen]);
    args.extend(words(&["--advertise", &advertised[at]]));
    args.extend(words(&["--peers", &peers.join(","), "--shards", &layout.shards.to_string()]));
    args.extend(data(&layout.dir, &name));
    let mut program = program(layout, name, args);
    program.env.extend(layout.node_env.get(at).into_iter().flatten().cloned());
    program
}

fn router(layout: &Layout, address: &str, nodes: &[String]) -> Program {
    let args = words(&["router", "--listen", address, "--nodes", &nodes.join(",")]);
    program(layout, "router".to_string(), args)
}

fn feed(layout: &Layout, address: &str) -> Program {
    let mut args = words(&["feed", "serve", "--listen", address]);
    args.extend(layout.feed.iter().map(OsString::from));
    args.extend(data(&layout.dir, "feed"));
    program(layout, "feed".to_string(), args)
}

fn ingest(layout: &Layout, router: &str, queue_url: &str, address: &str) -> Program {
    let router = format!("http://{router}");
    let args = ["ingest", "--router", &router, "--queue-url", queue_url, "--listen", address];
    program(layout, "ingest".to_string(), words(&args))
}

/// Ports that were free a moment ago. They are held together, so that they differ.
pub fn free_addresses(count: usize) -> Result<Vec<String>, Error> {
    let bind = |_| TcpListener::bind("127.0.0.1:0");
    let ports = |source| Error::Ports { source };
    let held: Vec<TcpListener> = (0..count).map(bind).collect::<Result<_, _>>().map_err(ports)?;
    let address = |held: &TcpListener| Ok(held.local_addr()?.to_string());
    held.iter().map(address).collect::<std::io::Result<_>>().map_err(ports)
}
