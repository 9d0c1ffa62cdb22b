//! Histograms of times: recorded with HDR histograms, passed between processes as counts, and summed up in quantiles.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Ten minutes in microseconds: what is longer is counted as this.
const MICROS_MAX: u64 = 600_000_000;

/// Microseconds, recorded with three digits.
pub(crate) struct Series(Histogram<u64>);

impl Default for Series {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("invariant: these bounds are good"))
    }
}

impl Series {
    /// Notes a time in nanoseconds.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.0.saturating_record((nanos / 1_000).clamp(1, MICROS_MAX));
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// What was recorded, for another process.
    pub(crate) fn counts(&self) -> Counts {
        Counts(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }
}

/// How often each time was seen, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts(Vec<(u64, u64)>);

impl Counts {
    /// Adds another's.
    pub(crate) fn add(&mut self, other: &Self) {
        let mut all: BTreeMap<u64, u64> = self.0.iter().copied().collect();
        for &(value, count) in &other.0 {
            *all.entry(value).or_default() += count;
        }
        self.0 = all.into_iter().collect();
    }

    /// How many.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The time in milliseconds that this part of them does not exceed; none of an empty one.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let len = self.len();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = ((quantile * len as f64).ceil() as u64).clamp(1, len.max(1));
        let mut seen = 0;
        self.0.iter().find_map(|&(value, count)| {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^52")]
            (seen >= rank).then_some(value as f64 / 1_000.0)
        })
    }
}

/// The middle of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_survive_the_way_between_processes() {
        let mut series = Series::default();
        (1..=1_000).for_each(|micros| series.record(micros * 1_000));
        let mut counts = Counts::default();
        counts.add(&serde_json::from_str(&serde_json::to_string(&series.counts()).expect("JSON")).expect("counts"));
        counts.add(&series.counts());
        assert_eq!(counts.len(), 2_000);
        for (quantile, micros) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0), (0.0, 1.0)] {
            let ms = counts.quantile_ms(quantile).expect("some");
            assert!((ms * 1_000.0 - micros).abs() <= 1.0, "{quantile}: {ms} ms");
        }
        assert_eq!(Counts::default().quantile_ms(0.5), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
