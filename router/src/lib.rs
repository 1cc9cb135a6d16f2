//! The router: the stateless HTTP API in front of the storage nodes.
//!
//! It knows HTTP, JSON and the protocol's pure rules; it never links the store nor Raft. Reading
//! order:
//! 1. [`config`], [`error`], `metrics`, `clock`: what it is told, what goes wrong, what it counts.
//! 2. [`server`]: accepts connections; `http`: routes requests; `app`: what they share.
//! 3. `write`: carries messages through; `read`: streams what the nodes keep; `dictionaries`: what
//!    frames are compressed with; `cpu`: work that is kept off the reactor.
//! 4. `changes`: the change stream, merged from the shards.
//! 5. `batch`: many requests' steps gathered into few calls to a shard.
//! 6. `nodes`: the map, the links, and the one place that finds leaders and retries.

mod app;
mod batch;
mod changes;
mod clock;
pub mod config;
mod cpu;
mod dictionaries;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
mod http;
mod metrics;
mod net;
mod nodes;
mod read;
pub mod server;
mod write;

pub use clock::Clock;
pub use config::Config;
pub use error::RouterError;
pub use server::Server;

use tokio_util::sync::CancellationToken;

/// Runs a router until `shutdown`, and drains it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RouterError> {
    Server::bind(config, Clock::system()).await?.serve(shutdown).await;
    Ok(())
}
