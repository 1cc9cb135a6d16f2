//! What is torn is cut; what is damaged refuses.

use super::*;
use crate::log::layout::{BLOCK, HeaderRead, RoundHeader};
use crate::log::segment;

/// Three synced rounds behind the checkpoint; the last one has several records.
async fn three_rounds(files: &FaultyFiles) -> SharedLog {
    let log = open(files).unwrap();
    group(&log, 1).save_vote(Bytes::from_static(b"vote")).await.unwrap();
    append(&group(&log, 1), records(1, 0..2, 200)).await.unwrap();
    append(&group(&log, 1), records(2, 2..5, 300)).await.unwrap();
    log
}

/// Starts of the rounds in a segment.
fn rounds(bytes: &[u8]) -> Vec<usize> {
    let is_round = |block: &&[u8]| matches!(RoundHeader::decode(block), HeaderRead::Header(_));
    let blocks = bytes.chunks(BLOCK).enumerate();
    blocks.filter(|(_, block)| is_round(block)).map(|(n, _)| n * BLOCK).collect()
}

/// Opens a log in which one file has these bytes.
fn open_with(files: &FaultyFiles, name: &str, bytes: Vec<u8>) -> Result<SharedLog, LogError> {
    let files = files.fork();
    files.put(name, bytes);
    open(&files)
}

fn first() -> String {
    segment::name(1)
}

#[tokio::test]
async fn a_round_torn_at_any_byte_is_cut_whole() {
    let files = FaultyFiles::new();
    drop(three_rounds(&files).await);
    let whole = files.bytes(&first()).unwrap();
    let last = *rounds(&whole).last().unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for garbage in [0, 0xa5] {
        for at in last..end {
            let mut torn = whole.clone();
            torn[at..end].fill(garbage);
            let log = open_with(&files, &first(), torn.clone()).unwrap();
            let wanted = if torn == whole {
                [records(1, 0..2, 200), records(2, 2..5, 300)].concat()
            } else {
                records(1, 0..2, 200)
            };
            assert_eq!(read_all(&group(&log, 1)), wanted, "torn at {at}");
        }
    }
}

#[tokio::test]
async fn a_log_goes_on_behind_a_cut() {
    let files = FaultyFiles::new();
    drop(three_rounds(&files).await);
    let mut torn = files.bytes(&first()).unwrap();
    let last = *rounds(&torn).last().unwrap();
    torn[last + 100] ^= 1;
    files.put(&first(), torn);
    let log = open(&files).unwrap();
    assert_eq!(log.recovery().cut.map(|(number, at, _)| (number, at)), Some((1, last as u64)));
    append(&group(&log, 1), records(3, 2..3, 10)).await.unwrap();
    let log = open(&files.lose_power(1)).unwrap();
    assert_eq!(log.recovery().cut, None);
    let wanted = [records(1, 0..2, 200), records(3, 2..3, 10)].concat();
    assert_eq!(read_all(&group(&log, 1)), wanted);
}

#[tokio::test]
async fn any_byte_flipped_before_the_last_round_refuses() {
    let files = FaultyFiles::new();
    drop(three_rounds(&files).await);
    let whole = files.bytes(&first()).unwrap();
    let rounds = rounds(&whole);
    for at in 0..*rounds.last().unwrap() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let error = open_with(&files, &first(), damaged).err();
        let round = rounds.iter().rfind(|start| **start <= at).map(|start| *start as u64);
        match error {
            Some(LogError::Corrupt { segment: 1, offset, .. }) => assert_eq!(Some(offset), round),
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn after_a_clean_shutdown_nothing_counts_as_torn() {
    let files = FaultyFiles::new();
    three_rounds(&files).await.close().await.unwrap();
    let whole = files.bytes(&first()).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for at in 0..end {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let error = open_with(&files, &first(), damaged).err();
        assert!(
            matches!(error, Some(LogError::Corrupt { segment: 1, .. })),
            "byte {at}: {error:?}"
        );
    }
    let log = open(&files).unwrap();
    assert!(log.recovery().clean);
    assert_eq!(read_all(&group(&log, 1)).len(), 5);
    // The mark is gone: from here on a tear is a tear again.
    let log = open(&files.lose_power(0)).unwrap();
    assert!(!log.recovery().clean);
}

async fn many_segments(files: &FaultyFiles) -> SharedLog {
    let log = open(files).unwrap();
    for index in 0..60 {
        append(&group(&log, 1), records(1, index..index + 1, 1000)).await.unwrap();
    }
    assert!(log.counters().segments >= 4);
    log
}

#[tokio::test]
async fn a_missing_segment_refuses() {
    let files = FaultyFiles::new();
    let log = many_segments(&files).await;
    let last = log.counters().segments as u32;
    log.close().await.unwrap();
    for number in 1..=last {
        let files = files.fork();
        crate::log::Files::remove(&files, &segment::name(number)).unwrap();
        match open(&files).err() {
            Some(LogError::MissingSegment { segment }) => assert_eq!(segment, number),
            Some(LogError::MissingIndex { index: 0, .. }) => assert_eq!(number, 1),
            other => panic!("without segment {number}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_damaged_footer_costs_a_scan_and_nothing_else() {
    let files = FaultyFiles::new();
    drop(many_segments(&files).await);
    let whole = files.bytes(&first()).unwrap();
    let footer = *rounds(&whole).last().unwrap();
    for at in [footer, footer + 30, footer + 70, footer + 200] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        let log = open_with(&files, &first(), damaged).unwrap();
        assert_eq!(read_all(&group(&log, 1)), records(1, 0..60, 1000));
        assert_eq!(log.recovery().footers, log.recovery().segments - 2);
    }
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_told_by_the_read_that_meets_it() {
    let files = FaultyFiles::new();
    drop(many_segments(&files).await);
    let mut damaged = files.bytes(&first()).unwrap();
    let at = rounds(&damaged)[3] + 500;
    damaged[at] ^= 1;
    let files = files.fork();
    files.put(&first(), damaged);
    let log = open(&files).unwrap();
    let error = group(&log, 1).read(2..3, usize::MAX).err();
    assert!(matches!(error, Some(LogError::Corrupt { segment: 1, .. })), "{error:?}");
    assert_eq!(group(&log, 1).read(3..4, usize::MAX).unwrap(), records(1, 3..4, 1000));
    let verify = LogConfig { verify: true, ..config() };
    let error = SharedLog::open(verify, Arc::new(files.fork())).err();
    assert!(matches!(error, Some(LogError::Corrupt { segment: 1, .. })), "{error:?}");
}

#[tokio::test]
async fn a_start_reads_footers_and_the_last_segment_only() {
    let files = FaultyFiles::new();
    let log = many_segments(&files).await;
    let (segments, disk) = (log.counters().segments, log.counters().disk_bytes);
    let files = files.lose_power(0);
    let log = open(&files).unwrap();
    let read = log.recovery().bytes_read;
    // A checkpoint and a footer of each, all of the last one twice (rounds, then traces).
    assert!(read < segments * 3 * BLOCK as u64 + 2 * 16 * 1024, "{read} of {disk}");
}

#[tokio::test]
async fn a_log_of_somebody_else_refuses() {
    let files = FaultyFiles::new();
    drop(three_rounds(&files).await);
    let config = LogConfig { identity: 8, ..config() };
    let error = SharedLog::open(config, Arc::new(files.fork())).err();
    assert!(matches!(error, Some(LogError::Foreign { found: 7, expected: 8 })), "{error:?}");
}

#[tokio::test]
async fn a_later_version_refuses() {
    let files = FaultyFiles::new();
    drop(three_rounds(&files).await);
    let mut bytes = files.bytes(&first()).unwrap();
    bytes[4] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let error = open_with(&files, &first(), bytes).err();
    assert!(matches!(error, Some(LogError::Version { segment: 1, version: 2 })), "{error:?}");
}

#[tokio::test]
async fn bytes_of_another_segment_are_never_taken_for_rounds() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let mut next = 0;
    while log.counters().segments < 3 {
        append(&group(&log, 1), records(1, next..next + 1, 1000)).await.unwrap();
        next += 1;
    }
    drop(log);
    // A recycled segment would hold whole rounds of an older one behind its own.
    let old = files.bytes(&first()).unwrap();
    let mut bytes = files.bytes(&segment::name(3)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = end.next_multiple_of(BLOCK);
    bytes[end..].copy_from_slice(&old[end..]);
    bytes[end..end + 2 * BLOCK].copy_from_slice(&old[rounds(&old)[1]..][..2 * BLOCK]);
    let log = open_with(&files, &segment::name(3), bytes).unwrap();
    assert_eq!(read_all(&group(&log, 1)), records(1, 0..next, 1000));
}

#[tokio::test]
async fn only_an_untouched_directory_is_empty() {
    let files = FaultyFiles::new();
    assert!(SharedLog::is_empty_dir(&files).unwrap());
    drop(open(&files).unwrap());
    assert!(!SharedLog::is_empty_dir(&files).unwrap());
}

#[tokio::test]
async fn a_scrub_finds_what_a_sealed_segment_lost_and_reads_the_rest() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    for index in 0..60 {
        append(&group(&log, 1), records(1, index..index + 1, 1000)).await.unwrap();
    }
    let sealed = log.sealed_segments();
    assert!(sealed.len() >= 3, "{sealed:?}");
    for number in &sealed {
        assert!(log.scrub(*number).unwrap() > 1000);
    }
    let name = segment::name(sealed[1]);
    let whole = files.bytes(&name).unwrap();
    for round in rounds(&whole) {
        let mut damaged = whole.clone();
        damaged[round + 70] ^= 1;
        files.put(&name, damaged);
        assert!(matches!(log.scrub(sealed[1]), Err(LogError::Corrupt { .. })), "round at {round}");
        assert!(log.scrub(sealed[0]).is_ok() && log.scrub(sealed[2]).is_ok());
    }
    files.put(&name, whole);
    group(&log, 1).purge(1, 40).await.unwrap();
    append(&group(&log, 1), records(1, 60..61, 10)).await.unwrap();
    assert!(log.collect(TimeMs(0)).unwrap().segments > 0);
    assert_eq!(log.scrub(sealed[0]).unwrap(), 0, "a segment that is gone is not damaged");
}
