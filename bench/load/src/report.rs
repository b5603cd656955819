//! What one run found, as one line of JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Everything counted in one run. Latencies in nanoseconds, CPU time in nanoseconds.
#[derive(Default)]
pub(crate) struct Report {
    /// Units completed inside the measured window.
    pub(crate) completed: u64,
    /// Units completed in the whole run, warm-up included.
    pub(crate) completed_total: u64,
    /// Units that failed in the whole run, by reason.
    pub(crate) failures: BTreeMap<String, u64>,
    /// 401 and 407 answered in the whole run.
    pub(crate) challenged: u64,
    /// Messages that the generator had to send again.
    pub(crate) retransmissions: u64,
    /// Messages that belonged to no unit under way (mostly the server's retransmissions).
    pub(crate) strays: u64,
    /// Length of the measured window.
    pub(crate) nanoseconds: u64,
    pub(crate) latencies: Vec<u32>,
    /// How late the generator began its units (open loop): its own weakness, not the server's.
    pub(crate) lateness: Vec<u32>,
    /// CPU time per watched group in the measured window.
    pub(crate) cpu: BTreeMap<String, u64>,
}

impl Report {
    pub(crate) fn fail(&mut self, reason: &str) {
        *self.failures.entry(reason.to_owned()).or_default() += 1;
    }

    /// The report as JSON; sorts what it needs sorted.
    pub(crate) fn json(&mut self, unit: &str, pacing: &str) -> Value {
        let seconds = self.nanoseconds as f64 / 1e9;
        let units = self.completed.max(1) as f64;
        let cpu: BTreeMap<_, _> = self
            .cpu
            .iter()
            .map(|(name, time)| (name, rounded(*time as f64 / 1e3 / units)))
            .collect();
        let load: BTreeMap<_, _> = self
            .cpu
            .iter()
            .map(|(name, time)| (name, rounded(*time as f64 / 1e9 / seconds)))
            .collect();
        json!({
            "unit": unit,
            "pacing": pacing,
            "completed": self.completed,
            "completed_total": self.completed_total,
            "failed": self.failures.values().sum::<u64>(),
            "failures": self.failures,
            "challenged": self.challenged,
            "retransmissions": self.retransmissions,
            "strays": self.strays,
            "seconds": rounded(seconds),
            "per_second": rounded(self.completed as f64 / seconds),
            "cpu_us_per_unit": cpu,
            "cpu_cores": load,
            "latency_us": percentiles(&mut self.latencies),
            "lateness_us": percentiles(&mut self.lateness),
        })
    }
}

fn percentiles(values: &mut [u32]) -> Value {
    values.sort_unstable();
    let at = |part: f64| {
        let index = (values.len() as f64 * part) as usize;
        values
            .get(index.min(values.len().saturating_sub(1)))
            .map(|ns| rounded(f64::from(*ns) / 1e3))
    };
    json!({ "p50": at(0.50), "p99": at(0.99), "max": at(1.0) })
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut values: Vec<u32> = (1..=100).rev().map(|n| n * 1000).collect();
        assert_eq!(
            percentiles(&mut values),
            json!({ "p50": 51.0, "p99": 100.0, "max": 100.0 })
        );
        assert_eq!(
            percentiles(&mut []),
            json!({ "p50": null, "p99": null, "max": null })
        );
    }

    #[test]
    fn cpu_is_divided_by_the_units_of_the_window() {
        let mut report = Report {
            completed: 10,
            completed_total: 99,
            nanoseconds: 1_000_000_000,
            ..Report::default()
        };
        report.cpu.insert("server".into(), 200_000);
        let json = report.json("options", "closed 64");
        assert_eq!(json["cpu_us_per_unit"]["server"], 20.0);
    }
}
