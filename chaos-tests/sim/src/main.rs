//! Runs a whole cluster (nodes, routers, clients, an ingester behind a queue) in one process, with
//! a network, clocks, randomness and disks that a seed decides, breaks it, and looks whether it
//! keeps its promises.
//!
//! Reading order: [`plan`] (what a seed draws), [`world`] (time and randomness), [`machines`] and
//! [`disk`], [`faults`], [`work`] (what users do), [`board`] and [`invariants`] (what is judged at
//! every step), [`audit`] (what is judged at the end), [`drive`] (one run), [`swarm`] (many).

mod audit;
mod board;
mod disk;
mod drive;
mod faults;
mod http;
mod invariants;
mod machines;
mod plan;
mod swarm;
mod work;
mod world;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::{Parser, Subcommand};
use plan::Plan;
use serde_json::json;

/// Threads start small; a simulation has all of a cluster on one stack.
const STACK_BYTES: usize = 64 << 20;
/// A run that takes longer hangs: most end within seconds.
const RUN_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Parser)]
#[command(about = "A whole cluster in one process, from a seed")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One seed, in this process
    Run {
        /// Decides everything
        #[arg(long)]
        seed: u64,
        /// Where every event goes, one a line
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
        /// Tell the result as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Many seeds, each in a process of its own
    Swarm {
        /// The first seed
        #[arg(long, default_value_t = 1)]
        start: u64,
        /// How many
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// Processes at a time
        #[arg(long, default_value_t = cores())]
        jobs: usize,
        /// How many seeds are run twice and have to leave the same trace
        #[arg(long, default_value_t = 2)]
        twice: u64,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { seed, trace, json } => run(seed, trace, json),
        Command::Swarm { start, seeds, jobs, twice } => {
            match swarm::run(&swarm::Swarm { start, seeds, jobs: jobs.max(1), twice }) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => fail(&error),
            }
        }
    }
}

fn fail(error: &str) -> ExitCode {
    complain(error);
    ExitCode::FAILURE
}

#[allow(clippy::print_stderr, reason = "this is a command")]
fn complain(error: &str) {
    eprintln!("platbook-sim: {error}");
}

#[allow(clippy::print_stdout, reason = "this is a command")]
fn run(seed: u64, trace: Option<PathBuf>, as_json: bool) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let plan = Plan::of(seed);
    if !as_json {
        println!("{plan:#?}");
    }
    let file = match trace.map(File::create).transpose() {
        Ok(file) => file,
        Err(error) => return fail(&format!("the trace cannot be written: {error}")),
    };
    let dir = match tempfile::tempdir_in(scratch()) {
        Ok(dir) => dir,
        Err(error) => return fail(&format!("no directory for the tables: {error}")),
    };
    let outcome = match simulate(&plan, dir.path(), file) {
        Ok(outcome) => outcome,
        Err(error) => {
            complain(&format!("seed {seed}: {error}"));
            drop(dir);
            end_at_once()
        }
    };
    let faults: Vec<String> = plan.faults.iter().map(|fault| format!("{fault:?}")).collect();
    let told = json!({
        "seed": seed,
        "nodes": plan.nodes,
        "shards": plan.shards,
        "faults": if faults.is_empty() { "none".to_string() } else { faults.join(" ") },
        "violations": outcome.violations,
        "events": outcome.events,
        "trace": format!("{:016x}", outcome.trace),
        "took_ms": outcome.took_ms,
        "reached": outcome.reached,
    });
    match as_json {
        true => println!("{told}"),
        false => println!("{told:#}"),
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs `plan` on a thread of its own, which alone is lied to about the time: the one that waits
/// for it here has the real clock, and takes nothing from the simulation's chance.
fn simulate(plan: &Plan, root: &Path, trace: Option<File>) -> Result<drive::Outcome, String> {
    let (plan, root) = (plan.clone(), root.to_path_buf());
    let (sender, ended) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let run = thread.spawn(move || {
        // Where nobody waits any more, the process is about to end.
        let _ = sender.send(drive::run(&plan, &root, trace));
    });
    let run = run.map_err(|e| e.to_string())?;
    match ended.recv_timeout(RUN_TIMEOUT) {
        Ok(outcome) => {
            run.join().map_err(|_| "a thread of the simulation did not end cleanly")?;
            Ok(outcome)
        }
        // A panic drops the sender without an outcome.
        Err(RecvTimeoutError::Disconnected) => Err("the simulation panicked".to_string()),
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("the simulation hangs: no end within {} s", RUN_TIMEOUT.as_secs()))
        }
    }
}

/// Ends the process without the destructors of the C and C++ libraries: a simulation that hangs is
/// still at work, it would meet what they destroy, and some of them wait for its threads.
#[allow(unsafe_code, reason = "the C library's way out is the only one that runs no destructors")]
fn end_at_once() -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(1) }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Tables need not survive the machine: in memory where there is such a place.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
