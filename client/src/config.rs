//! What a client can be told, with defaults; every limit of the crate is here by name.

use std::time::Duration;

/// The router of a client that is told nothing.
pub const ROUTER: &str = "http://127.0.0.1:8080";
/// How long one call may take, with all its retries.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Flags, environment and file keys of a command that is a client. Durations are milliseconds.
#[cfg(feature = "clap")]
#[derive(clap::Args, Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// URL of the router; several, separated by commas, are taken in turns
    #[arg(long, env = "PLATBOOK_ROUTER", default_value = ROUTER)]
    pub router: String,
    /// How long one call may take, with all its retries, in milliseconds
    #[arg(long, env = "PLATBOOK_DEADLINE_MS", default_value_t = ClientConfig::DEADLINE_MS)]
    pub deadline_ms: u64,
    /// Speak HTTP/1.1, for a proxy that does not take HTTP/2 in the clear
    #[arg(long, env = "PLATBOOK_HTTP1")]
    pub http1: bool,
}

#[cfg(feature = "clap")]
impl ClientConfig {
    const DEADLINE_MS: u64 = DEADLINE.as_millis() as u64;

    /// A client with these settings.
    pub fn connect(&self) -> Result<crate::Client, crate::ArgumentError> {
        let mut urls = self.router.split(',');
        let mut builder = crate::Client::builder(urls.next().unwrap_or_default());
        for url in urls {
            builder = builder.endpoint(url);
        }
        builder = builder.deadline(Duration::from_millis(self.deadline_ms));
        if self.http1 {
            builder = builder.http1();
        }
        builder.build()
    }
}

#[cfg(feature = "clap")]
impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            router: ROUTER.to_string(),
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
/// Longest line of a stream, in bytes: no listing is longer than 1 MiB.
pub(crate) const LINE_BYTES_MAX: usize = 4 << 20;
/// HTTP/2 receive window of one stream, in bytes.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// HTTP/2 receive window of a connection, in bytes.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Messages of a bulk write that wait for a request; more are taken when they have left.
pub(crate) const BULK_QUEUE_MESSAGES: usize = 1_024;
/// A stream of changes on which nothing arrives for so long, not even a heartbeat, is opened again.
pub(crate) const CHANGES_IDLE: Duration = Duration::from_secs(30);
/// How long a stream of changes looks for a router, where nobody says otherwise: for ever.
pub(crate) const CHANGES_PATIENCE: Duration = Duration::from_secs(30 * 365 * 86_400);
/// Connections in a row that may end in a gap, before the gap is given to the caller.
pub(crate) const CHANGES_GAPS_MAX: u32 = 3;
/// Rows of a shard's present state that are remembered until the next token, to tell none twice;
/// the store gives a token at least every 1,000.
pub(crate) const STATE_ROWS_SINCE_TOKEN_MAX: usize = 10_000;
/// Failures that a bulk report names; the others are counted.
pub(crate) const BULK_FAILURES_MAX: usize = 100;
/// A message of a bulk write counts at least so many bytes of those held.
pub(crate) const BULK_MESSAGE_BYTES_MIN: usize = 256;
