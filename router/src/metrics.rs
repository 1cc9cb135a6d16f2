//! Counters of the router and their Prometheus text. Labels come from closed sets.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative.
    pub(crate) fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number now.
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets, in microseconds; one more bucket takes the rest.
const BUCKETS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// How long something takes.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Notes one duration.
    pub(crate) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        for (bucket, hits) in self.buckets.iter().enumerate() {
            count += hits.load(Ordering::Relaxed);
            let bound = match BUCKETS_US.get(bucket) {
                Some(us) => (*us as f64 / 1e6).to_string(),
                None => "+Inf".to_string(),
            };
            line(out, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"));
        }
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        line(out, format_args!("{name}_sum{{{labels}}} {sum}"));
        line(out, format_args!("{name}_count{{{labels}}} {count}"));
    }
}

/// Calls of one kind to shards.
#[derive(Debug, Default)]
pub(crate) struct BatchMetrics {
    items: Counter,
    failures: Counter,
    duration: Histogram,
}

impl BatchMetrics {
    /// Notes one call with `items` items.
    pub(crate) fn on_batch(&self, items: usize, took: Duration, is_ok: bool) {
        self.items.add(items as u64);
        self.duration.observe(took);
        if !is_ok {
            self.failures.add(1);
        }
    }
}

/// The routes that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Reads of one ZIP.
    Zip,
    /// Reads by id.
    Listing,
    /// Single writes.
    Write,
    /// Bulk writes.
    Bulk,
    /// Everything else.
    Other,
}

const ROUTES: [(Route, &str); 5] = [
    (Route::Zip, "zip"),
    (Route::Listing, "listing"),
    (Route::Write, "write"),
    (Route::Bulk, "bulk"),
    (Route::Other, "other"),
];

/// Requests of one route.
#[derive(Debug, Default)]
struct RouteMetrics {
    /// By hundreds of the status, 1xx first.
    responses: [Counter; 5],
    duration: Histogram,
}

/// All numbers of one router.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    routes: [RouteMetrics; ROUTES.len()],
    /// Client connections.
    pub(crate) connections: Gauge,
    /// Requests in flight.
    pub(crate) requests: Gauge,
    /// Requests answered 429 before anything was done.
    pub(crate) shed: Counter,
    /// Calls to apply operations.
    pub(crate) proposals: BatchMetrics,
    /// Calls to read registers.
    pub(crate) registers: BatchMetrics,
    /// Calls to read rows.
    pub(crate) rows: BatchMetrics,
    /// Listings streamed to clients.
    pub(crate) listings_streamed: Counter,
    /// ZIP reads answered from the cache, after its check.
    pub(crate) cache_hits: Counter,
    /// ZIP reads answered 304.
    pub(crate) not_modified: Counter,
    /// Shards' changes that readers wait for without a stream of their own.
    pub(crate) followers_resting: Gauge,
    /// Bytes of ZIP responses kept.
    pub(crate) cache_bytes: Gauge,
    /// Responses cut off, because the client stalled or a node failed midway.
    pub(crate) streams_cut: Counter,
}

impl Metrics {
    /// Notes a response of `route`.
    pub(crate) fn on_response(&self, route: Route, status: u16, took: Duration) {
        let of_route = &self.routes[ROUTES.iter().position(|(r, _)| *r == route).unwrap_or(0)];
        let hundreds = usize::from(status / 100).clamp(1, 5) - 1;
        of_route.responses[hundreds].add(1);
        of_route.duration.observe(took);
    }

    /// The Prometheus text.
    pub(crate) fn render(&self) -> String {
        let mut out = String::with_capacity(8 << 10);
        self.render_routes(&mut out);
        self.render_batches(&mut out);
        let gauges = [
            ("platbook_router_connections", &self.connections),
            ("platbook_router_requests_in_flight", &self.requests),
            ("platbook_router_cache_bytes", &self.cache_bytes),
            ("platbook_router_followers_resting", &self.followers_resting),
        ];
        for (name, gauge) in gauges {
            kind(&mut out, name, "gauge");
            line(&mut out, format_args!("{name} {}", gauge.get()));
        }
        let counters = [
            ("platbook_router_requests_shed_total", &self.shed),
            ("platbook_router_listings_streamed_total", &self.listings_streamed),
            ("platbook_router_cache_hits_total", &self.cache_hits),
            ("platbook_router_not_modified_total", &self.not_modified),
            ("platbook_router_streams_cut_total", &self.streams_cut),
        ];
        for (name, counter) in counters {
            kind(&mut out, name, "counter");
            line(&mut out, format_args!("{name} {}", counter.get()));
        }
        out
    }

    fn render_routes(&self, out: &mut String) {
        const RESPONSES: &str = "platbook_router_responses_total";
        const DURATION: &str = "platbook_router_request_duration_seconds";
        kind(out, RESPONSES, "counter");
        for ((_, label), route) in ROUTES.iter().zip(&self.routes) {
            for (hundreds, counter) in route.responses.iter().enumerate() {
                let status = hundreds + 1;
                let count = counter.get();
                let labels = format_args!("route=\"{label}\",status=\"{status}xx\"");
                line(out, format_args!("{RESPONSES}{{{labels}}} {count}"));
            }
        }
        kind(out, DURATION, "histogram");
        for ((_, label), route) in ROUTES.iter().zip(&self.routes) {
            route.duration.render(out, DURATION, &format!("route=\"{label}\""));
        }
    }

    fn render_batches(&self, out: &mut String) {
        const ITEMS: &str = "platbook_router_batch_items_total";
        const FAILURES: &str = "platbook_router_batch_failures_total";
        const DURATION: &str = "platbook_router_batch_duration_seconds";
        let kinds =
            [("propose", &self.proposals), ("registers", &self.registers), ("rows", &self.rows)];
        kind(out, ITEMS, "counter");
        for (label, batch) in kinds {
            line(out, format_args!("{ITEMS}{{kind=\"{label}\"}} {}", batch.items.get()));
        }
        kind(out, FAILURES, "counter");
        for (label, batch) in kinds {
            line(out, format_args!("{FAILURES}{{kind=\"{label}\"}} {}", batch.failures.get()));
        }
        kind(out, DURATION, "histogram");
        for (label, batch) in kinds {
            batch.duration.render(out, DURATION, &format!("kind=\"{label}\""));
        }
    }
}

fn kind(out: &mut String, name: &str, kind: &str) {
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_in_everything() {
        let histogram = Histogram::default();
        for us in [100, 250, 251, 99_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let mut out = String::new();
        histogram.render(&mut out, "x", "");
        assert!(out.contains("x_bucket{le=\"0.00025\"} 2\n"), "{out}");
        assert!(out.contains("x_bucket{le=\"0.0005\"} 3\n"), "{out}");
        assert!(out.contains("x_bucket{le=\"+Inf\"} 4\n"), "{out}");
        assert!(out.contains("x_count{} 4\n"), "{out}");
    }

    #[test]
    fn responses_are_counted_by_route_and_hundreds() {
        let metrics = Metrics::default();
        metrics.on_response(Route::Bulk, 429, Duration::from_millis(1));
        let expected = "platbook_router_responses_total{route=\"bulk\",status=\"4xx\"} 1\n";
        assert!(metrics.render().contains(expected));
    }
}
