//! One run of a scenario on one system, and what came of it. A run that did not do its work right has problems, and its
//! figures count for nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    orders::Loaded,
    series::Counts,
    usage::{Sample, Usage},
};

/// A run, as a line of the raw data.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The scenario's name.
    pub(crate) scenario: String,
    /// The system's name.
    pub(crate) side: String,
    /// Which of the interleaved runs.
    pub(crate) round: usize,
    /// Figures by name, the unit in the name.
    pub(crate) figures: BTreeMap<String, f64>,
    /// What it did wrong.
    pub(crate) problems: Vec<String>,
}

impl Run {
    /// Whether its figures count: ours only when nothing was wrong. A peer's count all the same, with its faults beside
    /// them, since a claim that we are faster than it must not rest on leaving it out.
    pub(crate) fn counts(&self) -> bool {
        self.problems.is_empty() || !self.side.starts_with("switchboard")
    }

    /// Notes a figure.
    pub(crate) fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    /// Notes the middle and the tail of some times.
    pub(crate) fn times(&mut self, what: &str, times: &Counts) {
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            if let Some(ms) = times.quantile_ms(quantile) {
                self.figure(&format!("{what} {name}, ms"), ms);
            }
        }
    }

    /// Notes what a load did in so many seconds, and what it cost.
    pub(crate) fn load(&mut self, prefix: &str, loaded: &Loaded, cost: &Sample, secs: f64) {
        let (acks, deliveries) = (float(loaded.acks), float(loaded.deliveries));
        let mut note = |name: &str, value: f64| self.figure(&format!("{prefix}{name}"), value);
        if loaded.acks > 0 {
            note("acks/s", acks / secs);
        }
        note("deliveries/s", deliveries / secs);
        note("bytes per delivery", if deliveries > 0.0 { float(loaded.delivery_bytes) / deliveries } else { 0.0 });
        let (product, stores) = (cost.product(), cost.stores());
        for (name, usage) in [("product", product), ("store", stores)] {
            if usage == Usage::default() {
                continue;
            }
            note(&format!("{name} CPU, cores"), usage.cpu_secs / secs);
            if loaded.acks > 0 {
                note(&format!("{name} CPU per send, us"), usage.cpu_secs / acks * 1e6);
            }
            if name == "product" && deliveries > 0.0 {
                note("product CPU per delivery, us", usage.cpu_secs / deliveries * 1e6);
            }
        }
        for (name, usage) in cost.iter() {
            note(&format!("CPU of {name}, cores"), usage.cpu_secs / secs);
        }
        note("load generator CPU, cores", float(loaded.cpu) / 1e9 / secs);
        self.times(&format!("{prefix}send to ack"), &loaded.ack_micros);
        self.times(&format!("{prefix}send to delivery"), &loaded.delivery_micros);
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
