//! The demonstration in small: what it prints, and that it leaves nothing running.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use platbook_chaos_tests::{Process, Program, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_platbook");
const SALES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/data");
const SOON: Duration = Duration::from_secs(60);
/// Three nodes, a router, a feed and an ingester.
const PARTS: usize = 6;

#[test]
fn a_small_demonstration_tells_every_figure_and_ends_with_0() {
    let output = Command::new(BINARY)
        .args(["demo", "--once", "--limit", "1500", "--rate", "1500", "--sales", SALES])
        // Should the test be cut short, the kernel ends the demonstration and its cluster.
        .env("PLATBOOK_PARENT", std::process::id().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    let figure = |name: &str| -> u64 {
        let line = stdout.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no `{name}` in\n{stdout}"));
        let figure = line[name.len()..].split_whitespace().next().unwrap_or_default();
        let digits: String = figure.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("`{line}` has no figure"))
    };
    let sent = figure("sent ");
    assert!(sent > 1_500, "{stdout}");
    assert!(figure("received ") > sent, "the queue delivers some messages twice\n{stdout}");
    assert!(figure("duplicate ") > 0, "{stdout}");
    // How many of so few messages are overtaken depends on the moment: 0 to 3 were seen, so only
    // the figure itself is required here. Stale messages are tested by the register's scripts.
    figure("stale ");
    assert!(figure("quarantined ") >= 8, "{stdout}");
    assert_eq!(figure("poison "), 8);
    assert_eq!(figure("nodes killed "), 1);
    assert_eq!(figure("ZIPs checked "), 70);
    assert!(stdout.contains("ZIPs checked  70/70") && stdout.contains("took "), "{stdout}");
    assert!(stderr.contains("SIGKILL"), "{stderr}");
}

#[tokio::test]
async fn an_interrupted_demonstration_leaves_nothing_running() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let args = ["demo", "--rate", "200", "--sales", SALES];
    let program = Program {
        name: "demo".to_string(),
        binary: PathBuf::from(BINARY),
        args: args.map(Into::into).to_vec(),
        env: Vec::new(),
        logs: dir.path().to_owned(),
    };
    let mut demo = Process::start(program).expect("it starts");
    let log = demo.log();
    wait::until("messages are on their way", SOON, async || {
        demo.check().expect("it runs");
        let log = std::fs::read_to_string(&log).expect("a log");
        if log.contains(" in the queue") { Ok(()) } else { Err(log) }
    })
    .await
    .expect("it gets ready");
    let parts = children_of(demo.id());
    assert_eq!(parts.len(), PARTS, "{parts:?}");
    demo.interrupt().expect("it runs");
    let status = demo.ended_within(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    let left: Vec<u32> = parts.into_iter().filter(|part| is_platbook(*part)).collect();
    assert!(left.is_empty(), "still running: {left:?}");
}

/// Processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux has it");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name stands in parentheses; behind it the state, then the parent.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    pids.filter(is_child).collect()
}

fn is_platbook(pid: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim() == "platbook"
}
