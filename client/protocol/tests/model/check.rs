//! What must hold in every state.

use platbook_protocol::row::Row;

use crate::config::{Config, FRESH};
use crate::steps::{body_of, index};
use crate::world::{Action, Fortune, Violation, World};

/// Deliveries of everything after which the work must be done.
const ROUNDS_MAX: usize = 6;
/// Steps in which one delivery must come to its verdict.
const STEPS_MAX: usize = 64;

impl World {
    /// All that was admitted was acknowledged. Routers may still be anywhere, with late copies or
    /// with steps of long ago.
    pub(crate) fn is_quiet(&self) -> bool {
        let acknowledged = |i: usize| self.fortunes[i] == Fortune::Acknowledged;
        let mut joined = (0..self.fortunes.len()).filter(|i| self.admitted & (1 << i) != 0);
        self.admitted != 0 && joined.all(acknowledged)
    }

    pub(crate) fn check(&self, config: &Config) -> Result<(), Violation> {
        let fate = config.fates[usize::from(self.admitted)];
        let register = &self.register;
        if (register.upsert, register.delete, register.alive)
            != (fate.upsert, fate.delete, fate.alive)
        {
            return Err(Violation::RegisterIsWrong);
        }
        let is_old = register.upsert.is_some_and(|u| u.version.sent < FRESH);
        if self.collected && register.alive && is_old {
            return Err(Violation::Revived);
        }
        let home = register.zip.filter(|_| register.alive).map(index);
        let elsewhere = (0..self.rows.len())
            .any(|zip| Some(zip) != home && self.rows[zip].is_some_and(|row| row.is_live()));
        if register.old.is_empty() && elsewhere {
            return Err(Violation::SettledIsNotErased);
        }
        if self.published && self.readable().is_none() {
            return Err(Violation::InNoZip);
        }
        if self.is_quiet() {
            self.check_rows(config)?;
        }
        let idle = self.routers.iter().all(Option::is_none);
        if idle && self.sweeper.is_none() && self.reader.is_none() {
            self.drain(config)?;
        }
        Ok(())
    }

    /// The rows are exactly those that the oracle makes of what was admitted.
    fn check_rows(&self, config: &Config) -> Result<(), Violation> {
        let fate = config.fates[usize::from(self.admitted)];
        let winner = fate.upsert.filter(|_| fate.alive);
        for (zip, row) in self.rows.iter().enumerate() {
            let expected = winner.filter(|u| index(u.zip) == zip).map(|u| u.version.digest);
            if body_of(*row) != expected {
                return Err(Violation::AcknowledgedIsLost);
            }
            if row.filter(Row::is_live).is_some_and(|r| r.revision() != self.register.revision) {
                return Err(Violation::RowIsBehind);
            }
        }
        Ok(())
    }

    /// From here, with nobody at work: sending everything again must finish the work.
    fn drain(&self, config: &Config) -> Result<(), Violation> {
        let mut world = self.clone();
        for _ in 0..ROUNDS_MAX {
            let feed = |world: &World, i: usize| {
                !config.sendings[i].hold && world.fortunes[i] == Fortune::Waiting
            };
            let waiting: Vec<usize> =
                (0..config.sendings.len()).filter(|i| feed(&world, *i)).collect();
            if waiting.is_empty() && !world.register.is_unsettled() {
                return world.check_rows(config);
            }
            for i in waiting {
                world.act(config, Action::Deliver { router: 0, message: i as u8 })?;
                let mut steps = 0;
                while world.routers[0].is_some() {
                    world.act(config, Action::Step { router: 0 })?;
                    steps += 1;
                    if steps == STEPS_MAX {
                        return Err(Violation::Stuck);
                    }
                }
            }
            world.drain_sweeper(config)?;
        }
        Err(Violation::Stuck)
    }

    fn drain_sweeper(&mut self, config: &Config) -> Result<(), Violation> {
        let mut actions = Vec::new();
        for _ in 0..STEPS_MAX {
            self.actions(config, &mut actions);
            if !actions.contains(&Action::Sweeper) {
                break;
            }
            self.act(config, Action::Sweeper)?;
        }
        Ok(())
    }

    /// One line for a trace.
    pub(crate) fn sketch(&self) -> String {
        let register = &self.register;
        let steps: Vec<_> = self.routers.iter().flatten().map(|c| c.coordination.next()).collect();
        format!(
            "alive={} zip={:?} rev={:x} died={:x} old={:?} held={} rows={:?} horizons={:?} \
             fortunes={:?} steps={steps:?} reader={:?}",
            register.alive,
            register.zip,
            register.revision.0,
            register.died.0,
            register.old,
            register.held,
            self.rows,
            self.horizons,
            self.fortunes,
            self.reader.as_ref().map(|r| r.read.next()),
        )
    }
}
