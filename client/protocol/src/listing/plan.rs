//! Which values of a document are looked for: a tree of member names, walked along with the scan.

use super::string;

/// Most slots of a plan: they are bits of a word.
pub(super) const SLOTS_MAX: usize = 48;

/// A compiled set of JSON pointers, each filling one slot. Several may share a pointer.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) root: Node,
}

/// One step of the tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    children: Vec<Child>,
    /// The bits of the children's [`sketch`]es: most other names fail here.
    sketches: [u64; 4],
    has_items: bool,
    /// Slots that are filled by the value here.
    pub(super) here: u64,
    /// Slots that are filled here or below: what a repeated name makes void.
    pub(super) below: u64,
}

#[derive(Clone, Debug)]
struct Child {
    name: Box<str>,
    index: Option<usize>,
    node: Node,
}

impl Plan {
    /// Looks for nothing.
    pub(super) fn empty() -> Plan {
        Plan::default()
    }

    /// Adds the pointer made of `tokens`, filling `slot`.
    pub(super) fn add<'t>(&mut self, tokens: impl IntoIterator<Item = &'t str>, slot: usize) {
        assert!(slot < SLOTS_MAX, "a plan has {SLOTS_MAX} slots");
        let mut node = &mut self.root;
        node.below |= 1 << slot;
        for token in tokens {
            node = node.grow(token);
            node.below |= 1 << slot;
        }
        node.here |= 1 << slot;
    }
}

impl Node {
    fn grow(&mut self, name: &str) -> &mut Node {
        let at = match self.children.iter().position(|child| &*child.name == name) {
            Some(at) => at,
            None => {
                let is_index = name == "0" || !name.starts_with(['0', '+']);
                let index = name.parse().ok().filter(|_| is_index);
                let (word, bit) = sketch(name);
                self.sketches[word] |= bit;
                self.has_items |= index.is_some();
                self.children.push(Child { name: name.into(), index, node: Node::default() });
                self.children.len() - 1
            }
        };
        &mut self.children[at].node
    }

    /// The step to the member whose name stands between quotes as `inside`.
    pub(super) fn member(&self, inside: &str, escaped: bool) -> Option<&Node> {
        if escaped {
            let name = string::unescape(inside);
            return self.children.iter().find(|c| *c.name == *name).map(|c| &c.node);
        }
        let (word, bit) = sketch(inside);
        if self.sketches[word] & bit == 0 {
            return None;
        }
        self.children.iter().find(|c| &*c.name == inside).map(|c| &c.node)
    }

    /// The step to an item of an array.
    pub(super) fn item(&self, index: usize) -> Option<&Node> {
        if !self.has_items {
            return None;
        }
        self.children.iter().find(|c| c.index == Some(index)).map(|c| &c.node)
    }
}

/// One of 256 bits, by the length and the first and last byte of a name.
#[inline]
fn sketch(name: &str) -> (usize, u64) {
    let bytes = name.as_bytes();
    let end = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or(0));
    let mixed = bytes.len() * 37 + end(bytes.first()) * 5 + end(bytes.last()) * 11;
    (mixed >> 6 & 3, 1 << (mixed & 63))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::listing::scan::scan;

    const POINTERS: [&[&str]; 8] =
        [&["a"], &["a", "b"], &["a", "b"], &["a", "0"], &["é"], &["a", "1", "b"], &["b"], &["0"]];

    /// Documents in which names repeat, stand escaped or are indexes.
    fn document() -> impl Strategy<Value = String> {
        let leaf = proptest::sample::select(vec!["1", "null", "\"x\"", "{}", "[]", "\"\\u0061\""]);
        let name = || {
            let names = vec!["a", "\\u0061", "b", "é", "\\u00E9", "0", "1", "other"];
            proptest::sample::select(names)
        };
        leaf.prop_map(str::to_string).prop_recursive(3, 24, 5, move |inner| {
            let member =
                (name(), inner.clone()).prop_map(|(n, value)| format!("\"{n}\" : {value}"));
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
                proptest::collection::vec(member, 0..5)
                    .prop_map(|v| format!("{{{}}}", v.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_slot_gets_what_serde_json_finds_at_its_pointer(document in document()) {
            let mut plan = Plan::empty();
            for (slot, tokens) in POINTERS.iter().enumerate() {
                plan.add(tokens.iter().copied(), slot);
            }
            let scanned = scan(document.as_bytes(), &plan).unwrap();
            let whole: Value = serde_json::from_str(&document).unwrap();
            for (slot, tokens) in POINTERS.iter().enumerate() {
                let expected = whole.pointer(&format!("/{}", tokens.join("/")));
                let value = scanned.found.get(slot);
                let found = value.map(|v| serde_json::from_str::<Value>(v.raw).unwrap());
                prop_assert_eq!(found.as_ref(), expected, "{} {:?}", document, tokens);
                let minified = value.map(|v| &scanned.minified[v.minified()]);
                let found = minified.map(|v| serde_json::from_slice::<Value>(v).unwrap());
                prop_assert_eq!(found.as_ref(), expected, "{} {:?}", document, tokens);
            }
        }
    }
}
