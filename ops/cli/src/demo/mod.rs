//! `platbook demo`, what `make demo` runs: real sales replayed through a cluster that loses a node,
//! and every ZIP checked against an answer that was computed independently.
//!
//! Reading order: [`sales`] (the data), [`plan`] (what happens), [`listing`] and [`messages`] (what
//! is sent), [`oracle`] (what must be found), [`run`] (start to end, with [`queue`] and
//! [`screen`]).

mod calendar;
mod chance;
mod listing;
mod messages;
mod oracle;
mod plan;
mod queue;
mod run;
mod sales;
mod screen;

pub(crate) use run::{DemoArgs, run};
