//! Clients that write single listings and read them back, and remember what they were told.
//!
//! Reading order: [`place`] (which listings a client has), `memory` (what must be seen of one
//! listing), `client` (one client's life), [`record`] (what became of its calls), [`running`] (all
//! clients together, and the check at the end).

mod client;
mod memory;
pub mod place;
pub mod record;
pub mod running;

pub use place::Place;
pub use record::{Outcome, Tally};
pub use running::Load;
