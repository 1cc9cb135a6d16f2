//! `platbook debug` on the directory of a real node, while it runs, after a stop, and damaged.

mod installation;

use std::path::Path;
use std::process::{Command, Output};

use installation::{cluster, listing, report};
use platbook_chaos_tests::http;
use serde_json::Value;

fn debug(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_platbook"));
    let output = command.arg("debug").args(args).arg("--data").arg(data).output();
    output.expect("the binary runs")
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_directory_tells_why_and_a_running_one_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let data = dir.path().join("node-1");
    let lines = (0..20).map(|number| format!("{}\n", listing(number, 1))).collect::<String>();
    let gone = "{\"op\":\"delete\",\"id\":\"L00003\"}\n";
    for body in [lines.as_str(), gone] {
        let answer = http::post(&cluster.router_address, "/v1/listings", &[], body.to_string());
        assert_eq!(answer.await.expect("an answer").status, 200);
    }
    for what in [vec!["log"], vec!["keys"], vec!["register", "L00003"]] {
        let text = error(&debug(&data, &what));
        assert!(text.contains("a node is running"), "{text}");
    }
    cluster.stop().await.expect("everything drains");

    let log = debug(&data, &["log", "-o", "json", "--last", "0"]);
    let log = report(&log);
    assert_eq!(log["end"], "clean", "{log}");
    assert!(log["records"].as_u64() > Some(20), "{log}");
    let last = debug(&data, &["log", "--last", "3", "-o", "ndjson"]);
    assert_eq!(String::from_utf8_lossy(&last.stdout).lines().count(), 4, "three and a summary");
    let keys = report(&debug(&data, &["keys", "-o", "json"]));
    assert_eq!(keys["register"]["keys"], 20, "each node has a replica of every shard: {keys}");
    let listed = debug(&data, &["keys", "--list", "--kind", "row", "-o", "ndjson"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 20, "markers included");

    let register = |id: &str| -> Value {
        report(&debug(&data, &["register", id, "-o", "json", "--skew-ms", "300000"]))
    };
    let alive = register("L00004");
    assert_eq!((&alive["alive"], &alive["rows"]["98004"]["live"]), (&true.into(), &true.into()));
    let dead = register("L00003");
    assert_eq!((&dead["alive"], &dead["rows"]["98103"]["live"]), (&false.into(), &false.into()));
    assert!(dead["why"].as_str().is_some_and(|why| why.starts_with("dead")), "{dead}");
    assert!(error(&debug(&data, &["register", "L99999"])).contains("nothing is known"));
    assert!(error(&debug(dir.path(), &["keys"])).contains("no data directory"));

    // A byte in the middle of the log: seen, and nothing is repaired.
    let segment = data.join("log/0000000001.log");
    let mut bytes = std::fs::read(&segment).expect("the segment");
    bytes[2_000] ^= 1;
    std::fs::write(&segment, &bytes).expect("written");
    let damaged = report(&debug(&data, &["log", "-o", "json", "--last", "0"]));
    assert!(damaged["end"].as_str().is_some_and(|end| end.starts_with("damaged")), "{damaged}");
    assert_eq!(std::fs::read(&segment).expect("the segment"), bytes);
}
