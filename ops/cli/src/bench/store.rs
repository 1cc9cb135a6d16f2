//! Three Platbook nodes and a router on loopback, written to by the client library.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use platbook_chaos_tests::operator::now_ms;
use platbook_chaos_tests::{Cluster, Layout, Process, Scrape, wait};
use platbook_client::{Client, Outcome};

use super::drive::{Listing, Sink};
use super::usage::Servers;

/// Connections of the load; each carries many requests.
const CONNECTIONS: usize = 8;
/// Longest wait for the first dictionary.
const TRAINED_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for one request: longer than any run.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running installation.
pub(super) struct Store {
    pub(super) cluster: Cluster,
    sink: StoreSink,
}

impl Store {
    /// Starts a fresh installation in `dir`.
    pub(super) async fn start(dir: &Path, nodes: usize, shards: u32) -> anyhow::Result<Store> {
        let layout = Layout {
            binary: std::env::current_exe().context("finding this program's own file")?,
            dir: dir.to_owned(),
            nodes,
            shards,
            feed: Vec::new(),
            router: None,
            links: None,
            node_env: Vec::new(),
        };
        let cluster = Cluster::start(&layout).await?;
        let router = format!("http://{}", cluster.router_address);
        let sink = StoreSink::try_new(&router)?;
        Ok(Store { cluster, sink })
    }

    /// Waits until the frames have their dictionary: a cluster trains one from its first listings.
    pub(super) async fn trained(&self) -> anyhow::Result<()> {
        let client = &self.sink.clients[0];
        wait::until("a dictionary is trained", TRAINED_WITHIN, async || {
            let cluster = client.admin().cluster().await.map_err(|error| error.to_string())?;
            let id = cluster["dictionary"].as_u64().unwrap_or_default();
            if id == 0 { Err("none yet".to_string()) } else { Ok(()) }
        })
        .await?;
        Ok(())
    }

    /// Where to write.
    pub(super) fn sink(&self) -> &StoreSink {
        &self.sink
    }

    /// Where to write one by one.
    pub(super) fn puts(&self) -> PutSink {
        PutSink(self.sink.clone())
    }

    /// A client of the library.
    pub(super) fn client(&self) -> &Client {
        &self.sink.clients[0]
    }

    /// What to watch: nodes and router; queue and ingester have nothing to do.
    pub(super) fn servers(&self, dir: &Path) -> Servers {
        let router = self.cluster.router.pid();
        let nodes = self.cluster.nodes.iter();
        let pids = nodes.map(Process::pid).chain([router]).collect();
        let data = self.cluster.nodes.iter().map(|node| dir.join(node.name())).collect();
        Servers { pids, data, router: Some(router) }
    }

    /// Calls of fdatasync of all logs.
    pub(super) async fn syncs(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for address in &self.cluster.node_addresses {
            sum += Scrape::of(address).await?.sum("platbook_log_syncs_total", "");
        }
        Ok(sum)
    }
}

/// Writes each listing by a `PUT` of its own.
#[derive(Clone)]
pub(super) struct PutSink(StoreSink);

impl Sink for PutSink {
    type Request = Vec<(String, Bytes)>;

    fn request(&self, listings: &[Listing]) -> Self::Request {
        listings.iter().map(|one| (one.id.clone(), one.body.clone())).collect()
    }

    async fn send(&self, client: usize, request: Self::Request) -> anyhow::Result<()> {
        let client = &self.0.clients[client % self.0.clients.len()];
        for (id, body) in request {
            let written = client.put(id, body).await?;
            let is_done = matches!(
                written.outcome,
                Outcome::Applied | Outcome::Unchanged | Outcome::Duplicate
            );
            ensure!(is_done, "a listing is {:?}", written.outcome);
        }
        Ok(())
    }
}

/// Writes by `POST /v1/listings`.
#[derive(Clone)]
pub(super) struct StoreSink {
    clients: Vec<Client>,
}

impl StoreSink {
    pub(super) fn try_new(router: &str) -> anyhow::Result<StoreSink> {
        let clients = (0..CONNECTIONS).map(|_| Client::builder(router).deadline(DEADLINE).build());
        Ok(StoreSink { clients: clients.collect::<Result<_, _>>()? })
    }
}

impl Sink for StoreSink {
    type Request = (u64, Bytes);

    fn request(&self, listings: &[Listing]) -> (u64, Bytes) {
        let sent = now_ms();
        let mut lines = BytesMut::new();
        for listing in listings {
            lines.put_slice(br#"{"op":"upsert","sent":"#);
            lines.put_slice(sent.to_string().as_bytes());
            lines.put_slice(br#","listing":"#);
            lines.put_slice(&listing.body);
            lines.put_slice(b"}\n");
        }
        (listings.len() as u64, lines.freeze())
    }

    async fn send(&self, client: usize, (count, lines): (u64, Bytes)) -> anyhow::Result<()> {
        let client = &self.clients[client % self.clients.len()];
        let answer = client.post(lines).will_resend().await?;
        let done = answer.applied + answer.unchanged + answer.duplicate;
        ensure!(done == count, "{done} of {count} listings are done: {answer:?}");
        Ok(())
    }
}
