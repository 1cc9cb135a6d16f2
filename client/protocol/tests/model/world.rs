//! Everything about one id: its register, its rows, the markers' horizon, who carries a message
//! where, and what readers have seen. Each action is one atomic step of one of them.

use platbook_protocol::coordination::{Answer, Coordination, Step, Verdict};
use platbook_protocol::read_by_id::{ReadById, ReadStep};
use platbook_protocol::register::{Admission, Register};
use platbook_protocol::row::{self, Row, WriteOutcome};
use platbook_protocol::{Digest, Revision, TimeMs, Zip};

use crate::config::{Config, MESSAGES_MAX, Mutation, START_MS, TICK_MS, ZIPS};
use crate::explorer::fingerprint;
use crate::steps::index;

/// Most routers at once.
pub(crate) const ROUTERS_MAX: usize = 3;

/// Why the protocol is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The register differs from what the rule makes of the set of admitted messages.
    RegisterIsWrong,
    /// A message was acknowledged, and readers don't find it, nor anything newer. Or all that was
    /// admitted was acknowledged, and yet the rows are not those of the rule.
    AcknowledgedIsLost,
    /// All that was admitted was acknowledged, and yet the row has not the register's revision.
    RowIsBehind,
    /// Nothing is left to erase, and yet a row is live where none may be.
    SettledIsNotErased,
    /// Once readable, alive ever since, and no row is live.
    InNoZip,
    /// Two bodies under one revision.
    TwoBodies,
    /// A change was reported that readers can't see, or the other way round.
    WrongChange,
    /// A message from before the collection of the register brought the listing back.
    Revived,
    /// Live throughout, and a reader did not find it.
    NotFound,
    /// A reader found something older than what could be read when it started.
    WentBack,
    /// Sending everything again does not finish the work.
    Stuck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A router takes a message and admits it.
    Deliver {
        router: u8,
        message: u8,
    },
    /// A router carries out its step.
    Step {
        router: u8,
    },
    /// A router carries out its step and does not learn of it.
    StepUnheard {
        router: u8,
    },
    /// A router forgets what it carries.
    Crash {
        router: u8,
    },
    /// The sweeper begins, or carries out its step.
    Sweeper,
    SweeperCrash,
    Tick,
    /// The horizon of one row shard advances.
    Horizon {
        zip: u8,
    },
    Collect {
        zip: u8,
    },
    /// The register of a dead listing is collected.
    CollectRegister,
    /// A reader begins, or reads.
    Read,
    /// A reader begins with the row of a ZIP.
    Guess {
        zip: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fortune {
    /// In the queue, or not yet sent.
    Waiting,
    Acknowledged,
    /// A plain PUT that nobody will send again, or too old.
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Carrier {
    pub(crate) message: u8,
    pub(crate) coordination: Coordination,
    /// Only with [`Mutation::EraseBeforeWrite`].
    early: Vec<Zip>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sweeper {
    coordination: Coordination,
    body: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    pub(crate) read: ReadById,
    /// A row that it read before the register.
    pub(crate) guess: Option<(Zip, Option<Row>)>,
    /// Least revision that it may find.
    pub(crate) floor: Revision,
    /// The listing has been live since the reader started.
    pub(crate) must_find: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) register: Register,
    pub(crate) rows: [Option<Row>; ZIPS.len()],
    pub(crate) horizons: [Revision; ZIPS.len()],
    pub(crate) ticks: u8,
    pub(crate) copies: u8,
    pub(crate) fortunes: [Fortune; MESSAGES_MAX],
    /// Messages that the register has joined since it was collected, as bits.
    pub(crate) admitted: u8,
    pub(crate) collected: bool,
    /// Greatest revision of a collected register.
    pub(crate) floor: Revision,
    pub(crate) routers: [Option<Carrier>; ROUTERS_MAX],
    pub(crate) sweeper: Option<Sweeper>,
    /// A row could be read at some time of the present life.
    pub(crate) published: bool,
    pub(crate) reader: Option<Reader>,
    pub(crate) reads: u8,
    /// Greatest revision that a finished reading returned.
    pub(crate) seen: Revision,
}

impl World {
    pub(crate) fn new(config: &Config) -> World {
        World {
            register: Register::default(),
            rows: [None; ZIPS.len()],
            horizons: [Revision(0); ZIPS.len()],
            ticks: 0,
            copies: config.copies,
            fortunes: [Fortune::Waiting; MESSAGES_MAX],
            admitted: 0,
            collected: false,
            floor: Revision(0),
            routers: [const { None }; ROUTERS_MAX],
            sweeper: None,
            published: false,
            reader: None,
            reads: config.reads,
            seen: Revision(0),
        }
    }

    /// Puts every action that is possible now into `actions`.
    pub(crate) fn actions(&self, config: &Config, actions: &mut Vec<Action>) {
        actions.clear();
        let mut idle = true;
        for (router, carrier) in self.routers[..config.routers].iter().enumerate() {
            let router = router as u8;
            if carrier.is_some() {
                actions.push(Action::Step { router });
                if config.crashes {
                    actions.push(Action::Crash { router });
                }
                if config.repeats {
                    actions.push(Action::StepUnheard { router });
                }
            } else if std::mem::take(&mut idle) {
                // All idle routers are the same.
                let deliverable =
                    (0..config.sendings.len()).filter(|i| self.may_deliver(config, *i));
                actions.extend(deliverable.map(|i| Action::Deliver { router, message: i as u8 }));
            }
        }
        if config.sweeper && (self.sweeper.is_some() || self.register.is_unsettled()) {
            if !config.has(Mutation::HeldIsNotFinished) {
                actions.push(Action::Sweeper);
            }
            if self.sweeper.is_some() && config.crashes {
                actions.push(Action::SweeperCrash);
            }
        }
        if self.ticks < config.ticks {
            actions.push(Action::Tick);
        }
        for zip in 0..config.zips {
            let (horizon, clock) = (self.horizons[zip], self.clock());
            if self.ticks > 0 && row::horizon_after(horizon, clock) > horizon {
                actions.push(Action::Horizon { zip: zip as u8 });
            }
            if self.rows[zip].is_some_and(|row| row::is_collectable(row, horizon, clock)) {
                actions.push(Action::Collect { zip: zip as u8 });
            }
        }
        let settled = !self.register.is_unknown() && !self.register.is_unsettled();
        if config.collects && !self.collected && settled && !self.register.alive {
            actions.push(Action::CollectRegister);
        }
        if self.reader.is_some() || self.reads > 0 {
            actions.push(Action::Read);
        }
        if config.guesses && self.reader.is_none() && self.reads > 0 {
            actions.extend((0..config.zips).map(|zip| Action::Guess { zip: zip as u8 }));
        }
    }

    fn may_deliver(&self, config: &Config, message: usize) -> bool {
        match self.fortunes[message] {
            Fortune::Waiting => true,
            Fortune::Acknowledged => self.copies > 0 && !config.sendings[message].hold,
            Fortune::Dropped => false,
        }
    }

    pub(crate) fn act(&mut self, config: &Config, action: Action) -> Result<(), Violation> {
        let clock = self.clock();
        match action {
            Action::Deliver { router, message } => self.deliver(config, router, message)?,
            Action::Step { router } => self.step(config, router)?,
            Action::StepUnheard { router } => {
                let step =
                    self.routers[usize::from(router)].as_ref().map(|c| c.coordination.next());
                self.carry_out(config, step.expect("only busy routers step"))?;
            }
            Action::Crash { router } => self.routers[usize::from(router)] = None,
            Action::Sweeper => self.sweep(config)?,
            Action::SweeperCrash => self.sweeper = None,
            Action::Tick => {
                self.ticks += 1;
                // A reader's deadline passes long before a marker is let go.
                self.reader = None;
            }
            Action::Horizon { zip } => {
                let horizon = &mut self.horizons[usize::from(zip)];
                *horizon = row::horizon_after(*horizon, clock);
            }
            Action::Collect { zip } => self.rows[usize::from(zip)] = None,
            Action::CollectRegister => {
                self.floor = self.floor.max(self.register.revision);
                self.register = Register::default();
                self.admitted = 0;
                self.collected = true;
            }
            Action::Read => self.read(config)?,
            Action::Guess { zip } => {
                self.reads -= 1;
                let (mut reader, zip) = (self.new_reader(), usize::from(zip));
                reader.guess = Some((ZIPS[zip], self.rows[zip]));
                self.reader = Some(reader);
            }
        }
        self.published = self.register.alive && (self.published || self.readable().is_some());
        if let Some(reader) = &mut self.reader
            && !self.register.alive
        {
            reader.must_find = false;
        }
        Ok(())
    }

    fn deliver(&mut self, config: &Config, router: u8, message: u8) -> Result<(), Violation> {
        let index = usize::from(message);
        let sending = config.sendings[index];
        match self.fortunes[index] {
            Fortune::Waiting if sending.hold => self.fortunes[index] = Fortune::Dropped,
            Fortune::Acknowledged => self.copies -= 1,
            Fortune::Waiting | Fortune::Dropped => {}
        }
        let coordination = Coordination::new(Admission {
            message: sending.message,
            queued: sending.message.sent(),
            floor: Revision(0),
            if_match: None,
            hold: sending.hold,
        });
        let carrier = Carrier { message, coordination, early: Vec::new() };
        self.routers[usize::from(router)] = Some(carrier);
        self.step(config, router)
    }

    fn step(&mut self, config: &Config, router: u8) -> Result<(), Violation> {
        let router = usize::from(router);
        let mut carrier = self.routers[router].take().expect("only busy routers step");
        let step = carrier.coordination.next();
        if let (Some(zip), Step::Write { revision, .. }) = (carrier.early.last(), step) {
            self.erase(config, *zip, revision)?;
            carrier.early.pop();
            self.routers[router] = Some(carrier);
            return Ok(());
        }
        let answer = if let Step::CheckRow { zip } = step {
            let message = config.sendings[usize::from(carrier.message)].message;
            Answer::Row(self.checked_row(config, zip, message))
        } else {
            self.carry_out(config, step)?
        };
        let superseded = answer == Answer::Written(WriteOutcome::Superseded);
        if config.has(Mutation::SupersededIsNotErased) && superseded {
            self.fortunes[usize::from(carrier.message)] = Fortune::Acknowledged;
            return Ok(());
        }
        if config.has(Mutation::EraseBeforeWrite) && matches!(step, Step::Admit(_)) {
            carrier.early = self.register.old.iter().copied().collect();
        }
        carrier.coordination.on(answer).expect("the world answers what was asked");
        let message = usize::from(carrier.message);
        match carrier.coordination.next() {
            // Its verdict was told before.
            Step::Finished(_) if matches!(step, Step::Release { .. }) => Ok(()),
            Step::Finished(verdict) => self.conclude(message, verdict),
            Step::Release { verdict, .. } => {
                self.routers[router] = Some(carrier);
                self.conclude(message, verdict)
            }
            Step::Admit(_)
            | Step::CheckRow { .. }
            | Step::Write { .. }
            | Step::Erase { .. }
            | Step::Settle { .. } => {
                self.routers[router] = Some(carrier);
                Ok(())
            }
        }
    }

    /// A router tells what became of a message.
    fn conclude(&mut self, message: usize, verdict: Verdict) -> Result<(), Violation> {
        match verdict {
            Verdict::Acknowledge { revision, .. } => {
                // A collected register was dead, and does not remember when it died.
                let died = self.register.died.max(self.floor);
                let dead = !self.register.alive || died > revision;
                if !dead && self.readable() < Some(revision) {
                    return Err(Violation::AcknowledgedIsLost);
                }
                self.fortunes[message] = Fortune::Acknowledged;
            }
            Verdict::Busy => {}
            Verdict::TooOld => self.fortunes[message] = Fortune::Dropped,
            Verdict::PreconditionFailed { .. } => unreachable!("no conditions are explored"),
        }
        Ok(())
    }

    fn sweep(&mut self, config: &Config) -> Result<(), Violation> {
        let mut sweeper = match self.sweeper.take() {
            Some(sweeper) => sweeper,
            None => Sweeper {
                coordination: Coordination::finishing(&self.register).expect("it is unsettled"),
                body: self.register.upsert.map(|u| u.version.digest).filter(|_| self.register.held),
            },
        };
        let step = sweeper.coordination.next();
        if let Step::Write { digest, .. } = step
            && sweeper.body != Some(digest)
        {
            // Half written: whoever has the body must come again.
            return Ok(());
        }
        let answer = self.carry_out(config, step)?;
        sweeper.coordination.on(answer).expect("the world answers what was asked");
        let finished = matches!(sweeper.coordination.next(), Step::Finished(_));
        self.sweeper = (!finished).then_some(sweeper);
        Ok(())
    }

    fn carry_out(&mut self, config: &Config, step: Step) -> Result<Answer, Violation> {
        Ok(match step {
            Step::Admit(admission) => Answer::Admitted(self.admit(config, admission)),
            Step::CheckRow { zip } => Answer::Row(self.rows[index(zip)]),
            Step::Write { zip, revision, digest } => {
                Answer::Written(self.write(config, zip, revision, digest)?)
            }
            Step::Erase { zip, revision, .. } => {
                self.erase(config, zip, revision)?;
                Answer::Erased
            }
            Step::Settle { revision } | Step::Release { revision, .. } => {
                Answer::Settled(self.settle(config, revision))
            }
            Step::Finished(_) => unreachable!("finished carriers are taken away"),
        })
    }

    fn read(&mut self, config: &Config) -> Result<(), Violation> {
        let mut reader = self.reader.take().unwrap_or_else(|| {
            self.reads -= 1;
            self.new_reader()
        });
        match reader.read.next() {
            ReadStep::ReadRegister => {
                let mut view = self.view(config);
                if let (true, Some((zip, Some(row)))) =
                    (config.has(Mutation::GuessIsBelieved), reader.guess)
                {
                    (view.zip, view.revision) = (Some(zip), row.revision());
                }
                reader.read.on_register(Some(view));
                if let Some((zip, row)) = reader.guess.take() {
                    reader.read.on_guess(zip, row);
                }
            }
            ReadStep::ReadRow { zip } => {
                reader.read.on_row(self.row_for_reader(config, zip));
            }
            ReadStep::Finished(_) => unreachable!("finished readers are taken away"),
        }
        match reader.read.next() {
            ReadStep::Finished(reading) => self.finish_reading(&reader, reading),
            ReadStep::ReadRegister | ReadStep::ReadRow { .. } => {
                self.reader = Some(reader);
                Ok(())
            }
        }
    }

    pub(crate) fn clock(&self) -> TimeMs {
        TimeMs(START_MS + u64::from(self.ticks) * TICK_MS)
    }

    /// Routers are interchangeable: states that differ only in their order are the same.
    pub(crate) fn normalise(&mut self) {
        if self.routers.iter().flatten().count() > 1 || self.routers[0].is_none() {
            self.routers.sort_by_cached_key(|carrier| (carrier.is_none(), fingerprint(carrier)));
        }
    }
}
