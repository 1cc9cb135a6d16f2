//! Whether writes are on disk before they are acknowledged: one client writes one by one, while
//! strace counts what every server asks of the kernel.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use platbook_chaos_tests::wait;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::super::drive::{Listing, Sink, drive};
use super::super::usage::Servers;

/// Calls that make data durable.
const CALLS: &str = "trace=fsync,fdatasync,msync";
const ENDED_WITHIN: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(120);
/// Of three replicas.
const MAJORITY: usize = 2;

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) puts: usize,
    /// Of each server, most first.
    pub(super) calls: Vec<u64>,
}

/// Counts, and fails unless there were at least as many calls as a majority has to make: two for
/// each put. One client that waits for every answer gives no server anything to sync together.
pub(super) async fn check<S: Sink>(
    servers: &Servers,
    sink: &S,
    listings: &[Listing],
) -> anyhow::Result<Synced> {
    let dir = tempfile::tempdir().context("making a temporary directory")?;
    let mut tracers = Vec::new();
    for (at, family) in servers.families()?.into_iter().enumerate() {
        if servers.router == Some(family[0]) {
            continue;
        }
        tracers.push(Tracer::start(dir.path().join(format!("server-{at}")), &family).await?);
    }
    drive(sink, listings, 1, 1, LONGEST).await?;
    let mut calls = Vec::new();
    for tracer in tracers {
        calls.push(tracer.count().await?);
    }
    calls.sort_unstable_by(|a, b| b.cmp(a));
    let puts = listings.len();
    ensure!(
        calls.iter().sum::<u64>() >= (puts * MAJORITY) as u64,
        "{puts} puts one by one, but the servers synced {calls:?} times: not every put was on \
         the disks of a majority before its acknowledgement"
    );
    Ok(Synced { puts, calls })
}

/// An strace that counts.
struct Tracer {
    child: Child,
    summary: PathBuf,
}

impl Tracer {
    /// Attaches to all processes of one server.
    async fn start(summary: PathBuf, family: &[u32]) -> anyhow::Result<Tracer> {
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-e", CALLS, "-o"]).arg(&summary);
        for pid in family {
            command.args(["-p", &pid.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().context("starting strace")?;
        let said = child.stderr.take().context("strace's messages")?;
        let mut lines = BufReader::new(said).lines();
        let mut attached = 0;
        while attached < family.len() {
            let line = lines.next_line().await?;
            let line = line.with_context(|| format!("strace could not attach to {family:?}"))?;
            attached += usize::from(line.contains("attached"));
        }
        // What it says later, about threads that come and go, is read so that it never waits.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Tracer { child, summary })
    }

    /// Detaches, and gives the calls counted.
    async fn count(mut self) -> anyhow::Result<u64> {
        let pid = self.child.id().context("strace has ended by itself")?;
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT)?;
        wait::until("strace has ended", ENDED_WITHIN, async || match self.child.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it detaches".to_string()),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        let text = std::fs::read_to_string(&self.summary).context("strace's summary")?;
        Ok(total(&text))
    }
}

/// The calls of strace's summary: the fourth column of every line that is a call's.
fn total(summary: &str) -> u64 {
    let calls = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_call = words.last().is_some_and(|name| CALLS.contains(name));
        is_call.then(|| words.get(3)?.parse::<u64>().ok()).flatten()
    };
    summary.lines().filter_map(calls).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read_by_its_columns() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.00    0.010000         100       100           fdatasync
  1.00    0.000100          10        12         3 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.010100                   112         3 total
";
        assert_eq!(total(summary), 112);
        assert_eq!(total(""), 0);
    }
}
