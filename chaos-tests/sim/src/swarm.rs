//! Many seeds, each in a process of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What to run.
pub(crate) struct Swarm {
    pub(crate) start: u64,
    pub(crate) seeds: u64,
    /// Processes at a time.
    pub(crate) jobs: usize,
    /// The first so many seeds are run twice and have to leave the same trace.
    pub(crate) twice: u64,
}

/// A run that has ended.
struct Ended {
    seed: u64,
    is_second: bool,
    took: Duration,
    output: Output,
}

#[derive(Default)]
struct Totals {
    failed: Vec<u64>,
    reached: BTreeMap<String, u64>,
    traces: BTreeMap<u64, String>,
    compared: u64,
    simulated_ms: u64,
    events: u64,
    runs: u64,
}

/// Runs them; whether all were clean.
pub(crate) fn run(swarm: &Swarm) -> Result<bool, String> {
    let begun = Instant::now();
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let (runs, next) = (swarm.runs(), AtomicUsize::new(0));
    let (sender, ended) = mpsc::sync_channel(swarm.jobs);
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        for _ in 0..swarm.jobs {
            let (program, runs, next) = (&program, &runs, &next);
            let sender = sender.clone();
            scope.spawn(move || work(program, runs, next, &sender));
        }
        // Only the workers hold it from here on: when all of them are through, the loop ends.
        drop(sender);
        for one in ended {
            totals.take(&one?);
        }
        Ok::<(), String>(())
    })?;
    totals.tell(begun.elapsed());
    Ok(totals.failed.is_empty())
}

impl Swarm {
    /// Every seed, and whether it is the second time.
    fn runs(&self) -> Vec<(u64, bool)> {
        let mut runs = Vec::new();
        for seed in self.start..self.start + self.seeds {
            runs.push((seed, false));
            if seed < self.start + self.twice {
                runs.push((seed, true));
            }
        }
        runs
    }
}

/// Does one run after the other that no other worker has taken, until none is left. A run that
/// hangs ends itself, see `RUN_TIMEOUT`.
fn work(
    program: &Path,
    runs: &[(u64, bool)],
    next: &AtomicUsize,
    sender: &SyncSender<Result<Ended, String>>,
) {
    while let Some(&(seed, is_second)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.args(["run", "--json", "--seed", &seed.to_string()]).stderr(Stdio::inherit());
        // It reads while the child writes: a result of any length fits through the pipe.
        let ended = match command.output() {
            Ok(output) => Ok(Ended { seed, is_second, took: begun.elapsed(), output }),
            Err(error) => Err(format!("seed {seed} cannot be run: {error}")),
        };
        if sender.send(ended).is_err() {
            // Another worker's child did not even start, and nobody waits for results any more.
            return;
        }
    }
}

impl Totals {
    fn take(&mut self, ended: &Ended) {
        let Ended { seed, is_second, took, output } = ended;
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let trace = told["trace"].as_str().unwrap_or("none").to_string();
        let mut wrong: Vec<String> = told["violations"]
            .as_array()
            .map(|all| all.iter().map(|what| what.as_str().unwrap_or("?").to_string()).collect())
            .unwrap_or_else(|| vec![format!("ended without a result: {}", output.status)]);
        if let Some(first) = self.traces.insert(*seed, trace.clone()) {
            self.compared += 1;
            if first != trace {
                wrong.push(format!("the same seed left two traces: {first} and {trace}"));
            }
        }
        let faults = told["faults"].as_str().unwrap_or("?");
        let verdict = if wrong.is_empty() { "ok" } else { "FAILED" };
        let again = if *is_second { " again" } else { "" };
        say(&format!(
            "seed {seed:<6} {verdict:<6} {:>5.1} s real, {:>5.1} s simulated, {:>6} events, trace \
             {trace}; {} nodes, {} shards, faults: {faults}{again}",
            took.as_secs_f64(),
            told["took_ms"].as_u64().unwrap_or(0) as f64 / 1000.0,
            told["events"].as_u64().unwrap_or(0),
            told["nodes"].as_u64().unwrap_or(0),
            told["shards"].as_u64().unwrap_or(0),
        ));
        for what in &wrong {
            say(&format!("  {what}"));
        }
        if !wrong.is_empty() {
            say(&format!("  again, with all events and logs: make replay SEED={seed}"));
            self.failed.push(*seed);
        }
        self.runs += 1;
        self.simulated_ms += told["took_ms"].as_u64().unwrap_or(0);
        self.events += told["events"].as_u64().unwrap_or(0);
        for (what, count) in told["reached"].as_object().into_iter().flatten() {
            *self.reached.entry(what.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
    }

    fn tell(&self, took: Duration) {
        say("");
        for (what, count) in &self.reached {
            say(&format!("{count:>8}  {what}"));
        }
        say(&format!(
            "\n{} runs, {} of them compared with a second one; {:.0} s simulated in {:.0} s; {} \
             events; failed: {:?}",
            self.runs,
            self.compared,
            self.simulated_ms as f64 / 1000.0,
            took.as_secs_f64(),
            self.events,
            self.failed
        ));
    }
}

#[allow(clippy::print_stdout, reason = "this is a command")]
fn say(line: &str) {
    println!("{line}");
}
