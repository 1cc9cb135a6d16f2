//! The bytes on disk, computed by another program from `docs/on-disk.md`.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::log::event::{self, Event, Place, Run, SegmentEvents};
use crate::log::index::GroupIndex;
use crate::log::layout::{self, RoundHeader};
use crate::log::mark::Mark;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const CHECKPOINT: &str = concat!(
    "50424c5201010000070000000000000001000000000000000100000000020000",
    "0000000000000000000000000000000000000000000000000257d15994db315c",
);

const ROUND: &str = concat!(
    "50424c5201020000070000000000000002000000000000000100000000020000",
    "050000000100000000000000000200000000000000000000aa2314313e258ccb",
    // Entry (3, 4) of kind 2: "abc".
    "77affa5803000000010200000100000002000000000000000300000000000000",
    "0400000000000000616263",
    // Entry (3, 5) of kind 0: empty.
    "254b8a3400000000010000000100000002000000000000000300000000000000",
    "0500000000000000",
    // Truncate behind (3, 4).
    "68c52cce00000000040100000100000002000000000000000300000000000000",
    "0400000000000000",
    // Purge up to (3, 4).
    "2e752d8b00000000050000000100000002000000000000000300000000000000",
    "0400000000000000",
    // Vote "v".
    "5ba7f79101000000030000000100000002000000000000000000000000000000",
    "000000000000000076",
);

const MARK: &str = concat!(
    "50424c4301000000070000000000000002000000000000000100000000040000",
    "000000002a8d8049",
);

#[tokio::test]
async fn a_round_is_written_as_documented() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 2);
    let entry = |index, kind, payload: &'static [u8]| Record {
        term: 3,
        index,
        kind,
        payload: Bytes::from_static(payload),
    };
    a.append(vec![entry(4, 2, b"abc"), entry(5, 0, b"")], Box::new(|_| ())).await;
    a.truncate_after(Some(4)).await.unwrap();
    a.purge(3, 4).await.unwrap();
    a.save_vote(Bytes::from_static(b"v")).await.unwrap();
    log.close().await.unwrap();
    let bytes = files.bytes("0000000001.log").unwrap();
    assert_eq!(hex(&bytes[..64]), CHECKPOINT);
    assert_eq!(hex(&bytes[512..512 + ROUND.len() / 2]), ROUND);
    assert!(bytes[512 + ROUND.len() / 2..].iter().all(|byte| *byte == 0));
    assert_eq!(hex(&files.bytes("closed").unwrap()), MARK);
}

fn some_events() -> Vec<Event> {
    let places = vec![Place { offset: 512, length: 3 }, Place { offset: 700, length: 9 }];
    vec![
        Event::Entries(Run { moved: false, term: 3, first: 4, places: places.clone() }),
        Event::Entries(Run { moved: true, term: 2, first: 1, places: places[..1].to_vec() }),
        Event::Vote(Bytes::from_static(b"v")),
        Event::Truncate(None),
        Event::Truncate(Some((3, 4))),
        Event::Purge((2, 1)),
        Event::Remove,
    ]
}

#[test]
fn a_footer_is_written_as_documented() {
    let wanted = [
        concat!("01", "0300000000000000", "0400000000000000", "02000000"),
        concat!("00020000", "03000000", "bc020000", "09000000"),
        concat!("02", "0200000000000000", "0100000000000000", "01000000", "00020000", "03000000"),
        concat!("03", "0100", "76"),
        concat!("04", "00", "0000000000000000", "0000000000000000"),
        concat!("04", "01", "0300000000000000", "0400000000000000"),
        concat!("05", "0200000000000000", "0100000000000000"),
    ];
    let mut events = some_events();
    assert_eq!(events.pop(), Some(Event::Remove), "it would hide the others");
    let mut segment = SegmentEvents::default();
    for event in &events {
        segment.push(ReplicaId(2), ShardId(1), event.clone());
    }
    let mut bytes = Vec::new();
    assert_eq!(segment.encode(&mut bytes, 5), 1);
    assert!(bytes.len() <= segment.bytes());
    let (_, payload) = layout::take_record(&bytes, 5).unwrap();
    assert_eq!(hex(payload), wanted.concat());
    assert_eq!(event::take_events(payload), Some(events));

    segment.push(ReplicaId(2), ShardId(1), Event::Remove);
    bytes.clear();
    segment.encode(&mut bytes, 5);
    assert_eq!(hex(layout::take_record(&bytes, 5).unwrap().1), "06");
    assert_eq!(bytes.len(), segment.bytes());
}

#[test]
fn a_state_is_written_as_documented() {
    let mut index = GroupIndex::default();
    let places = vec![Place { offset: 512, length: 3 }; 3];
    for event in [
        Event::Entries(Run { moved: false, term: 3, first: 4, places }),
        Event::Vote(Bytes::from_static(b"v")),
        Event::Purge((3, 4)),
    ] {
        index.apply(1, &event).unwrap();
    }
    let mut bytes = Vec::new();
    index.put_state(&mut bytes);
    let wanted = [
        concat!("07", "0300000000000000", "0400000000000000"),
        concat!("0300000000000000", "0600000000000000"),
        concat!("0500000000000000", "0200000000000000", "76"),
    ];
    assert_eq!(hex(&bytes), wanted.concat());
    let taken = GroupIndex::take_state(&bytes).unwrap();
    assert!(taken.agrees_with(&index));
    assert_eq!((taken.hole(), index.hole()), (Some(5), None));
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let mut dice = StdRng::seed_from_u64(1);
    let mut state = Vec::new();
    GroupIndex::default().put_state(&mut state);
    let mut segment = SegmentEvents::default();
    for event in some_events() {
        segment.push(ReplicaId(2), ShardId(1), event);
    }
    let mut footer = Vec::new();
    segment.encode(&mut footer, 5);
    let mark = Mark { identity: 7, round: 2, segment: 1, end: 1024 }.encode().to_vec();
    for seed in [vec![0; 64], state, footer[40..].to_vec(), mark] {
        for _ in 0..2000 {
            let mut bytes = seed.clone();
            bytes.truncate(dice.next_u32() as usize % (bytes.len() + 1));
            if !bytes.is_empty() {
                let at = dice.next_u32() as usize % bytes.len();
                bytes[at] = dice.next_u32() as u8;
            }
            let _ = RoundHeader::decode(&bytes);
            let _ = layout::take_record(&bytes, 5);
            let _ = event::take_events(&bytes);
            // Counts of entries are believed only behind a checksum.
            if bytes.get(41..49) == Some(&[0; 8]) {
                let _ = GroupIndex::take_state(&bytes);
            }
        }
    }
}
