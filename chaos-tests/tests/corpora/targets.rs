//! What is fuzzed: each target takes any bytes and must return, and panics where a promise about
//! what it read is broken. `chaos-tests/fuzz` compiles this file too.

use base64::Engine;
use platbook_protocol::codec;
use platbook_protocol::follow::{Follow, FollowStart, NewestChange, Told};
use platbook_protocol::frame::{Decompressor, FrameHead};
use platbook_protocol::listing::{Parsed, Parser, Summary, minify};
use platbook_protocol::map::Map;
use platbook_protocol::op::{OpIter, OpOutcome};
use platbook_protocol::records::{self, Record};
use platbook_protocol::rpc;
use platbook_protocol::token::Token;

/// One way in for foreign bytes.
pub(crate) type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub(crate) const TARGETS: [(&str, Target); 10] = [
    ("log", platbook_engine::log::fuzz::recovery),
    ("snapshot", platbook_engine::store::fuzz::snapshot),
    ("link", platbook_node::fuzz::link),
    ("raft", platbook_node::fuzz::message),
    ("rpc", rpc),
    ("token", token),
    ("records", stream),
    ("queue", platbook_ingest::consume::fuzz::body),
    ("listing", listing),
    ("query", platbook_router::fuzz::query),
];

/// A message between router and node, by its first byte.
fn rpc(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 12 {
        0 => {
            if let Ok(message) = codec::decode_borrowed::<rpc::Propose<'_>>(bytes) {
                ops(message.ops);
            }
        }
        1 => drop(codec::decode_borrowed::<rpc::ReadRows<'_>>(bytes)),
        2 => drop(codec::decode_borrowed::<rpc::ReadRegisters<'_>>(bytes)),
        3 => drop(codec::decode::<rpc::Scan>(bytes)),
        4 => drop(codec::decode::<rpc::PutMap>(bytes)),
        5 => drop(codec::decode::<Follow>(bytes)),
        6 => drop(codec::decode::<Result<FollowStart, rpc::Refusal>>(bytes)),
        7 => drop(codec::decode_borrowed::<Told<'_>>(bytes)),
        8 => drop(codec::decode::<rpc::Listed>(bytes)),
        9 => {
            if let Ok(map) = codec::decode::<Map>(bytes) {
                let again: Map = codec::decode(&codec::encode(&map)).expect("it was just read");
                assert_eq!(again, map);
            }
        }
        10 => drop(codec::decode::<Result<OpOutcome, rpc::Refusal>>(bytes)),
        _ => {
            drop(codec::decode::<NewestChange>(bytes));
            drop(codec::decode::<rpc::NodeStatus>(bytes));
        }
    }
    ops(bytes);
}

/// Operations that a node finds sound are operations that every replica can read.
fn ops(bytes: &[u8]) {
    let read = OpIter::new(bytes).take_while(Result::is_ok).count();
    match platbook_engine::command::check_ops(bytes) {
        Ok(count) => assert_eq!(count as usize, read, "a sound operation that is not read"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A token as a user sends it, or one whose checksum is right whatever it says.
fn token(input: &[u8]) {
    let Some((sealed, bytes)) = input.split_first() else { return };
    let text = if sealed & 1 == 0 {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        let crc = crc32c::crc32c(bytes).to_le_bytes();
        let sealed = [bytes, crc.as_slice()].concat();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sealed)
    };
    if let Ok(token) = Token::decode(&text) {
        let again = token.encode().expect("a token that was read fits");
        assert_eq!(Token::decode(&again).as_ref(), Ok(&token), "another token after a round");
    }
}

/// The binary stream of changes, as a client reads it: record after record, as far as they are
/// whole.
fn stream(input: &[u8]) {
    let mut rest = input;
    while let Ok(Some(bytes)) = records::length(rest) {
        let Some(record) = rest[records::LENGTH_BYTES..].get(..bytes) else { return };
        let read = Record::read(record);
        if let Ok(Some(read)) = read {
            let mut again = Vec::new();
            read.push(&mut again);
            assert_eq!(&again[records::LENGTH_BYTES..], record, "other bytes after a round");
        }
        if let Ok(Some(Record::Change(change))) = read {
            if let Some(Ok(summary)) = change.before.map(Summary::decode) {
                assert!(!summary.encode().is_empty(), "a summary without bytes is none");
            }
            let decompressor = Decompressor::try_new();
            drop(decompressor.expect("zstd starts").decompress(change.frame));
        }
        rest = &rest[records::LENGTH_BYTES + bytes..];
    }
}

/// A listing, a line of a bulk request, a summary or a frame. JSON is judged as an independent
/// parser does.
fn listing(input: &[u8]) {
    let minified = minify(input);
    let reference = serde_json::from_slice::<&serde_json::value::RawValue>(input);
    match (&minified, &reference) {
        (Ok(minified), Ok(reference)) => {
            let again = minify(minified).expect("what is minified is JSON");
            assert_eq!(again.as_ref(), minified.as_ref(), "minified twice is another text");
            let value: Result<serde_json::Value, _> = serde_json::from_str(reference.get());
            if let Ok(value) = value {
                let ours: serde_json::Value =
                    serde_json::from_slice(minified).expect("minified JSON is JSON");
                assert_eq!(ours, value, "minifying changed the value");
            }
        }
        (Ok(_), Err(error)) => panic!("taken, but no JSON: {error}"),
        // Numbers out of range, lone surrogates and deep nesting are refused by us alone.
        (Err(_), _) => {}
    }
    if let Ok(Parsed::Upsert(listing)) = Parser::default().message(input) {
        let summary = Summary::decode(&listing.summary).expect("a summary of our own");
        assert_eq!(summary.encode(), listing.summary);
    }
    if let Ok(summary) = Summary::decode(input) {
        // Long texts are cut when they are written, once.
        let written = summary.encode();
        let again = Summary::decode(&written).expect("it was just written");
        assert_eq!(again.encode(), written);
    }
    if FrameHead::parse(input).is_ok() {
        let decompressor = Decompressor::try_new();
        drop(decompressor.expect("zstd starts").decompress(input));
    }
}

/// Gives `input` to one target.
#[allow(dead_code, reason = "the fuzzers call one target each, the replay goes through the list")]
pub(crate) fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(found, _)| *found == name).expect("a target");
    target(input);
}
