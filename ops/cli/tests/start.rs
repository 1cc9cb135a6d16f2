//! Starts that cannot be: one line that says what is wrong and what to do, and an exit code.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use platbook_chaos_tests::cluster::free_addresses;
use platbook_chaos_tests::{Process, Program, http, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_platbook");
const SOON: Duration = Duration::from_secs(20);

/// The flags of one node.
#[derive(Clone)]
struct Node {
    id: u64,
    data: PathBuf,
    listen: SocketAddr,
    peers: Vec<(u64, SocketAddr)>,
    shards: u32,
    more: Vec<String>,
}

impl Node {
    fn args(&self) -> Vec<String> {
        let peers: Vec<String> = self.peers.iter().map(|(id, at)| format!("{id}={at}")).collect();
        let mut args: Vec<String> = ["node", "--memory-max", "134217728"].map(Into::into).to_vec();
        for (name, value) in [
            ("--id", self.id.to_string()),
            ("--data", self.data.display().to_string()),
            ("--listen", self.listen.to_string()),
            ("--peers", peers.join(",")),
            ("--shards", self.shards.to_string()),
        ] {
            args.extend([name.to_string(), value]);
        }
        args.extend(self.more.iter().cloned());
        args
    }

    fn start(&self, dir: &Path) -> Process {
        let program = Program {
            name: format!("node-{}", self.id),
            binary: BINARY.into(),
            args: self.args().into_iter().map(Into::into).collect(),
            env: Vec::new(),
            logs: dir.to_owned(),
        };
        Process::start(program).expect("the process starts")
    }

    async fn ready(&self) {
        wait::until("the node is ready", SOON, async || {
            match http::get(&self.listen.to_string(), "/readyz", &[]).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .expect("it gets ready");
    }

    /// Runs until it ends by itself, which it must.
    async fn refused(&self) -> Refused {
        run(&self.args()).await
    }
}

/// How a process ended that should not have started.
struct Refused {
    code: Option<i32>,
    lines: Vec<String>,
}

impl Refused {
    /// The last line is the reason; before it there may be log lines, but no other complaint.
    fn says(&self, code: i32, needles: &[&str]) {
        let last = self.lines.last().map_or("", String::as_str);
        assert_eq!(self.code, Some(code), "{:?}", self.lines);
        assert!(last.starts_with("platbook: "), "{:?}", self.lines);
        for needle in needles {
            assert!(last.contains(needle), "`{needle}` is missing: {:?}", self.lines);
        }
        let complaints = self.lines.iter().filter(|line| line.starts_with("platbook: ")).count();
        assert_eq!(complaints, 1, "{:?}", self.lines);
        assert!(!self.lines.iter().any(|line| line.contains("panicked")), "{:?}", self.lines);
    }
}

async fn run(args: &[String]) -> Refused {
    let mut child = Command::new(BINARY);
    child.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the binary runs");
    let ended = wait::until("it ends by itself", SOON, async || match child.try_wait() {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let ended = ended.await;
    if ended.is_err() {
        child.kill().expect("it can be killed");
    }
    let output: Output = child.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(ended.is_ok(), "{args:?} goes on: {text}");
    Refused { code: output.status.code(), lines: text.lines().map(Into::into).collect() }
}

fn nodes(dir: &Path, count: usize) -> Vec<Node> {
    let addresses: Vec<SocketAddr> = free_addresses(count)
        .expect("free ports")
        .into_iter()
        .map(|address| address.parse().expect("an address"))
        .collect();
    let peers: Vec<(u64, SocketAddr)> = (1..).zip(addresses).collect();
    let node = |(id, listen): &(u64, SocketAddr)| Node {
        id: *id,
        data: dir.join(format!("data-{id}")),
        listen: *listen,
        peers: peers.clone(),
        shards: 2,
        more: Vec::new(),
    };
    peers.iter().map(node).collect()
}

#[tokio::test]
async fn settings_that_cannot_be_are_usage() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = nodes(dir.path(), 1).remove(0);
    let file = dir.path().join("platbook.toml");
    std::fs::write(&file, "[node]\nspeed = 1\n").expect("a file");
    let with = |more: &[&str]| Node {
        more: more.iter().map(ToString::to_string).collect(),
        ..node.clone()
    };
    let config = file.display().to_string();
    for (node, needle) in [
        (with(&["--config", &config]), "unknown key `node.speed`"),
        (with(&["--heartbeat-ms", "400"]), "heartbeat-ms is 400"),
        (Node { shards: 0, ..node.clone() }, "shards is 0"),
        (Node { shards: 5000, ..node.clone() }, "shards is 5000"),
        (Node { id: 0, ..node.clone() }, "id is 0"),
        (Node { id: 7, ..node.clone() }, "peers does not name this node (7)"),
        (Node { listen: "0.0.0.0:7000".parse().expect("one"), ..node.clone() }, "--insecure"),
    ] {
        node.refused().await.says(2, &[needle]);
        assert!(!node.data.exists(), "nothing is touched before the settings are right");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_by_every_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = nodes(dir.path(), 1).remove(0);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound");
    let listen = address.to_string();
    let peers = vec![(1, address)];
    Node { listen: address, peers, ..node.clone() }.refused().await.says(1, &[&listen, "in use"]);
    let router = ["router", "--nodes", &node.listen.to_string(), "--listen", &listen];
    run(&router.map(ToString::to_string)).await.says(1, &[&listen, "in use"]);
    let feed = ["feed", "serve", "--listen", &listen];
    run(&feed.map(ToString::to_string)).await.says(1, &[&listen, "in use"]);
}

#[tokio::test]
async fn data_that_is_not_this_nodes_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = nodes(dir.path(), 1).remove(0);
    let mut process = node.start(dir.path());
    node.ready().await;

    let elsewhere = nodes(dir.path(), 1).remove(0);
    let second = Node { data: node.data.clone(), ..elsewhere.clone() };
    second.refused().await.says(1, &["used by another process"]);
    process.terminate(SOON).await.expect("it drains");

    let other = Node { id: 2, peers: vec![(2, node.listen)], ..node.clone() };
    other.refused().await.says(1, &["belongs to node 1, this is node 2"]);
    second.refused().await.says(1, &[&node.listen.to_string(), &elsewhere.listen.to_string()]);

    let identity = node.data.join("identity");
    let kept = std::fs::read_to_string(&identity).expect("it is there");
    std::fs::write(&identity, kept.replace("fresh-from 0", "fresh-from 1")).expect("a file");
    node.refused().await.says(1, &["identity", "check does not match"]);
    std::fs::write(&identity, of_format(&kept, 2)).expect("a file");
    node.refused().await.says(1, &["identity", "format 2, this program reads 1"]);
    std::fs::write(&identity, &kept).expect("a file");

    let log = node.data.join("log");
    std::fs::rename(&log, dir.path().join("log")).expect("it is there");
    node.refused().await.says(1, &["the log of node 1 is gone"]);
    std::fs::rename(dir.path().join("log"), &log).expect("it is there");

    // After all that it is what it was.
    let _process = node.start(dir.path());
    node.ready().await;
}

/// The identity as a later program would write it: of another format, and whole.
fn of_format(identity: &str, format: u32) -> String {
    let (body, _) = identity.rsplit_once("check ").expect("a check line");
    let body = body.replacen("format 1\n", &format!("format {format}\n"), 1);
    let check = platbook_protocol::slot::hash(body.as_bytes());
    format!("{body}check {check:016x}\n")
}

#[tokio::test]
async fn nodes_that_do_not_fit_together_form_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let pair = nodes(dir.path(), 2);
    let other = Node { shards: 3, ..pair[1].clone() };
    let (mut first, mut second) = (pair[0].start(dir.path()), other.start(dir.path()));
    let logs = [first.log(), second.log()];
    // Whichever of the two is answered first has the objection; then nobody answers the other one.
    let (ended, log) = tokio::select! {
        ended = first.ended_within(SOON) => (ended, &logs[0]),
        ended = second.ended_within(SOON) => (ended, &logs[1]),
    };
    let log = std::fs::read_to_string(log).expect("its log");
    let lines = log.lines().map(Into::into).collect();
    let code = ended.expect("one of them ends by itself").code();
    Refused { code, lines }.says(1, &["shards, this node with"]);
    drop((first, second));

    let twin = Node { id: 1, data: dir.path().join("twin"), ..pair[1].clone() };
    twin.refused().await.says(1, &["number 1"]);
    for node in [&pair[0], &pair[1], &twin] {
        assert!(!node.data.join("identity").exists(), "a cluster was formed");
    }
}

#[tokio::test]
async fn a_wiped_node_is_told_what_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let pair = nodes(dir.path(), 2);
    let _first = pair[0].start(dir.path());
    let mut second = pair[1].start(dir.path());
    pair[0].ready().await;
    pair[1].ready().await;
    second.kill().expect("it dies");
    std::fs::remove_dir_all(&pair[1].data).expect("it was there");
    pair[1].refused().await.says(1, &["wiped node", "cluster"]);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = nodes(dir.path(), 1).remove(0);
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let below_a_file = Node { data: file.join("data"), ..node.clone() };
    below_a_file.refused().await.says(1, &["cannot create", "Not a directory"]);
    let read_only = Node { data: PathBuf::from("/proc/platbook"), ..node.clone() };
    read_only.refused().await.says(1, &["cannot create", "/proc/platbook"]);

    let full = dir.path().join("full");
    std::fs::create_dir(&full).expect("a directory");
    let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
    let mounted = Command::new("mount").args(mount).arg(&full).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return skipped("file systems cannot be mounted here");
    }
    let on_it = Node { data: full.clone(), ..node };
    let refused = on_it.refused().await;
    let _ = Command::new("umount").arg("-l").arg(&full).status();
    refused.says(1, &["No space left on device"]);
}

#[allow(clippy::print_stderr, reason = "whoever reads the tests' output should know")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
