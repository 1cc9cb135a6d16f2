//! Finds source files, and blanks what is no code so that rules can look for words.

use std::fs;
use std::path::Path;

/// One Rust file.
pub(crate) struct Source {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    /// As it stands on disk.
    pub(crate) text: String,
    /// The same with comments and literals blanked; line and column stay.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_string(), text: text.to_string(), code: blank(text) }
    }

    /// Whether the line (from 1) belongs to a test.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        let in_test_tree = self.path.split('/').any(|part| part == "tests" || part == "benches");
        // By convention unit tests stand last in their file.
        let tests_from = self.code.lines().position(|line| line.trim() == "#[cfg(test)]");
        in_test_tree || tests_from.is_some_and(|from| line > from)
    }
}

/// All Rust files of the workspace, in path order.
pub(crate) fn rust_files(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    walk(root, root, "rs", &mut |path, text| files.push(Source::new(path, text)));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Calls `visit` with path and text of every file below `dir` that ends in `.extension`.
pub(crate) fn walk(root: &Path, dir: &Path, extension: &str, visit: &mut dyn FnMut(&str, &str)) {
    for entry in fs::read_dir(dir).expect("the workspace is readable") {
        let path = entry.expect("the workspace is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                walk(root, &path, extension, visit);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let relative = path.strip_prefix(root).expect("the walk stays inside").to_owned();
            visit(&relative.to_string_lossy(), &text);
        }
    }
}

/// Replaces comments, strings and characters by spaces, newlines kept.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let len = literal_len(&chars, at);
        if len == 0 {
            out.push(chars[at]);
            at += 1;
        } else {
            let end = (at + len).min(chars.len());
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Length of the comment or literal that starts at `at`, 0 where code goes on.
fn literal_len(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment_len(rest),
        ['"', ..] => string_len(rest),
        ['\'', '\\', ..] => 3 + rest[3..].iter().position(|&c| c == '\'').unwrap_or(0) + 1,
        ['\'', _, '\'', ..] => 3,
        ['r', '"' | '#', ..] if at == 0 || !is_word(chars[at - 1]) => raw_string_len(rest, 1),
        ['b' | 'c', 'r', '"' | '#', ..] if at == 0 || !is_word(chars[at - 1]) => {
            raw_string_len(rest, 2)
        }
        _ => 0,
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment_len(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string_len(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r#"..."#` and its kin; `r#name` is no string.
fn raw_string_len(rest: &[char], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&c| c == '#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&'"') {
        return 0;
    }
    let body = &rest[open + 1..];
    let closes = |at: &usize| {
        body[*at] == '"' && body[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes
    };
    match (0..body.len()).find(closes) {
        Some(at) => open + 1 + at + 1 + hashes,
        None => rest.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_survives_blanking() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"x("a\"b")"#, "x(      )"),
            ("x(r#\"a\"b\"#)", "x(        )"),
            ("x(b\"a\")", "x(b   )"),
            (r"x('\'', 'a', '\u{1}')", "x(    ,    ,        )"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("let r#type = 1;", "let r#type = 1;"),
            ("\"open", "     "),
        ];
        for (text, expected) in cases {
            assert_eq!(blank(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_below_the_test_attribute_are_tests() {
        let file = Source::new("a/src/b.rs", "fn a() {}\n#[cfg(test)]\nmod tests {}\n");
        assert!(!file.is_test(1));
        assert!(file.is_test(3));
        assert!(Source::new("a/tests/b.rs", "fn a() {}").is_test(1));
    }
}
