//! Numbers from a `/metrics` page.

use std::collections::BTreeMap;

use crate::{Error, http};

/// One look at a process's metrics.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// Name with labels as printed, and value.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Asks the process at `address`.
    pub async fn of(address: &str) -> Result<Scrape, Error> {
        Ok(Scrape::parse(&http::get(address, "/metrics", &[]).await?.text()))
    }

    /// Reads the Prometheus text format; lines that are no samples are skipped.
    pub fn parse(page: &str) -> Scrape {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_string(), value.parse().ok()?))
        };
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        Scrape { samples: lines.filter_map(sample).collect() }
    }

    /// Sum over all samples of `name` whose labels contain `label` (`outcome="stale"`, or empty).
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let is_it = |sample: &&String| {
            let (found, labels) = sample.split_once('{').unwrap_or((sample, ""));
            found == name && labels.contains(label)
        };
        self.samples.iter().filter(|(sample, _)| is_it(sample)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_were_not_asked_for() {
        let page = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\nab 9\nb 1.5\n";
        let scrape = Scrape::parse(page);
        assert_eq!(scrape.sum("a", ""), 7.0);
        assert_eq!(scrape.sum("a", "x=\"2\""), 4.0);
        assert_eq!(scrape.sum("b", ""), 1.5);
        assert_eq!(scrape.sum("c", ""), 0.0);
    }
}
