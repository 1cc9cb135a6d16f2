//! Some members of a listing, cut out of its bytes without building a tree.

/// Names of members, in the order asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fields(Vec<Box<str>>);

impl Fields {
    /// The fields named in `a,b,c`; empty names and repetitions are passed over.
    pub(crate) fn parse(text: &str) -> Fields {
        let mut names: Vec<Box<str>> = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !names.iter().any(|known| **known == *name) {
                names.push(name.into());
            }
        }
        Fields(names)
    }

    /// Appends `listing` with these members only, in the order they stand in the listing.
    /// Bytes that are no minified object are appended as they are.
    pub(crate) fn project(&self, listing: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        if self.try_project(listing, out).is_none() {
            out.truncate(start);
            out.extend_from_slice(listing);
        }
    }

    fn try_project(&self, listing: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut rest = listing.strip_prefix(b"{")?;
        out.push(b'{');
        let mut is_first = true;
        while rest.first() != Some(&b'}') {
            let name_bytes = string_bytes(rest)?;
            let name = &rest[..name_bytes];
            let value = rest[name_bytes..].strip_prefix(b":")?;
            let value_bytes = value_bytes(value)?;
            if self.contains(name) {
                if !is_first {
                    out.push(b',');
                }
                is_first = false;
                out.extend_from_slice(&rest[..name_bytes + 1 + value_bytes]);
            }
            rest = &value[value_bytes..];
            match rest.first()? {
                b',' => rest = &rest[1..],
                b'}' => {}
                _ => return None,
            }
        }
        out.push(b'}');
        Some(())
    }

    /// Whether a name, as it stands in JSON with its quotes, is one of these.
    fn contains(&self, quoted: &[u8]) -> bool {
        let plain = &quoted[1..quoted.len() - 1];
        if !plain.contains(&b'\\') {
            return self.0.iter().any(|name| name.as_bytes() == plain);
        }
        let Ok(name) = serde_json::from_slice::<Unescaped>(quoted) else { return false };
        self.0.iter().any(|known| **known == *name.0)
    }
}

/// A name with escapes, unescaped.
#[derive(serde::Deserialize)]
struct Unescaped(String);

/// Length of the string that `bytes` begin with, quotes included.
fn string_bytes(bytes: &[u8]) -> Option<usize> {
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Length of the value that `bytes` begin with.
fn value_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' => string_bytes(bytes),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0, 0_usize);
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at += string_bytes(&bytes[at..])?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(fields: &str, listing: &str) -> String {
        let mut out = b"before".to_vec();
        Fields::parse(fields).project(listing.as_bytes(), &mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_string()
    }

    #[test]
    fn members_are_cut_out_as_they_stand() {
        let listing = r#"{"a":1,"b":{"a":"}]\"","x":[1,{"b":2}]},"c":"q\\","d":[],"a":-1.5e3}"#;
        assert_eq!(project("a", listing), r#"{"a":1,"a":-1.5e3}"#);
        assert_eq!(project("c,b", listing), r#"{"b":{"a":"}]\"","x":[1,{"b":2}]},"c":"q\\"}"#);
        assert_eq!(project("d,none", listing), r#"{"d":[]}"#);
        assert_eq!(project("x", listing), "{}");
        assert_eq!(project("a", "{}"), "{}");
    }

    #[test]
    fn a_name_with_escapes_is_found_by_its_meaning() {
        assert_eq!(project("é,\"", r#"{"\u00e9":1,"\"":2,"z":3}"#), r#"{"\u00e9":1,"\"":2}"#);
    }

    #[test]
    fn what_is_no_minified_object_stays_as_it_is() {
        for odd in ["[1]", "{", r#"{"a""#, r#"{"a":"#, r#"{"a":[}"#, r#"{"a":1"b":2}"#, "", "7"] {
            assert_eq!(project("a", odd), odd);
        }
    }

    #[test]
    fn names_are_taken_once_and_empty_ones_not_at_all() {
        assert_eq!(Fields::parse("a, b,,a"), Fields::parse("a,b"));
    }
}
