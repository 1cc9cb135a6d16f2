//! `platbook bench`: how fast, at what cost, and beside what people would pick instead.
//!
//! Reading order: [`bodies`] (the listings), [`drive`] (a closed loop of clients against a
//! [`drive::Sink`]), [`usage`] (CPU, memory, disk and syncs of the servers); the systems under test
//! are [`store`], [`etcd`] (over [`grpc`]), [`nats`] and [`postgres`]; [`reads`] is how reads are
//! measured, [`pace`] how load is held at a rate; [`bare`] is the ceiling. [`compare`] puts all of
//! them side by side; [`ingest`], [`readers`] and [`changes`] look at one thing.

mod bare;
mod bodies;
mod changes;
mod compare;
mod drive;
mod etcd;
mod grpc;
mod ingest;
mod nats;
mod pace;
mod postgres;
mod readers;
mod reads;
mod store;
mod usage;
mod words;

/// Measure; every server runs as a process of its own on loopback
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to measure.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Platbook beside etcd, NATS and PostgreSQL: the same work, in turns
    Compare(compare::CompareArgs),
    /// Shows what `compare` has measured, also in several runs
    Report(compare::ReportArgs),
    /// Durable writes: throughput, latency, syncs and CPU for each listing
    Ingest(ingest::IngestArgs),
    /// One large ZIP: time to the first byte, and what many readers at once cost
    Readers(readers::ReadersArgs),
    /// Followers of changes: lag, catching up, and what those cost who wait or do not read
    Changes(changes::ChangesArgs),
}

/// `platbook bench`.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.action {
        Action::Compare(args) => compare::run(args).await,
        Action::Report(args) => compare::show(&args),
        Action::Ingest(args) => ingest::run(args).await,
        Action::Readers(args) => readers::run(args).await,
        Action::Changes(args) => changes::run(args).await,
    }
}
