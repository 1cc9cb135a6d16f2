//! Durations, and how they are distributed.

use std::fmt;
use std::time::Duration;

/// Durations in order.
#[derive(Clone, Debug, Default)]
pub struct Quantiles {
    sorted: Vec<Duration>,
}

/// Bars of a printed histogram: upper ends in milliseconds; one more takes the rest.
const BOUNDS_MS: [u64; 9] = [250, 400, 500, 600, 800, 1_000, 1_500, 2_000, 5_000];
/// Columns of the longest bar.
const BAR_COLUMNS: usize = 40;

impl Quantiles {
    /// Of some durations.
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Quantiles {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        Quantiles { sorted }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The least duration that `per_cent` of all do not exceed; 0 where there are none.
    pub fn at(&self, per_cent: usize) -> Duration {
        let rank = (self.sorted.len() * per_cent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// The greatest; 0 where there are none.
    pub fn max(&self) -> Duration {
        self.sorted.last().copied().unwrap_or_default()
    }

    /// Lines with a bar for each range that something lies in.
    pub fn bars(&self) -> Vec<String> {
        let mut counts = [0; BOUNDS_MS.len() + 1];
        for duration in &self.sorted {
            let bar = BOUNDS_MS.partition_point(|bound| u128::from(*bound) < duration.as_millis());
            counts[bar] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let used = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        used.map(|(bar, count)| {
            let label = match BOUNDS_MS.get(bar) {
                Some(bound) => format!("up to {bound} ms"),
                None => "longer".to_string(),
            };
            let columns = (count * BAR_COLUMNS).div_ceil(most);
            format!("{label:>14}  {count:>5}  {}", "#".repeat(columns))
        })
        .collect()
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_millis();
        let (p50, p90, p99) = (ms(self.at(50)), ms(self.at(90)), ms(self.at(99)));
        write!(f, "p50 {p50} ms  p90 {p90} ms  p99 {p99} ms  max {} ms", ms(self.max()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_durations() {
        let all = Quantiles::of((1..=200).rev().map(Duration::from_millis));
        assert_eq!(all.to_string(), "p50 100 ms  p90 180 ms  p99 198 ms  max 200 ms");
        let one = Quantiles::of([Duration::from_millis(7)]);
        assert_eq!(one.to_string(), "p50 7 ms  p90 7 ms  p99 7 ms  max 7 ms");
        assert_eq!(Quantiles::default().at(99), Duration::ZERO);
    }

    #[test]
    fn every_duration_is_in_one_bar() {
        let all = Quantiles::of([250, 251, 400, 9_000].map(Duration::from_millis));
        let bars = all.bars();
        let heads: Vec<&str> = bars.iter().map(|bar| bar.trim_end_matches('#').trim()).collect();
        assert_eq!(heads, ["up to 250 ms      1", "up to 400 ms      2", "longer      1"]);
    }
}
