//! Clients that write, delete and read the same few listings at the same time, so that only a
//! search for an order can tell whether what they were told fits together.
//!
//! `client` is one of them, [`run`](mod@run) all of them together and their judgement. What
//! [answers tell](told) and [show](seen) is the same for the clients of the simulator.

mod client;
pub mod run;

pub use client::{seen, told};
pub use run::{Judgement, Registers};
