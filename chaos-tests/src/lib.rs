//! Starts real processes, hurts them, and checks what must hold all the same. The demonstration and
//! the tests with processes use the same pieces.
//!
//! Reading order:
//! 1. [`process`]: one child: start, SIGKILL, SIGSTOP, SIGCONT, SIGTERM, its log.
//! 2. [`http`]: requests to one process, to see whether it is ready and what it answers.
//!    [`scrape`]: its metrics. [`status`]: what a router says of the cluster.
//! 3. [`wait`]: until a condition holds, with a deadline.
//! 4. [`cluster`]: nodes, router, feed and ingester on loopback, wired to each other.
//! 5. [`operator`]: the feed that is sent, and the answers it must lead to.
//! 6. [`load`]: clients that write and read back, and know what they must see. [`registers`]:
//!    clients that share listings; [`history`] judges what they were told. [`quantiles`]: how long
//!    something took. [`links`]: the network between the processes, to be cut.
//! 7. What is done to a cluster: [`restart`] kills all nodes at once, [`failover`] kills leaders,
//!    [`rolling`] restarts one node after the other, [`changes`] kills a consumer of changes, and
//!    [`run`] does fault after fault. [`undo`] puts it back, whatever happens to this process.

pub mod changes;
pub mod cluster;
pub mod error;
pub mod failover;
pub mod history;
pub mod http;
pub mod links;
pub mod load;
pub mod operator;
pub mod process;
pub mod quantiles;
pub mod registers;
pub mod restart;
pub mod rolling;
pub mod run;
pub mod scrape;
pub mod status;
pub mod undo;
pub mod wait;

pub use cluster::{Cluster, Layout};
pub use error::Error;
pub use process::{Process, Program};
pub use scrape::Scrape;
