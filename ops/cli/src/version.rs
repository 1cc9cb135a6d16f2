//! `platbook version`.

use platbook_protocol::codec::PROTOCOL_VERSION;

use crate::output::{self, Format};

/// Set by the build of a release, for instance to a commit.
const BUILD: Option<&str> = option_env!("PLATBOOK_BUILD");

/// What to print.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    #[command(flatten)]
    output: output::OutputArgs,
}

/// Prints the versions.
pub(crate) fn run(args: &VersionArgs) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let build = BUILD.unwrap_or("development");
    match args.output.format() {
        Format::Table => {
            output::line(&format!("platbook  {version} ({build})"))?;
            output::line(&format!("protocol  {PROTOCOL_VERSION}"))
        }
        Format::Ndjson | Format::Json => output::line(
            &serde_json::json!({
                "version": version,
                "build": build,
                "protocol": PROTOCOL_VERSION,
            })
            .to_string(),
        ),
    }
}
