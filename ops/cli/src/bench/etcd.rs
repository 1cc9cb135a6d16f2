//! Three etcd nodes on loopback with etcd's defaults: each write is synced by a majority before it
//! is acknowledged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use platbook_chaos_tests::cluster::free_addresses;
use platbook_chaos_tests::{Process, Program, http, wait};

use super::drive::{Listing, Sink};
use super::grpc::{self, Channel};
use super::usage::Servers;

const NODES: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Operations in one transaction, at most; etcd's own default limit is 128.
const TXN_OPS_MAX: usize = 120;
/// Each connection multiplexes; more than a few only cost.
const CONNECTIONS_PER_NODE: usize = 4;

/// The running nodes.
pub(super) struct Etcd {
    nodes: Vec<Process>,
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
            wait::until(&format!("{} is healthy", node.name()), READY_WITHIN, async || {
                if let Err(ended) = node.check() {
                    return Ok(Err(ended));
                }
                match http::get(client, "/health", &[]).await {
                    Ok(answer) if answer.text().contains("true") => Ok(Ok(())),
                    Ok(answer) => Err(answer.text()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await??;
        }
        let mut channels = Vec::new();
        for client in clients.iter().cycle().take(NODES * CONNECTIONS_PER_NODE) {
            channels.push(Channel::open(client).await.context("connecting to etcd")?);
        }
        Ok(Etcd { nodes, data, sink: EtcdSink { channels } })
    }

    /// Where to write.
    pub(super) fn sink(&self) -> &EtcdSink {
        &self.sink
    }

    /// What to watch.
    pub(super) fn servers(&self) -> Servers {
        let pids = self.nodes.iter().map(Process::pid).collect();
        Servers { pids, data: self.data.clone(), router: None }
    }
}

/// Writes into etcd: a put for one listing, a transaction of puts for several.
#[derive(Clone)]
pub(super) struct EtcdSink {
    channels: Vec<Channel>,
}

fn put(listing: &Listing) -> Vec<u8> {
    let mut put = Vec::with_capacity(listing.body.len() + 64);
    grpc::put_field(&mut put, 1, listing.id.as_bytes());
    grpc::put_field(&mut put, 2, &listing.body);
    put
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
