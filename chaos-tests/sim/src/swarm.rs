//! Many seeds, each in a process of its own.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
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

/// A seed that takes longer hangs.
const SEED_TIMEOUT: Duration = Duration::from_secs(300);

struct Running {
    seed: u64,
    is_second: bool,
    begun: Instant,
    child: Child,
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
    let mut waiting: Vec<(u64, bool)> = Vec::new();
    for seed in swarm.start..swarm.start + swarm.seeds {
        waiting.push((seed, false));
        if seed < swarm.start + swarm.twice {
            waiting.push((seed, true));
        }
    }
    waiting.reverse();
    let mut running: Vec<Running> = Vec::new();
    let mut totals = Totals::default();
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < swarm.jobs {
            let Some((seed, is_second)) = waiting.pop() else { break };
            running.push(start(seed, is_second)?);
        }
        let ended = running.iter_mut().position(has_ended);
        match ended {
            Some(at) => totals.take(running.swap_remove(at))?,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    totals.tell(begun.elapsed());
    Ok(totals.failed.is_empty())
}

fn start(seed: u64, is_second: bool) -> Result<Running, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.args(["run", "--json", "--seed", &seed.to_string()]).stdout(Stdio::piped());
    let child = command.spawn().map_err(|e| e.to_string())?;
    Ok(Running { seed, is_second, begun: Instant::now(), child })
}

fn has_ended(running: &mut Running) -> bool {
    if running.begun.elapsed() > SEED_TIMEOUT {
        // It may have ended by itself just now.
        let _ = running.child.kill();
    }
    !matches!(running.child.try_wait(), Ok(None))
}

impl Totals {
    fn take(&mut self, running: Running) -> Result<(), String> {
        let Running { seed, is_second, begun, child } = running;
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let trace = told["trace"].as_str().unwrap_or("none").to_string();
        let mut wrong: Vec<String> = told["violations"]
            .as_array()
            .map(|all| all.iter().map(|what| what.as_str().unwrap_or("?").to_string()).collect())
            .unwrap_or_else(|| vec![format!("ended without a result: {}", output.status)]);
        if let Some(first) = self.traces.insert(seed, trace.clone()) {
            self.compared += 1;
            if first != trace {
                wrong.push(format!("the same seed left two traces: {first} and {trace}"));
            }
        }
        let faults = told["faults"].as_str().unwrap_or("?");
        let verdict = if wrong.is_empty() { "ok" } else { "FAILED" };
        let again = if is_second { " again" } else { "" };
        say(&format!(
            "seed {seed:<6} {verdict:<6} {:>5.1} s real, {:>5.1} s simulated, {:>6} events, trace \
             {trace}; {} nodes, {} shards, faults: {faults}{again}",
            begun.elapsed().as_secs_f64(),
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
            self.failed.push(seed);
        }
        self.runs += 1;
        self.simulated_ms += told["took_ms"].as_u64().unwrap_or(0);
        self.events += told["events"].as_u64().unwrap_or(0);
        for (what, count) in told["reached"].as_object().into_iter().flatten() {
            *self.reached.entry(what.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
        Ok(())
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
