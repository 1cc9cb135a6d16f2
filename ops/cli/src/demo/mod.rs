//! `platbook demo`, what `make demo` runs: real sales replayed through a cluster that loses a node,
//! and every ZIP checked against an answer that was computed independently.
//!
//! What is sent and what must be found comes from `platbook_chaos_tests::operator`; here is the way
//! from start to end ([`mod@run`]).

mod run;

pub(crate) use run::{DemoArgs, run};
