//! What routers and nodes say to each other: requests, answers and refusals.
//!
//! Every request is a `POST` over HTTP/2 to the path of its type, its body encoded by
//! [`crate::codec`]; every answer is `Result<Answer, Refusal>`. The reading of a ZIP is the one
//! streamed answer, see [`scan`].

use bincode::{BorrowDecode, Decode, Encode};

use crate::map::{ClusterId, Map};
use crate::op::OpOutcome;
use crate::register::Suspicion;
use crate::row::Row;
use crate::{NodeId, ReplicaId, Revision, Seq, ShardId, TimeMs, Zip};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Consistency {
    /// The leader confirms its leadership by a round to a quorum (ReadIndex).
    #[default]
    Linearizable,
    /// The leader trusts its lease; a clock that jumps may make it stale.
    Lease,
}

/// Why a node did not answer. The three outcomes are told apart here and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// Another node leads the shard. No effect.
    #[error("shard {shard} is not led here")]
    NotLeader {
        /// The shard.
        shard: ShardId,
        /// Who leads it, as far as known.
        leader: Option<NodeId>,
    },
    /// The shard does not live here, or no longer owns the slot. No effect.
    #[error("shard {shard} is not here (map epoch {epoch})")]
    WrongShard {
        /// The shard.
        shard: ShardId,
        /// The node's map epoch.
        epoch: u64,
    },
    /// Too much in flight. No effect.
    #[error("node is overloaded")]
    Overloaded {
        /// When to come again.
        retry_after_ms: u32,
    },
    /// Read-only because its disk is nearly full. No effect.
    #[error("disk of shard {shard} is nearly full")]
    DiskFull {
        /// The shard.
        shard: ShardId,
    },
    /// No quorum, fenced, starting or draining. No effect.
    #[error("shard {shard} is unavailable: {reason}")]
    Unavailable {
        /// The shard.
        shard: ShardId,
        /// Why, for people.
        reason: String,
    },
    /// The deadline passed or the entry was discarded: it may still happen.
    #[error("outcome in shard {shard} is unknown: {reason}")]
    Unknown {
        /// The shard.
        shard: ShardId,
        /// Why, for people.
        reason: String,
    },
    /// The request makes no sense. No effect.
    #[error("bad request: {reason}")]
    BadRequest {
        /// Why, for people.
        reason: String,
    },
}

impl Refusal {
    /// Whether the same request may succeed later or elsewhere, and certainly had no effect.
    pub fn retryable(&self) -> bool {
        match self {
            Refusal::NotLeader { .. }
            | Refusal::WrongShard { .. }
            | Refusal::Overloaded { .. }
            | Refusal::Unavailable { .. } => true,
            Refusal::DiskFull { .. } | Refusal::Unknown { .. } | Refusal::BadRequest { .. } => {
                false
            }
        }
    }
}

/// `POST /rpc/propose`: operations for one shard, answered after they are applied.
#[derive(Clone, Copy, Debug, Encode, BorrowDecode)]
pub struct Propose<'a> {
    /// The shard.
    pub shard: ShardId,
    /// Milliseconds that the caller still waits.
    pub deadline_ms: u32,
    /// Number of operations.
    pub count: u32,
    /// An encoded [`crate::op::OpList`].
    pub ops: &'a [u8],
}

/// Answer to [`Propose`], one outcome an operation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Proposed {
    /// In the order of the operations.
    pub outcomes: Vec<OpOutcome>,
}

/// `POST /rpc/registers`: what is decided about these ids.
#[derive(Clone, Debug, Encode, BorrowDecode)]
pub struct ReadRegisters<'a> {
    /// The shard of all the ids.
    pub shard: ShardId,
    /// Milliseconds that the caller still waits.
    pub deadline_ms: u32,
    /// How fresh.
    pub consistency: Consistency,
    /// The ids.
    pub ids: Vec<&'a str>,
}

/// One register as readers need it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RegisterView {
    /// Whether the listing exists.
    pub alive: bool,
    /// Its home.
    pub zip: Option<Zip>,
    /// Revision of the last decision.
    pub revision: Revision,
    /// Revision of the last death.
    pub died: Revision,
    /// Where a row may still stand.
    pub old: Vec<Zip>,
}

/// `POST /rpc/rows`: these rows of one shard.
#[derive(Clone, Debug, Encode, BorrowDecode)]
pub struct ReadRows<'a> {
    /// The shard of all the ZIPs.
    pub shard: ShardId,
    /// Milliseconds that the caller still waits.
    pub deadline_ms: u32,
    /// How fresh.
    pub consistency: Consistency,
    /// Whether bodies are wanted.
    pub with_bodies: bool,
    /// ZIP and id of each row.
    pub rows: Vec<(Zip, &'a str)>,
}

/// One row; summary and frame are empty for markers and where bodies were not wanted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RowView {
    /// What stands there.
    pub row: Row,
    /// Encoded summary.
    pub summary: Vec<u8>,
    /// Compressed listing.
    pub frame: Vec<u8>,
}

/// `POST /rpc/zip-state`: is what I have of this ZIP still right?
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub struct ReadZipState {
    /// The shard of the ZIP.
    pub shard: ShardId,
    /// Milliseconds that the caller still waits.
    pub deadline_ms: u32,
    /// How fresh.
    pub consistency: Consistency,
    /// The ZIP.
    pub zip: Zip,
}

/// What is known of a ZIP without reading its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ZipState {
    /// Live listings.
    pub count: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Seq of the last change of this ZIP.
    pub seq: Seq,
    /// Seq of the last change of the whole shard in the same snapshot.
    pub shard_seq: Seq,
}

/// The summary filter of a ZIP read; an absent bound lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Filter {
    /// Least price, whole currency units.
    pub min_price: Option<u64>,
    /// Greatest price.
    pub max_price: Option<u64>,
    /// Least number of bedrooms.
    pub min_beds: Option<u16>,
    /// Exact status, as in the listing, compared without case.
    pub status: Option<String>,
    /// Exact property type, compared without case.
    pub property_type: Option<String>,
}

/// `POST /rpc/scan`: every live listing of a ZIP in id order, from one snapshot, streamed.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Scan {
    /// The shard of the ZIP.
    pub shard: ShardId,
    /// Milliseconds that the caller waits for the first byte.
    pub deadline_ms: u32,
    /// How fresh.
    pub consistency: Consistency,
    /// The ZIP.
    pub zip: Zip,
    /// Start behind this id.
    pub after: Option<String>,
    /// Most listings.
    pub limit: Option<u64>,
    /// Which listings.
    pub filter: Filter,
}

/// The bytes of a streamed [`Scan`]: a length-prefixed (u32 LE) encoded
/// `Result<ZipState, Refusal>`, then rows, then an end.
pub mod scan {
    use super::Revision;

    /// First byte of a row: then id length (u16 LE), revision (u64 LE), summary length (u16 LE),
    /// frame length (u32 LE), id, summary, frame.
    pub const ROW: u8 = 1;
    /// First byte of the end: then 1 if the limit stopped the scan, else 0. A stream that stops
    /// without it was cut off.
    pub const END: u8 = 0;
    /// Bytes of a row before its id.
    pub const ROW_HEAD_BYTES: usize = 17;

    /// Appends one row.
    pub fn push_row(out: &mut Vec<u8>, id: &str, revision: Revision, summary: &[u8], frame: &[u8]) {
        out.push(ROW);
        out.extend_from_slice(&(id.len() as u16).to_le_bytes());
        out.extend_from_slice(&revision.0.to_le_bytes());
        out.extend_from_slice(&(summary.len() as u16).to_le_bytes());
        out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(summary);
        out.extend_from_slice(frame);
    }
}

/// A message that could not be applied, as kept in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct QuarantineRecord {
    /// Stable code of the reason.
    pub code: String,
    /// The sentence for people.
    pub detail: String,
    /// The body as received, possibly not UTF-8.
    pub body: Vec<u8>,
    /// Message attributes, names and text values.
    pub attributes: Vec<(String, String)>,
    /// The queue's clock of the original message.
    pub sent: TimeMs,
    /// When it was put into quarantine, by the clock of whoever did.
    pub quarantined: TimeMs,
}

/// `POST /rpc/list`: quarantined messages or suspects of one shard, in key order.
#[derive(Clone, Debug, Encode, Decode)]
pub struct List {
    /// The shard.
    pub shard: ShardId,
    /// Milliseconds that the caller still waits.
    pub deadline_ms: u32,
    /// Which list.
    pub kind: ListKind,
    /// Start behind this key.
    pub after: Option<String>,
    /// Most entries.
    pub limit: u32,
}

/// Which list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ListKind {
    /// Messages that could not be applied.
    Quarantine,
    /// Ids to look at.
    Suspects,
}

/// Answer to [`List`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Listed {
    /// Message id and record.
    Quarantine(Vec<(String, QuarantineRecord)>),
    /// Listing id, why, and when it was noticed.
    Suspects(Vec<(String, Suspicion, TimeMs)>),
}

/// `POST /rpc/map`: the node's current map, at once or when it is newer than `known_epoch`.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub struct GetMap {
    /// Answer at once if the epoch differs from this.
    pub known_epoch: u64,
    /// Else wait this long.
    pub wait_ms: u32,
}

/// Answer to [`GetMap`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MapAnswer {
    /// The map; `None` while the cluster is not formed.
    pub map: Option<Map>,
    /// Leaders as this node knows them: a hint.
    pub leaders: Vec<(ShardId, Option<NodeId>)>,
    /// Newest dictionary for frames; 0 before one is trained.
    pub dictionary: u32,
}

/// `POST /rpc/dictionary`: the bytes of one dictionary; answered by `Option<Vec<u8>>`.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub struct GetDictionary {
    /// Its id, never 0.
    pub id: u32,
}

/// `POST /rpc/put-dictionary`: keep a trained dictionary, unless there is a newer one than
/// `latest`; answered by the id of the newest. Asked of the system shard's leader.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PutDictionary {
    /// The newest id that the caller knows; 0 for none.
    pub latest: u32,
    /// As trained.
    pub bytes: Vec<u8>,
}

/// `POST /rpc/put-map`: replace the map if its epoch still is the expected one. Asked of the system
/// shard's leader.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PutMap {
    /// Epoch of the map that the new one was made from.
    pub expected_epoch: u64,
    /// The new map.
    pub map: Map,
}

/// Answer to [`PutMap`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MapPut {
    /// Whether the new map was taken.
    pub accepted: bool,
    /// The map that stands now.
    pub map: Option<Map>,
}

/// `POST /rpc/clock`: what time is it there? Answered by [`ClockAnswer`].
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub struct Clock {}

/// Answer to [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClockAnswer {
    /// The wall clock of the node.
    pub now: TimeMs,
    /// Whether it would lead a shard: its disk has room, its clock is right, it is not draining.
    pub may_lead: bool,
}

/// `POST /rpc/hello`: who are you, and what do you know? Asked before a cluster is formed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Who asks.
    pub from: NodeId,
    /// Peers that the asker was started with.
    pub peers: Vec<(NodeId, String)>,
    /// Shards that the asker was started with.
    pub shards: u32,
}

/// Answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HelloAnswer {
    /// Who answers.
    pub node: NodeId,
    /// Its zone.
    pub zone: String,
    /// Where it wants to be reached.
    pub address: String,
    /// The cluster it belongs to; `None` when pristine.
    pub cluster: Option<ClusterId>,
    /// It is about to send the asker [`Form`]: wait for it.
    pub invites: bool,
    /// Why it would not form a cluster with the asker, if so.
    pub objection: Option<String>,
}

/// `POST /rpc/form`: the cluster that you now belong to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Form {
    /// The first map.
    pub map: Map,
}

/// `POST /rpc/status`: this node and its replicas; answered by [`NodeStatus`].
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub struct GetStatus {
    /// Whether content hashes are wanted; they read everything.
    pub with_hashes: bool,
}

/// Answer to [`GetStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeStatus {
    /// Who answers.
    pub node: NodeId,
    /// Its replicas, ordered by shard.
    pub replicas: Vec<ReplicaStatus>,
    /// Median distance of its clock to its peers' clocks, in milliseconds.
    pub clock_offset_ms: i64,
    /// Whether it refuses writes because its disk is nearly full.
    pub read_only: bool,
    /// Fsyncs since it started.
    pub fsyncs: u64,
    /// When log and tables were last read from end to end without a finding.
    pub scrubbed: Option<TimeMs>,
    /// What its disk was found to have lost.
    pub damage: Option<String>,
}

/// `POST /rpc/transfer`: hand the leadership of a shard to another node.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub struct Transfer {
    /// The shard, led by the node that is asked.
    pub shard: ShardId,
    /// Who is to lead.
    pub to: NodeId,
}

/// `POST /rpc/scan-shard`: every live listing of a shard; answered like a [`Scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScanShard {
    /// The shard.
    pub shard: ShardId,
    /// Milliseconds that the caller waits for the first byte.
    pub deadline_ms: u32,
    /// How fresh.
    pub consistency: Consistency,
}

/// `POST /rpc/replace-replica`: rebuild a lost or damaged replica while the shard serves. Asked
/// of the shard's leader.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub struct ReplaceReplica {
    /// The shard.
    pub shard: ShardId,
    /// The replica to give up.
    pub replica: ReplicaId,
    /// Where the fresh one is to live.
    pub on: NodeId,
}

/// One replica's state, for `cluster status` and the content check.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaStatus {
    /// The shard.
    pub shard: ShardId,
    /// The Raft id.
    pub replica: ReplicaId,
    /// `leader`, `follower`, `learner`, `candidate`, `fenced`, `starting`.
    pub role: String,
    /// Raft term.
    pub term: u64,
    /// Who leads, as this replica knows it.
    pub leader: Option<NodeId>,
    /// Last index in its log.
    pub last_log: u64,
    /// Last applied index.
    pub applied: u64,
    /// Last change.
    pub seq: Seq,
    /// What fenced it.
    pub fault: Option<String>,
    /// Hash over the replicated state and the index it was taken at, where asked for.
    pub content: Option<(u64, u128)>,
}
