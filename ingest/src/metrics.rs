//! Counters, and the text in which they are told (Prometheus exposition format).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A page of metrics while it is written.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    pub(crate) fn counter(&mut self, name: &str, counter: &Counter) {
        self.line(name, "counter", &counter.get());
    }

    pub(crate) fn gauge(&mut self, name: &str, value: f64) {
        self.line(name, "gauge", &value);
    }

    /// One counter a label value, under one name.
    pub(crate) fn counters(&mut self, name: &str, label: &str, counters: &[(&str, &Counter)]) {
        self.push(format_args!("# TYPE {name} counter\n"));
        for (value, counter) in counters {
            self.push(format_args!("{name}{{{label}=\"{value}\"}} {}\n", counter.get()));
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, name: &str, kind: &str, value: &dyn std::fmt::Display) {
        self.push(format_args!("# TYPE {name} {kind}\n{name} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a string does not fail");
    }
}
