//! What a client can be told, with defaults; every limit of the crate is here by name.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;

/// Flags, environment and file keys of a client. Durations are milliseconds.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// URL of the router
    #[arg(long, env = "PLATBOOK_ROUTER", default_value = ClientConfig::ROUTER)]
    pub router: String,
    /// How long one call may take, with all its retries, in milliseconds
    #[arg(long, env = "PLATBOOK_DEADLINE_MS", default_value_t = ClientConfig::DEADLINE_MS)]
    pub deadline_ms: u64,
    /// Speak HTTP/1.1, for a proxy that does not take HTTP/2 in the clear
    #[arg(long, env = "PLATBOOK_HTTP1")]
    pub http1: bool,
}

impl ClientConfig {
    const ROUTER: &'static str = "http://127.0.0.1:8080";
    const DEADLINE_MS: u64 = 10_000;
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            router: ClientConfig::ROUTER.to_string(),
            deadline_ms: ClientConfig::DEADLINE_MS,
            http1: false,
        }
    }
}

/// Time to set up a connection before the attempt counts as failed.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How much longer than the deadline the client waits, so that the router's own verdict
/// (503 or 504) arrives instead of a bare timeout.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_millis(500);
/// First pause before a retry; it doubles, with jitter.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest pause before a retry, also where the router asks for more.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A stream on which nothing arrives for so long is given up.
pub(crate) const STREAM_IDLE: Duration = Duration::from_secs(30);
/// Largest answer that is collected in memory, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 128 << 20;
/// Largest problem description that is read, in bytes.
pub(crate) const PROBLEM_BYTES_MAX: usize = 64 << 10;
/// HTTP/2 receive window of one stream, in bytes.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// HTTP/2 receive window of a connection, in bytes.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
