//! Three NATS servers on loopback and one key-value bucket of three replicas, each of which syncs
//! every write (`sync_interval: always`).

mod wire;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use platbook_chaos_tests::cluster::free_addresses;
use platbook_chaos_tests::{Process, Program, wait};
use serde_json::{Value, json};

use super::drive::{Listing, Sink};
use super::reads::Seen;
use super::usage::Servers;
use wire::{Connection, NoResponders, REPLIES_WITHIN, Until};

const NODES: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A question to a cluster that has no leader yet is not answered at all; then it is asked again.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
const CONNECTIONS_PER_NODE: usize = 4;
/// The stream behind the bucket, and the prefix of its subjects.
const STREAM: &str = "KV_listings";
const PREFIX: &str = "$KV.listings";
/// A bucket whose leader changes is asked again, as NATS's own clients do it.
const TRIES_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(250);
/// The server's own limit of an atomic batch is 1,000.
const ATOMIC_MAX: usize = 500;

/// The running servers.
pub(super) struct Nats {
    servers: Vec<Process>,
    data: Vec<PathBuf>,
    connections: Arc<[Connection]>,
}

impl Nats {
    /// Starts a fresh cluster of `binary` in `dir` and makes the bucket.
    pub(super) async fn start(binary: &Path, dir: &Path) -> anyhow::Result<Nats> {
        ensure!(binary.exists(), "{} is not there: run ops/setup/nats.sh", binary.display());
        let clients = free_addresses(NODES * 2)?;
        let (clients, routes) = clients.split_at(NODES);
        let (mut servers, mut data) = (Vec::new(), Vec::new());
        for (at, client) in clients.iter().enumerate() {
            let store = dir.join(format!("nats-{at}"));
            std::fs::create_dir_all(&store).context("making a data directory")?;
            let config = dir.join(format!("nats-{at}.conf"));
            let text = configuration(at, client, routes, &store);
            std::fs::write(&config, text).context("writing a configuration")?;
            servers.push(Process::start(Program {
                name: format!("nats-{at}"),
                binary: binary.to_owned(),
                args: vec!["-c".into(), config.into_os_string()],
                env: Vec::new(),
                logs: dir.join("logs"),
            })?);
            data.push(store);
        }
        let mut connections = Vec::new();
        for at in 0..NODES * CONNECTIONS_PER_NODE {
            let node = at % NODES;
            connections.push(connect(&mut servers[node], &clients[node], at).await?);
        }
        let nats = Nats { servers, data, connections: connections.into() };
        nats.make_bucket().await?;
        Ok(nats)
    }

    /// Where to write.
    pub(super) fn sink(&self, publish: Publish) -> NatsSink {
        NatsSink { publish, connections: self.connections.clone(), batches: Arc::default() }
    }

    /// What to watch.
    pub(super) fn servers(&self) -> Servers {
        let pids = self.servers.iter().map(Process::pid).collect();
        Servers { pids, data: self.data.clone(), router: None }
    }

    async fn make_bucket(&self) -> anyhow::Result<()> {
        let stream = json!({
            "name": STREAM, "subjects": [format!("{PREFIX}.>")], "num_replicas": NODES,
            "storage": "file", "retention": "limits", "discard": "new", "max_msgs_per_subject": 1,
            "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_consumers": -1,
            "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": true,
            "allow_atomic": true,
        });
        let create = format!("$JS.API.STREAM.CREATE.{STREAM}");
        wait::until("the bucket is made", READY_WITHIN, async || {
            self.ask(&create, &stream).await.map_err(|error| format!("{error:#}"))
        })
        .await?;
        let info = format!("$JS.API.STREAM.INFO.{STREAM}");
        wait::until("every replica of the bucket is current", READY_WITHIN, async || {
            let answer = self.ask(&info, &json!({})).await.map_err(|error| format!("{error:#}"))?;
            let replicas = answer["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
            let current = replicas.iter().filter(|replica| replica["current"] == true).count();
            let has_leader = answer["cluster"]["leader"].is_string();
            if has_leader && current == NODES - 1 { Ok(()) } else { Err(answer.to_string()) }
        })
        .await?;
        Ok(())
    }

    async fn ask(&self, subject: &str, request: &Value) -> anyhow::Result<Value> {
        let request = request.to_string();
        let compose = |reply: &str| one(subject, reply, request.as_bytes());
        let replies =
            self.connections[0].request(Until::Acks(1), ASKED_AGAIN_AFTER, compose).await?;
        Ok(serde_json::from_slice(&replies.last)?)
    }
}

async fn connect(server: &mut Process, address: &str, at: usize) -> anyhow::Result<Connection> {
    let what = format!("{} takes connections", server.name());
    let open = wait::until(&what, READY_WITHIN, async || {
        if let Err(ended) = server.check() {
            return Ok(Err(ended));
        }
        Connection::open(address, at).await.map(Ok).map_err(|error| format!("{error:#}"))
    });
    Ok(open.await??)
}

fn configuration(at: usize, client: &str, routes: &[String], store: &Path) -> String {
    let all: Vec<String> = routes.iter().map(|route| format!("nats-route://{route}")).collect();
    let mut text = String::new();
    let _ = write!(
        text,
        "server_name: n{at}\nlisten: \"{client}\"\nmax_payload: 8MB\n\
         jetstream {{ store_dir: {store:?}, sync_interval: always, max_file_store: 64GB }}\n\
         cluster {{ name: bench, listen: \"{}\", routes: {all:?} }}\n",
        routes[at],
    );
    text
}

fn one(subject: &str, reply: &str, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(subject.len() + reply.len() + body.len() + 32);
    wire::put(&mut out, subject, reply, body);
    out.into()
}

/// How the listings of a request are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    /// Each with its acknowledgement, all under way at the same time.
    InFlight,
    /// As one batch that is stored whole or not at all.
    Atomic,
}

/// Puts listings into the bucket under `ZIP.id`.
#[derive(Clone)]
pub(super) struct NatsSink {
    publish: Publish,
    connections: Arc<[Connection]>,
    /// Numbers the atomic batches.
    batches: Arc<AtomicU64>,
}

impl NatsSink {
    /// Every listing of a ZIP, by its subjects, from whichever replica is asked.
    pub(super) async fn zip(&self, reader: usize, zip: &str, most: usize) -> anyhow::Result<Seen> {
        let wanted = json!({"next_by_subj": format!("{PREFIX}.{zip}.>"), "batch": most, "seq": 1});
        self.direct(reader, &wanted, Until::End).await
    }

    /// One listing, from whichever replica is asked.
    pub(super) async fn get(&self, reader: usize, zip: &str, id: &str) -> anyhow::Result<Seen> {
        let wanted = json!({"last_by_subj": format!("{PREFIX}.{zip}.{id}")});
        self.direct(reader, &wanted, Until::One).await
    }

    async fn direct(&self, reader: usize, wanted: &Value, until: Until) -> anyhow::Result<Seen> {
        let subject = format!("$JS.API.DIRECT.GET.{STREAM}");
        let wanted = wanted.to_string();
        let compose = |reply: &str| one(&subject, reply, wanted.as_bytes());
        let mut seen = Seen::start();
        let replies = self.connection(reader).request(until, REPLIES_WITHIN, compose).await?;
        seen.add(replies.messages, replies.bytes);
        Ok(seen)
    }

    async fn publish(&self, client: usize, request: &[(String, Bytes)]) -> anyhow::Result<()> {
        match self.publish {
            Publish::InFlight => self.in_flight(client, request).await,
            Publish::Atomic => {
                for part in request.chunks(ATOMIC_MAX) {
                    self.atomic(client, part).await?;
                }
                Ok(())
            }
        }
    }

    fn connection(&self, client: usize) -> &Connection {
        &self.connections[client % self.connections.len()]
    }

    async fn in_flight(&self, client: usize, part: &[(String, Bytes)]) -> anyhow::Result<()> {
        let compose = |reply: &str| {
            let mut out = Vec::with_capacity(part.iter().map(|(_, body)| body.len() + 128).sum());
            for (subject, body) in part {
                wire::put(&mut out, subject, reply, body);
            }
            out.into()
        };
        let acks = Until::Acks(part.len());
        self.connection(client).request(acks, REPLIES_WITHIN, compose).await.map(|_| ())
    }

    async fn atomic(&self, client: usize, part: &[(String, Bytes)]) -> anyhow::Result<()> {
        let batch = self.batches.fetch_add(1, Ordering::Relaxed);
        let compose = |reply: &str| {
            let mut out = Vec::with_capacity(part.iter().map(|(_, body)| body.len() + 256).sum());
            for (at, (subject, body)) in part.iter().enumerate() {
                let is_last = at + 1 == part.len();
                let commit = if is_last { "Nats-Batch-Commit: 1\r\n" } else { "" };
                let head = format!(
                    "NATS/1.0\r\nNats-Batch-Id: b{batch}\r\nNats-Batch-Sequence: {}\r\n\
                     {commit}\r\n",
                    at + 1
                );
                let reply = if is_last { reply } else { "" };
                wire::put_with(&mut out, subject, reply, &head, body);
            }
            out.into()
        };
        let replies =
            self.connection(client).request(Until::Acks(1), REPLIES_WITHIN, compose).await?;
        let ack: Value = serde_json::from_slice(&replies.last)?;
        ensure!(ack["count"] == part.len(), "a batch of {} was answered {ack}", part.len());
        Ok(())
    }
}

impl Sink for NatsSink {
    /// Subjects and bodies.
    type Request = Arc<[(String, Bytes)]>;

    fn request(&self, listings: &[Listing]) -> Self::Request {
        let subject = |one: &Listing| format!("{PREFIX}.{}.{}", one.zip, one.id);
        listings.iter().map(|one| (subject(one), one.body.clone())).collect()
    }

    async fn send(&self, client: usize, request: Self::Request) -> anyhow::Result<()> {
        let mut tries = 0;
        loop {
            let sent = self.publish(client, &request).await;
            let has_no_leader = sent.as_ref().is_err_and(|e| e.is::<NoResponders>());
            tries += 1;
            if !has_no_leader || tries == TRIES_MAX {
                return sent;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
