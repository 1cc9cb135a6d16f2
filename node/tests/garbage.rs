//! What a node's port gets that no peer sends: refused, said once, and nobody else notices.

mod harness;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use harness::Cluster;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use platbook_protocol::codec::PROTOCOL_VERSION;
use platbook_protocol::{NodeId, ReplicaId, ShardId, Zip};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

const ZIP: Zip = Zip::Code(*b"98103");
const SOON: Duration = Duration::from_secs(10);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CALLS: [&str; 17] = [
    "/rpc/propose",
    "/rpc/registers",
    "/rpc/rows",
    "/rpc/zip-state",
    "/rpc/list",
    "/rpc/scan",
    "/rpc/scan-shard",
    "/rpc/map",
    "/rpc/dictionary",
    "/rpc/put-dictionary",
    "/rpc/put-map",
    "/rpc/hello",
    "/rpc/form",
    "/rpc/status",
    "/rpc/transfer",
    "/rpc/replace-replica",
    "/rpc/no-such-call",
];

/// What the nodes of this process say about callers, and panics of any thread.
#[derive(Clone, Default)]
struct Witness {
    refusals: Arc<Mutex<Vec<String>>>,
    panics: Arc<AtomicUsize>,
}

impl Witness {
    fn install() -> Witness {
        let witness = Witness::default();
        let subscriber = tracing_subscriber::registry().with(witness.clone());
        subscriber.init();
        let (panics, print) = (witness.panics.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            panics.fetch_add(1, Ordering::Relaxed);
            print(panic);
        }));
        witness
    }

    /// Lines about refused callers whose text contains `needle`.
    fn said(&self, needle: &str) -> usize {
        let refusals = self.refusals.lock().expect("never poisoned");
        refusals.iter().filter(|line| line.contains(needle)).count()
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Witness {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                use std::fmt::Write;
                let _ = write!(self.0, "{field}={value:?} ");
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        if line.0.contains("caller refused") {
            self.refusals.lock().expect("never poisoned").push(line.0);
        }
    }
}

/// Sends bytes as they are and waits until the node closes, or has nothing to say to them.
async fn send_raw(address: SocketAddr, bytes: &[u8]) {
    let exchange = async {
        let mut tcp = TcpStream::connect(address).await.expect("the node listens");
        // The node may close before it has read everything.
        let _ = tcp.write_all(bytes).await;
        let _ = tcp.shutdown().await;
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(SOON, exchange).await.expect("the node lets go of the connection");
}

/// A caller of the port that can say what it is, rightly or wrongly.
#[derive(Clone)]
struct Caller {
    address: SocketAddr,
    headers: Vec<(&'static str, String)>,
}

impl Caller {
    fn at(address: SocketAddr) -> Caller {
        Caller { address, headers: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Caller {
        self.headers.push((name, value.to_string()));
        self
    }

    /// What a peer of the cluster says of itself.
    fn peer(address: SocketAddr, cluster: &str, node: NodeId) -> Caller {
        Caller::at(address)
            .with("platbook-protocol", PROTOCOL_VERSION)
            .with("platbook-cluster", cluster)
            .with("platbook-node", node)
    }

    /// Posts a body in these pieces, reads the whole answer.
    async fn post(&self, path: &str, pieces: Vec<Bytes>) -> (u16, Bytes) {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        self.send(path, StreamBody::new(futures_util::stream::iter(frames)).boxed()).await
    }

    async fn post_all(&self, path: &str, body: Vec<u8>) -> (u16, Bytes) {
        self.send(path, Full::new(Bytes::from(body)).boxed()).await
    }

    async fn send(
        &self,
        path: &str,
        body: http_body_util::combinators::BoxBody<Bytes, Infallible>,
    ) -> (u16, Bytes) {
        let exchange = async {
            let tcp = TcpStream::connect(self.address).await.expect("the node listens");
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                    .await
                    .expect("it speaks HTTP/2");
            let driver = tokio::spawn(connection);
            let uri = format!("http://{}{path}", self.address);
            let mut request = http::Request::post(uri);
            for (name, value) in &self.headers {
                request = request.header(*name, value);
            }
            let request = request.body(body).expect("a request");
            let answer = client.send_request(request).await.expect("an answer");
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await;
            driver.abort();
            (status, body.map(|body| body.to_bytes()).unwrap_or_default())
        };
        tokio::time::timeout(SOON, exchange).await.expect("the node answers, or hangs up")
    }
}

/// A message of a link, as `node/src/peer/frame.rs` describes it.
fn message(kind: u8, shard: ShardId, replica: ReplicaId, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((21 + body.len()) as u32).to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&7_u64.to_le_bytes());
    bytes.extend_from_slice(&shard.0.to_le_bytes());
    bytes.extend_from_slice(&replica.0.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn random(rng: &mut StdRng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.random()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_and_said_once_while_the_cluster_goes_on() {
    let witness = Witness::install();
    let mut cluster = Cluster::start(3, 1).await;
    cluster.ready().await;
    cluster.put("before", ZIP, b"{}").await;
    let shard = ShardId(1);
    let (leader, replicas) = cluster.placement(shard).await;
    let (replica, _) =
        *replicas.iter().find(|(_, node)| *node == leader).expect("it is in the map");
    let (address, id) = (cluster.address(leader), cluster.cluster_id());
    // Another node than the one it calls.
    let other = if leader == NodeId(2) { NodeId(3) } else { NodeId(2) };
    let peer = Caller::peer(address, &id, other);
    let mut rng = StdRng::seed_from_u64(11);

    send_what_is_no_http(address, &mut rng).await;
    for caller in strangers(address, &id, leader) {
        for _ in 0..20 {
            let (status, said) = caller.post("/raft/link", Vec::new()).await;
            assert_eq!(status, 403, "{}", String::from_utf8_lossy(&said));
        }
    }
    send_broken_links(&peer, shard, replica, &mut rng).await;
    send_broken_calls(&peer, shard, replica, &mut rng).await;

    for kind in ["Transport", "Protocol", "Cluster", "Link", "Request"] {
        // Each caller once: those of this test come from one address, as two nodes or as none.
        let said = witness.said(&format!("kind={kind}"));
        assert!((1..=3).contains(&said), "{said} lines about {kind}: {:?}", witness.refusals);
    }
    assert_eq!(witness.panics.load(Ordering::Relaxed), 0, "a thread panicked");
    cluster.put("after", ZIP, b"{}").await;
    let status = cluster.standing_of(leader, shard).await;
    assert_eq!((status.0.as_str(), status.1), ("leader", None), "nobody lost the leadership");
    cluster.stop_all().await;
}

async fn send_what_is_no_http(address: SocketAddr, rng: &mut StdRng) {
    let tls_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    let mut after_preface = PREFACE.to_vec();
    after_preface.extend(random(rng, 4096));
    let mut half_a_frame = PREFACE.to_vec();
    half_a_frame.extend([0, 0, 6, 4, 0, 0, 0]);
    // A header frame of 16 MiB, which nobody may send.
    let mut large_frame = PREFACE.to_vec();
    large_frame.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    large_frame.extend([0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1]);
    let long_header = [b"GET / HTTP/1.1\r\na: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    for bytes in [
        tls_hello.to_vec(),
        after_preface,
        half_a_frame,
        large_frame,
        long_header,
        b"\r\n\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        Vec::new(),
    ] {
        send_raw(address, &bytes).await;
    }
    for round in 0..20 {
        send_raw(address, &random(rng, 1 << round.min(16))).await;
    }
}

/// Callers that are not of this cluster, or say what cannot be.
fn strangers(address: SocketAddr, cluster: &str, own: NodeId) -> Vec<Caller> {
    let known = || Caller::at(address).with("platbook-protocol", PROTOCOL_VERSION);
    vec![
        Caller::at(address),
        Caller::at(address).with("platbook-protocol", 999).with("platbook-cluster", cluster),
        Caller::at(address).with("platbook-protocol", "one").with("platbook-cluster", cluster),
        known(),
        known().with("platbook-cluster", "00000000000000000000000000000000"),
        known().with("platbook-cluster", cluster).with("platbook-node", own),
    ]
}

async fn send_broken_links(peer: &Caller, shard: ShardId, replica: ReplicaId, rng: &mut StdRng) {
    const APPEND: u8 = 1;
    let whole = message(APPEND, shard, replica, &random(rng, 200));
    let mut links: Vec<Vec<u8>> = vec![
        message(99, shard, replica, b"no such kind"),
        u32::MAX.to_le_bytes().to_vec(),
        3_u32.to_le_bytes().to_vec(),
        whole[..whole.len() - 1].to_vec(),
        whole[..10].to_vec(),
        message(APPEND, ShardId(4711), replica, b""),
        message(APPEND, shard, ReplicaId(4711), b""),
        message(APPEND, shard, replica, &u32::MAX.to_le_bytes()),
        random(rng, 1 << 16),
    ];
    for kind in [APPEND, 2, 3, 4, 5, 16, 17] {
        links.push(message(kind, shard, replica, b""));
        for len in [1, 4, 9, 33, 1000] {
            links.push(message(kind, shard, replica, &random(rng, len)));
        }
    }
    for link in links {
        let (status, _) = peer.post("/raft/link", vec![Bytes::from(link.clone())]).await;
        assert_eq!(status, 200, "the link itself is taken");
        let single: Vec<Bytes> = link.chunks(7).map(Bytes::copy_from_slice).collect();
        peer.post("/raft/link", single[..single.len().min(100)].to_vec()).await;
    }
}

async fn send_broken_calls(peer: &Caller, shard: ShardId, replica: ReplicaId, rng: &mut StdRng) {
    for path in CALLS {
        for len in [0, 1, 5, 64, 4096] {
            let body = random(rng, len);
            let (status, _) = peer.post_all(path, body).await;
            assert!(status == 200 || status == 404, "{path}: {status}");
        }
        // One byte more than the largest call there is.
        let (status, said) = peer.post_all(path, vec![0; (4 << 20) + 1]).await;
        assert!(status == 200 && said.len() < 4096 || status == 404, "{path}: {status}");
    }
    for (query, expected) in [
        ("", 400),
        ("?shard=1", 400),
        ("?shard=x&replica=y", 400),
        ("?shard=99999999999&replica=1", 404),
        (&*format!("?shard={shard}&replica={replica}"), 422),
    ] {
        for len in [0, 3, 4, 100, 100_000] {
            let (status, _) =
                peer.post_all(&format!("/raft/snapshot{query}"), random(rng, len)).await;
            assert_eq!(status, expected, "{query} with {len} bytes");
        }
    }
}
