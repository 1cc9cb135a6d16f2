//! A consumer of the change stream that is killed over and over, and the proof that it missed
//! nothing.
//!
//! [`journal`] is the file in which the consumer keeps what it was told, [`consume`] the consumer,
//! a process of its own, [`check`] the pure judgement of a journal, [`run`] kills consumer and
//! nodes, and compares.

pub mod check;
pub mod consume;
pub mod journal;
pub mod run;
