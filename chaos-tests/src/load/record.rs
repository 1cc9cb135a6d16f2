//! What became of a client's calls.

use std::time::{Duration, Instant};

/// Sentences that are kept of each kind; the rest is only counted.
const SENTENCES_MAX: usize = 20;

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// It certainly had no effect.
    Refused,
    /// It may have had one.
    Unknown,
}

/// One write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// When it was sent.
    pub began: Instant,
    /// When it was answered.
    pub ended: Instant,
    /// How.
    pub outcome: Outcome,
}

/// What must not happen, and what may but is told.
#[derive(Clone, Debug, Default)]
pub struct Sentences {
    /// How often.
    pub count: u64,
    /// The first few.
    pub first: Vec<String>,
}

impl Sentences {
    pub(crate) fn push(&mut self, sentence: String) {
        self.count += 1;
        if self.first.len() < SENTENCES_MAX {
            self.first.push(sentence);
        }
    }

    /// Takes in another's.
    pub(crate) fn add(&mut self, other: &Sentences) {
        let room = SENTENCES_MAX.saturating_sub(self.first.len());
        self.count += other.count;
        self.first.extend(other.first.iter().take(room).cloned());
    }
}

/// Everything about one client, or about many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// All writes in order of their end.
    pub writes: Vec<Write>,
    /// Reads by id and by ZIP that were answered.
    pub reads: u64,
    /// Writes that were refused or whose outcome is unknown.
    pub failed_writes: Sentences,
    /// Reads that had no answer.
    pub failed_reads: Sentences,
    /// Reads that showed less than the client was told or had seen.
    pub reads_back: Sentences,
    /// Acknowledged writes that are missing in the end.
    pub lost: Sentences,
}

impl Tally {
    /// Writes with this outcome.
    pub fn writes_that(&self, outcome: Outcome) -> usize {
        self.writes.iter().filter(|write| write.outcome == outcome).count()
    }

    /// How long after `from` a write was acknowledged that was sent after it.
    pub fn acknowledged_after(&self, from: Instant) -> Option<Duration> {
        let later = self.writes.iter().rev().take_while(|write| write.ended > from);
        let done = later.filter(|w| w.began >= from && w.outcome == Outcome::Done);
        done.map(|write| write.ended - from).min()
    }

    /// How long acknowledged writes took.
    pub fn latencies(&self) -> impl Iterator<Item = Duration> {
        let done = self.writes.iter().filter(|write| write.outcome == Outcome::Done);
        done.map(|write| write.ended - write.began)
    }

    /// What must never happen to a client, whatever dies.
    pub fn violations(&self) -> Vec<String> {
        let mut told = Vec::new();
        for (what, sentences) in [("read went back", &self.reads_back), ("lost", &self.lost)] {
            told.extend(sentences.first.iter().map(|sentence| format!("{what}: {sentence}")));
        }
        if self.writes_that(Outcome::Done) == 0 {
            told.push("no write was acknowledged at all".to_string());
        }
        told
    }

    /// Takes in another's.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.writes.extend_from_slice(&other.writes);
        self.reads += other.reads;
        self.failed_writes.add(&other.failed_writes);
        self.failed_reads.add(&other.failed_reads);
        self.reads_back.add(&other.reads_back);
        self.lost.add(&other.lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_that_began_after_the_moment_counts_as_resumed() {
        let from = Instant::now();
        let ms = Duration::from_millis;
        let at = from + ms(100);
        let write = |began, ended, outcome| {
            let (began, ended) = (from + ms(began), from + ms(ended));
            Write { began, ended, outcome }
        };
        let mut tally = Tally::default();
        tally.writes.push(write(90, 500, Outcome::Done));
        assert_eq!(tally.acknowledged_after(at), None, "it was under way before");
        tally.writes.push(write(500, 600, Outcome::Unknown));
        assert_eq!(tally.acknowledged_after(at), None, "nobody knows");
        tally.writes.push(write(600, 700, Outcome::Done));
        tally.writes.push(write(700, 800, Outcome::Done));
        assert_eq!(tally.acknowledged_after(at), Some(ms(600)));
        assert_eq!(tally.writes_that(Outcome::Done), 3);
    }
}
