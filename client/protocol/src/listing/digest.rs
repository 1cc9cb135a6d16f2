//! The content of an upsert in 16 bytes: the last word between two that both clocks call equal.

use crate::{Digest, Zip};

/// The first 16 bytes of BLAKE3 over minified body, raw modified, ZIP, and then the lengths of
/// these three (u64 LE), so that no two triples give the same input. Persisted and compared
/// between replicas: fixed for ever. `raw_modified` is the JSON text as sent, empty if absent.
///
/// The body stands first because BLAKE3 hashes whole kibibytes from the start side by side.
pub fn digest(zip: &Zip, raw_modified: &[u8], body: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let parts = [body, raw_modified, zip.as_bytes()];
    for part in parts {
        hasher.update(part);
    }
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
    }
    let hash = hasher.finalize();
    Digest(*hash.as_bytes().first_chunk().expect("a BLAKE3 hash has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_one_that_disks_were_written_with() {
        let zip = Zip::normalise(Some("94110"));
        let found = format!("{:?}", digest(&zip, b"\"2024-05-06\"", b"{\"ListingKey\":\"1\"}"));
        assert_eq!(found, "e7b7e7171003522ff994babb243c7d1e");
        let input = b"{}unknown\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        let expected = blake3::hash(input);
        assert_eq!(digest(&Zip::Unknown, b"", b"{}").0, expected.as_bytes()[..16]);
    }

    #[test]
    fn a_border_that_moves_gives_another_digest() {
        let zip = Zip::Unknown;
        assert_ne!(digest(&zip, b"ab", b"c"), digest(&zip, b"a", b"bc"));
        assert_ne!(digest(&zip, b"", b"abc"), digest(&zip, b"abc", b""));
    }
}
