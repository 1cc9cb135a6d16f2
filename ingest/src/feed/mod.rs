//! The local feed: an SQS-compatible queue server with the faults that SQS documents, from a
//! seed, and a sender.
//!
//! Reading order:
//! 1. `queue`: the state of one queue, pure; `faults`: what goes wrong, drawn from the seed.
//! 2. `record`: the log's bytes; `store`, `disk`, `memory`, `recovery`, `journal`: where messages
//!    live.
//! 3. `service`, and the actions: `queues`, `send_message`, `receive_message`, `delete_message`,
//!    with `attributes`, `settings`, `handle` and `service_error`.
//! 4. `server`: HTTP. `send`: the sender.

mod attributes;
mod delete_message;
mod disk;
mod faults;
mod handle;
mod journal;
mod memory;
mod metrics;
mod queue;
mod queues;
mod receive_message;
mod record;
mod recovery;
mod send;
mod send_message;
mod server;
mod service;
mod service_error;
mod settings;
mod store;

pub use send::{Progress, Sent, send, terminal_progress};
pub use server::{Server, serve};
pub use store::StoreError;
