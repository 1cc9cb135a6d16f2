//! Parses, minifies and compresses, off the reactor: the one place where bodies cost CPU on their
//! way in.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use platbook_protocol::frame::{Compressor, Dictionary};
use platbook_protocol::listing::{Clocks, ListingError, Order, Parsed, Parser, Prepared};
use platbook_protocol::problem::Code;
use platbook_protocol::{ListingId, Revision, TimeMs};

use super::lines::Line;
use super::trainer::Trainer;
use crate::config::Ordering;
use crate::cpu::{Cpu, WorkLost};
use crate::dictionaries::Dictionaries;
use crate::http::problem::ApiError;

/// zstd level: the fastest, because a dictionary gives most of the ratio.
const LEVEL: i32 = 1;
/// Bodies up to this size are prepared where they arrive: handing them over would cost more.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// Bytes of lines that are prepared by one worker in one go.
const CHUNK_BYTES: usize = 256 << 10;

/// What all requests share to prepare messages.
pub(crate) struct Edge {
    worker: Arc<Worker>,
    dictionaries: Arc<Dictionaries>,
    cpu: Cpu,
}

struct Worker {
    parser: Parser,
    trainer: Arc<Trainer>,
    /// Compressors at rest; all of one dictionary, or on their way out.
    compressors: Mutex<Vec<Compressor>>,
    rules: Rules,
}

/// What a message must be like to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// What orders messages.
    pub(crate) ordering: Ordering,
    /// How far `sent` may lie ahead of the router's clock.
    pub(crate) sent_ahead_ms_max: u64,
}

/// A message, or why it is none.
pub(crate) type Outcome = (u64, Result<Prepared, ApiError>);

/// What orders messages that don't say it themselves, and what is too far ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// `Platbook-Sent`, or the router's clock.
    pub(crate) sent: TimeMs,
    /// `Platbook-Sequence`.
    pub(crate) sequence: Option<u64>,
    /// The router's clock.
    pub(crate) now: TimeMs,
}

impl Edge {
    /// Reads with `parser` what keeps to `rules`.
    pub(crate) fn new(
        parser: Parser,
        dictionaries: Arc<Dictionaries>,
        trainer: Arc<Trainer>,
        cpu: Cpu,
        rules: Rules,
    ) -> Edge {
        let compressors = Mutex::default();
        Edge { worker: Arc::new(Worker { parser, trainer, compressors, rules }), dictionaries, cpu }
    }

    /// What orders a message that does not say it itself. Refuses a `sent` that is too far ahead.
    pub(crate) fn clocks(&self, times: Times) -> Result<Clocks, ApiError> {
        self.worker.clocks(Order::default(), times)
    }

    /// Refuses a `sent` that is too far ahead, before a body is read.
    pub(crate) fn check_sent(&self, times: Times) -> Result<(), ApiError> {
        self.worker.check_sent(times.sent, times.now)
    }

    /// Whether the operator's sequence is the order.
    pub(crate) fn is_sequenced(&self) -> bool {
        self.worker.rules.ordering == Ordering::Sequenced
    }

    /// Refuses a condition where it cannot be had: the router would have to make up a place in the
    /// operator's sequence.
    pub(crate) fn check_condition(&self, if_match: Option<Revision>) -> Result<(), ApiError> {
        match (self.worker.rules.ordering, if_match) {
            (Ordering::Clocked, _) | (Ordering::Sequenced, None) => Ok(()),
            (Ordering::Sequenced, Some(_)) => {
                let detail = "If-Match: the order is the operator's sequence, which has no gaps";
                Err(ApiError::new(Code::BadHeader, detail))
            }
        }
    }

    /// Prepares the listing in a request about `id`.
    pub(crate) async fn listing(
        &self,
        id: ListingId,
        body: Bytes,
        clocks: Clocks,
    ) -> Result<Prepared, ApiError> {
        let dictionary = self.dictionaries.newest();
        let small = body.len() <= INLINE_BYTES_MAX;
        let worker = self.worker.clone();
        let work = move || worker.listing(&id, &body, clocks, dictionary.as_deref());
        if small { work() } else { self.cpu.run(work).await.map_err(lost)? }
    }

    /// Prepares lines; outcomes are in the order of the lines.
    pub(crate) async fn lines(
        &self,
        lines: Vec<Line>,
        times: Times,
    ) -> Result<Vec<Outcome>, ApiError> {
        let dictionary = self.dictionaries.newest();
        let mut outcomes = Vec::with_capacity(lines.len());
        let jobs = chunks(lines).into_iter().map(|chunk| {
            let (worker, dictionary) = (self.worker.clone(), dictionary.clone());
            let cpu = self.cpu.clone();
            async move { cpu.run(move || worker.lines(chunk, times, dictionary.as_deref())).await }
        });
        for done in futures_util::future::join_all(jobs).await {
            outcomes.extend(done.map_err(lost)?);
        }
        Ok(outcomes)
    }
}

impl Worker {
    fn listing(
        &self,
        id: &ListingId,
        body: &[u8],
        clocks: Clocks,
        dictionary: Option<&Dictionary>,
    ) -> Result<Prepared, ApiError> {
        let listing = self.parser.listing(body, id).map_err(refused)?;
        self.trainer.offer(&listing.body);
        self.with_compressor(dictionary, |compressor| {
            Prepared::upsert(listing, clocks, compressor).map_err(refused)
        })?
    }

    fn lines(
        &self,
        lines: Vec<Line>,
        times: Times,
        dictionary: Option<&Dictionary>,
    ) -> Vec<Outcome> {
        let prepare = |compressor: &mut Compressor, line: &Line| match line {
            Line::Text { number, bytes } => (*number, self.message(bytes, times, compressor)),
            Line::TooLong { number } => {
                let detail = "the line is longer than a listing may be";
                (*number, Err(ApiError::new(Code::ListingTooLarge, detail)))
            }
        };
        let all = |compressor: &mut Compressor| {
            lines.iter().map(|line| prepare(compressor, line)).collect()
        };
        match self.with_compressor(dictionary, all) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let failed = |line: &Line| match line {
                    Line::Text { number, .. } | Line::TooLong { number } => {
                        (*number, Err(ApiError::new(error.code(), error.detail())))
                    }
                };
                lines.iter().map(failed).collect()
            }
        }
    }

    fn message(
        &self,
        bytes: &[u8],
        times: Times,
        compressor: &mut Compressor,
    ) -> Result<Prepared, ApiError> {
        match self.parser.message(bytes).map_err(refused)? {
            Parsed::Upsert(listing) => {
                self.trainer.offer(&listing.body);
                let clocks = self.clocks(listing.order, times)?;
                Prepared::upsert(listing, clocks, compressor).map_err(refused)
            }
            Parsed::Delete { id, order } => Ok(Prepared::delete(id, self.clocks(order, times)?)),
            Parsed::Pointer { bucket, key } => {
                let detail = format!("s3://{bucket}/{key}: pointers are followed by `ingest` only");
                Err(ApiError::new(Code::PointerMissing, detail))
            }
        }
    }

    fn clocks(&self, order: Order, times: Times) -> Result<Clocks, ApiError> {
        let sent = order.sent.unwrap_or(times.sent);
        self.check_sent(sent, times.now)?;
        match (self.rules.ordering, order.sequence.or(times.sequence)) {
            (Ordering::Sequenced, sequence) => Clocks::sequenced(sent, sequence).map_err(refused),
            (Ordering::Clocked, None) => Ok(Clocks::two(sent)),
            // To ignore it would give another order than the sender counts on.
            (Ordering::Clocked, Some(sequence)) => Err(refused(ListingError::BadField {
                field: "/sequence".to_string(),
                found: sequence.to_string(),
                expected: "none, because the order is the two clocks,",
            })),
        }
    }

    fn check_sent(&self, sent: TimeMs, now: TimeMs) -> Result<(), ApiError> {
        let limit = self.rules.sent_ahead_ms_max;
        if sent.0 <= now.0.saturating_add(limit) {
            return Ok(());
        }
        let ahead = sent.0 - now.0;
        let detail = format!("sent lies {ahead} ms ahead of the router, the limit is {limit} ms");
        Err(ApiError::new(Code::SentInFuture, detail))
    }

    fn with_compressor<T>(
        &self,
        dictionary: Option<&Dictionary>,
        work: impl FnOnce(&mut Compressor) -> T,
    ) -> Result<T, ApiError> {
        let rested = self.compressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let wanted = dictionary.map_or(0, Dictionary::id);
        let mut compressor = match rested {
            Some(compressor) if compressor.dictionary() == wanted => compressor,
            // One of an older dictionary is dropped here, so none of them stays for long.
            Some(_) | None => Compressor::try_new(LEVEL, dictionary)
                .map_err(|error| ApiError::new(Code::Internal, error.to_string()))?,
        };
        let done = work(&mut compressor);
        self.compressors.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        Ok(done)
    }
}

fn lost(error: WorkLost) -> ApiError {
    ApiError::new(Code::Internal, error.to_string())
}

fn refused(error: ListingError) -> ApiError {
    ApiError::new(error.code(), error.detail())
}

/// Cuts lines into pieces that are worth a worker each.
fn chunks(lines: Vec<Line>) -> Vec<Vec<Line>> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for line in lines {
        if bytes >= CHUNK_BYTES {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += match &line {
            Line::Text { bytes, .. } => bytes.len(),
            Line::TooLong { .. } => 0,
        };
        chunks.last_mut().expect("there is always a last chunk").push(line);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_every_line_in_order() {
        let line = |number| Line::Text { number, bytes: Bytes::from(vec![b'x'; 100_000]) };
        let cut = chunks((0..10).map(line).collect());
        assert!(cut.len() > 2);
        let number = |line: &Line| match line {
            Line::Text { number, .. } | Line::TooLong { number } => *number,
        };
        let numbers: Vec<u64> = cut.iter().flatten().map(number).collect();
        assert_eq!(numbers, (0..10).collect::<Vec<u64>>());
    }
}
