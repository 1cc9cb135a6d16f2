//! `platbook load` against a real installation: what is loaded, what is rejected, and what an
//! interruption or a repetition does.

mod installation;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use installation::{ZIPS, cluster, command, listing, report};
use platbook_chaos_tests::{Cluster, http, wait};
use serde_json::{Value, json};

const LISTINGS: usize = 600;

/// A packed file with one line that nobody can load.
fn file(dir: &Path) -> PathBuf {
    let path = dir.join("copy.ndjson.gz");
    let file = std::fs::File::create(&path).expect("a file");
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    for number in 0..LISTINGS {
        writeln!(packed, "{}", listing(number, 100_000 + number)).expect("written");
        if number == 99 {
            writeln!(packed, r#"{{"PostalCode":"98103","ListPrice":1}}"#).expect("written");
        }
    }
    packed.finish().expect("written");
    path
}

fn load(cluster: &Cluster, file: &Path, more: &[&str]) -> Command {
    let mut command = command(cluster, "load");
    command.arg(file).args(["-o", "json"]).args(more);
    command
}

/// Entity tag and count of every ZIP: they move with every change.
async fn states(cluster: &Cluster) -> Vec<(String, String)> {
    let mut states = Vec::new();
    for zip in ZIPS {
        let path = format!("/v1/zips/{zip}/listings");
        let answer = http::get(&cluster.router_address, &path, &[]).await.expect("an answer");
        let header = |name| answer.headers[name].to_str().expect("text").to_string();
        states.push((header("etag"), header("platbook-count")));
    }
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_copy_loaded_again_writes_no_rows_and_makes_no_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let (file, rejects) = (file(dir.path()), dir.path().join("rejects.ndjson"));
    let rejects_flag = rejects.display().to_string();

    let first = load(&cluster, &file, &["--rejects", &rejects_flag]).output().expect("it runs");
    let told = report(&first);
    assert_eq!(first.status.code(), Some(1), "one line was rejected");
    assert_eq!(told["applied"], LISTINGS, "{told}");
    assert_eq!((&told["lines"], &told["rejected"]), (&json!(LISTINGS + 1), &json!(1)));
    let rejected = std::fs::read_to_string(&rejects).expect("the rejected line");
    let rejected: Value = serde_json::from_str(&rejected).expect("one line of JSON");
    assert_eq!((&rejected["line"], &rejected["code"]), (&json!(101), &json!("no_id")));
    let before = states(&cluster).await;
    assert_eq!(before[0].1, (LISTINGS / ZIPS.len()).to_string());

    let again = report(&load(&cluster, &file, &[]).output().expect("it runs"));
    assert_eq!((&again["unchanged"], &again["applied"]), (&json!(LISTINGS), &json!(0)), "{again}");
    assert_eq!(states(&cluster).await, before, "nothing changed");
    cluster.stop().await.expect("everything drains");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_load_continues_where_it_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let file = file(dir.path());
    let state = dir.path().join("state");
    let flags = ["--state", state.to_str().expect("text"), "--batch", "2", "--in-flight", "1"];

    let mut first = load(&cluster, &file, &flags).spawn().expect("it runs");
    let lines = || {
        let kept = std::fs::read(&state).unwrap_or_default();
        serde_json::from_slice::<Value>(&kept).ok().and_then(|state| state["lines"].as_u64())
    };
    wait::until("some lines are loaded", Duration::from_secs(30), async || {
        lines().filter(|lines| *lines > 0).ok_or("none yet")
    })
    .await
    .expect("the state moves while it loads");
    // SIGKILL: it has no chance to tidy up.
    first.kill().and_then(|()| first.wait()).expect("it can be killed");
    let kept = lines().expect("the state is whole");
    assert!(kept < LISTINGS as u64, "all {kept} lines are loaded: the test was too slow");

    let second = report(&load(&cluster, &file, &flags[..2]).output().expect("it runs"));
    assert_eq!(second["resumed_behind"], json!(kept), "{second}");
    let count = |name: &str| second[name].as_u64().expect("a number");
    // What was done but not yet noted is a duplicate: it was sent at the same time.
    let loaded_before = kept - u64::from(kept > 100);
    assert_eq!(count("applied") + count("duplicate"), LISTINGS as u64 - loaded_before, "{second}");
    assert_eq!(count("rejected"), 1, "{second}");
    assert_eq!(states(&cluster).await[0].1, (LISTINGS / ZIPS.len()).to_string());
    assert!(!state.exists(), "the load is over");
    cluster.stop().await.expect("everything drains");
}
