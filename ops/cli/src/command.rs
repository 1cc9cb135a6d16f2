//! The list of commands; each runs in a module of its own.

use clap::{Parser, Subcommand};

use crate::settings::Invocation;
use crate::{
    bench, changes, chaos, cluster, debug, demo, dev, export, listings, lists, load, logging,
    reconcile, servers, shutdown, version,
};

/// A replicated store for real-estate listings.
#[derive(Debug, Parser)]
#[command(name = "platbook", version, about, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// TOML file with settings: keys are flag names with `_`, at the top for every command that
    /// knows them, in a table named like a command for that command
    #[arg(long, global = true, value_name = "FILE", env = "PLATBOOK_CONFIG")]
    pub(crate) config: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) logging: logging::LoggingArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All of it in one process, state kept in a directory
    Dev(dev::DevArgs),
    /// One storage node; the first start with --peers forms the cluster
    Node(Box<platbook_node::NodeConfig>),
    /// The stateless HTTP API
    Router(Box<platbook_router::Config>),
    /// From the queue to the router
    Ingest(Box<platbook_ingest::IngestConfig>),
    /// A local queue, and sending to a queue
    Feed(servers::FeedArgs),
    /// Bulk load of listings from files, resumable
    Load(load::LoadArgs),
    /// Every listing of the store at one token
    Export(export::ExportArgs),
    /// Compare a full copy with the store; repair with --apply
    Reconcile(reconcile::ReconcileArgs),
    /// Every listing of a ZIP
    Zip(listings::ZipArgs),
    /// One listing
    Get(listings::GetArgs),
    /// Listings side by side
    Compare(listings::CompareArgs),
    /// Create or replace a listing
    Put(listings::PutArgs),
    /// Delete a listing
    Delete(listings::DeleteArgs),
    /// Every change, from now on or from wherever one was
    Changes(changes::ChangesArgs),
    /// Nodes, shards and replicas
    Cluster(cluster::ClusterArgs),
    /// Messages that could not be applied
    Quarantine(lists::QuarantineArgs),
    /// Ids about which the operator's clock and the queue's disagree
    Suspects(lists::ListArgs),
    /// Break a cluster on purpose, and check what must hold
    Chaos(chaos::ChaosArgs),
    /// Look into the data directory of a stopped node
    Debug(debug::DebugArgs),
    /// Versions of this build, of its protocol and of its formats
    Version(version::VersionArgs),
    /// Measure how fast it is, and what it costs
    Bench(bench::BenchArgs),
    #[command(hide = true)]
    Demo(demo::DemoArgs),
}

/// Runs the command that was asked for.
pub(crate) fn run(invocation: Invocation) -> anyhow::Result<()> {
    let Invocation { cli, file } = invocation;
    logging::start(&cli.logging)?;
    match cli.command {
        Command::Dev(args) => shutdown::serve(|stop| dev::run(args, stop)),
        Command::Node(config) => servers::run_node(*config),
        Command::Router(config) => servers::run_router(*config, &file),
        Command::Ingest(config) => servers::run_ingest(*config, &file),
        Command::Feed(args) => servers::run_feed(args),
        Command::Load(args) => shutdown::serve(|stop| load::run(args, stop)),
        Command::Export(args) => once(export::run(args)),
        Command::Reconcile(args) => once(reconcile::run(args, file)),
        Command::Zip(args) => once(listings::run_zip(args)),
        Command::Get(args) => once(listings::run_get(args)),
        Command::Compare(args) => once(listings::run_compare(args)),
        Command::Put(args) => once(listings::run_put(args)),
        Command::Delete(args) => once(listings::run_delete(args)),
        Command::Changes(args) => shutdown::serve(|stop| changes::run(args, stop)),
        Command::Cluster(args) => once(cluster::run(args)),
        Command::Quarantine(args) => once(lists::run_quarantine(args)),
        Command::Suspects(args) => once(lists::run_suspects(args)),
        Command::Debug(args) => debug::run(args),
        Command::Version(args) => version::run(&args),
        Command::Bench(args) => interruptible(bench::run(args), true),
        Command::Chaos(args) => interruptible(chaos::run(args), true),
        Command::Demo(args) => interruptible(demo::run(args), false),
    }
}

/// Runs what owns processes; a signal ends it, and them with it. That is a failure where a result
/// `is_owed`.
fn interruptible(
    work: impl Future<Output = anyhow::Result<()>>,
    is_owed: bool,
) -> anyhow::Result<()> {
    shutdown::serve(|stop| async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                anyhow::ensure!(!is_owed, "interrupted");
                Ok(())
            }
            ended = work => ended,
        }
    })
}

/// Runs what asks, prints and ends; a signal simply ends it.
fn once(ask: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    shutdown::runtime()?.block_on(ask)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    fn arguments(command: &clap::Command, path: &str, visit: &mut dyn FnMut(&str, &clap::Arg)) {
        command.get_arguments().for_each(|arg| visit(path, arg));
        for sub in command.get_subcommands() {
            arguments(sub, &format!("{path} {}", sub.get_name()), visit);
        }
    }

    #[test]
    fn every_environment_variable_starts_with_the_name_of_the_project() {
        // What the AWS SDK reads anyway keeps the name under which people know it.
        let prefixes = ["PLATBOOK_", "AWS_"];
        arguments(&Cli::command(), "platbook", &mut |path, arg| {
            if let Some(name) = arg.get_env() {
                let name = name.to_string_lossy();
                let known = prefixes.iter().any(|prefix| name.starts_with(prefix));
                assert!(known, "{path} --{}: {name}", arg.get_id());
            }
        });
    }

    #[test]
    fn every_argument_says_what_it_is() {
        arguments(&Cli::command(), "platbook", &mut |path, arg| {
            assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
        });
    }
}
