//! Tables for a terminal, with fixed widths, so that a long answer needs no memory.

use serde_json::Value;

/// A column: its title and how wide it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) width: usize,
    /// Numbers stand at the right.
    pub(crate) is_number: bool,
}

/// Text at the left, numbers at the right.
pub(crate) const fn text(title: &'static str, width: usize) -> Column {
    Column { title, width, is_number: false }
}

/// A column of numbers.
pub(crate) const fn number(title: &'static str, width: usize) -> Column {
    Column { title, width, is_number: true }
}

/// The titles as a line.
pub(crate) fn head(columns: &[Column]) -> String {
    row(columns, columns.iter().map(|column| column.title.to_string()))
}

/// One line of values; what does not fit is cut.
pub(crate) fn row(columns: &[Column], values: impl IntoIterator<Item = String>) -> String {
    let mut line = String::new();
    for (column, value) in columns.iter().zip(values) {
        let cut = cut(&value, column.width);
        let blank = " ".repeat(column.width.saturating_sub(cut.chars().count()));
        let cell = if column.is_number { blank + &cut } else { cut + &blank };
        line.push_str(&cell);
        line.push_str("  ");
    }
    line.truncate(line.trim_end().len());
    line
}

/// A JSON value as a cell: text without quotes, nothing for null.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// At most `width` characters, without control characters: a listing must not steer a terminal.
fn cut(value: &str, width: usize) -> String {
    let clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= width {
        return clean;
    }
    let mut cut: String = clean.chars().take(width.saturating_sub(1)).collect();
    cut.push('\u{2026}');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_aligned_cut_and_cleaned() {
        let columns = [text("ID", 4), number("N", 3), text("NAME", 5)];
        let line = |values: [&str; 3]| row(&columns, values.map(str::to_string));
        assert_eq!(head(&columns), "ID      N  NAME");
        assert_eq!(line(["a", "1", "b"]), "a       1  b");
        assert_eq!(line(["abcde", "12", "x\u{1b}[2J"]), "abc\u{2026}   12  x [2J");
    }
}
