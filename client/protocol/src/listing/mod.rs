//! The edge: from the raw bytes of a user or a queue to what the store moves, once and in one pass.
//!
//! Reading order:
//! 1. [`mod@minify`]: strict JSON without white space; `scan` is the pass itself, `string` its
//!    strings.
//! 2. [`extract`]: the fields that are looked for (`plan`), and what is made of them.
//! 3. [`summary`]: the few numbers that filters and cards need; [`filter`]: matching them.
//! 4. [`digest`]: the content of an upsert in 16 bytes.
//! 5. [`message`]: what a queue message says; [`prepared`]: what is sent to the store.
//! 6. [`ListingError`]: why a message is not taken.

pub mod digest;
mod error;
pub mod extract;
pub mod filter;
pub mod message;
pub mod minify;
mod plan;
pub mod prepared;
mod scan;
mod string;
pub mod summary;
mod time;

pub use error::ListingError;
pub use extract::{FieldMap, FieldMapError};
pub use filter::Matcher;
pub use message::{Listing, Parsed, Parser};
pub use minify::{JsonError, JsonProblem, minify};
pub use prepared::{Clocks, Order, Prepared, PreparedBody};
pub use summary::Summary;

/// Largest listing, as sent, in bytes.
pub const LISTING_BYTES_MAX: usize = 1 << 20;
/// Largest queue message, in bytes: a listing and what may stand around it.
pub const MESSAGE_BYTES_MAX: usize = LISTING_BYTES_MAX + (64 << 10);
/// Deepest nesting of a listing: `[[]]` is 2 deep.
pub const DEPTH_MAX: usize = 128;
