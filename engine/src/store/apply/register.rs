//! Admit and Settle: the register of an id, the body held with it, its place in the time index.

use platbook_protocol::op::{Body, OpOutcome, Stamp};
use platbook_protocol::register::{
    Admission, Admitted, Context, Label, Message, Register, Settled, Suspicion,
};
use platbook_protocol::{Revision, TimeMs};

use super::Applying;
use crate::error::StoreError;
use crate::store::key::Key;
use crate::store::value::list::{DUE, SuspectRecord};
use crate::store::value::register::{RegisterRecord, encode_held};

impl<'a> Applying<'a> {
    pub(super) fn admit(
        &mut self,
        stamp: &Stamp,
        id: &str,
        admission: Admission,
        body: Option<Body<'a>>,
    ) -> Result<OpOutcome, StoreError> {
        let before = self.register(id)?.unwrap_or_default();
        let mut register = before.register.clone();
        // Without a body there is nothing to hold, whatever was asked for.
        let admission = Admission { hold: admission.hold && body.is_some(), ..admission };
        let context = Context {
            clock: stamp.clock,
            skew_ms: stamp.skew_ms,
            recreate: stamp.recreate,
            shard_floor: self.state.floor,
            register_horizon: self.state.register_horizon,
        };
        let admitted = register.admit(admission, &context);
        self.hold(id, &before.register, &register, &admission.message, body);
        self.put_register(id, &before, register, stamp.clock);
        self.note_suspect(id, &admitted, stamp.clock)?;
        Ok(OpOutcome::Admitted(admitted))
    }

    pub(super) fn settle(
        &mut self,
        stamp: &Stamp,
        id: &str,
        revision: Revision,
    ) -> Result<OpOutcome, StoreError> {
        let before = self.register(id)?.unwrap_or_default();
        let mut register = before.register.clone();
        let settled = register.settle(revision);
        if settled == Settled::Done {
            if before.register.held {
                self.overlay.delete(&Key::Held(id));
            }
            self.clear_half_written(id)?;
            self.put_register(id, &before, register, stamp.clock);
        }
        Ok(OpOutcome::Settled(settled))
    }

    pub(super) fn register(&self, id: &str) -> Result<Option<RegisterRecord>, StoreError> {
        self.overlay.get(&Key::Register(id), RegisterRecord::decode)
    }

    /// Keeps the body of the decision that has just been taken, drops that of an older one.
    fn hold(
        &mut self,
        id: &str,
        before: &Register,
        after: &Register,
        message: &Message,
        body: Option<Body<'a>>,
    ) {
        let mine = match (message, &after.upsert) {
            (Message::Upsert(m), Some(u)) => m.version.digest == u.version.digest,
            (Message::Upsert(_) | Message::Delete { .. }, _) => false,
        };
        let decided = !before.held || before.revision != after.revision;
        match (before.held, after.held, body) {
            (_, true, Some(body)) if mine && decided => {
                self.overlay.put(&Key::Held(id), encode_held(&body));
            }
            (true, false, _) => self.overlay.delete(&Key::Held(id)),
            (true | false, true, _) | (false, false, _) => {}
        }
    }

    fn put_register(
        &mut self,
        id: &str,
        before: &RegisterRecord,
        register: Register,
        clock: TimeMs,
    ) {
        // What was refused leaves an unknown id unknown.
        if register == before.register || register.is_unknown() {
            return;
        }
        let after = RegisterRecord { register, touched: before.touched.max(clock) };
        let (old_due, new_due) = (before.due(id), after.due(id));
        if old_due != new_due {
            if let Some(due) = old_due {
                self.overlay.delete(&Key::Due(self.shard, due));
            }
            if let Some(due) = new_due {
                self.overlay.put(&Key::Due(self.shard, due), DUE.to_vec());
            }
        }
        self.overlay.put(&Key::Register(id), after.encode());
    }

    /// Lists the id. A duplicate was listed when it first came, and may have been cleared since.
    fn note_suspect(
        &mut self,
        id: &str,
        admitted: &Admitted,
        noticed: TimeMs,
    ) -> Result<(), StoreError> {
        match (admitted.suspect, admitted.label) {
            (None, _) | (Some(_), Label::Duplicate) => Ok(()),
            (
                Some(suspicion),
                Label::Applied | Label::Unchanged | Label::Stale | Label::Suspect,
            ) => self.put_suspect(id, suspicion, noticed),
        }
    }

    pub(super) fn put_suspect(
        &mut self,
        id: &str,
        suspicion: Suspicion,
        noticed: TimeMs,
    ) -> Result<(), StoreError> {
        let known = self.overlay.get(&Key::Suspect(id), SuspectRecord::decode)?;
        let replaces = match known {
            None => true,
            // Ends by itself when the listing settles, so it must not hide what does not.
            Some(_) if suspicion == Suspicion::HalfWritten => false,
            Some(known) => known.suspicion != suspicion,
        };
        if replaces {
            let record = SuspectRecord { suspicion, noticed };
            self.overlay.put(&Key::Suspect(id), record.encode());
        }
        Ok(())
    }

    fn clear_half_written(&mut self, id: &str) -> Result<(), StoreError> {
        let known = self.overlay.get(&Key::Suspect(id), SuspectRecord::decode)?;
        if known.is_some_and(|known| known.suspicion == Suspicion::HalfWritten) {
            self.overlay.delete(&Key::Suspect(id));
        }
        Ok(())
    }
}
