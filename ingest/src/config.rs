//! What the feed and the ingester can be told, with defaults; every limit that an operator may
//! change is here by name.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use platbook_protocol::listing::FieldMap;
use serde::Deserialize;

/// Which queue, and how to reach it. Credentials and region come as the AWS SDK finds them.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// URL of the queue
    #[arg(long, env = "PLATBOOK_QUEUE_URL", required = true)]
    pub queue_url: String,
    /// Endpoint of the queue service; by default AWS, or the queue URL's host if that is not AWS
    #[arg(long, env = "PLATBOOK_ENDPOINT_URL")]
    pub endpoint_url: Option<String>,
    /// Do not look for credentials: for a local feed, which asks for none
    #[arg(long, env = "PLATBOOK_NO_SIGN_REQUEST")]
    pub no_sign_request: bool,
}

/// Flags, environment and file keys of `feed serve`.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// Address to listen on
    #[arg(long, env = "PLATBOOK_FEED_LISTEN", default_value_t = ServeConfig::LISTEN)]
    pub listen: SocketAddr,
    /// Listen on an address that is not loopback although there is no TLS yet
    #[arg(long, env = "PLATBOOK_FEED_INSECURE")]
    pub insecure: bool,
    /// Queues that are made at the start, where they do not exist
    #[arg(long = "queue", env = "PLATBOOK_FEED_QUEUES", value_delimiter = ',',
          default_value = ServeConfig::QUEUE)]
    pub queues: Vec<String>,
    /// Keep messages in this directory, durably; without it they are kept in memory
    #[arg(long, env = "PLATBOOK_FEED_DATA")]
    pub data: Option<PathBuf>,
    /// Append every accepted message to this file, one JSON object a line
    #[arg(long, env = "PLATBOOK_FEED_JOURNAL")]
    pub journal: Option<PathBuf>,
    /// Most bytes of messages in memory, where there is no --data
    #[arg(long, env = "PLATBOOK_FEED_MEMORY_BYTES_MAX",
          default_value_t = ServeConfig::MEMORY_BYTES_MAX)]
    pub memory_bytes_max: usize,
    /// Messages in flight at which long polls go silent
    #[arg(long, env = "PLATBOOK_FEED_IN_FLIGHT_MAX",
          default_value_t = ServeConfig::IN_FLIGHT_MAX)]
    pub in_flight_max: usize,
    /// Seed of the faults
    #[arg(long, env = "PLATBOOK_FEED_SEED", default_value_t = 0)]
    pub seed: u64,
    /// Deliver out of order: pick each message among so many
    #[arg(long, env = "PLATBOOK_FEED_SHUFFLE", default_value_t = 0)]
    pub shuffle: u32,
    /// Probability that a message is delivered twice
    #[arg(long, env = "PLATBOOK_FEED_DUPLICATE", default_value_t = 0.0)]
    pub duplicate: f64,
    /// Probability that a copy returns after its delete
    #[arg(long, env = "PLATBOOK_FEED_RESURRECT", default_value_t = 0.0)]
    pub resurrect: f64,
    /// Probability that a delivery is counted, but never handed out
    #[arg(long, env = "PLATBOOK_FEED_GHOST", default_value_t = 0.0)]
    pub ghost: f64,
    /// Probability that an entry of a batch delete fails
    #[arg(long, env = "PLATBOOK_FEED_FAIL_DELETE", default_value_t = 0.0)]
    pub fail_delete: f64,
}

impl ServeConfig {
    const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9_324);
    const QUEUE: &'static str = "listings";
    const MEMORY_BYTES_MAX: usize = 1 << 30;
    const IN_FLIGHT_MAX: usize = 120_000;
}

impl Default for ServeConfig {
    fn default() -> ServeConfig {
        ServeConfig {
            listen: ServeConfig::LISTEN,
            insecure: false,
            queues: vec![ServeConfig::QUEUE.to_string()],
            data: None,
            journal: None,
            memory_bytes_max: ServeConfig::MEMORY_BYTES_MAX,
            in_flight_max: ServeConfig::IN_FLIGHT_MAX,
            seed: 0,
            shuffle: 0,
            duplicate: 0.0,
            resurrect: 0.0,
            ghost: 0.0,
            fail_delete: 0.0,
        }
    }
}

/// Flags, environment and file keys of `feed send`.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SendConfig {
    /// Files of messages, one a line; `.gz` and `.zst` are unpacked, `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The queue
    #[command(flatten)]
    pub queue: QueueConfig,
    /// Messages a second; 0 for as fast as the queue takes them
    #[arg(long, env = "PLATBOOK_SEND_RATE", default_value_t = 0)]
    pub rate: u32,
    /// Requests at a time
    #[arg(long, env = "PLATBOOK_SEND_CONCURRENCY", default_value_t = SendConfig::CONCURRENCY)]
    pub concurrency: usize,
}

impl SendConfig {
    const CONCURRENCY: usize = 16;
}

impl Default for SendConfig {
    fn default() -> SendConfig {
        SendConfig {
            files: Vec::new(),
            queue: QueueConfig::default(),
            rate: 0,
            concurrency: SendConfig::CONCURRENCY,
        }
    }
}

/// Flags, environment and file keys of `ingest`.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// URL of the router
    #[arg(long, env = "PLATBOOK_ROUTER", default_value = IngestConfig::ROUTER)]
    pub router: String,
    /// The queue
    #[command(flatten)]
    pub queue: QueueConfig,
    /// Endpoint of the object store that messages may point to; by default AWS
    #[arg(long, env = "AWS_ENDPOINT_URL_S3")]
    pub s3_endpoint_url: Option<String>,
    /// Long polls at a time
    #[arg(long, env = "PLATBOOK_INGEST_CONSUMERS", default_value_t = IngestConfig::CONSUMERS)]
    pub consumers: usize,
    /// Name of the message attribute that orders messages, where the operator numbers them
    #[arg(long, env = "PLATBOOK_INGEST_SEQUENCE_ATTRIBUTE")]
    pub sequence_attribute: Option<String>,
    /// How long a delivery hides a message, in seconds; what is held longer is hidden again
    #[arg(long, env = "PLATBOOK_INGEST_VISIBILITY_SECONDS",
          default_value_t = IngestConfig::VISIBILITY_SECONDS)]
    pub visibility_seconds: u32,
    /// Deliveries after which a message that keeps failing goes to quarantine
    #[arg(long, env = "PLATBOOK_INGEST_RECEIVES_MAX",
          default_value_t = IngestConfig::RECEIVES_MAX)]
    pub receives_max: u32,
    /// Most bytes of messages between poll and delete; when they are held, polling stops
    #[arg(long, env = "PLATBOOK_INGEST_HELD_BYTES_MAX",
          default_value_t = IngestConfig::HELD_BYTES_MAX)]
    pub held_bytes_max: u64,
    /// Most messages between poll and delete
    #[arg(long, env = "PLATBOOK_INGEST_HELD_MESSAGES_MAX",
          default_value_t = IngestConfig::HELD_MESSAGES_MAX)]
    pub held_messages_max: usize,
    /// After a shutdown, what is under way has so long to end, in seconds
    #[arg(long, env = "PLATBOOK_INGEST_DRAIN_SECONDS",
          default_value_t = IngestConfig::DRAIN_SECONDS)]
    pub drain_seconds: u32,
    /// Address for health checks and metrics
    #[arg(long, env = "PLATBOOK_INGEST_LISTEN", default_value_t = IngestConfig::LISTEN)]
    pub listen: SocketAddr,
    /// Listen on an address that is not loopback although there is no TLS yet
    #[arg(long, env = "PLATBOOK_INGEST_INSECURE")]
    pub insecure: bool,
    /// Where the fields stand in a listing; the same as the router's; from the file only
    #[arg(skip)]
    pub fields: FieldMap,
}

impl IngestConfig {
    const ROUTER: &'static str = "http://127.0.0.1:8080";
    const CONSUMERS: usize = 16;
    const VISIBILITY_SECONDS: u32 = 60;
    const RECEIVES_MAX: u32 = 10;
    const HELD_BYTES_MAX: u64 = 512 << 20;
    const HELD_MESSAGES_MAX: usize = 20_000;
    /// A process has 10 s after `SIGTERM`; giving back what is left takes its part.
    const DRAIN_SECONDS: u32 = 8;
    const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8_081);
}

impl Default for IngestConfig {
    fn default() -> IngestConfig {
        IngestConfig {
            router: IngestConfig::ROUTER.to_string(),
            queue: QueueConfig::default(),
            s3_endpoint_url: None,
            consumers: IngestConfig::CONSUMERS,
            sequence_attribute: None,
            visibility_seconds: IngestConfig::VISIBILITY_SECONDS,
            receives_max: IngestConfig::RECEIVES_MAX,
            held_bytes_max: IngestConfig::HELD_BYTES_MAX,
            held_messages_max: IngestConfig::HELD_MESSAGES_MAX,
            drain_seconds: IngestConfig::DRAIN_SECONDS,
            listen: IngestConfig::LISTEN,
            insecure: false,
            fields: FieldMap::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli<T: Args> {
        #[command(flatten)]
        config: T,
    }

    #[test]
    fn flags_and_defaults_agree() {
        let args = ["ingest", "--queue-url", "http://q/0/l"];
        let parsed = Cli::<IngestConfig>::parse_from(args).config;
        let queue = QueueConfig { queue_url: "http://q/0/l".into(), ..QueueConfig::default() };
        let expected = IngestConfig { queue, ..IngestConfig::default() };
        assert_eq!(format!("{parsed:?}"), format!("{expected:?}"));
        let parsed = Cli::<ServeConfig>::parse_from(["serve"]).config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", ServeConfig::default()));
        let parsed = Cli::<SendConfig>::parse_from(["send", "a.gz", "--queue-url", "q"]).config;
        assert_eq!(parsed.files, [PathBuf::from("a.gz")]);
        assert_eq!(parsed.concurrency, SendConfig::default().concurrency);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<IngestConfig>(r#"{"queue":{"queue_uri":"x"}}"#);
        assert!(error.expect_err("no such key").to_string().contains("queue_uri"));
    }
}
