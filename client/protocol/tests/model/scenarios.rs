//! The feeds that are explored.

use crate::config::{Config, FRESH, delete, upsert};

pub(crate) fn a_move() -> Config {
    Config::new("move", &[upsert(10, 10, 0, 1), upsert(20, 20, 1, 2)])
}

pub(crate) fn there_and_back() -> Config {
    let messages = [upsert(10, 10, 0, 1), upsert(20, 20, 1, 2), upsert(30, 30, 0, 3)];
    Config::new("there and back", &messages)
}

pub(crate) fn three_zips() -> Config {
    let messages = [upsert(10, 10, 0, 1), upsert(20, 20, 1, 2), upsert(30, 30, 2, 3)];
    Config::new("three ZIPs", &messages)
}

/// The third body is the first one again, with only another `sent`.
pub(crate) fn same_body_again() -> Config {
    let messages = [upsert(10, 10, 0, 1), upsert(10, 11, 0, 2), upsert(10, 12, 0, 1)];
    Config::new("same body again", &messages)
}

/// A load and a second load: the same bodies, only sent again.
pub(crate) fn copies_with_another_sent() -> Config {
    let messages = [upsert(10, 10, 0, 1), upsert(10, 11, 0, 1), upsert(20, 20, 1, 2)];
    Config::new("copies with another sent", &messages)
}

/// Re-created by the same body, which lies within the skew of the delete.
pub(crate) fn recreated() -> Config {
    let messages = [upsert(10, 10, 0, 1), delete(12), upsert(10, 14, 0, 1)];
    Config::new("re-created", &messages)
}

pub(crate) fn recreated_elsewhere() -> Config {
    let messages = [upsert(10, 10, 0, 1), delete(20), upsert(30, 30, 1, 2)];
    Config::new("re-created elsewhere", &messages)
}

pub(crate) fn recreated_and_moved_back() -> Config {
    let messages = [upsert(10, 10, 0, 1), delete(20), upsert(30, 30, 1, 2), upsert(40, 40, 0, 3)];
    Config::new("re-created and moved back", &messages)
}

pub(crate) fn moved_and_deleted() -> Config {
    let messages = [upsert(10, 10, 0, 1), upsert(20, 20, 1, 2), delete(30)];
    Config::new("moved and deleted", &messages)
}

pub(crate) fn deleted_twice() -> Config {
    let messages = [upsert(10, 10, 0, 1), delete(20), upsert(30, 30, 0, 2), delete(40)];
    Config::new("deleted twice", &messages)
}

/// Deleted, forgotten, and created once more by a message that is not too old.
pub(crate) fn forgotten() -> Config {
    let fresh = FRESH.0 + 1;
    let messages = [upsert(10, 10, 0, 1), delete(20), upsert(fresh, fresh, 1, 2)];
    Config::new("forgotten", &messages).collects()
}

/// The update is newer for the operator, and older than the delete for the queue.
pub(crate) fn late_update_kills() -> Config {
    let messages = [upsert(36, 50, 0, 1), delete(40), upsert(39, 35, 1, 2)];
    Config::new("late update kills", &messages)
}
