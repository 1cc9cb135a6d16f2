//! The list of commands; each runs in a module of its own.

use clap::{Parser, Subcommand};

use crate::settings::Invocation;
use crate::{demo, logging, shutdown, version};

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
    /// Versions of this build, of its protocol and of its formats
    Version(version::VersionArgs),
    #[command(hide = true)]
    Demo(demo::DemoArgs),
}

/// Runs the command that was asked for.
pub(crate) fn run(invocation: Invocation) -> anyhow::Result<()> {
    let Invocation { cli } = invocation;
    logging::start(&cli.logging)?;
    match cli.command {
        Command::Version(args) => version::run(&args),
        Command::Demo(args) => shutdown::serve(|stop| async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                ended = demo::run(args) => ended,
            }
        }),
    }
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
        arguments(&Cli::command(), "platbook", &mut |path, arg| {
            if let Some(name) = arg.get_env() {
                let name = name.to_string_lossy();
                assert!(name.starts_with("PLATBOOK_"), "{path} --{}: {name}", arg.get_id());
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
