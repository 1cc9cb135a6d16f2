//! Carrying messages through: from the bytes of a request to the verdict on each message.
//!
//! 1. [`edge`]: parses, minifies and compresses, off the reactor; [`trainer`]: with what.
//! 2. [`flight`]: one message on its way; what its failures mean. No I/O.
//! 3. [`wave`]: many messages at a time, their steps handed to the shards' gatherers.
//! 4. [`lines`]: lines of a bulk request; [`tally`]: what became of them.
//! 5. [`notes`]: operations of one step: quarantine and suspects.

pub(crate) mod edge;
pub(crate) mod flight;
pub(crate) mod lines;
pub(crate) mod notes;
pub(crate) mod tally;
pub(crate) mod trainer;
pub(crate) mod wave;

pub(crate) use flight::{Delivery, Ending};
