//! Short runs of `platbook chaos`: real processes, killed for real.

mod installation;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use platbook_chaos_tests::{Cluster, http, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_platbook");
const SALES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/data");

/// Runs it to its end.
fn run(args: &[&str]) -> Output {
    Command::new(BINARY)
        .arg("chaos")
        .args(args)
        // Should the test be cut short, the kernel ends the run and its cluster.
        .env("PLATBOOK_PARENT", std::process::id().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it printed. A violation fails the test and names the seed.
fn chaos(args: &[&str]) -> String {
    let ended = run(args);
    let (told, error) = (text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "{args:?}: {}\n{told}\n{error}", ended.status);
    told
}

fn says(told: &str, words: &[&str]) {
    for word in words {
        assert!(told.contains(word), "`{word}` is missing in\n{told}");
    }
}

#[test]
fn all_nodes_killed_at_once_lose_nothing_and_the_feed_resumes_by_itself() {
    let told = chaos(&["restart", "--rounds", "3", "--sales-per-round", "600", "--sales", SALES]);
    says(&told, &["round 3/3", "acknowledged ones lost: 0", "went back: 0", "in 70 ZIPs"]);
    says(&told, &["replicas      hold the same"]);
}

#[test]
fn killed_leaders_are_replaced_and_no_acknowledged_write_is_lost() {
    // Three kills, one of each node. The bound is wide for machines that are busy elsewhere; the
    // figures that count come from `make chaos`.
    let told = chaos(&["failover", "--kills", "3", "--max-resume", "5s"]);
    says(&told, &["kill 3/3", "acknowledged ones lost: 0", "went back: 0", "p99"]);
    says(&told, &["shards whose leader was spared: none", "hold the same"]);
}

#[test]
fn a_rolling_restart_under_load_fails_no_call() {
    let told = chaos(&["rolling", "--rounds", "1"]);
    says(&told, &["node 3 drained", "none failed", "none went back", "hold the same"]);
}

#[test]
fn a_consumer_of_changes_that_is_killed_misses_nothing_and_is_told_nothing_twice() {
    let told = chaos(&["changes", "--kills", "50", "--kills-per-node", "25"]);
    says(&told, &["consumer 50, nodes 2", "gaps     0", "equals the store's in 32 ZIPs"]);
}

#[test]
fn fault_after_fault_and_an_order_explains_every_answer() {
    // Long enough for most of the faults to be drawn, each once; `make chaos` does them all.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let page = dir.path().join("report.html");
    let page_arg = page.to_str().expect("a path of letters");
    let told =
        chaos(&["run", "--for", "40s", "--seed", "3", "--report", page_arg, "--sales", SALES]);
    says(&told, &["about 12 of them", "lost 0", "went back 0", "all replicas hold the same"]);
    says(&told, &["feed: ", "right byte for byte", "follower 2: told", "nothing twice"]);
    let page = std::fs::read_to_string(page).expect("a report");
    says(&page, &["nothing was violated", "calls answered", "<svg"]);
    let json = std::fs::read(dir.path().join("report.json")).expect("beside it");
    let report: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let faults = report["faults"].as_array().expect("a list").len();
    assert!(faults >= 5, "{faults} faults in 40 s");
}

/// Each node has a disk of its own that loses what was not synced, and packets get lost: where the
/// run may mount file systems, and have a network of its own. Elsewhere it says what it leaves out.
#[test]
fn what_was_acknowledged_survives_losses_of_power_and_of_packets() {
    let faults = ["power", "power-all", "turns", "loss"];
    let wanted = faults.join(",");
    let ended = run(&["run", "--for", "25s", "--seed", "1", "--faults", &wanted, "--sales", SALES]);
    let (told, error) = (text(&ended.stdout), text(&ended.stderr));
    let left_out = |fault: &&str| told.contains(&format!("left out: {fault};"));
    if faults.iter().all(left_out) {
        return says(&error, &["none of the faults can be done here"]);
    }
    assert!(ended.status.success(), "{told}\n{error}");
    says(&told, &["about 12 of them", "lost 0", "went back 0", "all replicas hold the same"]);
    let done: Vec<&str> = told.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let is_met = |fault: &&&str| left_out(fault) || done.contains(*fault);
    // Each is drawn once before any is drawn again; a slow machine has no time for the last one.
    assert!(faults.iter().filter(is_met).count() >= 3, "{told}");
}

/// Whether a process is stopped by a signal: the letter behind its name in its line.
fn is_stopped(pid: u32) -> bool {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    line.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// `platbook chaos run` against a cluster that this test started.
fn against(cluster: &Cluster, more: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    let nodes = cluster.node_addresses.join(",");
    command.args(["chaos", "run", "--running", &nodes, "--router", &cluster.router_address]);
    command.args(more).env("PLATBOOK_PARENT", std::process::id().to_string());
    command.stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_runs_already_is_hurt_judged_and_left_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = installation::cluster(dir.path()).await;
    let mut command = against(&cluster, &["--faults", "pause,partition", "--for", "8s"]);
    let ended = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = ended.expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    says(&told, &["left out: partition; its links are not ours", "pause", "lost 0"]);
    says(&told, &["about 12 of them", "all replicas hold the same"]);
    let path = "/v1/changes?from=beginning&live=false&body=false";
    let state = http::get(&cluster.router_address, path, &[]).await.expect("an answer").text();
    assert!(!state.contains("\"id\":\"chaos-"), "its listings were left behind: {state}");
    cluster.stop().await.expect("no node has ended");
}

/// Whoever hurts a cluster may die in the middle of it: what was done is undone all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_although_whoever_paused_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = installation::cluster(dir.path()).await;
    let mut command = against(&cluster, &["--faults", "pause", "--for", "60s"]);
    let mut tool = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let pids: Vec<u32> = cluster.nodes.iter().map(|node| node.pid()).collect();
    let within = Duration::from_secs(30);
    let stopped = wait::until("a node is paused", within, async || {
        pids.iter().copied().find(|pid| is_stopped(*pid)).ok_or("none is")
    });
    let stopped = stopped.await.expect("the first fault is a pause");
    tool.kill().and_then(|()| tool.wait()).expect("it was running");
    wait::until("the node goes on", within, async || match is_stopped(stopped) {
        true => Err("it is stopped"),
        false => Ok(()),
    })
    .await
    .expect("somebody lets it go on");
    cluster.ready().await.expect("all serve");
    cluster.stop().await.expect("no node has ended");
}

#[test]
fn faults_that_nobody_knows_are_refused_before_anything_is_started() {
    let output = Command::new(BINARY).args(["chaos", "run", "--faults", "kill,rain"]).output();
    let output = output.expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("`rain` is no fault"), "{said}");
    assert!(output.stdout.is_empty(), "nothing was started");
}

#[test]
fn too_few_sales_for_the_rounds_are_refused_before_anything_is_started() {
    let output = Command::new(BINARY)
        .args(["chaos", "restart", "--rounds", "100000", "--sales", SALES])
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("100000 rounds need"), "{stderr}");
}
