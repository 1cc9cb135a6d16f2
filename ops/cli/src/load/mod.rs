//! `platbook load`: listings from files into the store, in large batches, resumable.
//!
//! Reading order: [`state`] (what is kept so that a load can be resumed), [`read`] (batches of
//! lines), [`mod@run`] (a few batches under way, in any order; the state follows the finished
//! prefix).

mod read;
mod run;
mod state;

pub(crate) use read::Batch;
pub(crate) use run::{LoadArgs, Loaded, load_batch, now, run};
