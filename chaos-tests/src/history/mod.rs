//! What clients asked and were told about one listing, and whether any order explains it.
//!
//! [`linear`] searches for an order (Wing and Gong, with Lowe's just-in-time linearisation and
//! memory); [`order`] looks at the revisions that answers name, which is weaker but quick.
//!
//! Every write of a history has a stamp of its own: it is both clocks of the message, and what a
//! read shows. The register keeps the greatest stamp, so a write whose stamp is not the greatest is
//! answered as stale and changes nothing.

pub mod linear;
pub mod order;

use serde::Serialize;

/// One call of one client about one listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Who called.
    pub client: u32,
    /// When it was sent, in microseconds since the history began.
    pub began: u64,
    /// When its answer was there; `None`: no answer says what became of it, so it may take effect
    /// at any later time or never.
    pub ended: Option<u64>,
    /// What was asked, and what was told.
    pub what: What,
}

/// What was asked, and what was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum What {
    /// A write of the listing, or its deletion.
    Write {
        /// Its stamp, from 1.
        stamp: u64,
        /// Whether it deletes.
        deletes: bool,
        /// What was told.
        told: Told,
    },
    /// A read: the stamp and revision of the listing, `None` where there is none.
    Read {
        /// What it showed.
        seen: Option<Seen>,
    },
}

impl What {
    /// The write that was read, if it is a read and there was one.
    fn seen(&self) -> Option<u64> {
        match self {
            What::Read { seen } => seen.map(|seen| seen.stamp),
            What::Write { .. } => None,
        }
    }
}

/// What was told about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Told {
    /// It took effect.
    Done {
        /// Of the listing when the answer was made: its own, or that of a later write that met it.
        revision: u64,
    },
    /// Something newer is there. It may have been seen before: after an attempt without an answer
    /// nobody can tell.
    Stale,
    /// It was refused: it did not happen and never will.
    Refused {
        /// The status of the answer.
        status: u16,
    },
    /// Nothing.
    Nothing,
}

/// What a read shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Of the write that was seen.
    pub stamp: u64,
    /// Of the listing.
    pub revision: u64,
}

#[cfg(test)]
pub(crate) mod script {
    //! Histories in few words, for tests.

    use super::{Call, Seen, Told, What};

    fn call((began, ended): (u64, u64), what: What) -> Call {
        let ended = (ended != u64::MAX).then_some(ended);
        Call { client: 0, began, ended, what }
    }

    /// Of a write without an answer.
    pub(crate) const NEVER: u64 = u64::MAX;

    pub(crate) fn put(times: (u64, u64), stamp: u64) -> Call {
        let told = if times.1 == NEVER { Told::Nothing } else { Told::Done { revision: stamp } };
        call(times, What::Write { stamp, deletes: false, told })
    }

    pub(crate) fn delete(times: (u64, u64), stamp: u64) -> Call {
        let told = if times.1 == NEVER { Told::Nothing } else { Told::Done { revision: stamp } };
        call(times, What::Write { stamp, deletes: true, told })
    }

    pub(crate) fn stale(times: (u64, u64), stamp: u64) -> Call {
        call(times, What::Write { stamp, deletes: false, told: Told::Stale })
    }

    pub(crate) fn refused(times: (u64, u64), stamp: u64) -> Call {
        let told = Told::Refused { status: 503 };
        call(times, What::Write { stamp, deletes: false, told })
    }

    pub(crate) fn read(times: (u64, u64), stamp: u64) -> Call {
        call(times, What::Read { seen: Some(Seen { stamp, revision: stamp }) })
    }

    pub(crate) fn none(times: (u64, u64)) -> Call {
        call(times, What::Read { seen: None })
    }
}
