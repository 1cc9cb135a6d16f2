//! The operations that a shard applies, their answers, and batches of them.
//!
//! A batch is one Raft entry. Its operations are encoded once, by whoever sends them; the leader
//! concatenates the encoded operations of many callers under one [`Stamp`] and nobody decodes them
//! again until they are applied, where frames are slices of the entry.

use bincode::{BorrowDecode, Decode, Encode};

use crate::codec::{self, CodecError};
use crate::listing::LISTING_BYTES_MAX;
use crate::register::{Admission, Admitted, Recreate, Settled};
use crate::row::WriteOutcome;
use crate::{Digest, Revision, TimeMs, Zip};

/// Most operations in one batch.
pub const BATCH_OPS_MAX: usize = 512;
/// Most encoded bytes in one batch, unless a single operation is larger.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Most bytes of one proposal, which becomes one record of every replica's log. A batch of one
/// operation may pass [`BATCH_BYTES_MAX`], a largest listing that does not compress does.
pub const PROPOSAL_BYTES_MAX: usize = (2 << 20) - 4096;

// A write of a largest listing is one operation, which cannot be split: were it larger than a
// proposal, the edge would take a listing that every node refuses, again and again. Up to 64 KiB
// more are taken for a frame that does not compress, and as much is left for what stands around it.
const _: () = assert!(
    PROPOSAL_BYTES_MAX > LISTING_BYTES_MAX + 128 * 1024,
    "a proposal of one largest listing fits"
);

/// A listing's body below the edge: opaque to everything but filters and the edge itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Body<'a> {
    /// Encoded summary, about 40 bytes.
    pub summary: &'a [u8],
    /// Compressed listing.
    pub frame: &'a [u8],
}

/// One operation on one id, ZIP or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Op<'a> {
    /// Join a message into a register (shard of the id).
    Admit {
        /// The listing.
        id: &'a str,
        /// The message and its conditions.
        admission: Admission,
        /// The body, where `admission.hold` is set and the message is an upsert.
        body: Option<Body<'a>>,
    },
    /// Put a row (shard of the ZIP).
    Write {
        /// The listing.
        id: &'a str,
        /// Its ZIP.
        zip: Zip,
        /// Revision that the register gave.
        revision: Revision,
        /// Content of the upsert.
        digest: Digest,
        /// The row's bytes.
        body: Body<'a>,
    },
    /// Lay a marker (shard of the ZIP).
    Erase {
        /// The listing.
        id: &'a str,
        /// Where it must go.
        zip: Zip,
        /// Revision that the register gave.
        revision: Revision,
        /// The ZIP it moved to; `None` where it was deleted.
        moved_to: Option<Zip>,
    },
    /// Nothing is left to erase (shard of the id).
    Settle {
        /// The listing.
        id: &'a str,
        /// Revision that was carried out.
        revision: Revision,
    },
    /// Advance the horizons and collect what they let go.
    Sweep {
        /// Most keys to collect in this step.
        collect_max: u32,
    },
    /// Keep a message that cannot be applied (shard of the message id).
    Quarantine {
        /// The queue's message id, or one made from the body's hash.
        message_id: &'a str,
        /// Encoded [`crate::rpc::QuarantineRecord`].
        record: &'a [u8],
    },
    /// Forget a quarantined message.
    Unquarantine {
        /// The queue's message id.
        message_id: &'a str,
    },
    /// Take an id off the suspects list.
    ClearSuspect {
        /// The listing.
        id: &'a str,
    },
}

/// Answer to one [`Op`], in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum OpOutcome {
    /// Answer to `Admit`.
    Admitted(Admitted),
    /// Answer to `Write`.
    Written(WriteOutcome),
    /// Answer to `Erase`.
    Erased,
    /// Answer to `Settle`.
    Settled(Settled),
    /// Answer to `Sweep`: keys collected, and whether more wait.
    Swept {
        /// Markers and dead registers collected.
        collected: u32,
        /// Whether `collect_max` stopped it.
        more: bool,
    },
    /// Answer to `Quarantine`, `Unquarantine` and `ClearSuspect`.
    Noted,
    /// The slot does not belong to this shard: refused, no effect.
    WrongShard,
    /// The quarantine of this shard is full: refused, no effect.
    QuarantineFull,
}

/// What the proposer puts over a batch; the only time that applying may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stamp {
    /// The proposer's clock.
    pub clock: TimeMs,
    /// Largest credible distance between the operator's and the queue's clock.
    pub skew_ms: u64,
    /// Rule for coming back after a delete.
    pub recreate: Recreate,
    /// How long dead registers are kept.
    pub tombstone_retention_ms: u64,
}

/// Encoded operations, without a stamp: each as length (u32 LE) and bytes.
#[derive(Clone, Debug, Default)]
pub struct OpList {
    bytes: Vec<u8>,
    count: usize,
}

impl OpList {
    /// Appends one operation.
    pub fn push(&mut self, op: &Op<'_>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        codec::encode_into(op, &mut self.bytes);
        let len = (self.bytes.len() - at - 4) as u32;
        self.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
    }

    /// Operations held.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Encoded bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded bytes themselves.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Walks encoded operations.
#[derive(Clone, Debug)]
pub struct OpIter<'a> {
    rest: &'a [u8],
}

impl<'a> OpIter<'a> {
    /// Starts at the first operation of an [`OpList`]'s bytes.
    pub fn new(bytes: &'a [u8]) -> OpIter<'a> {
        OpIter { rest: bytes }
    }
}

impl<'a> Iterator for OpIter<'a> {
    type Item = Result<Op<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((head, tail)) = rest.split_first_chunk::<4>() else {
            return Some(Err(CodecError::Truncated { bytes: rest.len() }));
        };
        let len = u32::from_le_bytes(*head) as usize;
        let Some((op, tail)) = tail.split_at_checked(len) else {
            return Some(Err(CodecError::Truncated { bytes: tail.len() }));
        };
        self.rest = tail;
        Some(codec::decode_borrowed(op))
    }
}
