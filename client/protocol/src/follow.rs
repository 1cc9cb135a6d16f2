//! `POST /rpc/follow`: the changes of one shard, as a node tells them to a router.
//!
//! The answer is a stream of messages, each behind its length (u32 LE): first an encoded
//! `Result<FollowStart, Refusal>`, then, if it is served, [`Told`] after [`Told`]. A stream that
//! stops without [`Told::End`] or [`Told::Gone`] was cut off, and can be gone on with on any
//! replica of the shard, from the position behind what came.

use bincode::{BorrowDecode, Decode, Encode};

use crate::op::Body;
use crate::token::Position;
use crate::{Revision, Seq, ShardId, TimeMs, Zip, codec};

/// Most ZIPs that one request names.
pub const FOLLOW_ZIPS_MAX: usize = 1_000;
/// Longest message of the stream, in bytes: a change with a listing of 1 MiB, and room.
pub const TOLD_BYTES_MAX: usize = 4 << 20;

/// What to tell.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Follow {
    /// The shard.
    pub shard: ShardId,
    /// Milliseconds that the caller waits for the first message.
    pub deadline_ms: u32,
    /// Behind which position.
    pub from: Position,
    /// Of these ZIPs only; of all where it is empty.
    pub zips: Vec<Zip>,
    /// Go on for as long as the caller listens, instead of ending where nothing is left.
    pub is_live: bool,
    /// With the listings themselves.
    pub with_bodies: bool,
}

/// `POST /rpc/newest-change`, asked of the leader: the last change that was acknowledged before.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub struct NewestChange {
    /// The shard.
    pub shard: ShardId,
    /// Milliseconds that the caller waits.
    pub deadline_ms: u32,
}

/// How a [`Follow`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FollowStart {
    /// What was asked for follows.
    Serving,
    /// This replica no longer has the changes behind the position, nor, where a catch-up was asked
    /// for, all that they have left.
    Gone {
        /// The earliest position that it can follow from.
        earliest: Seq,
        /// Its last change.
        newest: Seq,
    },
    /// The leader has made sure that there was no such change yet.
    Future {
        /// The last change.
        newest: Seq,
    },
    /// The position or a ZIP belongs to another shard.
    Foreign,
}

/// What a change did to the listing in the ZIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ChangeKind {
    /// It came into the ZIP.
    Created,
    /// It changed.
    Updated,
    /// It was deleted.
    Deleted,
    /// It went to another ZIP.
    Moved {
        /// Where it went.
        to: Zip,
    },
}

/// One message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Told<'a> {
    /// A row of the state.
    Row {
        /// The reader's cursor behind it.
        cursor: &'a [u8],
        /// The ZIP.
        zip: Zip,
        /// The listing.
        id: &'a str,
        /// Its revision.
        revision: Revision,
        /// The row's last change.
        seq: Seq,
        /// The listing; its frame is empty where no bodies are wanted.
        body: Body<'a>,
    },
    /// The state is told; changes behind `seq` follow.
    StateEnd {
        /// The change up to which it reached.
        seq: Seq,
    },
    /// A change.
    Change {
        /// Its number in the shard.
        seq: Seq,
        /// The change before it in the same ZIP; 0 for none.
        prev: Seq,
        /// What it did.
        kind: ChangeKind,
        /// The ZIP.
        zip: Zip,
        /// The listing.
        id: &'a str,
        /// Its revision after it.
        revision: Revision,
        /// When it was decided, by the clock of the leader that decided it.
        at: TimeMs,
        /// Encoded summary before it; `None` where the ZIP did not have the listing.
        before: Option<&'a [u8]>,
        /// The listing after it, as in a row; `None` where it left the ZIP.
        after: Option<Body<'a>>,
    },
    /// Changes of other ZIPs than the wanted ones.
    Skip {
        /// The first of them.
        first: Seq,
        /// The last of them.
        last: Seq,
    },
    /// Everything up to `seq` is told.
    Resolved {
        /// The last change told.
        seq: Seq,
        /// Where the leader has made sure: everything acknowledged before this moment is told.
        at: Option<TimeMs>,
    },
    /// The changes behind the last one told are gone meanwhile.
    Gone {
        /// The earliest position that this replica can follow from.
        earliest: Seq,
        /// Its last change.
        newest: Seq,
    },
    /// Nothing is left, and no more was asked for.
    End,
    /// What a row of a catch-up has become: nothing.
    Erased {
        /// The reader's cursor behind it.
        cursor: &'a [u8],
        /// The ZIP.
        zip: Zip,
        /// The listing.
        id: &'a str,
        /// The revision of what erased it.
        revision: Revision,
        /// The change by which it left.
        seq: Seq,
        /// Where it went, if it moved.
        moved_to: Option<Zip>,
    },
    /// The changes behind the position are among the oldest of those that are kept.
    TrimmingSoon {
        /// The oldest change that is kept.
        oldest: Seq,
    },
    /// No row up to here is left to be told.
    Passed {
        /// The reader's cursor behind it.
        cursor: &'a [u8],
    },
}

impl Told<'_> {
    /// Appends the message, behind its length.
    pub fn push(&self, out: &mut Vec<u8>) {
        push(out, |out| codec::encode_into(self, out));
    }
}

/// Appends the first message.
pub fn push_start(start: &Result<FollowStart, crate::rpc::Refusal>, out: &mut Vec<u8>) {
    push(out, |out| out.extend_from_slice(&codec::encode(start)));
}

fn push(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let bytes = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_stream_are_the_wire_format() {
        let mut out = Vec::new();
        push_start(&Ok(FollowStart::Serving), &mut out);
        let body = Body { summary: &[7], frame: b"ff" };
        let (zip, seq, revision) = (Zip::Code(*b"98103"), Seq(3), Revision(300));
        Told::Row { cursor: b"k", zip, id: "a", revision, seq, body }.push(&mut out);
        Told::Skip { first: Seq(4), last: Seq(300) }.push(&mut out);
        Told::End.push(&mut out);
        Told::Erased { cursor: b"k", zip, id: "a", revision, seq, moved_to: None }.push(&mut out);
        Told::TrimmingSoon { oldest: seq }.push(&mut out);
        Told::Passed { cursor: b"k" }.push(&mut out);
        let expected = [
            [3, 0, 0, 0, 1, 0, 0].as_slice(),
            &[20, 0, 0, 0, 0, 1, b'k', 0],
            b"98103",
            &[1, b'a', 251, 44, 1, 3, 1, 7, 2, b'f', b'f'],
            &[5, 0, 0, 0, 3, 4, 251, 44, 1],
            &[1, 0, 0, 0, 6],
            &[16, 0, 0, 0, 7, 1, b'k', 0],
            b"98103",
            &[1, b'a', 251, 44, 1, 3, 0],
            &[2, 0, 0, 0, 8, 3],
            &[3, 0, 0, 0, 9, 1, b'k'],
        ];
        assert_eq!(out, expected.concat());
    }
}
