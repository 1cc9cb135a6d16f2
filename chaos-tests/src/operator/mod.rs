//! The operator's side: what is sent to the queue, and what the store must then hold. Real sales
//! are replayed, and the right answer is computed without a line of the product's code.
//!
//! Reading order: [`sales`] (the data), `plan` (what happens), `listing` and [`messages`] (what is
//! sent), [`queue`] (where to), [`oracle`] (what must be found), [`answers`] (whether it is).

pub mod answers;
mod calendar;
mod chance;
mod listing;
pub mod messages;
pub mod oracle;
mod plan;
pub mod queue;
pub mod sales;

pub use calendar::timestamp;
pub use chance::Chance;
pub use messages::Messages;
pub use oracle::Expected;
pub use queue::Queue;
pub use sales::Sales;

/// The operator's clock, in milliseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the operator stands outside of the cluster")]
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("the clock is past 1970").as_millis() as u64
}
