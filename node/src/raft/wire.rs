//! Bytes of Raft's own messages and of what the log and the store keep for it.
//!
//! Entries travel as the records of the log: a head that lists them, then their payloads by
//! reference. A payload is copied neither when it is sent nor when it is received.

use bincode::{Decode, Encode};
use bytes::{Bytes, BytesMut};
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
};
use openraft::vote::RaftVote;
use openraft::{EntryPayload, RaftTypeConfig};
use platbook_engine::log::Record;
use platbook_protocol::codec::{self, CodecError};
use platbook_protocol::{NodeId, ReplicaId};

use super::held::End;
use super::types::{self, Command, Entry, LogId, Membership, StoredMembership, Types, Vote};

/// Record kinds. Persisted: never renumber.
const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

type LogIdBytes = Option<(u64, u64)>;

fn log_id_out(id: Option<&LogId>) -> LogIdBytes {
    id.map(types::parts)
}

fn log_id_in(id: LogIdBytes) -> Option<LogId> {
    id.map(|(term, index)| types::log_id(term, index))
}

#[derive(Encode, Decode)]
struct VoteBytes {
    term: u64,
    voted_for: ReplicaId,
    committed: bool,
}

impl From<&Vote> for VoteBytes {
    fn from(vote: &Vote) -> VoteBytes {
        let leader = vote.leader_id();
        VoteBytes { term: leader.term, voted_for: leader.voted_for, committed: vote.is_committed() }
    }
}

impl VoteBytes {
    fn vote(self) -> Vote {
        let leader_id = leader_id_std::LeaderId { term: self.term, voted_for: self.voted_for };
        Vote::from_leader_id(leader_id, self.committed)
    }
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    codec::encode(&VoteBytes::from(vote)).into()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    codec::decode::<VoteBytes>(bytes).map(VoteBytes::vote)
}

#[derive(Encode, Decode)]
struct MembershipBytes {
    configs: Vec<Vec<ReplicaId>>,
    nodes: Vec<(ReplicaId, NodeId)>,
}

pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    let configs = membership.get_joint_config();
    let bytes = MembershipBytes {
        configs: configs.iter().map(|config| config.iter().copied().collect()).collect(),
        nodes: membership.nodes().map(|(id, node)| (*id, *node)).collect(),
    };
    codec::encode(&bytes).into()
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, CodecError> {
    let found: MembershipBytes = codec::decode(bytes)?;
    let configs = found.configs.into_iter().map(|c| c.into_iter().collect()).collect();
    let nodes: std::collections::BTreeMap<_, _> = found.nodes.into_iter().collect();
    Membership::new(configs, nodes).map_err(|e| CodecError::Malformed { reason: e.to_string() })
}

/// The membership as the store keeps it: where it was decided, and what it is.
pub(crate) fn stored_membership(
    kept: Option<(LogIdBytes, Bytes)>,
) -> Result<StoredMembership, CodecError> {
    match kept {
        None => Ok(StoredMembership::default()),
        Some((at, bytes)) => Ok(StoredMembership::new(log_id_in(at), decode_membership(&bytes)?)),
    }
}

pub(crate) fn record_of(entry: Entry) -> Record {
    let (leader, index) = entry.log_id_parts();
    let (term, index) = (**leader, index);
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (KIND_BLANK, Bytes::new()),
        EntryPayload::Normal(command) => (KIND_COMMAND, command.0),
        EntryPayload::Membership(membership) => (KIND_MEMBERSHIP, encode_membership(&membership)),
    };
    Record { term, index, kind, payload }
}

pub(crate) fn entry_of(record: Record) -> Result<Entry, CodecError> {
    let payload = match record.kind {
        KIND_BLANK => EntryPayload::Blank,
        KIND_COMMAND => EntryPayload::Normal(Command(record.payload)),
        KIND_MEMBERSHIP => EntryPayload::Membership(decode_membership(&record.payload)?),
        other => {
            return Err(CodecError::Malformed { reason: format!("entry kind {other}") });
        }
    };
    Ok(<Types as RaftTypeConfig>::Entry::new(types::log_id(record.term, record.index), payload))
}

#[derive(Encode, Decode)]
struct AppendHead {
    vote: VoteBytes,
    prev: LogIdBytes,
    commit: LogIdBytes,
    /// What the follower acknowledged to this leader.
    held: End,
    /// Term, index, kind and payload length of each entry.
    entries: Vec<(u64, u64, u8, u32)>,
}

/// The parts of an append message, to be written one after another.
pub(crate) fn encode_append(request: AppendEntriesRequest<Types>, held: End) -> Vec<Bytes> {
    let records: Vec<Record> = request.entries.into_iter().map(record_of).collect();
    let head = AppendHead {
        vote: (&request.vote).into(),
        prev: log_id_out(request.prev_log_id.as_ref()),
        commit: log_id_out(request.leader_commit.as_ref()),
        held,
        entries: records
            .iter()
            .map(|r| (r.term, r.index, r.kind, r.payload.len() as u32))
            .collect(),
    };
    let mut first = BytesMut::with_capacity(64 + records.len() * 12);
    let head = codec::encode(&head);
    first.extend_from_slice(&(head.len() as u32).to_le_bytes());
    first.extend_from_slice(&head);
    let payloads = records.into_iter().map(|r| r.payload).filter(|p| !p.is_empty());
    std::iter::once(first.freeze()).chain(payloads).collect()
}

/// The request, and what its leader takes the follower to have.
pub(crate) fn decode_append(
    mut bytes: Bytes,
) -> Result<(AppendEntriesRequest<Types>, End), CodecError> {
    let cut = CodecError::Truncated { bytes: bytes.len() };
    let Some(len) = bytes.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize) else {
        return Err(cut);
    };
    if bytes.len() - 4 < len {
        return Err(cut);
    }
    let head = bytes.split_to(4 + len).slice(4..);
    let head: AppendHead = codec::decode(&head)?;
    let mut entries = Vec::with_capacity(head.entries.len().min(4096));
    for (term, index, kind, len) in head.entries {
        if bytes.len() < len as usize {
            return Err(cut);
        }
        let payload = bytes.split_to(len as usize);
        entries.push(entry_of(Record { term, index, kind, payload })?);
    }
    if !bytes.is_empty() {
        return Err(CodecError::Trailing { bytes: bytes.len() });
    }
    let request = AppendEntriesRequest {
        vote: head.vote.vote(),
        prev_log_id: log_id_in(head.prev),
        entries,
        leader_commit: log_id_in(head.commit),
    };
    Ok((request, head.held))
}

#[derive(Encode, Decode)]
enum AppendAnswer {
    Matched(LogIdBytes),
    Conflict(LogIdBytes),
    HigherVote(VoteBytes),
}

pub(crate) fn encode_append_answer(answer: &StreamAppendResult<Types>) -> Bytes {
    let answer = match answer {
        Ok(matched) => AppendAnswer::Matched(log_id_out(matched.as_ref())),
        Err(StreamAppendError::Conflict(at)) => AppendAnswer::Conflict(log_id_out(Some(at))),
        Err(StreamAppendError::HigherVote(vote)) => AppendAnswer::HigherVote(vote.into()),
    };
    codec::encode(&answer).into()
}

pub(crate) fn decode_append_answer(bytes: &[u8]) -> Result<StreamAppendResult<Types>, CodecError> {
    match codec::decode::<AppendAnswer>(bytes)? {
        AppendAnswer::Matched(id) => Ok(Ok(log_id_in(id))),
        AppendAnswer::Conflict(Some(id)) => {
            Ok(Err(StreamAppendError::Conflict(types::log_id(id.0, id.1))))
        }
        AppendAnswer::Conflict(None) => {
            Err(CodecError::Malformed { reason: "conflict without a log id".into() })
        }
        AppendAnswer::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote.vote()))),
    }
}

#[derive(Encode, Decode)]
struct VoteRequestBytes {
    vote: VoteBytes,
    last: LogIdBytes,
    leadership_transfer: bool,
}

pub(crate) fn encode_vote_request(request: &VoteRequest<Types>) -> Bytes {
    let bytes = VoteRequestBytes {
        vote: (&request.vote).into(),
        last: log_id_out(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    };
    codec::encode(&bytes).into()
}

pub(crate) fn decode_vote_request(bytes: &[u8]) -> Result<VoteRequest<Types>, CodecError> {
    let found: VoteRequestBytes = codec::decode(bytes)?;
    let mut request = VoteRequest::new(found.vote.vote(), log_id_in(found.last));
    request.leadership_transfer = found.leadership_transfer;
    Ok(request)
}

#[derive(Encode, Decode)]
struct VoteAnswerBytes {
    vote: VoteBytes,
    granted: bool,
    last: LogIdBytes,
}

pub(crate) fn encode_vote_answer(answer: &VoteResponse<Types>) -> Bytes {
    let bytes = VoteAnswerBytes {
        vote: (&answer.vote).into(),
        granted: answer.vote_granted,
        last: log_id_out(answer.last_log_id.as_ref()),
    };
    codec::encode(&bytes).into()
}

pub(crate) fn decode_vote_answer(bytes: &[u8]) -> Result<VoteResponse<Types>, CodecError> {
    let found: VoteAnswerBytes = codec::decode(bytes)?;
    Ok(VoteResponse::new(found.vote.vote(), log_id_in(found.last), found.granted))
}

/// What is asked of a replica when leadership is handed over, and before a snapshot is sent.
#[derive(Encode, Decode)]
struct HandoverBytes {
    vote: VoteBytes,
    to: ReplicaId,
    last: LogIdBytes,
}

pub(crate) fn encode_transfer(vote: &Vote, to: ReplicaId, last: Option<&LogId>) -> Bytes {
    codec::encode(&HandoverBytes { vote: vote.into(), to, last: log_id_out(last) }).into()
}

pub(crate) fn decode_transfer(
    bytes: &[u8],
) -> Result<(Vote, ReplicaId, Option<LogId>), CodecError> {
    let found: HandoverBytes = codec::decode(bytes)?;
    Ok((found.vote.vote(), found.to, log_id_in(found.last)))
}

#[derive(Encode, Decode)]
struct SnapshotHeadBytes {
    vote: VoteBytes,
    last: LogIdBytes,
    membership: Option<(LogIdBytes, Vec<u8>)>,
}

/// The head of a snapshot stream: the leader's vote and what the snapshot holds.
pub(crate) fn encode_snapshot_head(vote: &Vote, meta: &types::SnapshotMeta) -> Bytes {
    let membership = &meta.last_membership;
    let bytes = SnapshotHeadBytes {
        vote: vote.into(),
        last: log_id_out(meta.last_log_id.as_ref()),
        membership: Some((
            log_id_out(membership.log_id().as_ref()),
            encode_membership(membership.membership()).to_vec(),
        )),
    };
    codec::encode(&bytes).into()
}

pub(crate) fn decode_snapshot_head(
    bytes: &[u8],
) -> Result<(Vote, types::SnapshotMeta), CodecError> {
    let found: SnapshotHeadBytes = codec::decode(bytes)?;
    let kept = found.membership.map(|(at, bytes)| (at, Bytes::from(bytes)));
    let meta = types::SnapshotMeta {
        last_log_id: log_id_in(found.last),
        last_membership: stored_membership(kept)?,
    };
    Ok((found.vote.vote(), meta))
}
