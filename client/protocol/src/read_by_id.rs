//! Reading one listing by its id: first the register, then the rows that it names.
//!
//! Register and rows live in different shards, and a listing may move between two reads. The
//! reader therefore trusts a row only where it fits the register it saw, and starts over where it
//! sees that the register it holds is outdated. So a listing that is live throughout is never
//! reported missing, and successive reads never go back in revision. A deletion counts from the
//! moment at which the register admits it.
//!
//! Who believes to know the ZIP may ask for its row together with the register. A live row of just
//! the register's revision is what that revision wrote, whenever it was read, and the register was
//! current when it was read; any other row of that time is not looked at ([`ReadById::on_guess`]).

use crate::row::Row;
use crate::rpc::RegisterView;
use crate::{Revision, Zip};

/// What the driver reads next, linearizably. Past its deadline, checked after each read by a
/// monotonic clock, the driver gives up with "unavailable", never with a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadStep {
    /// The register of the id; its view goes to [`ReadById::on_register`].
    ReadRegister,
    /// One row; it goes to [`ReadById::on_row`].
    ReadRow {
        /// Where.
        zip: Zip,
    },
    /// Nothing: the reading is finished.
    Finished(Reading),
}

/// What a finished reading found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// The listing: the body that [`ReadById::on_row`] last asked to keep.
    Found {
        /// Where it stands.
        zip: Zip,
        /// Its revision.
        revision: Revision,
    },
    /// No such listing.
    NotFound,
}

/// One reading of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadById {
    stage: Stage,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Stage {
    #[default]
    Register,
    Rows(Rows),
    Finished(Reading),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rows {
    revision: Revision,
    died: Revision,
    /// Whose row is awaited now.
    zip: Zip,
    is_home: bool,
    /// ZIPs still to read.
    old: Vec<Zip>,
    best: Option<(Revision, Zip)>,
    /// Greatest revision of a marker.
    mark: Revision,
}

impl ReadById {
    /// A reading that has read nothing yet.
    pub fn new() -> ReadById {
        ReadById::default()
    }

    /// The step to carry out now; the same one until its answer is given.
    pub fn next(&self) -> ReadStep {
        match &self.stage {
            Stage::Register => ReadStep::ReadRegister,
            Stage::Rows(rows) => ReadStep::ReadRow { zip: rows.zip },
            Stage::Finished(reading) => ReadStep::Finished(*reading),
        }
    }

    /// Takes the register, `None` if nothing was ever heard of the id.
    pub fn on_register(&mut self, view: Option<RegisterView>) {
        debug_assert_eq!(self.next(), ReadStep::ReadRegister);
        let view = view.filter(|view| view.alive);
        let home = view.as_ref().and_then(|view| view.zip);
        self.stage = match (view, home) {
            (Some(RegisterView { revision, died, old, .. }), Some(zip)) => {
                let (best, mark) = (None, Revision(0));
                Stage::Rows(Rows { revision, died, zip, is_home: true, old, best, mark })
            }
            (Some(_), None) | (None, _) => Stage::Finished(Reading::NotFound),
        };
    }

    /// Takes a row that was read together with the register, or before it: it is the answer if it
    /// is just what the register says, and nothing otherwise. Tells whether it is.
    pub fn on_guess(&mut self, zip: Zip, row: Option<Row>) -> bool {
        let Stage::Rows(rows) = &self.stage else { return false };
        let revision = rows.revision;
        let is_it = rows.is_home
            && rows.zip == zip
            && row.is_some_and(|row| row.is_live() && row.revision() == revision);
        if is_it {
            self.stage = Stage::Finished(Reading::Found { zip, revision });
        }
        is_it
    }

    /// Takes the row that was asked for, `None` if nothing stands there. Tells whether the driver
    /// must keep its body (and may drop any earlier one).
    pub fn on_row(&mut self, row: Option<Row>) -> bool {
        let Stage::Rows(rows) = &mut self.stage else {
            debug_assert!(false, "a row is given only where one was asked for");
            return false;
        };
        let (next, keep) = rows.on_row(row);
        if let Some(stage) = next {
            self.stage = stage;
        }
        keep
    }
}

impl Rows {
    /// The stage to go to, if another one, and whether this row is the best so far.
    fn on_row(&mut self, row: Option<Row>) -> (Option<Stage>, bool) {
        let mut keep = false;
        if let Some(row) = row {
            let found = row.revision();
            // Something was decided after the register was read.
            let outdated = found > self.revision;
            // The move was carried out, so the new home has been written since it was read.
            let moved = !self.is_home && !row.is_live() && found == self.revision;
            if outdated || moved {
                return (Some(Stage::Register), false);
            }
            if self.is_home && row.is_live() && found == self.revision {
                let reading = Reading::Found { zip: self.zip, revision: found };
                return (Some(Stage::Finished(reading)), true);
            }
            // Rows of an earlier life are not to be read.
            if found > self.died && row.is_live() && Some((found, self.zip)) > self.best {
                self.best = Some((found, self.zip));
                keep = true;
            } else if found > self.died && !row.is_live() {
                self.mark = self.mark.max(found);
            }
        }
        if let Some(zip) = self.old.pop() {
            (self.zip, self.is_home) = (zip, false);
            return (None, keep);
        }
        let stage = match self.best {
            // What the marker's decision wrote was not there yet, or is not there any more.
            Some((revision, _)) if self.mark > revision => Stage::Register,
            None if self.mark > Revision(0) => Stage::Register,
            Some((revision, zip)) => Stage::Finished(Reading::Found { zip, revision }),
            None => Stage::Finished(Reading::NotFound),
        };
        (Some(stage), keep)
    }
}
