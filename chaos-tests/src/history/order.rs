//! Whether the revisions that answers name agree with each other and with time.

use std::collections::{HashMap, HashSet};

use super::{Call, Told, What};

/// What revisions contradict, in sentences; empty where they don't. Costs a sort.
///
/// A revision shows one write. Whoever begins after another one has ended is told its revision or a
/// later one; a write that changes a listing gets a later one. (A deletion of what is deleted
/// changes nothing.) The answer to a write names the revision of the listing when it was made,
/// which may be that of a later write that met it.
pub fn check(calls: &[Call]) -> Vec<String> {
    let mut told = contradictions(calls);
    told.extend(refused_but_seen(calls));
    let named: Vec<Named> = calls.iter().filter_map(Named::of).collect();
    let mut by_end: Vec<&Named> = named.iter().collect();
    by_end.sort_unstable_by_key(|named| named.ended);
    let mut by_begin: Vec<&Named> = named.iter().collect();
    by_begin.sort_unstable_by_key(|named| named.began);
    let (mut ended, mut newest) = (0, 0);
    for named in by_begin {
        while ended < by_end.len() && by_end[ended].ended < named.began {
            newest = newest.max(by_end[ended].revision);
            ended += 1;
        }
        let Named { began, revision, changes, .. } = *named;
        if revision < newest || (changes && revision == newest) {
            let what = if changes { "was written as" } else { "was seen in" };
            told.push(format!(
                "at {began} us the listing {what} revision {revision}, after {newest} was told"
            ));
        }
    }
    told
}

/// A call whose answer names a revision.
struct Named {
    began: u64,
    ended: u64,
    revision: u64,
    /// Whether it gave the listing a revision of its own.
    changes: bool,
}

impl Named {
    fn of(call: &Call) -> Option<Named> {
        let (revision, changes) = match call.what {
            What::Write { told: Told::Done { revision }, deletes, .. } => (revision, !deletes),
            What::Read { seen: Some(seen) } => (seen.revision, false),
            What::Write { .. } | What::Read { seen: None } => return None,
        };
        Some(Named { began: call.began, ended: call.ended?, revision, changes })
    }
}

/// Writes that were refused, and read.
fn refused_but_seen(calls: &[Call]) -> impl Iterator<Item = String> {
    let seen: HashSet<u64> = calls.iter().filter_map(|call| call.what.seen()).collect();
    calls.iter().filter_map(move |call| match call.what {
        What::Write { stamp, told: Told::Refused { status }, .. } if seen.contains(&stamp) => {
            let began = call.began;
            Some(format!("write {stamp}, sent at {began} us, was refused with {status}, and read"))
        }
        What::Write { .. } | What::Read { .. } => None,
    })
}

/// One revision that shows two writes.
fn contradictions(calls: &[Call]) -> Vec<String> {
    let mut stamps: HashMap<u64, u64> = HashMap::new();
    let mut told = Vec::new();
    for call in calls {
        let What::Read { seen: Some(seen) } = call.what else { continue };
        let known = *stamps.entry(seen.revision).or_insert(seen.stamp);
        if known != seen.stamp {
            let (revision, stamp) = (seen.revision, seen.stamp);
            told.push(format!("revision {revision} shows write {known} and write {stamp}"));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::super::Seen;
    use super::super::script::{delete, put, read, refused};
    use super::*;

    #[test]
    fn revisions_grow_with_time_and_show_one_write() {
        assert_eq!(check(&[put((0, 1), 1), put((2, 3), 2), read((4, 5), 2)]), [""; 0]);
        assert_eq!(check(&[put((0, 5), 2), put((0, 5), 1), read((1, 2), 1)]), [""; 0]);
        assert_eq!(check(&[delete((0, 1), 2), delete((2, 3), 2)]), [""; 0], "nothing changed");
        assert_eq!(check(&[put((0, 1), 2), read((2, 3), 1)]).len(), 1, "back");
        assert_eq!(check(&[put((0, 1), 2), put((2, 3), 1)]).len(), 1, "an older revision");
        assert_eq!(check(&[put((0, 1), 2), put((2, 3), 2)]).len(), 1, "no revision of its own");
        let mut copied = read((4, 5), 1);
        copied.what = What::Read { seen: Some(Seen { stamp: 9, revision: 1 }) };
        let twice = [put((0, 1), 1), read((2, 3), 1), copied];
        assert_eq!(check(&twice).len(), 1, "two writes in one revision");
    }

    #[test]
    fn what_was_refused_is_never_read() {
        assert_eq!(check(&[put((0, 1), 1), refused((2, 3), 2), read((4, 5), 1)]), [""; 0]);
        let told = check(&[refused((0, 3), 2), read((1, 2), 2)]);
        assert_eq!(told, ["write 2, sent at 0 us, was refused with 503, and read"]);
    }
}
