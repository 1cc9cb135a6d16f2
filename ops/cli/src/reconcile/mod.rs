//! `platbook reconcile`: a full copy of the operator's listings against the store.
//!
//! Reading order: [`spill`] (ids and digests of both sides on disk, in parts that fit into
//! memory), [`differ`] (one part: what is missing, extra, different), [`mod@run`] (start to end,
//! and the repair).

mod differ;
mod run;
mod spill;

pub(crate) use run::{ReconcileArgs, run};
