//! Any order, any repetition and any interleaving of the same messages give the same state, and
//! it is the one that the naive oracle computes from the set.

use std::collections::BTreeMap;

use platbook_protocol::TimeMs;
use platbook_protocol::oracle::{Fate, Oracle};
use platbook_protocol::register::{
    Context, Decision, Message, Recreate, Register, Suspicion, Upsert,
};

use crate::universe::{Seeded, admit, context, delete, numbered, upsert};

/// One way to order a feed.
struct Mode {
    name: &'static str,
    context: Context,
    universe: Vec<Message>,
}

fn modes() -> Vec<Mode> {
    let clocked = || {
        let mut universe: Vec<Message> = (1..=4).map(delete).collect();
        for (modified, sent) in (1..=4).flat_map(|m| (1..=4).map(move |s| (m, s))) {
            for (zip, body) in [(0, 1), (0, 2), (1, 1)] {
                universe.push(upsert(modified, sent, zip, body));
            }
        }
        universe
    };
    let sequenced = || {
        let mut universe: Vec<Message> = (1..=6).map(delete).collect();
        for sequence in 1..=6 {
            for (zip, body) in [(0, 1), (0, 2), (1, 1)] {
                universe.push(upsert(sequence, sequence, zip, body));
            }
        }
        universe
    };
    let (both, queue) = (Recreate::BothClocks, Recreate::QueueTime);
    vec![
        Mode { name: "both clocks", context: context(1, both), universe: clocked() },
        Mode { name: "queue time", context: context(1, queue), universe: clocked() },
        Mode { name: "sequenced", context: context(0, both), universe: sequenced() },
    ]
}

type State = (Option<Upsert>, Option<TimeMs>, bool);

fn state(register: &Register) -> State {
    (register.upsert, register.delete, register.alive)
}

/// What a sequence of deliveries leads to, and whether the clocks' disagreement was noticed.
fn after(messages: &[Message], context: &Context) -> (Register, bool) {
    let mut register = Register::default();
    let mut noticed = false;
    for message in messages {
        let before = register.revision;
        let admitted = admit(&mut register, *message, context);
        noticed |= admitted.suspect == Some(Suspicion::ModifiedBeforeDelete);
        assert!(register.revision >= before, "a revision fell: {messages:?}");
        assert!(!register.alive || register.zip.is_some(), "{messages:?}");
        let home = register.zip.filter(|_| register.alive);
        assert!(home.is_none_or(|zip| !register.old.contains(&zip)), "{messages:?}");
    }
    (register, noticed)
}

fn fate(messages: &[Message], context: &Context) -> Fate {
    let mut oracle = Oracle::new(context.skew_ms, context.recreate);
    messages.iter().for_each(|message| oracle.observe("id", *message));
    oracle.fate_of("id")
}

fn assert_fate(messages: &[Message], mode: &Mode, fate: Fate) {
    let (register, noticed) = after(messages, &mode.context);
    let expected = (fate.upsert, fate.delete, fate.alive);
    assert_eq!(state(&register), expected, "{}: {messages:?}", mode.name);
    assert!(noticed || !fate.suspect, "{}: suspect not listed: {messages:?}", mode.name);
}

#[test]
fn a_join_is_idempotent_after_any_two_messages() {
    for mode in modes() {
        for a in &mode.universe {
            for b in &mode.universe {
                let (mut register, _) = after(&[*a, *b], &mode.context);
                let before = register.clone();
                for again in [a, b] {
                    admit(&mut register, *again, &mode.context);
                    assert_eq!(register, before, "{}: {a:?} {b:?} {again:?}", mode.name);
                }
            }
        }
    }
}

#[test]
fn three_messages_give_one_state_in_every_order() {
    for mode in modes() {
        let universe = &mode.universe;
        for (i, a) in universe.iter().enumerate() {
            for (j, b) in universe.iter().enumerate().skip(i) {
                for c in &universe[j..] {
                    let (a, b, c) = (*a, *b, *c);
                    let fate = fate(&[a, b, c], &mode.context);
                    let orders = [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]];
                    for order in orders {
                        assert_fate(&order, &mode, fate);
                    }
                }
            }
        }
    }
}

/// Heap's algorithm.
fn permutations(items: &mut [Message], count: usize, visit: &mut impl FnMut(&[Message])) {
    if count <= 1 {
        return visit(items);
    }
    for i in 0..count {
        permutations(items, count - 1, visit);
        let swapped = if count.is_multiple_of(2) { i } else { 0 };
        items.swap(swapped, count - 1);
    }
}

#[test]
fn seven_messages_give_one_state_in_all_5040_orders() {
    const SETS: u64 = 12;
    for mode in modes() {
        for seed in 0..SETS {
            let mut seeded = Seeded(seed);
            let mut pick = || mode.universe[seeded.below(mode.universe.len())];
            let mut set: Vec<Message> = (0..7).map(|_| pick()).collect();
            let fate = fate(&set, &mode.context);
            let mut orders = 0;
            permutations(&mut set, 7, &mut |order| {
                orders += 1;
                let (register, noticed) = after(order, &mode.context);
                let expected = (fate.upsert, fate.delete, fate.alive);
                assert_eq!(state(&register), expected, "{} seed {seed}: {order:?}", mode.name);
                assert!(noticed || !fate.suspect, "{} seed {seed}: {order:?}", mode.name);
            });
            assert_eq!(orders, 5040);
        }
    }
}

/// A message whose clocks lie within and beyond the skew of each other.
fn random_message(seeded: &mut Seeded, mode: &Mode) -> Message {
    let sent = 1 + seeded.below(400) as u64;
    if seeded.below(4) == 0 {
        return delete(sent);
    }
    let (zip, body) = (seeded.below(4) as u8, seeded.below(3) as u8);
    let modified = match mode.context.skew_ms {
        0 => sent,
        _ => (sent + 20).saturating_sub(seeded.below(60) as u64),
    };
    upsert(modified, sent, zip, body)
}

#[test]
fn long_feeds_with_repetitions_come_to_what_the_oracle_says() {
    const FEEDS: u64 = 30;
    const IDS: usize = 40;
    for mut mode in modes() {
        if mode.context.skew_ms > 0 {
            mode.context.skew_ms = 10;
        }
        for seed in 0..FEEDS {
            let mut seeded = Seeded(seed);
            let mut oracle = Oracle::new(mode.context.skew_ms, mode.context.recreate);
            let mut feed: Vec<(String, Message)> = Vec::new();
            for _ in 0..1000 {
                let id = format!("id-{}", seeded.below(IDS));
                feed.push((id, random_message(&mut seeded, &mode)));
            }
            feed.iter().for_each(|(id, message)| oracle.observe(id, *message));
            let copies: Vec<_> = (0..500).map(|_| feed[seeded.below(feed.len())].clone()).collect();
            feed.extend(copies);
            for _ in 0..3 {
                seeded.shuffle(&mut feed);
                check_feed(&feed, &oracle, &mode, seed);
            }
        }
    }
}

fn check_feed(feed: &[(String, Message)], oracle: &Oracle, mode: &Mode, seed: u64) {
    let name = format!("{} seed {seed}", mode.name);
    let mut registers: BTreeMap<&str, Register> = BTreeMap::new();
    let mut noticed: BTreeMap<&str, bool> = BTreeMap::new();
    for (id, message) in feed {
        let register = registers.entry(id).or_default();
        let admitted = admit(register, *message, &mode.context);
        if admitted.suspect == Some(Suspicion::ModifiedBeforeDelete) {
            noticed.insert(id, true);
        }
    }
    let alive = || registers.iter().filter(|(_, register)| register.alive);
    let ids: Vec<&str> = alive().map(|(id, _)| *id).collect();
    assert_eq!(ids, oracle.alive_ids().collect::<Vec<_>>(), "{name}");
    for zip in (0..4).map(numbered) {
        let here = alive().filter(|(_, register)| register.zip == Some(zip));
        let listed: Vec<_> = here
            .filter_map(|(id, register)| register.upsert.map(|u| (*id, u.version.digest)))
            .collect();
        assert_eq!(listed, oracle.listings_of(zip).collect::<Vec<_>>(), "{name} {zip}");
    }
    for id in oracle.suspect_ids() {
        assert!(noticed.contains_key(id), "{name}: {id} is not listed as a suspect");
    }
}

#[test]
fn a_sequenced_feed_has_no_suspects() {
    let sequenced = modes().pop().expect("the last mode is the sequenced one");
    for a in &sequenced.universe {
        for b in &sequenced.universe {
            for c in &sequenced.universe {
                let mut register = Register::default();
                for message in [a, b, c] {
                    let admitted = admit(&mut register, *message, &sequenced.context);
                    assert_eq!(admitted.suspect, None, "{a:?} {b:?} {c:?}");
                }
            }
        }
    }
}

#[test]
fn a_message_for_an_unknown_id_below_the_horizon_is_too_old_and_leaves_nothing() {
    let mut context = context(1, Recreate::BothClocks);
    context.register_horizon = TimeMs(100);
    let mut register = Register::default();
    for message in [upsert(99, 99, 0, 1), delete(99)] {
        let admitted = admit(&mut register, message, &context);
        assert_eq!(admitted.decision, Decision::TooOld);
        assert_eq!(register, Register::default());
    }
    assert_ne!(admit(&mut register, delete(100), &context).decision, Decision::TooOld);
    // Known ids take what is old.
    assert_ne!(admit(&mut register, upsert(1, 1, 0, 1), &context).decision, Decision::TooOld);
}

#[test]
fn an_unknown_id_starts_above_every_collected_register() {
    let mut context = context(1, Recreate::BothClocks);
    context.shard_floor = platbook_protocol::Revision(u64::MAX / 2);
    let mut register = Register::default();
    admit(&mut register, upsert(1, 1, 0, 1), &context);
    assert!(register.revision > context.shard_floor);
}

#[test]
fn a_changed_setting_kills_at_once_but_revives_only_with_the_body() {
    let strict = context(1, Recreate::BothClocks);
    let lenient = context(1, Recreate::QueueTime);
    let mut register = Register::default();
    admit(&mut register, delete(50), &strict);
    admit(&mut register, upsert(10, 60, 0, 1), &strict);
    assert!(!register.alive);
    admit(&mut register, delete(50), &lenient);
    assert!(!register.alive, "a delete has no body to write");
    admit(&mut register, upsert(10, 60, 0, 1), &lenient);
    assert!(register.alive);
    admit(&mut register, delete(50), &strict);
    assert!(!register.alive);
}

#[test]
fn the_greatest_numbers_of_a_peer_stop_nothing() {
    let mut register = Register::default();
    let mut context = context(u64::MAX, Recreate::BothClocks);
    context.clock = TimeMs(u64::MAX);
    let mut greatest = crate::universe::admission(upsert(u64::MAX, u64::MAX, 0, 1));
    greatest.floor = platbook_protocol::Revision(u64::MAX);
    register.admit(greatest, &context);
    greatest.if_match = Some(register.revision);
    greatest.message = upsert(u64::MAX, u64::MAX, 1, 2);
    register.admit(greatest, &context);
    admit(&mut register, delete(u64::MAX), &context);
}
