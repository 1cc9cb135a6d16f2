//! Data on stdout: a table for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

/// How to print data.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How to print; default: a table on a terminal, NDJSON in a pipe
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// How to print data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One object a line.
    Ndjson,
    /// One JSON document.
    Json,
}

impl OutputArgs {
    /// What was asked for, or what fits where stdout goes.
    pub(crate) fn format(&self) -> Format {
        match self.output {
            Some(format) => format,
            None if io::stdout().is_terminal() => Format::Table,
            None => Format::Ndjson,
        }
    }
}

/// Prints one line.
pub(crate) fn line(line: &str) -> anyhow::Result<()> {
    text(&format!("{line}\n"))
}

/// Prints text as it is.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Prints bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Whether the error is only that nobody reads our output any more.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(kind)
}
