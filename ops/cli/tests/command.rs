//! The command as a user and a supervisor see it: exit codes, streams, signals.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use platbook_chaos_tests::{Process, Program, http, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_platbook");
const SOON: Duration = Duration::from_secs(20);

fn platbook(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).output().expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn data_goes_to_stdout_and_is_json_in_a_pipe() {
    let output = platbook(&["version"]);
    assert_eq!(output.status.code(), Some(0));
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stderr(&output), "");
}

#[test]
fn bad_usage_exits_with_2_and_names_what_is_wrong() {
    for (args, named) in [
        (vec!["version", "--speed"], "--speed"),
        (vec!["fly"], "fly"),
        (vec!["zip", "9810"], "five digits"),
        (vec!["--config", "/nowhere.toml", "version"], "/nowhere.toml"),
    ] {
        let output = platbook(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(named), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn an_unknown_key_of_the_file_is_one_line_that_names_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("platbook.toml");
    std::fs::write(&file, "[feed.serve]\nspeed = 1\n").expect("temp file");
    let output = Command::new(BINARY)
        .args(["feed", "serve", "--config"])
        .arg(&file)
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("unknown key `feed.serve.speed`"), "{}", stderr(&output));
}

#[test]
fn a_server_without_tls_refuses_to_listen_on_the_world() {
    let output = platbook(&["feed", "serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--insecure"), "{}", stderr(&output));
}

#[test]
fn a_command_without_its_router_ends_with_one_line() {
    let args = ["zip", "98101", "--router", "http://127.0.0.1:9", "--deadline-ms", "100"];
    let output = platbook(&args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

fn feed(dir: &std::path::Path, address: &str) -> Program {
    Program {
        name: "feed".to_string(),
        binary: PathBuf::from(BINARY),
        args: ["feed", "serve", "--log-format", "json", "--listen", address]
            .map(Into::into)
            .to_vec(),
        env: Vec::new(),
        logs: dir.to_owned(),
    }
}

fn free_address() -> String {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    held.local_addr().expect("it is bound").to_string()
}

async fn ready(address: &str) {
    let look = async || match http::get(address, "/readyz", &[]).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(answer.text()),
        Err(error) => Err(error.to_string()),
    };
    wait::until("the feed is ready", SOON, look).await.expect("it gets ready");
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_0_and_logs_are_json_lines() {
    let dir = tempfile::tempdir().expect("temp dir");
    let address = free_address();
    let mut process = Process::start(feed(dir.path(), &address)).expect("starts");
    ready(&address).await;
    let status = process.terminate(Duration::from_secs(10)).await.expect("ends in time");
    assert_eq!(status.code(), Some(0));
    let log = std::fs::read_to_string(process.log()).expect("a log");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        assert!(line["level"].is_string(), "{line}");
    }
    assert!(log.contains("draining"), "{log}");
}

#[tokio::test]
async fn a_killed_process_comes_back_under_its_name() {
    let dir = tempfile::tempdir().expect("temp dir");
    let address = free_address();
    let mut process = Process::start(feed(dir.path(), &address)).expect("starts");
    ready(&address).await;
    process.kill().expect("dies");
    assert!(process.is_killed() && process.check().is_err());
    process.start_again().expect("starts");
    ready(&address).await;
    assert!(!process.is_killed() && process.check().is_ok());
}

#[tokio::test]
async fn a_part_dies_with_the_process_that_started_it() {
    let address = free_address();
    let script = "PLATBOOK_PARENT=$$ \"$0\" feed serve --listen \"$1\" & wait";
    let mut parent = Command::new("sh")
        .args(["-c", script, BINARY, &address])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs");
    ready(&address).await;
    parent.kill().expect("sh is killed");
    parent.wait().expect("sh is gone");
    let look = async || match http::get(&address, "/readyz", &[]).await {
        Ok(answer) => Err(format!("it answers {}", answer.status)),
        Err(_) => Ok(()),
    };
    wait::until("the part is gone", SOON, look).await.expect("it dies, too");
}
