//! Fault after fault, drawn from a seed, while clients work; then everything heals, and what they
//! were told is judged.
//!
//! [`fault`]: what is done, and undone; [`injector`]: how. [`round`](mod@round): the run.
//! [`report`]: what it was and what came of it; [`page`]: that for people.

pub mod fault;
pub mod injector;
pub mod page;
pub mod report;
pub mod round;

pub use fault::Fault;
pub use report::Report;
pub use round::{Plan, run};
