//! Disks that fail a running installation: full ones, each node on a small file system of its own,
//! and one that cannot make durable what it took.

mod installation;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use installation::{cluster, listing};
use platbook_chaos_tests::{Cluster, Scrape, http, wait};

/// Two log segments are reserved at once, 64 MiB each; the rest is for the filler.
const DISK_MIB: u64 = 320;
/// Longest wait for a watcher that looks once a second, and for leaderships to move.
const SOON: Duration = Duration::from_secs(20);

/// File systems in memory for three nodes; gone in the end.
struct Disks(Vec<PathBuf>);

impl Disks {
    /// `None` where mounting is not allowed.
    fn mount(dir: &Path) -> Option<Disks> {
        let mut disks = Disks(Vec::new());
        for node in 1..=3 {
            let path = dir.join(format!("node-{node}"));
            std::fs::create_dir_all(&path).expect("a directory");
            let size = format!("size={DISK_MIB}m");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path);
            if !mount.output().is_ok_and(|output| output.status.success()) {
                return None;
            }
            disks.0.push(path);
        }
        Some(disks)
    }

    /// Leaves less than the 5 % that a node wants to have free.
    fn fill(&self, at: usize) {
        let found = nix::sys::statvfs::statvfs(&self.0[at]).expect("it is mounted");
        let block = found.fragment_size();
        let (free, all) = (found.blocks_available() * block, found.blocks() * block);
        let filler = free.saturating_sub(all * 3 / 100);
        let file = std::fs::File::create(self.0[at].join("filler")).expect("a file");
        nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, filler as i64)
            .expect("there is room");
    }

    fn clear(&self, at: usize) {
        std::fs::remove_file(self.0[at].join("filler")).expect("it was filled");
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for path in &self.0 {
            // A lazy one: a process that is about to end may still hold it.
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

async fn metric(cluster: &Cluster, at: usize, name: &str) -> Result<f64, String> {
    let scrape = Scrape::of(&cluster.node_addresses[at]).await.map_err(|e| e.to_string())?;
    Ok(scrape.sum(name, ""))
}

/// Waits until a metric of a node has this value.
async fn until(cluster: &Cluster, at: usize, name: &str, wanted: f64) {
    wait::until(&format!("{name} of node {} is {wanted}", at + 1), SOON, async || {
        let found = metric(cluster, at, name).await?;
        if found == wanted { Ok(()) } else { Err(format!("it is {found}")) }
    })
    .await
    .expect("it comes to that");
}

/// Status and body of writes to listings of every shard.
async fn put_all(cluster: &Cluster, price: usize) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    for number in 0..24 {
        let body = format!("{{\"op\":\"upsert\",\"listing\":{}}}", listing(number, price));
        let answer = http::post(&cluster.router_address, "/v1/listings", &[], body).await;
        let answer = answer.expect("an answer");
        answers.push((answer.status, answer.text()));
    }
    answers
}

async fn count(cluster: &Cluster) -> usize {
    let path = "/v1/zips/98103/listings";
    let answer = http::get(&cluster.router_address, path, &[]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice::<Vec<serde_json::Value>>(&answer.body).expect("listings").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nearly_full_disks_make_nodes_read_only_and_room_makes_them_writable_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(disks) = Disks::mount(dir.path()) else {
        skipped("file systems cannot be mounted here");
        return;
    };
    let cluster = cluster(dir.path()).await;
    let applied = |answers: Vec<(u16, String)>| {
        for (status, text) in answers {
            assert_eq!(status, 200, "{text}");
            assert!(text.contains("\"applied\":1"), "{text}");
        }
    };
    applied(put_all(&cluster, 1).await);
    let listings = count(&cluster).await;

    // One of three: it leads nothing any more, and nobody notices.
    disks.fill(0);
    until(&cluster, 0, "platbook_node_read_only", 1.0).await;
    until(&cluster, 0, "platbook_node_replicas_leading", 0.0).await;
    applied(put_all(&cluster, 2).await);

    // All of them: nothing is taken, everything can be read, and no node ends.
    disks.fill(1);
    disks.fill(2);
    for at in 0..3 {
        until(&cluster, at, "platbook_node_read_only", 1.0).await;
    }
    for (status, text) in put_all(&cluster, 3).await {
        assert_eq!(status, 507, "{text}");
        assert!(text.contains("disk_full"), "{text}");
    }
    assert_eq!(count(&cluster).await, listings);

    (0..3).for_each(|at| disks.clear(at));
    for at in 0..3 {
        until(&cluster, at, "platbook_node_read_only", 0.0).await;
    }
    applied(put_all(&cluster, 4).await);
    cluster.stop().await.expect("no node has ended before");
}

/// Lets the next fdatasync of a running process fail; `None` where that is not allowed.
fn fail_next_sync(pid: u32) -> Option<Child> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    strace.args(["-e", "inject=fdatasync:error=EIO", "-p", &pid.to_string()]);
    let strace = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = strace.spawn().ok()?;
    // It traces when the kernel says so, or has ended.
    loop {
        if child.try_wait().ok()?.is_some() {
            return None;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        if !status.lines().any(|line| line == "TracerPid:\t0") {
            return Some(child);
        }
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_does_not_sync_stops_and_the_others_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster(dir.path()).await;
    let applied = |answers: Vec<(u16, String)>| {
        for (status, text) in answers {
            assert_eq!(status, 200, "{text}");
        }
    };
    applied(put_all(&cluster, 1).await);
    let Some(mut strace) = fail_next_sync(cluster.nodes[0].pid()) else {
        skipped("processes cannot be traced here");
        return;
    };
    // No write fails: what was in flight on the node is asked for again elsewhere.
    applied(put_all(&cluster, 2).await);
    let status = cluster.nodes[0].ended_within(SOON).await.expect("the node ends by itself");
    strace.wait().expect("strace ends with it");
    assert_eq!(status.code(), Some(1), "a node without a durable log must not go on");
    let log = std::fs::read_to_string(cluster.nodes[0].log()).expect("a log");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("node stopped itself") && last.contains("os error 5"), "{last}");
    applied(put_all(&cluster, 3).await);
    let listings = count(&cluster).await;

    cluster.restart_node(0).await.expect("a disk that was repaired");
    applied(put_all(&cluster, 4).await);
    assert_eq!(count(&cluster).await, listings);
    cluster.verify().await.expect("all replicas hold the same");
    cluster.stop().await.expect("no other node has ended");
}

#[allow(clippy::print_stderr, reason = "whoever reads the tests' output should know")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
