//! Weak entity tags of ZIPs: the same state, asked the same way, has the same tag.

use platbook_protocol::slot::hash;
use platbook_protocol::{Seq, ShardId};

/// What a tag stands for. All replicas and routers give the same tag for the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZipVersion {
    /// Seqs start anew when history is not continued.
    pub(crate) incarnation: u64,
    /// Seqs are dense in one shard only.
    pub(crate) shard: ShardId,
    /// The ZIP's last change.
    pub(crate) seq: Seq,
}

/// The tag of a response; `query` tells apart what was asked, in one spelling.
pub(crate) fn of_zip(version: ZipVersion, query: &str) -> String {
    let ZipVersion { incarnation, shard, seq } = version;
    format!("W/\"{incarnation:x}.{:x}.{:x}.{:016x}\"", shard.0, seq.0, hash(query.as_bytes()))
}

/// Whether `If-None-Match` names `tag`; weak comparison (RFC 9110 section 8.8.3.2).
pub(crate) fn matches(if_none_match: &str, tag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_string();
    if_none_match
        .split(',')
        .map(str::trim)
        .any(|candidate| candidate == "*" || opaque(candidate) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_moves_with_everything_that_it_stands_for() {
        let version = ZipVersion { incarnation: 1, shard: ShardId(2), seq: Seq(30) };
        let tag = of_zip(version, "q");
        assert_eq!(tag, of_zip(version, "q"));
        for other in [
            of_zip(ZipVersion { incarnation: 2, ..version }, "q"),
            of_zip(ZipVersion { shard: ShardId(3), ..version }, "q"),
            of_zip(ZipVersion { seq: Seq(31), ..version }, "q"),
            of_zip(version, "r"),
        ] {
            assert_ne!(tag, other);
        }
    }

    #[test]
    fn a_list_of_tags_is_compared_weakly() {
        assert!(matches("\"a\", W/\"b\"", "W/\"a\""));
        assert!(matches("*", "W/\"a\""));
        assert!(!matches("\"ab\"", "W/\"a\""));
        assert!(!matches("", "W/\"a\""));
    }
}
