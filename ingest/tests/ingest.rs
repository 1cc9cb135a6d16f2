//! The ingester between a real feed and a router whose answers a test writes.

#[path = "../../client/tests/scripted/mod.rs"]
mod scripted;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platbook_ingest::Ingester;
use platbook_ingest::config::{IngestConfig, QueueConfig, ServeConfig};
use platbook_ingest::error::{IngestError, ServeError};
use platbook_ingest::feed::Server;
use platbook_ingest::queue::{Depth, QueueClient};
use scripted::{Call, Reply, Scripted, json, problem};
use serde_json::{Value, json as value};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything that a test expects.
const PATIENCE: Duration = Duration::from_secs(40);

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

struct Setup {
    queue: QueueClient,
    queue_url: String,
    router: Scripted,
    feed: JoinHandle<Result<(), ServeError>>,
    stop_feed: CancellationToken,
}

impl Setup {
    async fn new<S, F>(faults: ServeConfig, script: S) -> Setup
    where
        S: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let server = Server::bind(ServeConfig { listen: any_port(), ..faults }).await;
        let server = server.expect("binds");
        let queue_url = format!("http://{}/000000000000/listings", server.local_addr());
        let stop_feed = CancellationToken::new();
        let feed = tokio::spawn(server.run(stop_feed.clone()));
        let queue = QueueClient::connect(&queue_config(&queue_url)).await;
        Setup { queue, queue_url, router: Scripted::start(script).await, feed, stop_feed }
    }

    async fn send(&self, bodies: &[String]) {
        for chunk in bodies.chunks(10) {
            let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
            assert!(self.queue.send(&chunk).await.expect("is taken").is_empty());
        }
    }

    async fn ingest(&self, change: impl FnOnce(&mut IngestConfig)) -> Running {
        let mut config = IngestConfig {
            router: self.router.url.clone(),
            queue: queue_config(&self.queue_url),
            consumers: 2,
            listen: any_port(),
            ..IngestConfig::default()
        };
        change(&mut config);
        let ingester = Ingester::bind(config).await.expect("binds");
        let address = ingester.local_addr();
        let stop = CancellationToken::new();
        Running { address, task: tokio::spawn(ingester.run(stop.clone())), stop }
    }

    /// Waits until the queue looks so. Each look is a request, so this does not spin.
    async fn until(&self, wanted: impl Fn(Depth) -> bool) -> Depth {
        let look = async {
            loop {
                let depth = self.queue.depth().await.expect("answers");
                if wanted(depth) {
                    return depth;
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("the queue gets there")
    }

    async fn until_empty(&self) {
        self.until(|depth| depth == Depth::default()).await;
    }

    /// All lines posted so far, and all lines put into quarantine.
    fn lines(&self, path: &str) -> Vec<Value> {
        let calls = self.router.calls().into_iter().filter(|call| call.path == path);
        calls.flat_map(|call| lines_of(&call)).collect()
    }

    async fn end(self, running: Running) {
        running.stop.cancel();
        running.task.await.expect("no panic").expect("no failure");
        self.stop_feed.cancel();
        self.feed.await.expect("no panic").expect("no failure");
    }
}

struct Running {
    address: SocketAddr,
    task: JoinHandle<Result<(), IngestError>>,
    stop: CancellationToken,
}

impl Running {
    /// The whole answer to `GET path`.
    async fn page(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.address).await.expect("listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("is sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("is answered");
        text
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = self.page("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

fn queue_config(url: &str) -> QueueConfig {
    QueueConfig { queue_url: url.to_string(), endpoint_url: None, no_sign_request: true }
}

fn upsert(key: usize) -> String {
    value!({"op": "upsert", "listing": {"ListingKey": key.to_string()}}).to_string()
}

fn lines_of(call: &Call) -> Vec<Value> {
    let text = std::str::from_utf8(&call.body).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn key_of(line: &Value) -> String {
    line["listing"]["ListingKey"].as_str().unwrap_or_default().to_string()
}

fn all_done(call: &Call) -> Reply {
    json(200, value!({"applied": lines_of(call).len()}))
}

fn keys(lines: &[Value]) -> BTreeSet<String> {
    lines.iter().map(key_of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_goes_to_quarantine_and_the_other_nine_go_on() {
    let setup = Setup::new(ServeConfig::default(), |call| async move {
        match call.path.as_str() {
            "/v1/listings" => all_done(&call),
            _ => json(200, value!({})),
        }
    })
    .await;
    let mut bodies: Vec<String> = (0..9).map(upsert).collect();
    bodies.insert(4, "{\"op\":".to_string());
    setup.send(&bodies).await;
    let running = setup.ingest(|_| {}).await;
    setup.until_empty().await;
    let lines = setup.lines("/v1/listings");
    assert_eq!(keys(&lines).len(), 9);
    assert!(lines.iter().all(|line| line["sent"].as_u64().is_some_and(|sent| sent > 0)));
    let promised = |call: &Call| call.headers["platbook-resend"] == "promised";
    let posts = setup.router.calls().into_iter().filter(|call| call.path == "/v1/listings");
    assert!(posts.collect::<Vec<_>>().iter().all(promised));
    let quarantined = setup.lines("/v1/quarantine");
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0]["code"], "bad_json");
    assert_eq!(quarantined[0]["body"], "{\"op\":");
    assert!(quarantined[0]["sent"].as_u64().is_some_and(|sent| sent > 0));
    setup.end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_with_every_fault_ends_empty_and_nothing_is_lost() {
    let faults = ServeConfig {
        seed: 7,
        shuffle: 50,
        duplicate: 0.2,
        resurrect: 0.2,
        fail_delete: 0.2,
        ..ServeConfig::default()
    };
    let setup = Setup::new(faults, |call| async move { all_done(&call) }).await;
    let bodies: Vec<String> = (0..500).map(upsert).collect();
    setup.send(&bodies).await;
    let running = setup.ingest(|_| {}).await;
    setup.until_empty().await;
    assert_eq!(keys(&setup.lines("/v1/listings")).len(), 500);
    setup.end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_and_unavailable_lines_come_again_and_never_go_to_quarantine() {
    let setup = Setup::new(ServeConfig::default(), |call| async move {
        assert_eq!(call.path, "/v1/listings", "nothing is quarantined");
        let first = lines_of(&call).len() as u64;
        match call.number {
            1 => json(200, value!({"busy": (1..=first).collect::<Vec<_>>()})),
            _ => all_done(&call),
        }
    })
    .await;
    setup.send(&[upsert(1)]).await;
    // With one delivery allowed, any delivery that counted would send it to quarantine.
    let running = setup.ingest(|config| config.receives_max = 1).await;
    setup.until_empty().await;
    assert_eq!(setup.lines("/v1/listings").len(), 2);
    setup.end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_on_which_the_router_chokes_is_found_and_quarantined_alone() {
    let setup = Setup::new(ServeConfig::default(), |call| async move {
        match call.path.as_str() {
            "/v1/listings" if keys(&lines_of(&call)).contains("13") => problem(400, "bad_field"),
            "/v1/listings" => all_done(&call),
            _ => json(200, value!({})),
        }
    })
    .await;
    setup.send(&(0..40).map(upsert).collect::<Vec<_>>()).await;
    let running = setup.ingest(|config| config.receives_max = 1).await;
    setup.until_empty().await;
    let quarantined = setup.lines("/v1/quarantine");
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0]["code"], "bad_field");
    assert_eq!(quarantined[0]["body"], upsert(13));
    assert_eq!(keys(&setup.lines("/v1/listings")).len(), 40);
    setup.end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_line_is_quarantined_only_if_it_is_its_own_fault() {
    let setup = Setup::new(ServeConfig::default(), |call| async move {
        if call.path != "/v1/listings" {
            return json(200, value!({}));
        }
        let line = lines_of(&call).iter().position(|line| key_of(line) == "3");
        let rejected = line.map(|at| value!({"line": at + 1, "code": "too_old", "detail": "old"}));
        json(200, value!({"rejected": rejected.into_iter().collect::<Vec<_>>()}))
    })
    .await;
    setup.send(&(0..5).map(upsert).collect::<Vec<_>>()).await;
    let running = setup.ingest(|_| {}).await;
    setup.until_empty().await;
    let quarantined = setup.lines("/v1/quarantine");
    assert_eq!(quarantined.len(), 1);
    assert_eq!(
        (&quarantined[0]["code"], &quarantined[0]["detail"]),
        (&"too_old".into(), &"old".into())
    );
    setup.end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_longer_than_its_visibility_stays_hidden() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let setup = Setup::new(ServeConfig::default(), move |call| {
        let gate = Arc::clone(&gate);
        async move {
            drop(gate.acquire().await.expect("is never closed"));
            all_done(&call)
        }
    })
    .await;
    setup.send(&[upsert(1)]).await;
    let running = setup.ingest(|config| config.visibility_seconds = 4).await;
    let extended = async {
        // Each extension is half a visibility timeout after the one before.
        while running.metric("platbook_ingest_visibility_extensions_total").await < 3.0 {}
    };
    tokio::time::timeout(PATIENCE, extended).await.expect("is extended");
    opened.add_permits(100);
    setup.until_empty().await;
    assert_eq!(running.metric("platbook_ingest_messages_received_total").await, 1.0);
    setup.end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_does_not_answer_stops_the_polls_and_a_drain_gives_everything_back() {
    let held = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&held);
    let setup = Setup::new(ServeConfig::default(), move |call| {
        *seen.lock().expect("no panic") += lines_of(&call).len();
        std::future::pending()
    })
    .await;
    setup.send(&(0..60).map(upsert).collect::<Vec<_>>()).await;
    let running = setup
        .ingest(|config| {
            config.held_messages_max = 20;
            config.drain_seconds = 1;
        })
        .await;
    let depth = setup.until(|depth| depth.in_flight == 20).await;
    assert_eq!(depth.waiting, 40);
    running.stop.cancel();
    running.task.await.expect("no panic").expect("no failure");
    assert!(*held.lock().expect("no panic") <= 20);
    setup.until(|depth| depth == Depth { waiting: 60, in_flight: 0 }).await;
    setup.stop_feed.cancel();
    setup.feed.await.expect("no panic").expect("no failure");
}

#[tokio::test]
async fn an_empty_queue_does_not_keep_it_from_being_ready() {
    let setup = Setup::new(ServeConfig::default(), async |_| json(200, value!({}))).await;
    let running = setup.ingest(|_| ()).await;
    let ready = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while !running.page("/readyz").await.starts_with("HTTP/1.1 200") {
            looks.tick().await;
        }
    };
    // A long poll of an empty queue lasts 20 s.
    tokio::time::timeout(Duration::from_secs(10), ready).await.expect("it is ready soon");
    setup.end(running).await;
}

#[tokio::test]
async fn limits_that_allow_no_progress_are_refused() {
    let bind = |change: fn(&mut IngestConfig)| {
        let mut config = IngestConfig { listen: any_port(), ..IngestConfig::default() };
        change(&mut config);
        Ingester::bind(config)
    };
    let error = bind(|config| config.held_bytes_max = 1 << 20).await.err().expect("refused");
    assert!(error.to_string().contains("held_bytes_max"), "{error}");
    let error = bind(|config| config.held_messages_max = 10).await.err().expect("refused");
    assert!(error.to_string().contains("held_messages_max"), "{error}");
    let error = bind(|config| config.router = "ftp://x".into()).await.err().expect("refused");
    assert!(error.to_string().contains("ftp://x"), "{error}");
}
