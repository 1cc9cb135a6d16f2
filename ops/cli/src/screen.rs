//! What people see while it runs: a bar that moves on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const BAR_COLUMNS: usize = 32;
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The lower end of the screen.
pub(crate) struct Screen {
    is_terminal: bool,
    has_bar: bool,
    last_line: Option<Instant>,
}

impl Screen {
    /// On stderr: stdout is for the result.
    pub(crate) fn new() -> Screen {
        Screen { is_terminal: io::stderr().is_terminal(), has_bar: false, last_line: None }
    }

    /// Something happened.
    pub(crate) fn say(&mut self, text: &str) {
        self.print(&format!("{text}\n"), false);
    }

    /// How far it is; `all` is 0 where nobody knows how much there is.
    pub(crate) fn progress(&mut self, done: u64, all: u64, text: &str) {
        let is_due = self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if !self.is_terminal && is_due {
            self.last_line = Some(Instant::now());
        }
        match (self.is_terminal, all) {
            // Nobody knows how much there is.
            (true, 0) => self.print(text, true),
            (true, _) => self.print(&format!("{} {text}", bar(done, all)), true),
            (false, _) if !is_due => {}
            (false, 0) => self.print(&format!("{text}\n"), false),
            (false, _) => self.print(&format!("{done} of {all}: {text}\n"), false),
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&mut self) {
        if self.has_bar {
            self.print("", false);
        }
    }

    fn print(&mut self, text: &str, is_bar: bool) {
        let clear = if self.has_bar { "\r\x1b[2K" } else { "" };
        self.has_bar = is_bar;
        let mut stderr = io::stderr().lock();
        // Without a screen the work still has a result.
        let _ = write!(stderr, "{clear}{text}").and_then(|()| stderr.flush());
    }
}

fn bar(done: u64, all: u64) -> String {
    let share = if all == 0 { 1.0 } else { (done as f64 / all as f64).min(1.0) };
    let filled = (share * BAR_COLUMNS as f64) as usize;
    let (full, empty) = ("=".repeat(filled), " ".repeat(BAR_COLUMNS - filled));
    format!("[{full}{empty}] {:3.0}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_is_never_longer_than_itself() {
        assert!(bar(0, 10).starts_with("[   "));
        assert!(bar(20, 10).ends_with("100%"));
        assert!(bar(0, 0).ends_with("100%"));
        assert_eq!(bar(5, 10).matches('=').count(), 16);
    }
}
