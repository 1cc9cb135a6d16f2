//! The client library: typed calls to a router, over HTTP/2 or HTTP/1.1, with one retry layer.
//!
//! Reading order:
//! 1. [`config`]: where the router is, deadlines and limits.
//! 2. [`error`]: the three outcomes; a timeout of a write is never reported as a refusal.
//! 3. [`client`]: the calls; [`answer`]: what they give.
//! 4. `transport`: connections, attempts and the retry loop. [`zip`]: a ZIP as a stream of lines.

pub mod answer;
pub mod client;
mod clock;
pub mod config;
pub mod error;
mod transport;
pub mod zip;

pub use answer::{BulkAnswer, Listing, Outcome, Page, QuarantinePut, Rejection, WriteAnswer};
pub use client::{Client, WriteOptions, ZipQuery};
pub use config::ClientConfig;
pub use error::{Error, Problem};
pub use zip::ZipListings;
