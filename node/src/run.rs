//! Running a node from its start to its end.

use std::future::Future;
use std::sync::Arc;

use platbook_engine::log::Files;
use tracing::warn;

use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::node::Node;
use crate::rpc::Service;
use crate::server;
use crate::witness::Witness;

/// What a node takes from the world around it, for tests that want another one.
#[derive(Clone, Default)]
pub struct Seams {
    /// The wall clock.
    pub clock: Clock,
    /// Where the log is; in the data directory if `None`.
    pub log_files: Option<Arc<dyn Files>>,
    /// What a simulation has its own way of.
    pub simulated: Option<Simulated>,
}

/// A node of a simulation starts no thread that could be first by chance.
#[derive(Clone)]
pub struct Simulated {
    /// Entries and operations after which the store is flushed.
    pub flush_every: u64,
    /// Size of a log segment: less than a node may be told, so that there are many.
    pub segment_bytes: u32,
    /// Who watches.
    pub witness: Arc<dyn Witness>,
}

/// Runs a node until `stop` resolves, then drains it.
pub async fn run(config: NodeConfig, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
    run_in(Seams::default(), config, stop).await
}

/// Runs a node in a world of the caller's.
pub async fn run_in(
    seams: Seams,
    config: NodeConfig,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    config.check().map_err(NodeError::Config)?;
    let node = Node::open(seams, config)?;
    let listener = server::bind(node.config().listen).await?;
    let service = Service::new(node.clone(), node.request_bytes());
    let serving = tokio::spawn(server::serve(listener, service, node.shutdown().clone()));
    let life = async {
        node.clone().live().await?;
        node.shutdown().cancelled().await;
        match node.broken() {
            Some(reason) => Err(NodeError::Poisoned(reason)),
            None => Ok(()),
        }
    };
    let ended = tokio::select! {
        biased;
        ended = life => ended,
        () = stop => {
            node.drain().await;
            Ok(())
        }
    };
    node.shutdown().cancel();
    node.close().await;
    if serving.await.is_err() {
        warn!("server task panicked");
    }
    ended
}
