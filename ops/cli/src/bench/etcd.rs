//! Three etcd nodes on loopback with etcd's defaults: each write is synced by a majority before it
//! is acknowledged.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use platbook_chaos_tests::cluster::free_addresses;
use platbook_chaos_tests::{Process, Program, Scrape, http, wait};

use super::drive::{Listing, Sink};
use super::grpc::{self, Channel, Field, Stream};
use super::reads::Seen;
use super::usage::Servers;

const NODES: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Operations in one transaction, at most; etcd's own default limit is 128.
const TXN_OPS_MAX: usize = 120;
/// Rows in one page of a range.
const PAGE: u64 = 500;
/// Each connection multiplexes; more than a few only cost.
const CONNECTIONS_PER_NODE: usize = 4;

/// The running nodes.
pub(super) struct Etcd {
    nodes: Vec<Process>,
    addresses: Vec<String>,
    data: Vec<PathBuf>,
    sink: EtcdSink,
}

impl Etcd {
    /// Starts a fresh cluster of `binary` in `dir` and waits until every node is healthy.
    pub(super) async fn start(binary: &Path, dir: &Path) -> anyhow::Result<Etcd> {
        ensure!(binary.exists(), "{} is not there: run ops/setup/etcd.sh", binary.display());
        let peers = free_addresses(NODES)?;
        let clients = free_addresses(NODES)?;
        let all: Vec<String> =
            peers.iter().enumerate().map(|(at, peer)| format!("n{at}=http://{peer}")).collect();
        let (mut nodes, mut data) = (Vec::new(), Vec::new());
        for (at, (peer, client)) in peers.iter().zip(&clients).enumerate() {
            let dir = dir.join(format!("etcd-{at}"));
            let (peer, client) = (format!("http://{peer}"), format!("http://{client}"));
            let args = [
                ("--name", format!("n{at}")),
                ("--data-dir", dir.display().to_string()),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client),
                ("--initial-cluster", all.join(",")),
                ("--initial-cluster-state", "new".to_string()),
                // Room for the whole run; the default of 2 GiB would end it early.
                ("--quota-backend-bytes", (8_u64 << 30).to_string()),
                ("--log-level", "warn".to_string()),
            ];
            nodes.push(Process::start(Program {
                name: format!("etcd-{at}"),
                binary: binary.to_owned(),
                args: args.into_iter().flat_map(|(k, v)| [k.into(), v.into()]).collect(),
                env: Vec::new(),
                logs: dir.with_file_name("logs"),
            })?);
            data.push(dir);
        }
        for (node, client) in nodes.iter_mut().zip(&clients) {
            healthy(node, client).await?;
        }
        let mut channels = Vec::new();
        for client in clients.iter().cycle().take(NODES * CONNECTIONS_PER_NODE) {
            channels.push(Channel::open(client).await.context("connecting to etcd")?);
        }
        Ok(Etcd { nodes, addresses: clients, data, sink: EtcdSink { channels } })
    }

    /// Where to write.
    pub(super) fn sink(&self) -> &EtcdSink {
        &self.sink
    }

    /// SIGKILL to one node, starts it again, and gives how long it took from there until it serves.
    pub(super) async fn restart(&mut self, at: usize) -> anyhow::Result<Duration> {
        let (node, address) = (&mut self.nodes[at], &self.addresses[at]);
        node.kill()?;
        let began = Instant::now();
        node.start_again()?;
        healthy(node, address).await?;
        Ok(began.elapsed())
    }

    /// Calls that synced the logs of all nodes.
    pub(super) async fn syncs(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for address in &self.addresses {
            let name = "etcd_disk_wal_fsync_duration_seconds_count";
            sum += Scrape::of(address).await?.sum(name, "");
        }
        Ok(sum)
    }

    /// Every change from `revision` on.
    pub(super) async fn watch(&self, revision: u64) -> anyhow::Result<Watch> {
        let (mut create, mut request) = (Vec::new(), Vec::new());
        grpc::put_field(&mut create, 1, b"0");
        grpc::put_field(&mut create, 2, b":");
        grpc::put_number(&mut create, 3, revision);
        grpc::put_field(&mut request, 1, &create);
        let (address, message) = (&self.addresses[0], grpc::message(&request));
        Ok(Watch { stream: Stream::open(address, "/etcdserverpb.Watch/Watch", message).await? })
    }

    /// What to watch.
    pub(super) fn servers(&self) -> Servers {
        let pids = self.nodes.iter().map(Process::pid).collect();
        Servers { pids, data: self.data.clone(), router: None }
    }
}

/// Changes as etcd tells them.
pub(super) struct Watch {
    stream: Stream,
}

impl Watch {
    /// The ids of the next changes; none where etcd says something else.
    pub(super) async fn next(&mut self) -> anyhow::Result<Vec<String>> {
        let answer = self.stream.next().await?;
        let (mut rest, mut ids) = (&answer[..], Vec::new());
        while let Some(field) = grpc::take_field(&mut rest) {
            match field {
                Field::Number(4, canceled) => ensure!(canceled == 0, "etcd ended the watch"),
                Field::Bytes(11, event) => {
                    let key = field_2(event).and_then(key).context("an event without a key")?;
                    let key = String::from_utf8_lossy(key);
                    ids.extend(key.split_once('/').map(|(_, id)| id.to_string()));
                }
                Field::Bytes(..) | Field::Number(..) => {}
            }
        }
        ensure!(rest.is_empty(), "an answer of etcd that is cut off");
        Ok(ids)
    }
}

fn field_2(mut event: &[u8]) -> Option<&[u8]> {
    while let Some(field) = grpc::take_field(&mut event) {
        if let Field::Bytes(2, row) = field {
            return Some(row);
        }
    }
    None
}

/// Waits until a node serves; fails at once if it has ended.
async fn healthy(node: &mut Process, address: &str) -> anyhow::Result<()> {
    wait::until(&format!("{} is healthy", node.name()), READY_WITHIN, async || {
        if let Err(ended) = node.check() {
            return Ok(Err(ended));
        }
        match http::get(address, "/health", &[]).await {
            Ok(answer) if answer.text().contains("true") => Ok(Ok(())),
            Ok(answer) => Err(answer.text()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await??;
    Ok(())
}

/// Writes into etcd: a put for one listing, a transaction of puts for several.
#[derive(Clone)]
pub(super) struct EtcdSink {
    channels: Vec<Channel>,
}

/// Under `ZIP/id`, so that a ZIP is one range.
fn put(listing: &Listing) -> Vec<u8> {
    let mut put = Vec::with_capacity(listing.body.len() + 64);
    grpc::put_field(&mut put, 1, format!("{}/{}", listing.zip, listing.id).as_bytes());
    grpc::put_field(&mut put, 2, &listing.body);
    put
}

impl EtcdSink {
    /// Every listing of a ZIP in pages, all of one revision; linearizable.
    pub(super) async fn zip(&self, reader: usize, zip: &str) -> anyhow::Result<Seen> {
        let mut seen = Seen::start();
        let (mut from, end) = (format!("{zip}/").into_bytes(), format!("{zip}0"));
        let mut revision = 0;
        loop {
            let mut range = Vec::new();
            grpc::put_field(&mut range, 1, &from);
            grpc::put_field(&mut range, 2, end.as_bytes());
            grpc::put_number(&mut range, 3, PAGE);
            grpc::put_number(&mut range, 4, revision);
            let page = self.range(reader, &range, &mut seen).await?;
            revision = page.revision;
            match page.last {
                Some(last) if page.has_more => from = [&last[..], b"\0"].concat(),
                _ => return Ok(seen),
            }
        }
    }

    /// One listing; linearizable.
    pub(super) async fn get(&self, reader: usize, zip: &str, id: &str) -> anyhow::Result<Seen> {
        let (mut seen, mut range) = (Seen::start(), Vec::new());
        grpc::put_field(&mut range, 1, format!("{zip}/{id}").as_bytes());
        self.range(reader, &range, &mut seen).await?;
        Ok(seen)
    }

    async fn range(&self, reader: usize, range: &[u8], seen: &mut Seen) -> anyhow::Result<Page> {
        let channel = &self.channels[reader % self.channels.len()];
        let answer = channel.call("/etcdserverpb.KV/Range", grpc::message(range)).await?;
        let mut page = Page::default();
        let mut rest = &answer[..];
        while let Some(field) = grpc::take_field(&mut rest) {
            match field {
                Field::Bytes(1, header) => page.revision = revision(header),
                Field::Bytes(2, row) => {
                    seen.add(1, row.len());
                    page.last = key(row).map(<[u8]>::to_vec);
                }
                Field::Number(3, more) => page.has_more = more != 0,
                Field::Bytes(..) | Field::Number(..) => {}
            }
        }
        ensure!(rest.is_empty(), "an answer of etcd that is cut off");
        Ok(page)
    }
}

/// A part of a range.
#[derive(Default)]
struct Page {
    revision: u64,
    has_more: bool,
    last: Option<Vec<u8>>,
}

fn revision(mut header: &[u8]) -> u64 {
    while let Some(field) = grpc::take_field(&mut header) {
        if let Field::Number(3, revision) = field {
            return revision;
        }
    }
    0
}

fn key(mut row: &[u8]) -> Option<&[u8]> {
    while let Some(field) = grpc::take_field(&mut row) {
        if let Field::Bytes(1, key) = field {
            return Some(key);
        }
    }
    None
}

impl Sink for EtcdSink {
    type Request = Vec<(&'static str, Bytes)>;

    fn request(&self, listings: &[Listing]) -> Self::Request {
        if let [one] = listings {
            return vec![("/etcdserverpb.KV/Put", grpc::message(&put(one)))];
        }
        let transaction = |part: &[Listing]| {
            let mut transaction = Vec::new();
            for listing in part {
                let mut operation = Vec::new();
                grpc::put_field(&mut operation, 2, &put(listing));
                grpc::put_field(&mut transaction, 2, &operation);
            }
            ("/etcdserverpb.KV/Txn", grpc::message(&transaction))
        };
        listings.chunks(TXN_OPS_MAX).map(transaction).collect()
    }

    async fn send(&self, client: usize, request: Self::Request) -> anyhow::Result<()> {
        let channel = &self.channels[client % self.channels.len()];
        for (path, message) in request {
            channel.call(path, message).await?;
        }
        Ok(())
    }
}
