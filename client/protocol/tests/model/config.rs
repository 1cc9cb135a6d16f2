//! What is explored: the messages of one id, who may do what how often, and which rule is off.

use platbook_protocol::oracle::{Fate, Oracle};
use platbook_protocol::register::{Message, Recreate, Upsert, Version};
use platbook_protocol::row::MARKER_RETENTION_MS;
use platbook_protocol::{Digest, TimeMs, Zip};

/// Most messages in a configuration.
pub(crate) const MESSAGES_MAX: usize = 4;
/// ZIPs in the world.
pub(crate) const ZIPS: [Zip; 3] =
    [Zip::Code(*b"00000"), Zip::Code(*b"00001"), Zip::Code(*b"00002")];
/// How far the clock goes at once: far enough for every marker to be let go.
pub(crate) const TICK_MS: u64 = 2 * MARKER_RETENTION_MS;
/// The clock at first, so that a lagging one does not meet zero.
pub(crate) const START_MS: u64 = 100 * TICK_MS;
/// Small, so that messages on both sides of it are few milliseconds apart.
pub(crate) const SKEW_MS: u64 = 5;
/// Once a register is collected, unknown ids take only messages from here on.
pub(crate) const FRESH: TimeMs = TimeMs(1000);

/// One rule of the protocol, switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A superseded message is acknowledged without a look at the winner's row.
    StaleIsNotChecked,
    /// A row is taken for written when its body is the same, whatever its revision.
    SameBodyCountsAsWritten,
    /// An erase removes the row and leaves nothing.
    EraseWithoutMarker,
    /// A marker lets a write below the horizon pass.
    MarkerExempts,
    /// Writes never expire.
    NothingExpires,
    /// The other ZIPs are erased before the target is written.
    EraseBeforeWrite,
    /// A superseded write is acknowledged without its erases.
    SupersededIsNotErased,
    /// The revision is the proposer's clock alone.
    RevisionByClockAlone,
    /// A repeated upsert is written, although the register says that nothing is to be done.
    RepeatObeysTheMessage,
    /// `Settle` does not ask whether its revision is current.
    SettleWithoutRevision,
    /// The reader takes markers for nothing.
    ReaderIgnoresMarkers,
    /// The reader believes a row that it read before the register, whatever the register says.
    GuessIsBelieved,
    /// The reader takes a row of an earlier life for the listing.
    ReaderIgnoresDeath,
    /// Nobody finishes what a plain PUT left behind.
    HeldIsNotFinished,
    /// A collected id starts again below the revisions that it had.
    FloorOfShardIsForgotten,
    /// A collected id takes whatever comes.
    NothingIsTooOld,
    /// A write that expired is admitted again without the horizon that it met.
    FloorIsForgotten,
}

/// One message and how it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) message: Message,
    /// A plain PUT: delivered once, its body held by the register.
    pub(crate) hold: bool,
}

/// One exploration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) name: &'static str,
    pub(crate) sendings: Vec<Sending>,
    pub(crate) recreate: Recreate,
    pub(crate) routers: usize,
    /// Deliveries of messages that were acknowledged before.
    pub(crate) copies: u8,
    pub(crate) ticks: u8,
    /// A step may be carried out and its answer lost, whereupon it is carried out again.
    pub(crate) repeats: bool,
    pub(crate) sweeper: bool,
    /// How many of the ZIPs are used.
    pub(crate) zips: usize,
    /// The register of a dead listing may be collected, once.
    pub(crate) collects: bool,
    /// Routers may crash.
    pub(crate) crashes: bool,
    /// Readings by id, one after the other.
    pub(crate) reads: u8,
    /// A reading may begin with the row of any ZIP, before it reads the register.
    pub(crate) guesses: bool,
    /// How far the register's shard is behind the rows' shards.
    pub(crate) lag_ms: u64,
    pub(crate) mutation: Option<Mutation>,
    /// What each set of admitted messages comes to, by its bits.
    pub(crate) fates: Vec<Fate>,
}

impl Config {
    /// Two routers, one late copy, one tick.
    pub(crate) fn new(name: &'static str, messages: &[Message]) -> Config {
        assert!(messages.len() <= MESSAGES_MAX);
        let sendings = messages.iter().map(|m| Sending { message: *m, hold: false }).collect();
        let mut config = Config {
            name,
            sendings,
            recreate: Recreate::BothClocks,
            routers: 2,
            copies: 1,
            ticks: 1,
            repeats: false,
            sweeper: false,
            zips: zips_of(messages),
            collects: false,
            crashes: true,
            reads: 0,
            guesses: false,
            lag_ms: 0,
            mutation: None,
            fates: Vec::new(),
        };
        config.foresee();
        config
    }

    pub(crate) fn copies(self, copies: u8) -> Config {
        Config { copies, ..self }
    }

    pub(crate) fn ticks(self, ticks: u8) -> Config {
        Config { ticks, ..self }
    }

    pub(crate) fn routers(self, routers: usize) -> Config {
        Config { routers, ..self }
    }

    pub(crate) fn reads(self, reads: u8) -> Config {
        Config { reads, ..self }
    }

    pub(crate) fn guesses(self) -> Config {
        Config { guesses: true, ..self }
    }

    pub(crate) fn repeats(self) -> Config {
        Config { repeats: true, ..self }
    }

    pub(crate) fn steady(self) -> Config {
        Config { crashes: false, ..self }
    }

    pub(crate) fn collects(self) -> Config {
        Config { collects: true, ..self }
    }

    pub(crate) fn lag(self, ticks: u64) -> Config {
        Config { lag_ms: ticks * TICK_MS, ..self }
    }

    pub(crate) fn queue_time(self) -> Config {
        let mut config = Config { recreate: Recreate::QueueTime, ..self };
        config.foresee();
        config
    }

    /// The message with this index is a plain PUT or DELETE.
    pub(crate) fn hold(mut self, index: usize) -> Config {
        self.sendings[index].hold = true;
        self.sweeper = true;
        self
    }

    pub(crate) fn without(self, rule: Mutation) -> Config {
        Config { mutation: Some(rule), ..self }
    }

    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn foresee(&mut self) {
        let fates = (0..1_usize << self.sendings.len()).map(|set| {
            let mut oracle = Oracle::new(SKEW_MS, self.recreate);
            for (index, sending) in self.sendings.iter().enumerate() {
                if set & (1 << index) != 0 {
                    oracle.observe("id", sending.message);
                }
            }
            oracle.fate_of("id")
        });
        self.fates = fates.collect();
    }
}

fn zips_of(messages: &[Message]) -> usize {
    let last = messages.iter().filter_map(|message| match message {
        Message::Upsert(upsert) => ZIPS.iter().position(|zip| *zip == upsert.zip),
        Message::Delete { .. } => None,
    });
    last.max().map_or(0, |last| last + 1)
}

/// An upsert: clocks, ZIP and body. As with the real digest, equal ones are equal in all of ZIP,
/// `modified` and body.
pub(crate) fn upsert(modified: u64, sent: u64, zip: usize, body: u8) -> Message {
    let mut digest = [0; 16];
    digest[0] = body;
    digest[1] = zip as u8;
    digest[2] = modified as u8;
    let digest = Digest(digest);
    let version = Version { modified: TimeMs(modified), sent: TimeMs(sent), digest };
    Message::Upsert(Upsert { version, zip: ZIPS[zip] })
}

/// A delete.
pub(crate) fn delete(sent: u64) -> Message {
    Message::Delete { sent: TimeMs(sent) }
}
