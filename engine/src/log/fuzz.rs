//! What a fuzzer gives to the log: a directory that holds whatever a disk may hold.
//!
//! Bytes behind a checksum are never reached by chance, so most inputs are sealed first.

use super::LogConfig;
use super::config::WriterKind;
use super::faults::FaultyFiles;
use super::layout::{self, RecordHeader, RecordType, RoundHeader, RoundKind, Span};
use super::recover::recover;
use super::segment;

const IDENTITY: u64 = 7;
const SEGMENT_BYTES: u32 = 16 * 1024;
const SEGMENT: u32 = 1;
/// Bytes of an input that stand for a record's header.
const FIELDS: usize = 7;

/// Recovers a log whose only segment is made of `input`; a log that was recovered once can be
/// recovered again, and holds the same.
pub fn recovery(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let bytes = match how % 3 {
        0 => rest.to_vec(),
        1 => segment_of(rest),
        _ => damaged(rest),
    };
    let files = FaultyFiles::new();
    files.put(&segment::name(SEGMENT), bytes);
    let config = LogConfig {
        identity: IDENTITY,
        segment_bytes: SEGMENT_BYTES,
        verify: how & 4 != 0,
        writer: WriterKind::Task,
        ..LogConfig::default()
    };
    if let Ok(first) = recover(&config, &files) {
        let again = recover(&config, &files).expect("what was recovered once is recovered again");
        assert_eq!(again.groups.len(), first.groups.len(), "groups came or went");
        for (replica, (_, index)) in &first.groups {
            let (_, found) = &again.groups[replica];
            let same = found.entries().map(|e| e.0).eq(index.entries().map(|e| e.0));
            assert!(same, "another log of {replica}");
        }
    }
}

/// A segment with one round of records, all checksums right.
fn segment_of(input: &[u8]) -> Vec<u8> {
    let seed = layout::seed(IDENTITY, SEGMENT);
    let mut bytes = vec![0; layout::ROUND_HEADER];
    let mut header = header(RoundKind::Checkpoint, 1, Span::default());
    layout::seal_round(&mut bytes, &mut header, seed);
    let previous = Span { segment: SEGMENT, start: 0, end: bytes.len() as u32 };
    let mut round = vec![0; layout::ROUND_HEADER];
    let mut records = 0;
    let mut rest = input;
    while let Some((fields, behind)) = rest.split_first_chunk::<FIELDS>() {
        let [code, flag, shard, replica, term, index, length] = *fields;
        let (payload, behind) = behind.split_at(usize::from(length).min(behind.len()));
        let record = RecordHeader {
            record_type: RecordType::of(code).unwrap_or(RecordType::Entry),
            flag,
            shard: u32::from(shard),
            replica: u64::from(replica),
            term: u64::from(term),
            index: u64::from(index),
            length: payload.len() as u32,
        };
        layout::put_record(&mut round, seed, &record, payload);
        records += 1;
        rest = behind;
    }
    let mut header = RoundHeader { records, ..self::header(RoundKind::Data, 2, previous) };
    layout::seal_round(&mut round, &mut header, seed);
    bytes.extend_from_slice(&round);
    bytes
}

fn header(kind: RoundKind, round: u64, previous: Span) -> RoundHeader {
    RoundHeader {
        kind,
        identity: IDENTITY,
        round,
        segment: SEGMENT,
        length: 0,
        records: 0,
        previous,
        body_crc: 0,
    }
}

/// A sound segment, with some bytes changed behind the writer's back.
fn damaged(input: &[u8]) -> Vec<u8> {
    let sound = [1, 2, 1, 2, 3, 4, 3, b'a', b'b', b'c', 3, 0, 1, 2, 0, 0, 1, b'v'];
    let mut bytes = segment_of(&sound);
    for change in input.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}
