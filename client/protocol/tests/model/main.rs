//! The whole write protocol and the reading by id, explored exhaustively for one id.
//!
//! Routers, the sweeper, readers and the clock take atomic steps in every possible order; routers
//! crash, sleep through the expiry of markers, and get messages again that were acknowledged. All
//! of them run the production code ([`Coordination`], [`ReadById`], `Register`, `row`); the model
//! only decides who moves next. What must hold is in `check.rs`. Each mutation switches one rule
//! off, and a violation must then come back.
//!
//! `PLATBOOK_MODEL=large` explores larger configurations as well (a quarter of an hour, gigabytes).
//!
//! [`Coordination`]: platbook_protocol::coordination::Coordination
//! [`ReadById`]: platbook_protocol::read_by_id::ReadById

mod check;
mod config;
mod explorer;
mod scenarios;
mod steps;
mod world;

use config::{Config, Mutation};
use scenarios::*;
use world::Violation;

/// Explores, prints the size, and fails with the shortest way to a violation.
#[expect(clippy::print_stderr, reason = "libtest shows it only on failure or when asked to")]
fn must_hold(config: Config) {
    let started = std::time::Instant::now();
    let explored = explorer::explore(&config);
    let (states, quiet) = (explored.states, explored.quiet);
    eprintln!("{}: {states} states, {quiet} quiet, {:?}", config.name, started.elapsed());
    if let Some((violation, trace)) = explored.violation {
        panic!("{}: {violation:?} after\n{trace}", config.name);
    }
    assert!(quiet > 0, "{}: nothing was ever acknowledged", config.name);
}

/// Explores with a rule switched off, and fails unless that brings one of `expected`.
fn must_break(config: Config, expected: &[Violation]) {
    let explored = explorer::explore(&config);
    let name = format!("{} without {:?}", config.name, config.mutation);
    let Some((violation, trace)) = explored.violation else {
        panic!("{name}: {} states without a violation", explored.states);
    };
    assert!(expected.contains(&violation), "{name}: {violation:?} after\n{trace}");
}

fn is_large() -> bool {
    std::env::var("PLATBOOK_MODEL").is_ok_and(|size| size == "large")
}

#[test]
fn moves_hold() {
    must_hold(a_move());
    must_hold(a_move().ticks(2));
    must_hold(a_move().routers(3).copies(0));
    must_hold(a_move().repeats());
    must_hold(there_and_back().copies(0));
    must_hold(three_zips().copies(0));
}

#[test]
fn deletes_hold() {
    must_hold(recreated());
    must_hold(recreated().queue_time().copies(0));
    must_hold(recreated_elsewhere());
    must_hold(moved_and_deleted().copies(0));
    must_hold(late_update_kills().copies(0));
}

#[test]
fn equal_bodies_hold() {
    must_hold(same_body_again());
    must_hold(same_body_again().reads(1).copies(0).ticks(0));
    must_hold(copies_with_another_sent());
}

#[test]
fn plain_puts_hold() {
    must_hold(a_move().hold(0).hold(1));
    must_hold(same_body_again().hold(2).copies(0));
    must_hold(copies_with_another_sent().hold(1).copies(0).ticks(0));
    must_hold(there_and_back().hold(1).copies(0).ticks(0));
    must_hold(recreated().hold(1).copies(0).ticks(0));
    must_hold(moved_and_deleted().hold(2).copies(0).ticks(0));
}

#[test]
fn readers_hold() {
    must_hold(a_move().reads(2).ticks(0));
    must_hold(a_move().reads(1));
    must_hold(there_and_back().reads(1).copies(0).ticks(0));
    must_hold(recreated_elsewhere().reads(2).copies(0).ticks(0));
    must_hold(moved_and_deleted().reads(1).copies(0).ticks(0));
}

#[test]
fn readers_that_guess_hold() {
    must_hold(a_move().reads(2).guesses().ticks(0));
    must_hold(there_and_back().reads(1).guesses().copies(0).ticks(0));
    must_hold(recreated_elsewhere().reads(2).guesses().copies(0).ticks(0));
    must_hold(moved_and_deleted().reads(1).guesses().copies(0).ticks(0));
}

#[test]
fn clocks_that_differ_hold() {
    must_hold(a_move().lag(1));
    must_hold(recreated().lag(1).copies(0));
    must_hold(same_body_again().lag(1).copies(0));
}

#[test]
fn collected_registers_hold() {
    must_hold(forgotten());
    must_hold(forgotten().reads(1).ticks(0));
    must_hold(recreated().collects());
}

#[test]
fn larger_configurations_hold() {
    if !is_large() {
        return;
    }
    for scenario in [
        there_and_back(),
        three_zips(),
        same_body_again(),
        recreated(),
        recreated_elsewhere(),
        moved_and_deleted(),
        late_update_kills(),
    ] {
        must_hold(scenario.clone().ticks(2).copies(0));
        must_hold(scenario.clone().lag(1));
        must_hold(scenario.clone().repeats().copies(0));
        must_hold(scenario.clone().reads(1).copies(0));
        must_hold(scenario.clone().reads(2).ticks(0));
        must_hold(scenario.clone().queue_time());
        must_hold(scenario.clone().routers(3).copies(0));
        for held in 0..3 {
            must_hold(scenario.clone().hold(held).copies(0));
            must_hold(scenario.clone().hold(held).reads(1).copies(0).ticks(0));
        }
    }
    must_hold(recreated_and_moved_back().copies(0).ticks(0));
}

#[test]
fn each_rule_is_needed_by_those_who_write() {
    use Violation::*;
    must_break(a_move().without(Mutation::StaleIsNotChecked), &[AcknowledgedIsLost]);
    must_break(same_body_again().without(Mutation::SameBodyCountsAsWritten), &[AcknowledgedIsLost]);
    must_break(recreated().without(Mutation::SameBodyCountsAsWritten), &[AcknowledgedIsLost]);
    must_break(a_move().without(Mutation::EraseWithoutMarker), &[SettledIsNotErased]);
    must_break(a_move().without(Mutation::NothingExpires), &[SettledIsNotErased]);
    must_break(a_move().without(Mutation::EraseBeforeWrite), &[InNoZip]);
    must_break(a_move().without(Mutation::SupersededIsNotErased), &[AcknowledgedIsLost]);
    must_break(same_body_again().without(Mutation::RevisionByClockAlone), &[TwoBodies]);
    must_break(recreated().without(Mutation::RepeatObeysTheMessage), &[SettledIsNotErased]);
    must_break(three_zips().without(Mutation::SettleWithoutRevision), &[SettledIsNotErased]);
    must_break(a_move().hold(1).without(Mutation::HeldIsNotFinished), &[Stuck]);
    must_break(a_move().without(Mutation::FloorIsForgotten), &[Stuck]);
    must_break(
        forgotten().copies(2).without(Mutation::FloorOfShardIsForgotten),
        &[AcknowledgedIsLost],
    );
    must_break(forgotten().copies(2).without(Mutation::NothingIsTooOld), &[Revived]);
}

#[test]
fn a_marker_must_not_exempt_a_write() {
    let config = deleted_twice().routers(3).copies(0).steady();
    must_break(config.without(Mutation::MarkerExempts), &[Violation::SettledIsNotErased]);
}

#[test]
fn each_rule_is_needed_by_those_who_read() {
    use Violation::*;
    let config = a_move().reads(1).ticks(0);
    must_break(config.without(Mutation::ReaderIgnoresMarkers), &[NotFound, WentBack]);
    let config = recreated_elsewhere().reads(1).ticks(0);
    must_break(config.without(Mutation::ReaderIgnoresDeath), &[WentBack]);
    let config = a_move().reads(2).guesses().ticks(0);
    must_break(config.without(Mutation::GuessIsBelieved), &[WentBack]);
}
