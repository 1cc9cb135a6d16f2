//! The feed against an independent client (boto3), and the ingester against an independent SQS
//! and S3 (moto). `PLATBOOK_PYTHON` names a Python that has both; `make test` sets it.

#[path = "../../client/tests/scripted/mod.rs"]
mod scripted;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use platbook_ingest::config::{IngestConfig, QueueConfig, ServeConfig};
use platbook_ingest::feed::Server;
use platbook_ingest::run;
use scripted::{Call, Scripted, json};
use serde_json::{Value, json as value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

/// moto takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

fn python(script: &str) -> Command {
    let python = std::env::var("PLATBOOK_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let mut command = Command::new(python);
    command.arg(dir.join(script)).kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_finds_in_the_feed_what_it_expects_of_sqs() {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let server = Server::bind(ServeConfig { listen, ..ServeConfig::default() }).await;
    let server = server.expect("binds");
    let endpoint = format!("http://{}", server.local_addr());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.run(stop.clone()));
    let ended = python("feed.py").arg(endpoint).output();
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("ends").expect("runs");
    let told = String::from_utf8_lossy(&ended.stdout).into_owned()
        + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{told}");
    stop.cancel();
    serving.await.expect("no panic").expect("no failure");
}

/// moto, with messages in its queue.
struct Cloud {
    endpoint: String,
    queue_url: String,
    child: Child,
    told: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Cloud {
    async fn start() -> Cloud {
        let mut child = python("cloud.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("PLATBOOK_PYTHON is a Python");
        let told = child.stdin.take().expect("is piped");
        let mut answers = BufReader::new(child.stdout.take().expect("is piped")).lines();
        let line = tokio::time::timeout(PATIENCE, answers.next_line()).await.expect("is up");
        let line = line.expect("is read").expect("moto is installed");
        let up: Value = serde_json::from_str(&line).expect("JSON");
        let text = |name: &str| up[name].as_str().expect("is told").to_string();
        let (endpoint, queue_url) = (text("endpoint"), text("queue_url"));
        Cloud { endpoint, queue_url, child, told, answers }
    }

    async fn depth(&mut self) -> (u64, u64) {
        self.told.write_all(b"depth\n").await.expect("is there");
        let line = self.answers.next_line().await.expect("is read").expect("is answered");
        serde_json::from_str(&line).expect("two numbers")
    }
}

fn keys(calls: &[Call]) -> BTreeSet<String> {
    let lines = calls.iter().flat_map(|call| {
        let text = std::str::from_utf8(&call.body).expect("text").to_string();
        text.lines().map(ToString::to_string).collect::<Vec<_>>()
    });
    let key = |line: String| {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert!(line["sent"].as_u64().is_some_and(|sent| sent > 0), "{line}");
        let listing = line["listing"]["ListingKey"].as_str();
        listing.or(line["code"].as_str()).unwrap_or_default().to_string()
    };
    lines.map(key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_message_comes_from_an_independent_sqs_and_s3() {
    let mut cloud = Cloud::start().await;
    let router = Scripted::start(|call| async move {
        let lines = call.body.iter().filter(|byte| **byte == b'\n').count();
        json(200, value!({"applied": lines}))
    })
    .await;
    let config = IngestConfig {
        router: router.url.clone(),
        queue: QueueConfig {
            queue_url: cloud.queue_url.clone(),
            endpoint_url: Some(cloud.endpoint.clone()),
            no_sign_request: true,
        },
        s3_endpoint_url: Some(cloud.endpoint.clone()),
        consumers: 2,
        receives_max: 1,
        listen: "127.0.0.1:0".parse().expect("an address"),
        ..IngestConfig::default()
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(config, stop.clone()));
    let empty = async { while cloud.depth().await != (0, 0) {} };
    tokio::time::timeout(PATIENCE, empty).await.expect("the queue runs empty");
    stop.cancel();
    running.await.expect("no panic").expect("no failure");
    let (posts, puts): (Vec<Call>, Vec<Call>) =
        router.calls().into_iter().partition(|call| call.path == "/v1/listings");
    let mut expected: BTreeSet<String> = (0..20).map(|n| format!("plain-{n}")).collect();
    expected.extend(["from-sns", "from-s3", "from-s3-old"].map(ToString::to_string));
    assert_eq!(keys(&posts), expected);
    let quarantined: BTreeSet<String> = ["bad_json", "pointer_missing"].map(String::from).into();
    assert_eq!(keys(&puts), quarantined);
    cloud.told.write_all(b"end\n").await.expect("is there");
    let ended = tokio::time::timeout(PATIENCE, cloud.child.wait()).await.expect("ends");
    assert!(ended.expect("is waited for").success());
}
