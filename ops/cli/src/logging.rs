//! Structured logs on stderr; data is the business of stdout.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// A peer that is away is told once, by the node; openraft would tell it for every shard and try.
const DEFAULT_FILTER: &str = "info,openraft=error";

/// How to log.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoggingArgs {
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", env = "PLATBOOK_LOG_FORMAT")]
    #[arg(default_value = "text")]
    pub(crate) log_format: Format,
    /// Which log lines: a level, or levels by module like `warn,platbook_node=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "PLATBOOK_LOG")]
    #[arg(default_value = DEFAULT_FILTER)]
    pub(crate) log: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Starts logging for the rest of the process.
pub(crate) fn start(args: &LoggingArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&args.log)
        .with_context(|| format!("--log {:?} is no filter", args.log))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        Format::Text => logs.init(),
        Format::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}
