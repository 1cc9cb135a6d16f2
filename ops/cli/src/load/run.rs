//! A load from start to end.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use platbook_client::answer::{BulkAnswer, Rejection};
use platbook_client::{Client, ClientConfig, WriteError};
use platbook_ingest::lines::Lines;
use platbook_protocol::TimeMs;
use platbook_protocol::problem::{Blame, Code};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::read::{self, Batch, Place};
use super::state::State;
use crate::output::{self, Format, OutputArgs};
use crate::screen::Screen;

/// First pause before lines are sent again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the state is made durable, at most.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Rejected lines that are named on the screen; all of them go to `--rejects`.
const REJECTED_SHOWN: u64 = 10;

/// Load listings from files: NDJSON, packed (`.gz`, `.zst`) or not. A line is a listing, or a
/// message as it stands on the queue. All listings of a load count as sent at its start, so that
/// changes which the feed brings later win. A load that was interrupted continues where it stopped
/// when it is started again with the same files; loading the same copy once more changes nothing
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Files; `-` is standard input, which cannot be resumed
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to keep how far the load is; default: beside the first file, with `.load` added
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Forget an interrupted load and begin again
    #[arg(long)]
    restart: bool,
    /// Append rejected lines to this file, with place and reason, as NDJSON
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Most lines in one request
    #[arg(long, value_name = "N", default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: u32,
    /// Give up when nothing could be loaded for so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// What became of lines.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Counts of those that are done.
    pub(crate) answer: BulkAnswer,
    /// The others, with their places.
    pub(crate) rejected: Vec<(Place, Rejection)>,
}

/// `platbook load`.
pub(crate) async fn run(args: LoadArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let client = args.client.connect()?;
    let is_stdin = |file: &PathBuf| file == Path::new("-");
    let path = match (&args.state, args.files.iter().any(is_stdin)) {
        (Some(_), true) => bail!("standard input cannot be resumed: --state needs files"),
        (None, true) => None,
        (Some(path), false) => Some(path.clone()),
        (None, false) => {
            let mut name = args.files[0].as_os_str().to_owned();
            name.push(".load");
            Some(PathBuf::from(name))
        }
    };
    if let (true, Some(path)) = (args.restart, &path) {
        State::remove(path)?;
    }
    let state = match &path {
        Some(path) => State::open(path, &args.files, now())?,
        None => State::begin(now()),
    };
    let rejects = args.rejects.as_ref().map(|path| {
        let opened = std::fs::File::options().create(true).append(true).open(path);
        opened.with_context(|| format!("cannot write {}", path.display()))
    });
    let load = Load {
        bytes_total: Lines::total_bytes(&args.files),
        bytes_read: Arc::default(),
        screen: Screen::new(),
        began: Instant::now(),
        saved: Instant::now(),
        first_line: state.lines,
        done: BTreeMap::new(),
        next: 0,
        tally: BulkAnswer::default(),
        rejects: rejects.transpose()?,
        shown: 0,
        args,
        path,
        state,
    };
    load.run(client, stop).await
}

struct Load {
    args: LoadArgs,
    path: Option<PathBuf>,
    state: State,
    bytes_total: Option<u64>,
    bytes_read: Arc<AtomicU64>,
    screen: Screen,
    began: Instant,
    saved: Instant,
    /// Lines that an earlier start has loaded.
    first_line: u64,
    /// Finished batches behind one that is not.
    done: BTreeMap<u64, (u64, u64)>,
    /// Number of the first batch that is not finished.
    next: u64,
    tally: BulkAnswer,
    rejects: Option<std::fs::File>,
    shown: u64,
}

impl Load {
    async fn run(mut self, client: Client, stop: CancellationToken) -> anyhow::Result<()> {
        if self.first_line > 0 {
            let lines = self.first_line;
            self.screen.say(&format!("continuing behind {lines} lines that are loaded"));
        }
        let (files, batch) = (self.args.files.clone(), self.args.batch as usize);
        let (mut batches, ended) =
            read::start(files, self.first_line, batch, self.bytes_read.clone())?;
        let patience = Duration::from_secs(self.args.patience);
        let sent = self.state.sent();
        let mut running: JoinSet<anyhow::Result<(u64, usize, Loaded)>> = JoinSet::new();
        let (mut number, mut is_at_end) = (0, false);
        while !(is_at_end && running.is_empty()) {
            let has_room = running.len() < self.args.in_flight as usize;
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.save()?;
                    bail!("interrupted; start it again with the same files to continue");
                }
                Some(ended) = running.join_next() => {
                    let (number, lines, loaded) = ended??;
                    self.on_loaded(number, lines, loaded)?;
                }
                batch = batches.recv(), if has_room && !is_at_end => match batch {
                    None => is_at_end = true,
                    Some(batch) => {
                        let (client, this) = (client.clone(), number);
                        running.spawn(async move {
                            let lines = batch.lines.len();
                            let loaded = load_batch(&client, batch, sent, patience).await?;
                            Ok((this, lines, loaded))
                        });
                        number += 1;
                    }
                },
            }
        }
        self.save()?;
        ended.await.context("reading ended early")??;
        self.finish()
    }

    fn on_loaded(&mut self, number: u64, lines: usize, loaded: Loaded) -> anyhow::Result<()> {
        let Loaded { answer, rejected } = loaded;
        self.tally.add_counts(&answer);
        for (place, rejection) in &rejected {
            self.on_rejected(*place, rejection)?;
        }
        self.done.insert(number, (lines as u64, rejected.len() as u64));
        while let Some((lines, rejected)) = self.done.remove(&self.next) {
            self.next += 1;
            self.state.lines += lines;
            self.state.rejected += rejected;
        }
        if self.saved.elapsed() >= SAVE_EVERY {
            self.save()?;
        }
        let lines = self.state.lines;
        let rate = (lines - self.first_line) as f64 / self.began.elapsed().as_secs_f64();
        let text = format!("{lines} lines, {rate:.0}/s, {} rejected", self.state.rejected);
        let read = self.bytes_read.load(Ordering::Relaxed);
        self.screen.progress(read, self.bytes_total.unwrap_or(read), &text);
        Ok(())
    }

    fn on_rejected(&mut self, (file, line): Place, rejection: &Rejection) -> anyhow::Result<()> {
        let file = self.args.files[file].display().to_string();
        let Rejection { code, detail, .. } = rejection;
        if let Some(rejects) = &mut self.rejects {
            let record = json!({"file": file, "line": line, "code": code, "detail": detail});
            writeln!(rejects, "{record}").context("cannot write the rejected lines")?;
        }
        self.shown += 1;
        match self.shown {
            1..=REJECTED_SHOWN => self.screen.say(&format!("{file}:{line}: {code}: {detail}")),
            n if n == REJECTED_SHOWN + 1 => self.screen.say("more lines are rejected"),
            _ => {}
        }
        Ok(())
    }

    fn save(&mut self) -> anyhow::Result<()> {
        self.saved = Instant::now();
        if let Some(rejects) = &self.rejects {
            rejects.sync_all().context("cannot write the rejected lines")?;
        }
        match &self.path {
            Some(path) => self.state.save(path),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let BulkAnswer { applied, unchanged, stale, duplicate, suspect, .. } = self.tally;
        let (lines, rejected) = (self.state.lines, self.state.rejected);
        self.screen.end();
        if let Some(path) = &self.path {
            State::remove(path)?;
        }
        let report = json!({
            "lines": lines, "resumed_behind": self.first_line, "applied": applied,
            "unchanged": unchanged, "stale": stale, "duplicate": duplicate, "suspect": suspect,
            "rejected": rejected, "seconds": self.began.elapsed().as_secs_f64(),
        });
        match self.args.output.format() {
            Format::Json => output::line(&serde_json::to_string_pretty(&report)?)?,
            Format::Ndjson => output::line(&report.to_string())?,
            Format::Table => {
                for (name, value) in report.as_object().into_iter().flatten() {
                    output::line(&format!("{name:15} {value}"))?;
                }
            }
        }
        ensure!(rejected == 0, "{rejected} of {lines} lines were rejected, all others are loaded");
        Ok(())
    }
}

/// Sends a batch until every line of it is done or rejected; gives up when nothing moved for
/// `patience`.
pub(crate) async fn load_batch(
    client: &Client,
    batch: Batch,
    sent: TimeMs,
    patience: Duration,
) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut left = batch;
    let mut pause = PAUSE_MIN;
    let mut moved = Instant::now();
    loop {
        let trouble = match client.post(left.body()).at(sent).will_resend().await {
            Ok(answer) => {
                let again = loaded.add(&left, answer);
                if again.is_empty() {
                    return Ok(loaded);
                }
                if again.len() < left.lines.len() {
                    (moved, pause) = (Instant::now(), PAUSE_MIN);
                }
                left = left.only(&again);
                anyhow::anyhow!("{} lines are not done yet", again.len())
            }
            // The same listings with the same time: whatever happened, it happens once.
            Err(error) if is_for_now(&error) => error.into(),
            Err(error) => return Err(error.into()),
        };
        if moved.elapsed() >= patience {
            return Err(trouble.context("nothing could be loaded; start it again to continue"));
        }
        tracing::debug!(error = %trouble, "sending again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether what failed may go well later.
fn is_for_now(error: &WriteError) -> bool {
    let is_full = error.problem().is_some_and(|problem| problem.is(Code::DiskFull));
    error.is_unknown() || error.retryable() || is_full
}

impl Loaded {
    /// Adds what became of other lines.
    pub(crate) fn merge(&mut self, other: Loaded) {
        self.answer.add_counts(&other.answer);
        self.rejected.extend(other.rejected);
    }

    /// How many lines this is about.
    pub(crate) fn lines(&self) -> u64 {
        self.answer.done() + self.rejected.len() as u64
    }

    /// Takes the answer to a batch; gives the numbers of the lines that are to be sent again.
    fn add(&mut self, batch: &Batch, answer: BulkAnswer) -> Vec<u64> {
        self.answer.add_counts(&answer);
        let mut again = answer.busy;
        for rejection in answer.rejected {
            let at = usize::try_from(rejection.line).ok().and_then(|line| line.checked_sub(1));
            let place = at.and_then(|at| batch.places.get(at).copied()).unwrap_or_default();
            match Code::try_parse(&rejection.code).map(Code::blame) {
                // The line is as good as any; the service could not take it.
                Some(Blame::Service) => again.push(rejection.line),
                Some(Blame::Message | Blame::Request | Blame::State) | None => {
                    self.rejected.push((place, rejection));
                }
            }
        }
        again
    }
}

/// When a load begins: all of it counts as sent then.
#[allow(clippy::disallowed_methods, reason = "the time of this load, kept with it")]
pub(crate) fn now() -> TimeMs {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    TimeMs(now.map_or(0, |now| now.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_the_service_could_not_take_is_sent_again_and_what_is_wrong_is_rejected() {
        let lines = vec![Bytes::from_static(b"{}\n"); 4];
        let batch = Batch { lines, places: vec![(0, 1), (0, 2), (1, 1), (1, 7)] };
        let rejected = |line, code: &str| Rejection { line, code: code.into(), detail: "d".into() };
        let answer = BulkAnswer {
            applied: 1,
            busy: vec![2],
            rejected: vec![rejected(3, "shard_unavailable"), rejected(4, "no_id")],
            ..BulkAnswer::default()
        };
        let mut loaded = Loaded::default();
        assert_eq!(loaded.add(&batch, answer), [2, 3]);
        assert_eq!(loaded.answer.applied, 1);
        assert_eq!(loaded.rejected, [((1, 7), rejected(4, "no_id"))]);
    }
}
