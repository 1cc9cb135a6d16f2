//! Bugs planted on purpose: `make bite` shows for each which check catches it. A check that nobody
//! saw failing may be one that cannot fail.
//!
//! They exist only behind the feature `planted-bugs`, which no optimised build accepts; there, one
//! of them is chosen by `PLATBOOK_BUG`. Without the feature every question is answered at compile
//! time, by no.

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!("planted bugs are for tests: no optimised build has them");

/// What can be planted. Most of these were found in other systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The log tells that a round is durable without having synced it.
    AckBeforeSync,
    /// A vote is kept in memory only.
    VolatileVote,
    /// A read does not make sure that its replica still leads.
    StaleRead,
    /// A leader's lease never ends.
    EndlessLease,
    /// An error of fdatasync is not noticed.
    SyncErrorDropped,
    /// The applied position is written with the next batch, not with its own.
    AppliedApart,
    /// Entries are applied before this replica's own log has them on disk.
    ApplyAheadOfSync,
    /// A follower that is out of reach counts as one that has the entry.
    QuorumOffByOne,
    /// A write that is sent again is another write.
    RetryUnderNewKey,
    /// Change numbers skip one where a listing is erased.
    SeqOffByOne,
    /// A snapshot reads the state of now instead of that of its moment.
    SnapshotOfTwoStates,
    /// A node that lost its disk starts its old replicas again.
    ReplicaIdReused,
    /// A round of the log is believed without its checksum.
    ChecksumIgnored,
    /// A token of another cluster is taken for one of this cluster.
    ForeignToken,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 14] = [
        Bug::AckBeforeSync,
        Bug::VolatileVote,
        Bug::StaleRead,
        Bug::EndlessLease,
        Bug::SyncErrorDropped,
        Bug::AppliedApart,
        Bug::ApplyAheadOfSync,
        Bug::QuorumOffByOne,
        Bug::RetryUnderNewKey,
        Bug::SeqOffByOne,
        Bug::SnapshotOfTwoStates,
        Bug::ReplicaIdReused,
        Bug::ChecksumIgnored,
        Bug::ForeignToken,
    ];

    /// As `PLATBOOK_BUG` names it.
    pub fn name(self) -> &'static str {
        match self {
            Bug::AckBeforeSync => "ack-before-sync",
            Bug::VolatileVote => "volatile-vote",
            Bug::StaleRead => "stale-read",
            Bug::EndlessLease => "endless-lease",
            Bug::SyncErrorDropped => "sync-error-dropped",
            Bug::AppliedApart => "applied-apart",
            Bug::ApplyAheadOfSync => "apply-ahead-of-sync",
            Bug::QuorumOffByOne => "quorum-off-by-one",
            Bug::RetryUnderNewKey => "retry-under-new-key",
            Bug::SeqOffByOne => "seq-off-by-one",
            Bug::SnapshotOfTwoStates => "snapshot-of-two-states",
            Bug::ReplicaIdReused => "replica-id-reused",
            Bug::ChecksumIgnored => "checksum-ignored",
            Bug::ForeignToken => "foreign-token",
        }
    }

    /// Whether this process has the bug.
    #[inline]
    pub fn is_planted(self) -> bool {
        chosen() == Some(self)
    }
}

#[cfg(not(feature = "planted-bugs"))]
#[inline]
fn chosen() -> Option<Bug> {
    None
}

#[cfg(feature = "planted-bugs")]
fn chosen() -> Option<Bug> {
    static CHOSEN: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("PLATBOOK_BUG").ok().filter(|name| !name.is_empty())?;
        let known = Bug::ALL.into_iter().find(|bug| bug.name() == name);
        Some(known.unwrap_or_else(|| panic!("PLATBOOK_BUG is `{name}`, which is no planted bug")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_bugs_apart() {
        let mut names = Bug::ALL.map(Bug::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[test]
    fn without_the_feature_nothing_is_planted() {
        assert!(Bug::ALL.into_iter().all(|bug| !bug.is_planted()));
    }
}
