//! What a shard does with a step: the production rules, and where a rule is switched off, the
//! wrong one instead.

use platbook_protocol::read_by_id::{ReadById, Reading};
use platbook_protocol::register::{Admission, Admitted, Context, Decision, Message, Settled};
use platbook_protocol::row::{self, Effect, Row, WriteOutcome};
use platbook_protocol::rpc::RegisterView;
use platbook_protocol::{Digest, Revision, TimeMs, Zip};

use crate::config::{Config, FRESH, Mutation, SKEW_MS, ZIPS};
use crate::world::{Reader, Violation, World};

impl World {
    pub(crate) fn admit(&mut self, config: &Config, mut admission: Admission) -> Admitted {
        if config.has(Mutation::FloorIsForgotten) {
            admission.floor = Revision(0);
        }
        let before = self.register.revision;
        let context = self.context(config);
        let mut admitted = self.register.admit(admission, &context);
        if admitted.decision != Decision::TooOld {
            for (i, sending) in config.sendings.iter().enumerate() {
                self.admitted |= u8::from(sending.message == admission.message) << i;
            }
        }
        if config.has(Mutation::RevisionByClockAlone) && self.register.revision != before {
            let stamped = Revision::at(context.clock);
            self.register.revision = stamped;
            if let Decision::Do { revision, .. } = &mut admitted.decision {
                *revision = stamped;
            }
        }
        if config.has(Mutation::RepeatObeysTheMessage)
            && let (Decision::Settled { revision }, Message::Upsert(upsert)) =
                (&admitted.decision, admission.message)
        {
            let (revision, target) = (*revision, Some(upsert.zip));
            admitted.decision = Decision::Do {
                revision: revision.next(),
                target,
                erase: Vec::new(),
                settle: false,
            };
        }
        admitted
    }

    fn context(&self, config: &Config) -> Context {
        Context {
            clock: TimeMs(self.clock().0 - config.lag_ms),
            skew_ms: SKEW_MS,
            recreate: config.recreate,
            shard_floor: match config.has(Mutation::FloorOfShardIsForgotten) {
                true => Revision(0),
                false => self.floor,
            },
            register_horizon: match self.collected && !config.has(Mutation::NothingIsTooOld) {
                true => FRESH,
                false => TimeMs(0),
            },
        }
    }

    pub(crate) fn settle(&mut self, config: &Config, revision: Revision) -> Settled {
        match config.has(Mutation::SettleWithoutRevision) {
            true => self.register.settle(self.register.revision),
            false => self.register.settle(revision),
        }
    }

    /// The row as the check of a router that carries `message` sees it.
    pub(crate) fn checked_row(&self, config: &Config, zip: Zip, message: Message) -> Option<Row> {
        let row = self.rows[index(zip)];
        let revision = self.register.revision;
        let Some(digest) = self.register.upsert.map(|u| u.version.digest) else { return row };
        let superseded = match message {
            Message::Upsert(upsert) => upsert.version.digest != digest,
            Message::Delete { .. } => true,
        };
        let pretend = (config.has(Mutation::StaleIsNotChecked) && superseded)
            || (config.has(Mutation::SameBodyCountsAsWritten) && body_of(row) == Some(digest));
        if pretend { Some(Row::Live { revision, digest }) } else { row }
    }

    pub(crate) fn write(
        &mut self,
        config: &Config,
        zip: Zip,
        revision: Revision,
        digest: Digest,
    ) -> Result<WriteOutcome, Violation> {
        let row = self.rows[index(zip)];
        if let Some(Row::Live { revision: found, digest: other }) = row
            && found == revision
            && other != digest
        {
            return Err(Violation::TwoBodies);
        }
        let exempt = config.has(Mutation::NothingExpires)
            || (config.has(Mutation::MarkerExempts) && row.is_some());
        let horizon = if exempt { Revision(0) } else { self.horizons[index(zip)] };
        let (outcome, effect) = row::write(row, revision, digest, horizon);
        self.apply(zip, effect)?;
        Ok(outcome)
    }

    pub(crate) fn erase(
        &mut self,
        config: &Config,
        zip: Zip,
        revision: Revision,
    ) -> Result<(), Violation> {
        let effect = row::erase(self.rows[index(zip)], revision, self.clock());
        if config.has(Mutation::EraseWithoutMarker) && effect.put.is_some() {
            self.rows[index(zip)] = None;
            return Ok(());
        }
        self.apply(zip, effect)
    }

    fn apply(&mut self, zip: Zip, effect: Effect) -> Result<(), Violation> {
        let row = &mut self.rows[index(zip)];
        let before = body_of(*row);
        if effect.put.is_some() {
            *row = effect.put;
        }
        match effect.is_change == (before != body_of(*row)) {
            true => Ok(()),
            false => Err(Violation::WrongChange),
        }
    }

    pub(crate) fn view(&self, config: &Config) -> RegisterView {
        RegisterView {
            alive: self.register.alive,
            zip: self.register.zip,
            revision: self.register.revision,
            died: match config.has(Mutation::ReaderIgnoresDeath) {
                true => Revision(0),
                false => self.register.died,
            },
            old: self.register.old.iter().copied().collect(),
        }
    }

    pub(crate) fn new_reader(&self) -> Reader {
        let readable = self.readable();
        let born = self.register.died.next();
        let floor = self.seen.max(readable.unwrap_or_default()).max(born);
        Reader { read: ReadById::new(), guess: None, floor, must_find: readable.is_some() }
    }

    pub(crate) fn row_for_reader(&self, config: &Config, zip: Zip) -> Option<Row> {
        let row = self.rows[index(zip)];
        match config.has(Mutation::ReaderIgnoresMarkers) {
            true => row.filter(Row::is_live),
            false => row,
        }
    }

    pub(crate) fn finish_reading(
        &mut self,
        reader: &Reader,
        reading: Reading,
    ) -> Result<(), Violation> {
        match reading {
            Reading::NotFound if reader.must_find => Err(Violation::NotFound),
            Reading::NotFound => Ok(()),
            Reading::Found { revision, .. } if revision < reader.floor => Err(Violation::WentBack),
            Reading::Found { revision, .. } => {
                self.seen = self.seen.max(revision);
                Ok(())
            }
        }
    }

    /// Greatest revision of a live row of the present life, if the listing is alive at all.
    pub(crate) fn readable(&self) -> Option<Revision> {
        let live = self.rows.iter().flatten().filter(|row| row.is_live()).map(Row::revision);
        live.filter(|revision| self.register.alive && *revision > self.register.died).max()
    }
}

pub(crate) fn body_of(row: Option<Row>) -> Option<Digest> {
    match row {
        Some(Row::Live { digest, .. }) => Some(digest),
        Some(Row::Marker { .. }) | None => None,
    }
}

pub(crate) fn index(zip: Zip) -> usize {
    ZIPS.iter().position(|known| *known == zip).expect("all messages name known ZIPs")
}
