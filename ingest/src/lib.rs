//! From the queue to the router, and a queue to try it with.
//!
//! Reading order:
//! 1. [`config`], [`error`]: what can be told, and what can go wrong.
//! 2. [`queue`]: the queue's client, the only module that knows the AWS SDK.
//! 3. [`consume`]: from the queue to the router, losing nothing.
//! 4. [`feed`]: an SQS-compatible server with the faults that SQS documents, and a sender.
//! 5. [`lines`]: lines of files, packed or not.

pub mod clock;
pub mod config;
pub mod consume;
pub mod error;
pub mod feed;
pub mod lines;
mod listen;
mod metrics;
pub mod queue;

pub use config::{IngestConfig, QueueConfig, SendConfig, ServeConfig};
pub use consume::{Ingester, run};
