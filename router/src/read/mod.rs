//! Reading: what the nodes stream becomes what clients read.
//!
//! 1. [`scan`]: the bytes of a streamed ZIP, taken apart; [`open`]: asking for one.
//! 2. [`fields`]: some members of a listing; [`encoding`]: gzip and zstd; [`render`]: both, and the
//!    format, off the reactor.
//! 3. [`stream`]: a response body that is pumped with backpressure; [`places`]: how many at a time.
//! 4. [`query`]: what is asked of a ZIP; [`etag`], [`cursor`]: names for its states and pages.
//! 5. [`cache`]: whole responses, checked before every use.
//! 6. [`by_id`]: listings by their ids; [`lists`]: quarantine and suspects.

pub(crate) mod by_id;
pub(crate) mod cache;
pub(crate) mod cursor;
pub(crate) mod encoding;
pub(crate) mod etag;
pub(crate) mod fields;
pub(crate) mod lists;
pub(crate) mod open;
pub(crate) mod places;
pub(crate) mod query;
pub(crate) mod render;
pub(crate) mod scan;
pub(crate) mod stream;
