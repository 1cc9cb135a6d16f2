//! The one pass over a document: checks it, drops its white space and notes what a plan wants.

use std::borrow::Cow;
use std::ops::Range;

use super::minify::{JsonError, JsonProblem};
use super::plan::{Node, Plan, SLOTS_MAX};
use super::{DEPTH_MAX, string};

/// One more than a listing may have: an envelope may stand around it.
const SCAN_DEPTH_MAX: usize = DEPTH_MAX + 1;

/// A document that passed.
#[derive(Debug)]
pub(super) struct Scanned<'a> {
    /// Without white space outside strings; borrowed if there was none inside the value.
    pub(super) minified: Cow<'a, [u8]>,
    /// Members or items of the outermost value.
    pub(super) members: usize,
    /// The first byte of what is nested deeper than [`DEPTH_MAX`] (by one, else it is an error).
    pub(super) beyond_depth: Option<usize>,
    pub(super) found: Found<'a>,
}

/// The values that the plan's slots got; of a repeated member the last counts.
#[derive(Debug)]
pub(super) struct Found<'a> {
    present: u64,
    values: [Value<'a>; SLOTS_MAX],
}

/// One value as it stands in the document.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Value<'a> {
    /// As sent, strings with their quotes.
    pub(super) raw: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Found<'a> {
    /// The value in `slot`.
    pub(super) fn get(&self, slot: usize) -> Option<Value<'a>> {
        (self.present >> slot & 1 == 1).then(|| self.values[slot])
    }

    fn put(&mut self, mut slots: u64, value: Value<'a>) {
        self.present |= slots;
        while slots != 0 {
            self.values[slots.trailing_zeros() as usize] = value;
            slots &= slots - 1;
        }
    }
}

impl<'a> Value<'a> {
    /// Where it stands in the minified document.
    pub(super) fn minified(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The text, where it is a string.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        let inside = self.raw.strip_prefix('"')?.strip_suffix('"')?;
        Some(string::unescape(inside))
    }

    /// Whether it is a number, which is then `raw`.
    pub(super) fn is_number(&self) -> bool {
        self.raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    /// Whether it is null.
    pub(super) fn is_null(&self) -> bool {
        self.raw == "null"
    }

    /// Whether it is an object.
    pub(super) fn is_object(&self) -> bool {
        self.raw.starts_with('{')
    }
}

/// Checks `raw` per RFC 8259 and walks `plan` along with it.
pub(super) fn scan<'a>(raw: &'a [u8], plan: &Plan) -> Result<Scanned<'a>, JsonError> {
    let text = std::str::from_utf8(raw)
        .map_err(|e| JsonError { offset: e.valid_up_to(), problem: JsonProblem::Utf8 })?;
    let mut scan = Scan {
        text,
        bytes: raw,
        at: 0,
        copied: 0,
        out: Vec::new(),
        beyond_depth: None,
        found: Found { present: 0, values: [Value::default(); SLOTS_MAX] },
    };
    scan.space();
    let members = scan.value(Some(&plan.root), 0)?;
    let end = scan.at;
    let trailing = raw[end..].iter().position(|&byte| !is_space(byte));
    if let Some(found) = trailing {
        return Err(JsonError { offset: end + found, problem: JsonProblem::Trailing });
    }
    let last = &raw[scan.copied..end];
    let minified = if scan.out.is_empty() {
        Cow::Borrowed(last)
    } else {
        scan.out.extend_from_slice(last);
        Cow::Owned(scan.out)
    };
    Ok(Scanned { minified, members, beyond_depth: scan.beyond_depth, found: scan.found })
}

#[inline(always)]
fn is_space(byte: u8) -> bool {
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Everything before is in `out` already, or was white space.
    copied: usize,
    out: Vec<u8>,
    beyond_depth: Option<usize>,
    found: Found<'a>,
}

impl<'a> Scan<'a> {
    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fail<T>(&self, problem: JsonProblem) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at, problem })
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        match self.peek() {
            Some(_) => self.fail(JsonProblem::Expected { expected }),
            None => self.fail(JsonProblem::End),
        }
    }

    fn minified_bytes(&self) -> usize {
        self.out.len() + self.at - self.copied
    }

    /// Passes over white space; in most documents there is none.
    #[inline(always)]
    fn space(&mut self) {
        if self.peek().is_some_and(is_space) {
            self.drop_space();
        }
    }

    #[inline(never)]
    fn drop_space(&mut self) {
        let start = self.at;
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
        if self.copied < start {
            if self.out.is_empty() {
                self.out.reserve(self.bytes.len() - self.copied);
            }
            self.out.extend_from_slice(&self.bytes[self.copied..start]);
        }
        self.copied = self.at;
    }

    /// One value of any kind; gives its number of members or items.
    fn value(&mut self, node: Option<&Node>, depth: usize) -> Result<usize, JsonError> {
        let node = node.filter(|node| node.below != 0);
        if let Some(node) = node {
            self.found.present &= !node.below;
        }
        let (start, minified_start) = (self.at, self.minified_bytes());
        let members = match self.peek() {
            Some(b'"') => self.string().map(|_| 0)?,
            Some(b'{') => {
                let depth = self.deeper(depth)?;
                self.object(node, depth)?
            }
            Some(b'[') => {
                let depth = self.deeper(depth)?;
                self.array(node, depth)?
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            _ => return self.expected("a value"),
        };
        if let Some(node) = node.filter(|node| node.here != 0) {
            let raw = &self.text[start..self.at];
            let value = Value { raw, start: minified_start, end: self.minified_bytes() };
            self.found.put(node.here, value);
        }
        Ok(members)
    }

    fn deeper(&mut self, depth: usize) -> Result<usize, JsonError> {
        if depth >= DEPTH_MAX && self.beyond_depth.is_none() {
            self.beyond_depth = Some(self.at);
        }
        if depth >= SCAN_DEPTH_MAX {
            return self.fail(JsonProblem::TooDeep);
        }
        Ok(depth + 1)
    }

    fn object(&mut self, node: Option<&Node>, depth: usize) -> Result<usize, JsonError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(0);
        }
        let mut members = 0;
        loop {
            if self.peek() != Some(b'"') {
                return self.expected("the name of a member");
            }
            let (name, escaped) = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return self.expected("a colon");
            }
            self.at += 1;
            self.space();
            self.value(node.and_then(|node| node.member(name, escaped)), depth)?;
            members += 1;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(members);
                }
                _ => return self.expected("a comma or the end of the object"),
            }
            self.space();
        }
    }

    fn array(&mut self, node: Option<&Node>, depth: usize) -> Result<usize, JsonError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(0);
        }
        let mut items = 0;
        loop {
            self.value(node.and_then(|node| node.item(items)), depth)?;
            items += 1;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(items);
                }
                _ => return self.expected("a comma or the end of the array"),
            }
            self.space();
        }
    }

    /// A string; gives what stands between its quotes and whether it has escapes.
    fn string(&mut self) -> Result<(&'a str, bool), JsonError> {
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        loop {
            self.at = string::skip_plain(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    let inside = &self.text[start..self.at];
                    self.at += 1;
                    return Ok((inside, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at = string::escape_end(self.bytes, self.at)
                        .map_err(|(offset, problem)| JsonError { offset, problem })?;
                }
                Some(_) => return self.fail(JsonProblem::Control),
                None => return self.fail(JsonProblem::End),
            }
        }
    }

    fn number(&mut self) -> Result<usize, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        // Without an exponent, 308 digits are what a double can hold for certain.
        let is_long = has_exponent || self.at - start > 308;
        if is_long && self.text[start..self.at].parse().is_ok_and(f64::is_infinite) {
            return Err(JsonError { offset: start, problem: JsonProblem::Range });
        }
        Ok(0)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if start == self.at { self.expected("a digit") } else { Ok(()) }
    }

    fn literal(&mut self, word: &'static str) -> Result<usize, JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.fail(JsonProblem::Expected { expected: word });
        }
        self.at += word.len();
        Ok(0)
    }
}
