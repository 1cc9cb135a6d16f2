//! A reader whose changes are no longer in the log, and what they have left.

use platbook_protocol::row::MARKER_RETENTION_MS;

use super::*;

impl Fixture {
    /// Whether a reader at `after` is served, in the shard as it is.
    fn catch_up(&self, left: PhasePosition<'_>) -> Option<StatePhase> {
        match self.store.state_phase(None, Some(left)).unwrap() {
            PhaseStart::Ready(phase) => Some(phase),
            PhaseStart::Forgotten => None,
            PhaseStart::Behind { .. } | PhaseStart::Foreign => panic!("no phase from {left:?}"),
        }
    }

    /// Lets the markers go whose time has come.
    fn sweep(&mut self, collect_max: u32) {
        let mut list = OpList::default();
        list.push(&Op::Sweep { collect_max });
        self.ops(&list);
    }
}

fn position(after: u64, seq: u64, cursor: &[u8]) -> PhasePosition<'_> {
    PhasePosition { after: Some(Seq(after)), seq: Seq(seq), cursor }
}

#[test]
fn what_changed_is_told_as_it_is_now_and_what_left_as_a_marker() {
    let mut f = Fixture::new();
    let gone = |id: &str, zip| (id.to_string(), zip, None);
    f.entry(&[put("kept", "1"), put("left", "2"), put("changed", "3")]);
    // Below the reader's position: a marker that it knows of, one that was laid over nothing.
    f.entry(&[put("old", "4"), gone("old", ZIPS[0]), gone("never", ZIPS[0])]);
    let after = f.store.applied().seq.0;
    f.entry(&[put("changed", "5"), gone("left", ZIPS[0]), put("new", "6")]);
    f.entry(&[put("brief", "7"), gone("brief", ZIPS[0]), put("changed", "8")]);
    let seq = f.store.applied().seq.0;
    let rows = all(&mut f.catch_up(position(after, seq, &[])).expect("markers are there"));
    let mut told: Vec<(&str, Option<&[u8]>)> = rows
        .iter()
        .map(|row| match &row.content {
            PhaseContent::Listing { frame, .. } => (row.id.as_str(), Some(frame.as_slice())),
            PhaseContent::Gone { moved_to: None } => (row.id.as_str(), None),
            other => panic!("{other:?}"),
        })
        .collect();
    told.sort_unstable();
    let expected =
        [("brief", None), ("changed", Some(&b"8"[..])), ("left", None), ("new", Some(&b"6"[..]))];
    assert_eq!(told, expected);
}

#[test]
fn markers_reach_back_exactly_to_the_last_one_that_was_collected() {
    let mut f = Fixture::new();
    let gone = |id: &str| (id.to_string(), ZIPS[0], None);
    f.entry(&[put("a", "1"), put("b", "1"), put("c", "1")]);
    f.entry(&[gone("a")]);
    f.clock += MARKER_RETENTION_MS / 2;
    f.entry(&[gone("b")]);
    let seq = f.store.applied().seq.0;
    assert_eq!(seq, 5);
    let is_served = |f: &Fixture| -> Vec<bool> {
        (0..=seq).map(|after| f.catch_up(position(after, seq, &[])).is_some()).collect()
    };
    f.sweep(100);
    assert_eq!(is_served(&f), [true; 6], "nothing is old enough");
    f.clock += MARKER_RETENTION_MS / 2 + 10;
    f.sweep(100);
    assert_eq!(
        is_served(&f),
        [false, false, false, false, true, true],
        "the delete of `a` is gone"
    );
    f.clock += MARKER_RETENTION_MS;
    f.sweep(100);
    assert_eq!(is_served(&f), [false, false, false, false, false, true]);
}

#[test]
fn a_catch_up_broken_off_anywhere_ends_in_the_state_of_the_store() {
    for seed in 0..24 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut f = Fixture::new();
        (0..rng.random_range(0..40)).for_each(|_| f.random_entry(rng));
        let mut reader = Reader::default();
        let after = reader.read_state(&mut f, rng);
        reader.follow(&f, after, rng);
        let after = f.store.applied().seq;
        // The reader is away; what it has not read goes.
        (0..rng.random_range(0..40)).for_each(|_| f.random_entry(rng));
        f.log.purged = f.log.records.len() as u64;
        let seq = f.store.applied().seq;
        let mut cursor = Vec::new();
        'told: loop {
            let mut phase = f.catch_up(position(after.0, seq.0, &cursor)).expect("all markers");
            for _ in 0..rng.random_range(1..4) {
                f.random_entry(rng);
                let Some(found) = phase.next_rows(rng.random_range(1..200)).unwrap() else {
                    break 'told;
                };
                for row in found.rows {
                    assert!(row.seq > after && row.seq <= seq, "seed {seed}: {row:?}");
                    put_row(&mut reader.rows, &row);
                }
                if !found.passed.is_empty() {
                    cursor = found.passed;
                }
            }
        }
        reader.last_of_zip.clear();
        reader.follow(&f, seq, rng);
        assert_eq!(reader.rows, f.rows(), "seed {seed}");
    }
}
