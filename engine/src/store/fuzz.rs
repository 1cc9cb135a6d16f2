//! What a fuzzer gives to the store: streams of snapshots, keys and values.

use super::key::Key;
use super::layout::LayoutError;
use super::stream::{self, Frame};
use super::value::effects::Effects;
use super::value::state::{self, Membership, State};
use super::value::{list, map, register, row};

/// Walks a snapshot's stream, as it is or with every frame sealed as a sender would: frames,
/// entries and their keys.
pub fn snapshot(input: &[u8]) {
    let Some((sealed, rest)) = input.split_first() else { return };
    let bytes = if sealed & 1 == 0 { rest.to_vec() } else { sealed_frames(rest) };
    let (mut at, mut number) = (0, 0);
    while let Ok(Some((frame, used))) = stream::next_frame(&bytes[at..], number) {
        assert!(used > 0 && at + used <= bytes.len(), "a frame is made of bytes that are there");
        if let Frame::Entries(payload) = frame {
            for entry in stream::entries(payload) {
                let Ok((key, value)) = entry else { break };
                walk(key, value);
            }
        }
        at += used;
        number += 1;
    }
}

/// Each frame of the input: kind, length, payload.
fn sealed_frames(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(([kind, length], rest)) = input.split_first_chunk::<2>() {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        out.extend_from_slice(&stream::wrap(*kind, payload));
        input = rest;
    }
    out
}

/// A key that is read has exactly the bytes it was read from, and its value is read by its kind.
fn walk(bytes: &[u8], value: &[u8]) {
    let Ok(key) = Key::decode(bytes) else { return };
    assert_eq!(key.encode(), bytes, "two spellings of one key");
    let read: Result<(), LayoutError> = match key {
        // An old one is written as a new one.
        Key::State(_) if value.first() == Some(&1) => State::decode(value).map(|_| ()),
        Key::State(_) => same(value, State::decode(value), State::encode),
        Key::Membership(_) => same(value, Membership::decode(value), Membership::encode),
        Key::Effects(..) => Effects::decode(value).map(|_| ()),
        Key::Replica(_) => {
            same(value, state::decode_replica(value), |replica| state::encode_replica(*replica))
        }
        Key::Register(_) => register::RegisterRecord::decode(value).map(|_| ()),
        Key::Row(..) => row::RowRecord::decode(value).map(|_| ()),
        Key::Zip(_) => same(value, row::ZipTotals::decode(value), row::ZipTotals::encode),
        Key::Quarantine(_) => list::decode_quarantined(value).map(|_| ()),
        Key::Suspect(_) => list::SuspectRecord::decode(value).map(|_| ()),
        Key::Held(_) => same(value, register::decode_held(value), register::encode_held),
        Key::Swept(_) => list::decode_swept(value).map(|_| ()),
        Key::Map(_) => map::decode(value).map(|_| ()),
        Key::Dictionary(..) | Key::Setting(..) => map::decode_opaque(value).map(|_| ()),
        Key::Due(..) => Ok(()),
    };
    // A value that cannot be read is a clear error, which is all that is asked here.
    drop(read);
}

fn same<T>(
    bytes: &[u8],
    read: Result<T, LayoutError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Result<(), LayoutError> {
    let value = read?;
    assert_eq!(encode(&value), bytes, "two spellings of one value");
    Ok(())
}
