//! openraft's log storage over one group of the shared log.
//!
//! Votes and records go through the log's one ordered writer; `IOFlushed` is completed by that
//! writer after the fsync and by nobody else.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use platbook_engine::log::{GroupLog, LogError, Record};
use platbook_protocol::planted::Bug;

use super::types::{self, Entry, LogId, Types, Vote};
use super::wire;
use crate::witness::Watched;

/// Most bytes of entries that are read at once, for a follower or for applying.
const READ_BYTES_MAX: usize = 4 << 20;

/// One group's log; clones share it.
#[derive(Clone)]
pub(crate) struct RaftLog {
    group: GroupLog,
    watched: Watched,
}

impl RaftLog {
    pub(crate) fn new(group: GroupLog, watched: Watched) -> RaftLog {
        RaftLog { group, watched }
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        let records = self.group.read(from..to, bytes_max).map_err(io_error)?;
        records.into_iter().map(|r| wire::entry_of(r).map_err(io::Error::other)).collect()
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&i) => i,
        Bound::Excluded(&i) => i + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&i) => i + 1,
        Bound::Excluded(&i) => i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

fn io_error(e: LogError) -> io::Error {
    io::Error::other(e)
}

impl RaftLogReader<Types> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX)
    }

    /// What is to be applied, some at a time. A log that failed lacks what was appended since: its
    /// stream ends in an error, because what is not given must not count as applied.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let begin = Some((self.clone(), from, Vec::new().into_iter()));
        let stream = futures_util::stream::unfold(begin, move |state| async move {
            let (log, at, mut read) = state?;
            if let Some(entry) = read.next() {
                return Some((Ok(entry), Some((log, at, read))));
            }
            if at >= to {
                return None;
            }
            let chunk = match log.read(at, to, READ_BYTES_MAX) {
                Ok(chunk) => chunk,
                Err(error) => return Some((Err(error), None)),
            };
            let next = chunk.last().map_or(to, |last| last.log_id.index + 1);
            let mut read = chunk.into_iter();
            match (read.next(), log.group.fault()) {
                (Some(first), _) => Some((Ok(first), Some((log, next, read)))),
                (None, Some(fault)) => Some((Err(io::Error::other(fault)), None)),
                (None, None) => None,
            }
        });
        stream.fuse()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let vote = self.group.state().vote;
        vote.map(|bytes| wire::decode_vote(&bytes)).transpose().map_err(io::Error::other)
    }
}

impl RaftLogStorage<Types> for RaftLog {
    type LogReader = RaftLog;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.group.state();
        let log_id = |(term, index)| types::log_id(term, index);
        let last_purged_log_id = state.purged.map(log_id);
        let last_log_id = state.last.map(log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> RaftLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if Bug::VolatileVote.is_planted() {
            return Ok(());
        }
        self.group.save_vote(wire::encode_vote(vote)).await.map_err(io_error)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Vec<Record> = entries.into_iter().map(wire::record_of).collect();
        self.watched.appends(&records);
        let (watched, last) = (self.watched.clone(), records.last().map(|record| record.index));
        let flushed = Box::new(move |result: Result<(), LogError>| {
            if let (Ok(()), Some(last)) = (&result, last) {
                watched.synced(last);
            }
            callback.io_completed(result.map_err(io_error));
        });
        self.group.append(records, flushed).await;
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.group.truncate_after(last_log_id.map(|id| id.index)).await.map_err(io_error)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let (term, index) = types::parts(&log_id);
        self.group.purge(term, index).await.map_err(io_error)
    }
}
