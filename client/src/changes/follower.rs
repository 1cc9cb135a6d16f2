//! Where a reader stands, and the proof that nothing is missing: pure, lines in, events out.
//!
//! A shard's changes have the numbers 1, 2, 3, ...; what a filter leaves out is told as ranges. So
//! every change either follows the one before it, or stands behind a range that was left out. What
//! was told before is dropped, and anything else is a gap: the connection is then given up and the
//! stream goes on from the last position that is proved.
//!
//! Tokens come with control lines only. Between them the position is carried on from the last one,
//! change by change, so that a reader that breaks off anywhere resumes at exactly the next change.

use std::collections::{BTreeMap, HashMap, HashSet};

use platbook_protocol::token::{Position, Token as Vector};
use platbook_protocol::{ListingId, Revision, Seq, ShardId, Zip};

use super::event::{Change, Event};
use super::wire::{Control, Line};
use crate::config::STATE_ROWS_SINCE_TOKEN_MAX;
use crate::token::Token;

/// A change that does not follow the one before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard}: change {found} came behind {last}, and what is between was not told")]
pub struct GapError {
    /// The shard.
    pub shard: ShardId,
    /// The last change that was told or left out.
    pub last: Seq,
    /// The change that came.
    pub found: Seq,
}

/// What proves that nothing is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Proof {
    /// The numbers of a shard, with the ranges that a filter left out.
    Numbered,
    /// The same, and each change names the one before it in its ZIP: for streams that leave out
    /// nothing of the ZIPs that they tell of.
    #[default]
    Chained,
}

/// A row of present state, as told.
type Row = (Zip, ListingId, Revision);

/// A shard whose present state is being told.
#[derive(Debug)]
struct Telling {
    /// The change up to which the state reaches.
    seq: Seq,
    /// Where the last token stood.
    cursor: Vec<u8>,
    /// Rows told behind that.
    rows: HashSet<Row>,
}

/// Where a reader stands.
#[derive(Debug, Default)]
pub(super) struct Follower {
    proof: Proof,
    /// The last token that was given, by the store or by the caller.
    given: Option<Token>,
    /// The same taken apart and carried on; `None` where this build cannot read it.
    vector: Option<Vector>,
    /// Whether anything was carried on since `given`.
    is_ahead: bool,
    in_state: BTreeMap<ShardId, Telling>,
    /// Last change told of the shards that are followed.
    told: BTreeMap<ShardId, Seq>,
    /// Last change told of each ZIP that changed while it was followed.
    chains: HashMap<Zip, Seq>,
    /// Present state is being told, and was from its beginning.
    is_whole: bool,
}

impl Follower {
    /// At a position that the caller has kept.
    pub(super) fn at(token: Option<Token>, proof: Proof) -> Follower {
        let mut follower = Follower { proof, ..Follower::default() };
        if let Some(token) = token {
            follower.on_token(token);
        }
        follower
    }

    /// The position behind everything that was told; `None` before the first.
    pub(super) fn token(&self) -> Option<Token> {
        let carried = self.vector.as_ref().filter(|_| self.is_ahead);
        let carried = carried.and_then(|vector| vector.encode().ok()).map(Token::from);
        carried.or_else(|| self.given.clone())
    }

    /// The store says that the changes behind the position are gone, and where to begin anew; gives
    /// what is to be told. Also within a resync: what it had told again may be gone by now.
    pub(super) fn on_gone(&mut self, resync: Token) -> Event {
        self.forget();
        self.on_token(resync);
        self.is_whole = true;
        Event::StateBegin
    }

    fn forget(&mut self) {
        self.in_state.clear();
        self.told.clear();
        self.chains.clear();
    }

    /// Takes a line; gives what is to be told.
    pub(super) fn on_line(&mut self, line: Line) -> Result<Option<Event>, GapError> {
        match line {
            Line::Change(change) if change.is_state => Ok(self.on_row(*change)),
            Line::Change(change) => self.on_change(*change),
            Line::Control(control) => self.on_control(control),
        }
    }

    fn on_row(&mut self, row: Change) -> Option<Event> {
        if let Some(telling) = self.in_state.get_mut(&row.shard) {
            if telling.rows.len() >= STATE_ROWS_SINCE_TOKEN_MAX {
                // The store owes a token long since; a row told twice does no harm.
                telling.rows.clear();
            }
            let is_new = telling.rows.insert((row.zip, row.id.clone(), row.revision));
            return is_new.then(|| Event::Change(Box::new(row)));
        }
        // Of a shard that is followed all rows have been told.
        let is_new = !self.told.contains_key(&row.shard);
        is_new.then(|| Event::Change(Box::new(row)))
    }

    fn on_change(&mut self, change: Change) -> Result<Option<Event>, GapError> {
        let Change { shard, seq, zip, prev, .. } = change;
        match self.last_told(shard) {
            Some(last) if seq <= last => return Ok(None),
            Some(last) if seq.0 != last.0 + 1 => return Err(GapError { shard, last, found: seq }),
            Some(_) | None => {}
        }
        if let (Proof::Chained, Some(last)) = (self.proof, self.chains.get(&zip))
            && *last != prev
        {
            return Err(GapError { shard, last: *last, found: seq });
        }
        self.chains.insert(zip, seq);
        self.carry_on(shard, seq);
        Ok(Some(Event::Change(Box::new(change))))
    }

    /// The last change told of a shard, or contained in its state.
    fn last_told(&self, shard: ShardId) -> Option<Seq> {
        let telling = self.in_state.get(&shard).map(|telling| telling.seq);
        telling.or_else(|| self.told.get(&shard).copied())
    }

    fn on_control(&mut self, control: Control) -> Result<Option<Event>, GapError> {
        match control {
            Control::Skip { shard, first, last } => {
                self.on_skip(shard, first, last)?;
                Ok(None)
            }
            Control::Token { token, at } => {
                self.on_checked_token(token)?;
                Ok(at.map(|at| Event::Resolved { at }))
            }
            Control::StateEnd { token } => {
                self.on_checked_token(token)?;
                let is_whole = std::mem::take(&mut self.is_whole);
                Ok(Some(Event::StateEnd { is_whole }))
            }
            Control::StateBegin { token } => {
                let is_known = std::mem::replace(&mut self.is_whole, true);
                if !is_known {
                    self.forget();
                }
                if let Some(token) = token {
                    self.on_token(token);
                }
                Ok((!is_known).then_some(Event::StateBegin))
            }
            Control::End { token } => {
                self.on_checked_token(token)?;
                Ok(None)
            }
            Control::ShardResolved { shard, at } => Ok(Some(Event::ShardResolved { shard, at })),
            Control::TrimmingSoon { shard } => Ok(Some(Event::TrimmingSoon { shard })),
        }
    }

    fn on_skip(&mut self, shard: ShardId, first: Seq, last: Seq) -> Result<(), GapError> {
        match self.last_told(shard) {
            Some(told) if last <= told => Ok(()),
            Some(told) if first.0 > told.0 + 1 => Err(GapError { shard, last: told, found: first }),
            Some(_) | None => {
                self.carry_on(shard, last);
                Ok(())
            }
        }
    }

    fn carry_on(&mut self, shard: ShardId, seq: Seq) {
        // The first change of a shard stands behind the last of its rows.
        self.in_state.remove(&shard);
        self.told.insert(shard, seq);
        if let Some(vector) = &mut self.vector {
            vector.shards.insert(shard, Position::Follow { seq });
            self.is_ahead = true;
        }
    }

    /// A token may not be ahead of what was told: what is between would never come.
    fn on_checked_token(&mut self, token: Token) -> Result<(), GapError> {
        if let Ok(vector) = Vector::decode(token.as_str()) {
            for (shard, position) in &vector.shards {
                let known = match position {
                    Position::Follow { seq } | Position::CatchUp { after: seq, .. } => *seq,
                    Position::State { .. } => continue,
                };
                if let Some(last) = self.last_told(*shard).filter(|last| known > *last) {
                    return Err(GapError { shard: *shard, last, found: known });
                }
            }
        }
        self.on_token(token);
        Ok(())
    }

    fn on_token(&mut self, token: Token) {
        self.vector = Vector::decode(token.as_str()).ok();
        self.given = Some(token);
        self.is_ahead = false;
        let Some(vector) = &mut self.vector else { return };
        for (shard, position) in &mut vector.shards {
            let told = self.told.get(shard).copied();
            match position {
                // What was told stays told: a token may lag behind.
                Position::State { .. } if told.is_some() => {
                    *position = Position::Follow { seq: self.told[shard] };
                    self.is_ahead = true;
                }
                Position::CatchUp { seq, .. } if told.is_some_and(|told| told >= *seq) => {
                    *position = Position::Follow { seq: self.told[shard] };
                    self.is_ahead = true;
                }
                Position::State { seq, cursor } | Position::CatchUp { seq, cursor, .. } => {
                    // What is between was told by nobody: the chains begin anew.
                    if told.is_some() {
                        self.told.remove(shard);
                        self.chains.clear();
                    }
                    let is_same =
                        |telling: &Telling| telling.seq == *seq && telling.cursor == *cursor;
                    // The rows behind its cursor: some are told where it stands where it stood.
                    if !self.in_state.get(shard).is_some_and(is_same) {
                        let (seq, cursor, rows) = (*seq, cursor.clone(), HashSet::new());
                        self.in_state.insert(*shard, Telling { seq, cursor, rows });
                    }
                }
                Position::Follow { seq } => {
                    self.in_state.remove(shard);
                    let told = self.told.entry(*shard).or_insert(*seq);
                    *told = (*told).max(*seq);
                    if *told > *seq {
                        *seq = *told;
                        self.is_ahead = true;
                    }
                }
            }
        }
    }
}
