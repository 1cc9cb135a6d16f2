//! The follower against a model of the store, broken off at every byte.

use std::collections::BTreeMap;

use platbook_protocol::map::ClusterId;
use platbook_protocol::token::{Position, Token as Vector};
use platbook_protocol::{Seq, ShardId};
use serde_json::{Value, json};

use super::event::{Event, Passage};
use super::follower::{Follower, GapError, Proof};
use super::wire;
use crate::lines::Lines;
use crate::token::Token;

/// Rows of a shard's present state: one is through with them before the other.
fn rows(shard: u32) -> u64 {
    if shard == 1 { 3 } else { 7 }
}

/// Changes of each shard: the state is that of the first half.
const CHANGES: u64 = 8;
const SNAPSHOT: u64 = 4;
const SHARDS: [u32; 2] = [1, 2];

/// Lines, a token behind every two of them.
struct Server {
    vector: Vector,
    lines: Vec<Value>,
    since_token: usize,
    /// Odd changes are left out, as by a filter.
    is_filtered: bool,
}

impl Server {
    fn at(vector: Vector, is_filtered: bool) -> Server {
        Server { vector, lines: Vec::new(), since_token: 0, is_filtered }
    }

    /// What the store sends to who stands there, to the end of all there is: the shards in turns,
    /// so that one is followed while another still tells its state.
    fn serve(mut self) -> Vec<u8> {
        let shards: Vec<ShardId> = self.vector.shards.keys().copied().collect();
        let mut is_state = self.is_state();
        let token = self.token();
        let at_the_beginning =
            |at: &Position| matches!(at, Position::State { cursor, .. } if cursor.is_empty());
        let first = match self.vector.shards.values().all(at_the_beginning) {
            true => "resync-begin",
            false => "heartbeat",
        };
        self.lines.push(json!({"control": first, "token": token}));
        loop {
            let moved: Vec<bool> = shards.iter().map(|shard| self.step(*shard)).collect();
            if !moved.contains(&true) {
                break;
            }
            if is_state && !self.is_state() {
                is_state = false;
                let token = self.token();
                self.lines.push(json!({"control": "state-end", "token": token}));
            }
        }
        let lines: Vec<String> = self.lines.iter().map(|line| format!("{line}\n")).collect();
        lines.concat().into_bytes()
    }

    fn is_state(&self) -> bool {
        self.vector.shards.values().any(|at| matches!(at, Position::State { .. }))
    }

    /// One row or change of a shard; `false` where there is none left.
    fn step(&mut self, shard: ShardId) -> bool {
        match self.vector.shards[&shard].clone() {
            Position::State { seq, cursor } => {
                let row = cursor.first().map_or(0, |row| u64::from(*row)) + 1;
                if row > rows(shard.0) {
                    self.vector.shards.insert(shard, Position::Follow { seq });
                    return true;
                }
                self.event(shard, row.min(SNAPSHOT), "state", &format!("s{shard}r{row}"));
                self.stand(shard, Position::State { seq, cursor: vec![row as u8] });
            }
            Position::CatchUp { .. } => unreachable!("this server has every change"),
            Position::Follow { seq: Seq(CHANGES..) } => return false,
            Position::Follow { seq: Seq(told) } => {
                let seq = told + 1;
                if self.is_filtered && seq % 2 == 1 {
                    let (first, last) = (seq.to_string(), seq.to_string());
                    let left = json!({"control": "skip", "shard": shard, "first": first,
                        "last": last});
                    self.lines.push(left);
                } else {
                    self.event(shard, seq, "feed", &format!("s{shard}c{seq}"));
                }
                self.stand(shard, Position::Follow { seq: Seq(seq) });
            }
        }
        true
    }

    /// All listings of a shard are in one ZIP.
    fn event(&mut self, shard: ShardId, seq: u64, reason: &str, id: &str) {
        let zip = format!("9810{shard}");
        let mut event = json!({
            "shard": shard, "seq": seq.to_string(), "op": "upsert",
            "reason": reason, "id": id, "zip": zip, "revision": seq.to_string(), "at": 7,
            "listing": {"a": 1},
        });
        if reason == "feed" {
            event["prev"] = (seq - 1).to_string().into();
        }
        self.lines.push(event);
    }

    fn stand(&mut self, shard: ShardId, position: Position) {
        self.vector.shards.insert(shard, position);
        self.since_token += 1;
        if self.since_token == 2 {
            self.since_token = 0;
            let token = self.token();
            self.lines.push(json!({"control": "resolved", "token": token, "at": 9}));
        }
    }

    fn token(&self) -> String {
        self.vector.encode().expect("two shards are short")
    }
}

fn vector(position: Position) -> Vector {
    let shards = SHARDS.map(|shard| (ShardId(shard), position.clone()));
    Vector { cluster: ClusterId(1), incarnation: 1, epoch: 1, shards: shards.into() }
}

fn beginning() -> Vector {
    vector(Position::State { seq: Seq(SNAPSHOT), cursor: Vec::new() })
}

/// A reader: what it was told, by shard, in order.
struct Reader {
    follower: Follower,
    told: BTreeMap<u32, Vec<String>>,
    state_begins: usize,
    state_ends: usize,
    warned: Vec<u32>,
}

impl Reader {
    fn at(vector: &Vector, proof: Proof) -> Reader {
        let token = Token::from(vector.encode().expect("is short"));
        Reader {
            follower: Follower::at(Some(token), proof),
            told: BTreeMap::new(),
            state_begins: 0,
            state_ends: 0,
            warned: Vec::new(),
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), GapError> {
        let mut lines = Lines::default();
        lines.push(bytes);
        while let Some(line) = lines.next().expect("short lines") {
            let Some(line) = wire::read(&line).expect("is understood") else { continue };
            match self.follower.on_line(line)? {
                Some(Event::Change(change)) => {
                    let told = self.told.entry(change.shard.0).or_default();
                    told.push(change.id.to_string());
                }
                Some(Event::StateEnd { is_whole }) => {
                    assert!(is_whole, "it was told from its beginning");
                    self.state_ends += 1;
                }
                Some(Event::StateBegin) => self.state_begins += 1,
                Some(Event::Resolved { .. } | Event::ShardResolved { .. }) | None => {}
                Some(Event::TrimmingSoon { shard }) => self.warned.push(shard.0),
            }
        }
        Ok(())
    }

    fn vector(&self) -> Vector {
        let token = self.follower.token().expect("it stands somewhere");
        Vector::decode(token.as_str()).expect("is whole")
    }
}

fn expected(is_filtered: bool) -> BTreeMap<u32, Vec<String>> {
    let all = |shard: u32| {
        let rows = (1..=rows(shard)).map(move |row| format!("s{shard}r{row}"));
        let is_told = move |seq: &u64| !(is_filtered && seq % 2 == 1);
        let changes = (SNAPSHOT + 1..=CHANGES).filter(is_told);
        rows.chain(changes.map(move |seq| format!("s{shard}c{seq}"))).collect()
    };
    SHARDS.map(|shard| (shard, all(shard))).into()
}

#[test]
fn broken_off_at_any_byte_it_goes_on_at_exactly_the_next_change() {
    for (is_filtered, proof) in [(false, Proof::Chained), (true, Proof::Numbered)] {
        let whole = Server::at(beginning(), is_filtered).serve();
        for cut in 0..=whole.len() {
            let mut reader = Reader::at(&beginning(), proof);
            reader.read(&whole[..cut]).expect("no gap");
            let rest = Server::at(reader.vector(), is_filtered).serve();
            reader.read(&rest).expect("no gap behind the cut");
            assert_eq!(reader.told, expected(is_filtered), "cut at {cut}");
            assert_eq!(reader.vector(), vector(Position::Follow { seq: Seq(CHANGES) }));
            assert_eq!((reader.state_begins, reader.state_ends), (1, 1), "cut at {cut}");
        }
    }
}

#[test]
fn broken_off_twice_and_told_twice_nothing_comes_twice() {
    let (whole, proof) = (Server::at(beginning(), false).serve(), Proof::Chained);
    for cut in (0..=whole.len()).step_by(7) {
        let mut reader = Reader::at(&beginning(), proof);
        reader.read(&whole[..cut]).expect("no gap");
        let rest = Server::at(reader.vector(), false).serve();
        reader.read(&rest[..rest.len() / 2]).expect("no gap");
        // A router that begins a little before the position tells what is known already.
        let before = reader.follower.token().expect("stands").to_string();
        reader.read(&Server::at(reader.vector(), false).serve()).expect("no gap");
        assert_eq!(reader.told, expected(false), "cut at {cut}, behind {before}");
    }
}

#[test]
fn a_change_that_is_left_out_is_a_gap_and_the_position_stays_before_it() {
    let (mut left_out, last) = (0, CHANGES.to_string());
    for proof in [Proof::Numbered, Proof::Chained] {
        for start in [beginning(), vector(Position::Follow { seq: Seq(SNAPSHOT) })] {
            let whole = String::from_utf8(Server::at(start.clone(), false).serve()).expect("text");
            let lines: Vec<&str> = whole.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let line: Value = serde_json::from_str(line).expect("JSON");
                // Nothing that was told stands behind the last change of a shard.
                if line["reason"] != "feed" || line["seq"] == last {
                    continue;
                }
                let left = [&lines[..at], &lines[at + 1..]].concat().join("\n") + "\n";
                let mut reader = Reader::at(&start, proof);
                let gap = reader.read(left.as_bytes()).expect_err("a gap");
                assert_eq!(Some(u64::from(gap.shard.0)), line["shard"].as_u64());
                reader.read(&Server::at(reader.vector(), false).serve()).expect("is whole");
                for (shard, told) in &reader.told {
                    let changes = told.iter().filter(|id| id.contains('c')).cloned();
                    let all = (SNAPSHOT + 1..=CHANGES).map(|seq| format!("s{shard}c{seq}"));
                    assert_eq!(changes.collect::<Vec<_>>(), all.collect::<Vec<_>>());
                }
                left_out += 1;
            }
        }
    }
    assert_eq!(left_out, 4 * SHARDS.len() as u64 * (CHANGES - SNAPSHOT - 1));
}

#[test]
fn a_token_that_runs_ahead_of_what_was_told_is_a_gap() {
    let mut reader = Reader::at(&vector(Position::Follow { seq: Seq(4) }), Proof::Chained);
    let ahead = vector(Position::Follow { seq: Seq(5) }).encode().expect("is short");
    let line = format!("{}\n", json!({"control": "heartbeat", "token": ahead}));
    let gap = reader.read(line.as_bytes()).expect_err("change 5 was not told");
    assert_eq!((gap.last, gap.found), (Seq(4), Seq(5)));
}

#[test]
fn a_catch_up_tells_rows_of_a_shard_that_was_followed_and_changes_go_on_behind_it() {
    let mut reader = Reader::at(&vector(Position::Follow { seq: Seq(4) }), Proof::Chained);
    let catch_up = |after: u64, cursor: &[u8]| {
        let mut vector = vector(Position::Follow { seq: Seq(4) });
        let cursor = cursor.to_vec();
        let position = Position::CatchUp { after: Seq(after), seq: Seq(9), cursor };
        vector.shards.insert(ShardId(1), position);
        json!({"control": "heartbeat", "token": vector.encode().expect("is short")}).to_string()
    };
    let row = |op: &str, id: &str, reason: &str, seq: &str| {
        let prev = (seq.parse::<u64>().expect("a number") - 1).to_string();
        let zip = "98103";
        json!({"shard": 1, "seq": seq, "prev": prev, "op": op, "reason": reason, "id": id,
            "zip": zip, "revision": seq, "before": null})
        .to_string()
    };
    let read =
        |reader: &mut Reader, lines: &[String]| reader.read((lines.join("\n") + "\n").as_bytes());
    let hole = catch_up(5, b"");
    assert!(read(&mut reader, &[hole]).is_err(), "change 5 was told by nobody");
    let first =
        [catch_up(4, b""), row("upsert", "a", "state", "7"), row("delete", "b", "state", "8")];
    read(&mut reader, &first).expect("no gap");
    // The connection breaks: the rows behind the last token come again.
    read(&mut reader, &first).expect("no gap");
    let rest = [
        catch_up(4, b"k"),
        row("upsert", "c", "state", "5"),
        json!({"control": "resolved", "shard": 1, "at": 5}).to_string(),
        json!({"control": "trimming-soon", "shard": 1, "oldest": "5"}).to_string(),
        row("upsert", "d", "feed", "10"),
        row("upsert", "a", "state", "7"),
    ];
    read(&mut reader, &rest).expect("no gap");
    assert_eq!(reader.told[&1], ["a", "b", "c", "d"]);
    assert_eq!(reader.warned, [1]);
    assert_eq!(reader.vector().shards[&ShardId(1)], Position::Follow { seq: Seq(10) });
    let late = catch_up(4, b"k");
    read(&mut reader, &[late, row("upsert", "e", "feed", "11")]).expect("a token may lag behind");
    assert_eq!(reader.told[&1].last().map(String::as_str), Some("e"));
}

#[test]
fn a_range_that_leaves_something_between_is_a_gap() {
    let mut reader = Reader::at(&vector(Position::Follow { seq: Seq(4) }), Proof::Chained);
    let skip = |first: u64, last: u64| {
        let (first, last) = (first.to_string(), last.to_string());
        format!("{}\n", json!({"control": "skip", "shard": 1, "first": first, "last": last}))
    };
    reader.read(skip(3, 7).as_bytes()).expect("it joins on");
    reader.read(skip(1, 2).as_bytes()).expect("is known already");
    assert!(reader.read(skip(9, 9).as_bytes()).is_err(), "8 is between");
}

#[test]
fn a_range_that_hides_a_change_of_the_same_zip_is_a_gap_where_only_zips_are_chosen() {
    let event = |seq: u64, prev: u64| {
        let (seq, prev) = (seq.to_string(), prev.to_string());
        format!(
            "{}\n",
            json!({"shard": 1, "seq": seq, "prev": prev, "op": "delete",
            "reason": "feed", "id": "a", "zip": "98103", "revision": seq, "at": 7})
        )
    };
    let skip = "{\"control\":\"skip\",\"shard\":1,\"first\":\"6\",\"last\":\"8\"}\n";
    let told = |proof, prev| {
        let mut reader = Reader::at(&vector(Position::Follow { seq: Seq(4) }), proof);
        reader.read((event(5, 3) + skip + &event(9, prev)).as_bytes())
    };
    assert!(told(Proof::Chained, 5).is_ok(), "6 to 8 were of other ZIPs");
    assert!(told(Proof::Chained, 7).is_err(), "7 was of this one");
    assert!(told(Proof::Numbered, 7).is_ok(), "7 may have cost too much");
}

#[test]
fn what_leaves_the_filter_is_told_as_that() {
    let line = json!({"shard": 1, "seq": "5", "prev": "4", "op": "upsert", "reason": "feed",
        "id": "a", "zip": "98103", "revision": "5", "at": 7, "filter": "leave"});
    let Ok(Some(wire::Line::Change(change))) = wire::read(line.to_string().as_bytes()) else {
        panic!("{line} is a change");
    };
    assert_eq!(change.passage, Some(Passage::Leave));
}

#[test]
fn a_token_of_a_later_format_is_kept_as_it_is() {
    let mut reader = Reader::at(&vector(Position::Follow { seq: Seq(4) }), Proof::Chained);
    reader.read(b"{\"control\":\"resolved\",\"token\":\"later\",\"at\":1}\n").expect("no gap");
    assert_eq!(reader.follower.token(), Some(Token::from("later")));
    assert!(wire::read(b"{\"control\":\"of-a-later-version\"}").is_ok_and(|line| line.is_none()));
    for bad in [&b"{}"[..], b"{\"op\":\"upsert\"}", b"\xff", b"[]", b"{\"control\":1}"] {
        assert!(wire::read(bad).is_err(), "{bad:?}");
    }
}
