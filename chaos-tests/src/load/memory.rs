//! What a client knows about one of its listings, and therefore must see.
//!
//! Only this client writes the listing, one write after the other, each with a greater number. So a
//! write that was acknowledged supersedes all before it, also those of which nobody knows the
//! outcome; and one that was not can only be seen as long as no later one is acknowledged.

/// A look at the listing: the number of a write, and the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    pub(crate) revision: u64,
}

/// What is known about one listing. Numbers start at 1; 0 is "never".
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// The last write that was sent.
    sent: u64,
    /// The last one that was acknowledged, and its revision.
    acknowledged: u64,
    acknowledged_revision: u64,
    /// The greatest that a read showed.
    seen: u64,
    seen_revision: u64,
}

impl Memory {
    /// A write leaves; gives its number.
    pub(crate) fn on_send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// The last write that was sent is acknowledged.
    pub(crate) fn on_done(&mut self, revision: u64) -> Result<(), String> {
        let before = self.acknowledged_revision.max(self.seen_revision);
        self.acknowledged = self.sent;
        self.acknowledged_revision = revision;
        match revision > before {
            true => Ok(()),
            false => Err(format!("acknowledged with revision {revision} after {before}")),
        }
    }

    /// Whether the last write that was sent was acknowledged, so that exactly it must be seen.
    pub(crate) fn is_settled(&self) -> bool {
        self.acknowledged == self.sent
    }

    /// A read by id, started after all that is known, shows this.
    pub(crate) fn on_read(&mut self, found: Option<Seen>) -> Result<(), String> {
        let least = self.acknowledged.max(self.seen);
        let Some(found) = found else {
            return match least {
                0 => Ok(()),
                _ => Err(format!("not found, but write {least} was acknowledged or seen")),
            };
        };
        let Seen { number, revision } = found;
        let least_revision = self.acknowledged_revision.max(self.seen_revision);
        let told = if number < self.acknowledged {
            Err(format!("shows write {number} after {} was acknowledged", self.acknowledged))
        } else if number < self.seen {
            Err(format!("shows write {number} after {} was seen", self.seen))
        } else if number > self.sent {
            Err(format!("shows write {number}, which was never sent"))
        } else if revision < least_revision {
            Err(format!("shows revision {revision} after {least_revision}"))
        } else {
            Ok(())
        };
        self.seen = self.seen.max(number);
        self.seen_revision = self.seen_revision.max(revision);
        told
    }

    /// A read of a ZIP shows this write of the listing in it, or none; `puts_here` tells whether a
    /// write puts the listing there. As long as a move is not acknowledged, the listing may still
    /// stand where it was, although it was seen where it goes.
    pub(crate) fn on_zip(
        &self,
        found: Option<u64>,
        puts_here: impl Fn(u64) -> bool,
    ) -> Result<(), String> {
        let seen_here = if puts_here(self.seen) { self.seen } else { 0 };
        let known = self.acknowledged.max(seen_here);
        let is_home = puts_here(self.acknowledged);
        match found {
            Some(number) if number > self.sent => {
                Err(format!("the ZIP shows write {number}, which was never sent"))
            }
            Some(number) if number < known => {
                Err(format!("the ZIP shows write {number} after {known} was known"))
            }
            Some(_) if self.is_settled() && !is_home => Err("it stands in a ZIP it left".into()),
            None if self.is_settled() && is_home && self.acknowledged > 0 => {
                Err(format!("the ZIP lacks it after write {}", self.acknowledged))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(number: u64, revision: u64) -> Option<Seen> {
        Some(Seen { number, revision })
    }

    /// Write 1 acknowledged with revision 10, write 2 unknown.
    fn memory() -> Memory {
        let mut memory = Memory::default();
        assert_eq!(memory.on_read(None), Ok(()));
        assert_eq!(memory.on_send(), 1);
        assert_eq!(memory.on_done(10), Ok(()));
        assert_eq!(memory.on_send(), 2);
        memory
    }

    #[test]
    fn an_unknown_write_may_be_seen_or_not_but_never_again_not() {
        let mut memory = memory();
        assert_eq!(memory.on_read(seen(1, 10)), Ok(()));
        assert_eq!(memory.on_read(seen(2, 11)), Ok(()));
        assert!(memory.on_read(seen(1, 10)).is_err_and(|e| e.contains("after 2 was seen")));
    }

    #[test]
    fn less_than_what_was_acknowledged_is_told() {
        assert!(memory().on_read(None).is_err_and(|e| e.contains("not found")));
        assert!(memory().on_read(seen(3, 12)).is_err_and(|e| e.contains("never sent")));
        assert!(memory().on_read(seen(2, 9)).is_err_and(|e| e.contains("revision 9")));
        let mut settled = memory();
        assert_eq!(settled.on_done(11), Ok(()));
        assert!(settled.on_read(seen(1, 10)).is_err_and(|e| e.contains("2 was acknowledged")));
        assert!(memory().on_done(10).is_err(), "a revision is given once");
    }

    #[test]
    fn a_settled_listing_stands_in_its_zip_and_in_no_other() {
        let mut memory = memory();
        let (here, elsewhere) = (|_| true, |_| false);
        assert_eq!(memory.on_zip(None, here), Ok(()), "it may have moved");
        assert_eq!(memory.on_zip(Some(2), elsewhere), Ok(()), "it may have moved");
        assert_eq!(memory.on_done(11), Ok(()));
        assert_eq!(memory.on_zip(Some(2), here), Ok(()));
        assert_eq!(memory.on_zip(None, elsewhere), Ok(()));
        assert!(memory.on_zip(None, here).is_err());
        assert!(memory.on_zip(Some(2), elsewhere).is_err());
        assert!(memory.on_zip(Some(1), here).is_err());
    }

    /// Full disks end a move between its write and its erase, for as long as they are full.
    #[test]
    fn a_listing_that_was_seen_where_it_goes_may_still_stand_where_it_was() {
        let mut memory = memory();
        assert_eq!(memory.on_read(seen(2, 11)), Ok(()));
        let (old, new) = (|number| number < 2, |number| number >= 2);
        assert_eq!(memory.on_zip(Some(1), old), Ok(()), "the move is not acknowledged");
        assert!(memory.on_zip(Some(1), new).is_err(), "each ZIP goes only forward");
        assert_eq!(memory.on_done(12), Ok(()));
        assert!(memory.on_zip(Some(1), old).is_err());
    }
}
