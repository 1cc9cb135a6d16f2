//! Platbook for services: typed, asynchronous calls to a Platbook cluster.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let client = platbook_client::Client::new("http://127.0.0.1:8080")?;
//!
//! // Every listing of a ZIP, as it was at one moment.
//! let mut listings = client.zip("98103").min_price(500_000).stream().await?;
//! while let Some(listing) = listings.try_next().await? {
//!     println!("{}", listing.json::<serde_json::Value>()?["ListPrice"]);
//! }
//!
//! client.delete("7129300520").await?; // done; or surely not done, or unknown: told apart by type
//! # Ok(()) }
//! ```
//!
//! Reading order:
//! 1. [`client`]: the calls; [`builder`]: how a client is made; [`config`]: its limits by name.
//! 2. [`error`], [`problem`]: how calls fail, and the three outcomes of a write.
//! 3. [`listing`], [`zip`]: what is read. [`mod@write`], [`bulk`], [`post`]: what is written.
//! 4. [`changes`], [`token`]: every change, followed. [`admin`]: calls of operators.
//! 5. `transport`: attempts and the one retry layer. `lines`: bodies as lines.

#![deny(missing_docs)]

pub mod admin;
pub mod answer;
pub mod builder;
pub mod bulk;
pub mod changes;
pub mod client;
mod clock;
pub mod config;
pub mod error;
mod lines;
pub mod listing;
pub mod post;
pub mod problem;
pub mod token;
mod transport;
pub mod write;
pub mod zip;

pub use builder::ClientBuilder;
pub use bulk::{Bulk, BulkReport, Message};
pub use changes::{Change, Changes, Event};
pub use client::Client;
#[cfg(feature = "clap")]
pub use config::ClientConfig;
pub use error::{ArgumentError, AttemptError, Error, Unknown, WriteError};
pub use listing::{Listing, Versioned};
pub use platbook_protocol::{ListingId, Revision, Seq, ShardId, TimeMs, Zip};
pub use problem::Problem;
pub use token::Token;
pub use write::{Outcome, Write, Written};
pub use zip::{ZipListings, ZipQuery};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
