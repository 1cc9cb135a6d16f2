//! `platbook node`, `router`, `ingest` and `feed`: a crate's settings, its server, the signals.

use anyhow::Context;
use platbook_ingest::feed;
use platbook_ingest::{IngestConfig, SendConfig, ServeConfig};
use platbook_node::NodeConfig;
use platbook_router::Config as RouterConfig;

use crate::settings::File;
use crate::{output, shutdown};

/// The local queue.
#[derive(Debug, clap::Args)]
pub(crate) struct FeedArgs {
    #[command(subcommand)]
    action: FeedAction,
}

/// What to do with it.
#[derive(Debug, clap::Subcommand)]
enum FeedAction {
    /// An SQS-compatible queue server, with the faults that SQS documents, from a seed
    Serve(Box<ServeConfig>),
    /// Send messages to a queue: NDJSON files, `.gz` and `.zst` too
    Send(SendConfig),
}

/// `platbook feed`.
pub(crate) fn run_feed(args: FeedArgs) -> anyhow::Result<()> {
    match args.action {
        FeedAction::Serve(config) => {
            shutdown::serve(|stop| async { Ok(feed::serve(*config, stop).await?) })
        }
        FeedAction::Send(config) => shutdown::serve(|stop| async {
            let sent = feed::send(config, stop, feed::terminal_progress()).await?;
            let cut = if sent.is_cut_short { ", then stopped" } else { "" };
            output::line(&format!("{} messages sent{cut}", sent.messages))
        }),
    }
}

/// `platbook router`.
pub(crate) fn run_router(mut config: RouterConfig, file: &File) -> anyhow::Result<()> {
    config.fields = file.table("router.fields")?;
    config.limits = file.table("router.limits")?;
    shutdown::serve(|stop| async { platbook_router::run(config, stop).await.context("router") })
}

/// `platbook node`.
pub(crate) fn run_node(config: NodeConfig) -> anyhow::Result<()> {
    shutdown::serve(|stop| async {
        platbook_node::run(config, stop.cancelled_owned()).await.context("node")
    })
}

/// `platbook ingest`.
pub(crate) fn run_ingest(mut config: IngestConfig, file: &File) -> anyhow::Result<()> {
    config.fields = file.table("ingest.fields")?;
    shutdown::serve(|stop| async { platbook_ingest::run(config, stop).await.context("ingest") })
}
