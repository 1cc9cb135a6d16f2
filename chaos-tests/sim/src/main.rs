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
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use plan::Plan;
use serde_json::json;

/// Threads start small; a simulation has all of a cluster on one stack.
const STACK_BYTES: usize = 64 << 20;

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
        #[arg(long, default_value_t = 2)]
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

#[allow(clippy::print_stderr, reason = "this is a command")]
fn fail(error: &str) -> ExitCode {
    eprintln!("platbook-sim: {error}");
    ExitCode::FAILURE
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
    let (planned, root) = (plan.clone(), dir.path().to_path_buf());
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let run = thread.spawn(move || drive::run(&planned, &root, file));
    let outcome = match run.map(std::thread::JoinHandle::join) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => return fail("the simulation panicked"),
        Err(error) => return fail(&error.to_string()),
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

/// Tables need not survive the machine: in memory where there is such a place.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
