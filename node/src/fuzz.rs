//! What a fuzzer gives to a node: bytes of a peer on a link.

use bytes::Bytes;

use crate::peer::frame::{Kind, Reassembler};
use crate::raft::wire;

/// Takes a link's bytes in chunks, the first byte of the input long, and reads every message by its
/// kind.
pub fn link(input: &[u8]) {
    let Some((step, rest)) = input.split_first() else { return };
    let mut reassembler = Reassembler::default();
    for chunk in rest.chunks(usize::from(*step).max(1)) {
        reassembler.push(chunk);
        loop {
            match reassembler.next() {
                Ok(None) => break,
                Ok(Some(message)) => body(message.kind, message.body),
                // The link is closed.
                Err(_) => return,
            }
        }
    }
}

/// The body of one message, with a kind as its first byte: the framing is guessed too seldom.
pub fn message(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let kinds = [Kind::Append, Kind::Vote, Kind::PreVote, Kind::Transfer, Kind::Answer];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    body(kind, Bytes::copy_from_slice(rest));
}

fn body(kind: Kind, bytes: Bytes) {
    match kind {
        Kind::Append => drop(wire::decode_append(bytes)),
        Kind::Vote | Kind::PreVote => {
            if let Ok(request) = wire::decode_vote_request(&bytes) {
                // Numbers have longer spellings than those that are sent.
                let sent = wire::encode_vote_request(&request);
                let again = wire::decode_vote_request(&sent).expect("it was just read");
                assert_eq!(wire::encode_vote_request(&again), sent, "another vote after a round");
            }
        }
        Kind::Transfer => drop(wire::decode_transfer(&bytes)),
        Kind::Answer => {
            drop(wire::decode_append_answer(&bytes));
            drop(wire::decode_vote_answer(&bytes));
            drop(wire::decode_snapshot_head(&bytes));
            drop(wire::decode_membership(&bytes));
        }
        Kind::Close | Kind::Refused => {}
    }
}
