//! What is compared: how each figure follows from a run, and which way is better.

use serde::{Deserialize, Serialize};

use crate::record::Run;
use crate::scenario::{BrokerKind, Mode, Rate, Scenario};
use crate::stats::{Pool, Sample};

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// CPU seconds of the client for a million records, of producers without what the driver itself costs.
    Cpu,
    /// Records in a second.
    Throughput,
    /// Median latency.
    P50,
    /// Latency that 99 of 100 records keep to.
    P99,
    /// Latency that 999 of 1000 records keep to.
    P999,
    /// [`P99`](Self::P99) above that of a raw socket.
    P99Above,
    /// [`P999`](Self::P999) above that of a raw socket.
    P999Above,
    /// The most memory that was resident.
    RssPeak,
    /// Resident memory with many partitions known.
    IdleRss,
    /// Resident memory with each of them written once.
    WrittenRss,
    /// From the start of the process to the first acknowledgement.
    FirstAck,
    /// Times that the client went to sleep for each produce request.
    Wakeups,
}

impl Metric {
    /// What it is called, with its unit.
    pub fn title(self) -> &'static str {
        match self {
            Metric::Cpu => "CPU-s per million records",
            Metric::Throughput => "records/s",
            Metric::P50 => "p50, µs",
            Metric::P99 => "p99, µs",
            Metric::P999 => "p99.9, µs",
            Metric::P99Above => "p99 above a raw socket, µs",
            Metric::P999Above => "p99.9 above a raw socket, µs",
            Metric::RssPeak => "peak RSS, MiB",
            Metric::IdleRss => "RSS idle, MiB",
            Metric::WrittenRss => "RSS written, MiB",
            Metric::FirstAck => "first acknowledgement, ms",
            Metric::Wakeups => "wakeups per produce request",
        }
    }

    /// Whether more of it is better.
    pub fn higher_is_better(self) -> bool {
        self == Metric::Throughput
    }

    /// What of the empty client, in the same scenario, is taken off; `None` if nothing is.
    pub fn floor(self, mode: Mode) -> Option<&'static str> {
        match self {
            Metric::Cpu if mode == Mode::Produce => Some("an empty driver"),
            Metric::P99Above | Metric::P999Above => Some("a raw socket"),
            _ => None,
        }
    }

    fn quantile(self) -> Option<f64> {
        match self {
            Metric::P50 => Some(0.5),
            Metric::P99 | Metric::P99Above => Some(0.99),
            Metric::P999 | Metric::P999Above => Some(0.999),
            _ => None,
        }
    }

    /// What these runs have measured; `None` if one has no such figure.
    pub fn sample(self, runs: &[&Run]) -> Option<Sample> {
        match self.quantile() {
            Some(quantile) => {
                let histograms = runs.iter().map(|run| histogram(run)).collect::<Option<Vec<_>>>()?;
                Some(Sample::Latencies(Pool::of(&histograms, quantile)))
            }
            None => Some(Sample::Values(runs.iter().map(|run| self.value(run)).collect::<Option<_>>()?)),
        }
    }

    /// The figure of one run; `None` where it has none.
    pub fn of(self, run: &Run) -> Option<f64> {
        self.sample(&[run])?.figure(&[0])
    }

    /// The number that a run measures, where it is not latencies.
    fn value(self, run: &Run) -> Option<f64> {
        let outcome = run.outcome.as_ref()?;
        let memory = || outcome.memory.as_ref();
        let records = outcome.records as f64;
        let value = match self {
            Metric::Cpu => (outcome.cpu_user_s + outcome.cpu_sys_s) * 1e6 / records,
            Metric::Throughput => records / outcome.seconds,
            Metric::P50 | Metric::P99 | Metric::P999 | Metric::P99Above | Metric::P999Above => return None,
            Metric::RssPeak => outcome.rss_peak_kib / 1024.0,
            Metric::IdleRss => memory()?.idle_rss_kib / 1024.0,
            Metric::WrittenRss => memory()?.written_rss_kib / 1024.0,
            Metric::FirstAck => outcome.first_ack_us? / 1000.0,
            Metric::Wakeups => {
                // Requests are counted with the warm-up, switches without.
                let of_window = run.produce_requests? as f64 * records / outcome.acked_total as f64;
                outcome.voluntary_switches / of_window
            }
        };
        (value.is_finite() && value >= 0.0).then_some(value)
    }

    /// What a scenario is run for, the most important first.
    pub fn of_scenario(scenario: &Scenario) -> Vec<Metric> {
        match scenario.mode {
            Mode::Produce if scenario.rate == Rate::Saturated => vec![Metric::Cpu, Metric::Throughput],
            Mode::Produce if scenario.broker == BrokerKind::Null => {
                vec![Metric::Cpu, Metric::Wakeups, Metric::RssPeak]
            }
            Mode::Produce => vec![Metric::Cpu, Metric::RssPeak],
            Mode::Consume => vec![Metric::Cpu, Metric::Throughput],
            Mode::Latency => vec![Metric::P50, Metric::P99, Metric::P999],
            Mode::Start => vec![Metric::FirstAck],
            Mode::Memory => vec![Metric::IdleRss, Metric::WrittenRss],
        }
    }
}

fn histogram(run: &Run) -> Option<&[(f64, u64)]> {
    Some(&run.outcome.as_ref()?.latency_us.as_ref()?.histogram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::testing::{latency, run};

    #[test]
    fn figures_follow_from_a_run() {
        let run = run("produce-null-rate", "ours", 1, 0.5);
        assert_eq!(Metric::Cpu.of(&run), Some(0.5));
        assert_eq!(Metric::Throughput.of(&run), Some(500_000.0));
        assert_eq!(Metric::RssPeak.of(&run), Some(10.0));
        // 5000 requests for 1.25 million records are 4000 for the million of the window.
        assert_eq!(Metric::Wakeups.of(&run), Some(0.5));
        assert_eq!(Metric::P99.of(&run), None);
    }

    #[test]
    fn latencies_of_several_runs_are_one() {
        let of = |round, histogram: &[(f64, u64)]| {
            let mut run = run("latency-linger-0", "ours", round, 0.5);
            run.outcome.as_mut().unwrap().latency_us = Some(latency(histogram));
            run
        };
        let (calm, rough) = (of(1, &[(100.0, 1000)]), of(2, &[(100.0, 950), (900.0, 50)]));
        assert_eq!(Metric::P99.of(&rough), Some(900.0));
        let sample = Metric::P99.sample(&[&calm, &rough]).unwrap();
        assert_eq!((sample.figure(&[0]), sample.figure(&[0, 1])), (Some(100.0), Some(900.0)));
        assert!(Metric::P99.sample(&[&calm, &Run { outcome: None, ..rough }]).is_none());
    }

    #[test]
    fn a_run_without_records_has_no_figures() {
        let empty = Run { outcome: Some(Outcome::default()), ..run("produce-real", "ours", 1, 0.5) };
        assert_eq!(Metric::Cpu.of(&empty), None);
        assert_eq!(Metric::Throughput.of(&empty), None);
        let failed = Run { outcome: None, ..empty };
        assert_eq!(Metric::Cpu.of(&failed), None);
    }
}
