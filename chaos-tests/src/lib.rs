//! Starts real processes, hurts them, and waits for what must hold. The demonstration and the
//! tests with processes use the same pieces.
//!
//! Reading order:
//! 1. [`process`]: one child: start, SIGKILL, SIGSTOP, SIGCONT, SIGTERM, its log.
//! 2. [`http`]: one request to one process, to see whether it is ready and what it answers.
//!    [`scrape`]: its metrics.
//! 3. [`wait`]: until a condition holds, with a deadline.
//! 4. [`cluster`]: nodes, router, feed and ingester on loopback, wired to each other.

pub mod cluster;
pub mod error;
pub mod http;
pub mod process;
pub mod scrape;
pub mod wait;

pub use cluster::{Cluster, Layout};
pub use error::Error;
pub use process::{Process, Program};
pub use scrape::Scrape;
