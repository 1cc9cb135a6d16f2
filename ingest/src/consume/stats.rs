//! What the ingester counts, and the page that tells it.

use std::sync::atomic::{AtomicBool, Ordering};

use platbook_client::answer::BulkAnswer;
use platbook_protocol::TimeMs;

use super::held::Held;
use crate::metrics::{Counter, Gauge, Page};
use crate::queue::Depth;

/// Messages in flight at which a queue goes silent.
const IN_FLIGHT_MAX: u64 = 120_000;
/// From so many on the alarm is on.
pub(super) const IN_FLIGHT_ALARM: u64 = IN_FLIGHT_MAX / 10 * 9;

/// Counters of an ingester.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) received: Counter,
    pub(super) done: Counter,
    pub(super) applied: Counter,
    pub(super) unchanged: Counter,
    pub(super) duplicate: Counter,
    pub(super) stale: Counter,
    pub(super) suspect: Counter,
    pub(super) busy: Counter,
    pub(super) later: Counter,
    pub(super) quarantined: Counter,
    pub(super) quarantine_refused: Counter,
    pub(super) poll_errors: Counter,
    pub(super) post_errors: Counter,
    pub(super) delete_retries: Counter,
    pub(super) extended: Counter,
    queue_waiting: Gauge,
    queue_in_flight: Gauge,
    has_polled: AtomicBool,
    is_router_away: AtomicBool,
}

impl Stats {
    /// The queue answered a poll.
    pub(super) fn on_polled(&self) {
        self.has_polled.store(true, Ordering::Relaxed);
    }

    /// The router answered a batch.
    pub(super) fn on_answer(&self, answer: &BulkAnswer) {
        self.is_router_away.store(false, Ordering::Relaxed);
        self.applied.add(answer.applied);
        self.unchanged.add(answer.unchanged);
        self.duplicate.add(answer.duplicate);
        self.stale.add(answer.stale);
        self.suspect.add(answer.suspect);
    }

    /// The router did not answer a batch.
    pub(super) fn on_router_away(&self) {
        self.is_router_away.store(true, Ordering::Relaxed);
    }

    /// The queue told how full it is.
    pub(super) fn on_depth(&self, depth: Depth) {
        self.queue_waiting.set(depth.waiting);
        self.queue_in_flight.set(depth.in_flight);
    }

    /// Whether messages flow: the queue has answered, and the router is not away.
    pub(super) fn is_ready(&self) -> bool {
        self.has_polled.load(Ordering::Relaxed) && !self.is_router_away.load(Ordering::Relaxed)
    }

    /// The page of `GET /metrics`.
    pub(super) fn page(&self, held: &Held, now: TimeMs) -> String {
        let mut page = Page::default();
        page.counter("platbook_ingest_messages_received_total", &self.received);
        page.counter("platbook_ingest_messages_done_total", &self.done);
        let outcomes = [
            ("applied", &self.applied),
            ("unchanged", &self.unchanged),
            ("duplicate", &self.duplicate),
            ("stale", &self.stale),
            ("suspect", &self.suspect),
            ("quarantined", &self.quarantined),
        ];
        page.counters("platbook_ingest_messages_total", "outcome", &outcomes);
        page.counter("platbook_ingest_messages_busy_total", &self.busy);
        page.counter("platbook_ingest_messages_later_total", &self.later);
        page.counter("platbook_ingest_quarantine_refused_total", &self.quarantine_refused);
        let errors = [("poll", &self.poll_errors), ("post", &self.post_errors)];
        page.counters("platbook_ingest_errors_total", "step", &errors);
        page.counter("platbook_ingest_delete_retries_total", &self.delete_retries);
        page.counter("platbook_ingest_visibility_extensions_total", &self.extended);
        let (count, oldest) = held.oldest();
        let lag_ms = oldest.map_or(0, |sent| now.0.saturating_sub(sent.0));
        page.gauge("platbook_ingest_messages_held", count as f64);
        page.gauge("platbook_ingest_lag_seconds", lag_ms as f64 / 1_000.0);
        let in_flight = self.queue_in_flight.get();
        page.gauge("platbook_ingest_queue_messages_waiting", self.queue_waiting.get() as f64);
        page.gauge("platbook_ingest_queue_messages_in_flight", in_flight as f64);
        let alarm = u8::from(in_flight >= IN_FLIGHT_ALARM);
        page.gauge("platbook_ingest_queue_in_flight_alarm", f64::from(alarm));
        page.into_text()
    }
}
