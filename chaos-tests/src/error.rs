//! What can go wrong around processes.

use std::path::PathBuf;
use std::time::Duration;

/// Why a step with processes failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program did not start.
    #[error("cannot start {name}")]
    Start {
        /// The process.
        name: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A signal could not be sent.
    #[error("cannot signal {name}")]
    Signal {
        /// The process.
        name: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The process ended by itself.
    #[error("{name} ended ({status}); its log is {}:\n{tail}", log.display())]
    Ended {
        /// The process.
        name: String,
        /// How.
        status: std::process::ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A file or directory of the run.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// No loopback port is free.
    #[error("no free port on loopback")]
    Ports {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A request was not answered.
    #[error("{url}: {reason}")]
    Http {
        /// The address asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// Something that was read is not what it should be.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that must hold does not: a fault of the product, or of the check.
    #[error("{what}")]
    Violated {
        /// What does not hold.
        what: String,
    },
    /// Something did not become true in time.
    #[error("waited {} s, and still not: {what}; last: {last}", waited.as_secs())]
    Waited {
        /// The condition.
        what: String,
        /// How long.
        waited: Duration,
        /// What the last look showed.
        last: String,
    },
}
