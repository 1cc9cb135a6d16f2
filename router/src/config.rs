//! What a router can be told, with defaults; every limit of the crate is here by name.

use std::net::SocketAddr;

use clap::Args;
use platbook_protocol::listing::FieldMap;
use serde::Deserialize;

/// Flags, environment and file keys of a router. Durations are milliseconds, sizes bytes.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on
    #[arg(long, env = "PLATBOOK_ROUTER_LISTEN", default_value_t = default::listen())]
    pub listen: SocketAddr,
    /// Storage nodes to start from, as `host:port`; the map names the others
    #[arg(long, env = "PLATBOOK_ROUTER_NODES", value_delimiter = ',', required = true)]
    pub nodes: Vec<String>,
    /// What orders the messages about a listing; the same for all routers of a cluster, for ever
    #[arg(long, env = "PLATBOOK_ORDERING", value_enum, default_value_t = Ordering::Clocked)]
    pub ordering: Ordering,
    /// Listen on an address that is not loopback although there is no TLS yet
    #[arg(long, env = "PLATBOOK_ROUTER_INSECURE")]
    pub insecure: bool,
    /// Where in a listing the fields stand that are needed; from the file only
    #[arg(skip)]
    pub fields: FieldMap,
    /// Limits; from the file only
    #[arg(skip)]
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: default::listen(),
            nodes: Vec::new(),
            ordering: Ordering::Clocked,
            insecure: false,
            fields: FieldMap::default(),
            limits: Limits::default(),
        }
    }
}

/// What orders the messages about a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Ordering {
    /// The operator's clock and the queue's; a message with a sequence is refused.
    #[default]
    Clocked,
    /// The sequence that the operator gives every message; one without it is refused.
    Sequenced,
}

/// Every limit of the router. Durations are milliseconds, sizes bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections at a time; a further one waits in the listen queue.
    pub connections_max: usize,
    /// Largest request header section.
    pub header_bytes_max: u32,
    /// From the accept to the first bytes, and from the first byte to the end of the headers.
    pub header_ms_max: u64,
    /// A connection on which nothing moves for so long is closed.
    pub idle_ms_max: u64,
    /// A client that takes nothing of a response for so long is cut.
    pub stalled_reader_ms: u64,
    /// After this, a shutdown cuts what is still running.
    pub drain_ms_max: u64,
    /// Requests in flight; a further one is answered 429.
    pub requests_max: usize,
    /// Bytes of request bodies in flight; a request that does not fit is answered 429.
    pub request_bytes_in_flight_max: usize,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Largest listing.
    pub listing_bytes_max: usize,
    /// Most ids in one `GET /v1/listings?ids=`.
    pub ids_max: usize,
    /// Deadline of a request without `X-Deadline-Ms`.
    pub deadline_ms: u64,
    /// Greatest `X-Deadline-Ms`; a greater one is lowered to it.
    pub deadline_ms_max: u64,
    /// How far a client's `Platbook-Sent` may lie ahead of the router's clock.
    pub sent_ahead_ms_max: u64,
    /// How long a step waits for room in its shard's queue, and a body for room in memory, before
    /// it is refused as overloaded.
    pub queue_wait_ms_max: u64,
    /// Bytes (with an overhead for each item) that wait for one shard.
    pub queue_bytes_max: usize,
    /// Messages of one request that are under way at a time.
    pub wave_messages_max: usize,
    /// Most messages in one bulk request.
    pub bulk_lines_max: usize,
    /// Scans of one ZIP at a time; a further one is answered 429.
    pub scans_per_zip_max: usize,
    /// Scans at a time.
    pub scans_max: usize,
    /// Readers of changes at a time; a further one is answered 429.
    pub followers_max: usize,
    /// Bytes of ZIP responses kept; those that are gathered to be kept may take as many again.
    pub cache_bytes_max: usize,
    /// Largest ZIP response that is kept.
    pub cache_entry_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            header_bytes_max: 32 << 10,
            header_ms_max: 10_000,
            idle_ms_max: 90_000,
            stalled_reader_ms: 30_000,
            drain_ms_max: 8_000,
            requests_max: 4_096,
            request_bytes_in_flight_max: 512 << 20,
            body_bytes_max: 64 << 20,
            listing_bytes_max: 1 << 20,
            ids_max: 100,
            deadline_ms: 10_000,
            deadline_ms_max: 60_000,
            sent_ahead_ms_max: 30_000,
            queue_wait_ms_max: 2_000,
            queue_bytes_max: 16 << 20,
            wave_messages_max: 4_096,
            bulk_lines_max: 100_000,
            scans_per_zip_max: 64,
            scans_max: 512,
            followers_max: 1_024,
            cache_bytes_max: 128 << 20,
            cache_entry_bytes_max: 32 << 20,
        }
    }
}

mod default {
    use std::net::{Ipv4Addr, SocketAddr};

    pub(super) fn listen() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn nodes_are_a_comma_separated_list() {
        let args = ["router", "--nodes", "127.0.0.1:7001,127.0.0.1:7002"];
        let config = <Cli as clap::Parser>::parse_from(args).config;
        assert_eq!(config.nodes, ["127.0.0.1:7001", "127.0.0.1:7002"]);
        assert_eq!(config.listen, Config::default().listen);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<Config>(r#"{"limits":{"speed":1}}"#)
            .expect_err("there is no such limit");
        assert!(error.to_string().contains("speed"), "{error}");
    }
}
