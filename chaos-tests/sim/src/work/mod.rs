//! What users do meanwhile: [`registers`] share listings, [`feed`] is an ingester behind a queue,
//! [`follower`] follows all changes.

pub(crate) mod feed;
pub(crate) mod follower;
pub(crate) mod registers;

use std::cell::Cell;
use std::rc::Rc;

/// Where the run stands, for whoever works. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Phase(Rc<Cell<u64>>);

impl Phase {
    /// Everything works from now on: whoever calls must be answered.
    pub(crate) fn heal(&self) {
        self.0.set(1);
    }

    /// Nobody starts anything new.
    pub(crate) fn finish(&self) {
        self.0.set(2);
    }

    /// Nobody goes on.
    pub(crate) fn end(&self) {
        self.0.set(3);
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.0.get() >= 1
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.0.get() >= 2
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.get() >= 3
    }
}
