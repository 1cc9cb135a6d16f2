//! The `platbook` command: one binary for every process, and for people at a terminal.
//!
//! Reading order: [`command`] lists the commands and runs one; [`settings`] lays flags over
//! environment over file; [`logging`], [`shutdown`], [`parent`], [`scratch`], [`output`], [`table`]
//! and [`screen`] are what the commands share; then one module a group of commands: [`servers`],
//! [`load`], [`export`], [`reconcile`], [`listings`], [`changes`], [`lists`], [`cluster`],
//! [`version`], [`debug`], [`dev`], [`demo`], [`chaos`], [`mod@bench`].

mod bench;
mod changes;
mod chaos;
mod cluster;
mod command;
mod debug;
mod demo;
mod dev;
mod ending;
mod export;
mod listings;
mod lists;
mod load;
mod logging;
mod output;
mod parent;
mod reconcile;
mod scratch;
mod screen;
mod servers;
mod settings;
mod shutdown;
mod table;
mod version;

use std::io::Write;

/// Bad usage: flags, environment or file. What clap uses, too.
const EXIT_USAGE: u8 = 2;

fn main() {
    let code = run();
    ending::end(code)
}

fn run() -> u8 {
    let invocation = match settings::read(std::env::args_os().collect()) {
        Ok(invocation) => invocation,
        Err(settings::Error::Usage(error)) => error.exit(),
        Err(error) => return fail(&error.into(), EXIT_USAGE),
    };
    parent::die_with_it();
    match command::run(invocation) {
        Ok(()) => 0,
        // The reader of our output has seen enough, for instance `head`.
        Err(error) if output::is_closed_pipe(&error) => 0,
        Err(error) if is_usage(&error) => fail(&error, EXIT_USAGE),
        Err(error) => fail(&error, 1),
    }
}

/// Whether the command could not start because of what it was told, and touched nothing.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<settings::Error>()
        || matches!(error.downcast_ref(), Some(platbook_node::NodeError::Config(_)))
}

/// One line that says what went wrong and why.
fn fail(error: &anyhow::Error, code: u8) -> u8 {
    // Where even stderr is gone, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "platbook: {error:#}");
    code
}
