//! What the feed server counts.

use crate::metrics::{Counter, Page};

use super::service::OpenQueue;

/// Counters of a feed server.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) accepted: Counter,
    pub(super) delivered: Counter,
    pub(super) deleted: Counter,
}

impl Metrics {
    /// The page of `GET /metrics`.
    pub(super) fn page<'a>(
        &self,
        queues: impl Iterator<Item = &'a OpenQueue>,
        now: platbook_protocol::TimeMs,
    ) -> String {
        let mut page = Page::default();
        page.counter("platbook_feed_messages_accepted_total", &self.accepted);
        page.counter("platbook_feed_messages_delivered_total", &self.delivered);
        page.counter("platbook_feed_messages_deleted_total", &self.deleted);
        let (mut waiting, mut in_flight) = (0, 0);
        for queue in queues {
            let depth = queue.lock().queue.depth(now);
            waiting += depth.waiting + depth.delayed;
            in_flight += depth.in_flight;
        }
        page.gauge("platbook_feed_messages_waiting", waiting as f64);
        page.gauge("platbook_feed_messages_in_flight", in_flight as f64);
        page.into_text()
    }
}
