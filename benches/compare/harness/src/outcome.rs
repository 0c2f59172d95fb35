//! What came of one driver: the line that it printed, or why there is none that counts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::scenario::{Mode, Scenario};

/// By so much of what was asked a rate may be missed.
const RATE_TOLERANCE: f64 = 0.02;
/// How long the last records of a window may be under way beyond their linger, in seconds: drivers offer what is due every
/// 10 ms, and a window ends when all of it is acknowledged.
const UNDER_WAY: f64 = 0.01;

/// The line that a driver prints. What has no `Option` is in every line; the rest depends on the mode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The client with its own version.
    pub version: String,
    /// Records of the window.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that failed; of a consumer, gaps and repetitions.
    pub errors: u64,
    /// How long the window was.
    pub seconds: f64,
    /// CPU seconds of the window in user mode.
    pub cpu_user_s: f64,
    /// CPU seconds of the window in the kernel.
    pub cpu_sys_s: f64,
    /// The most memory that was resident, in KiB.
    pub rss_peak_kib: f64,
    /// Times that the process went to sleep in the window.
    pub voluntary_switches: f64,
    /// From the start of the process to the first acknowledgement.
    pub first_ack_us: Option<f64>,
    /// Latencies, where they were taken.
    pub latency_us: Option<Latency>,
    /// Everything that was acknowledged, with the warm-up; of a prefilled topic, what was consumed without it.
    pub acked_total: u64,
    /// Memory with many partitions.
    pub memory: Option<Memory>,
}

/// Latencies in microseconds. Drivers tell quantiles too; figures are of the histograms of all rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were taken.
    pub count: u64,
    /// Latencies and how many records had them, ascending.
    pub histogram: Vec<(f64, u64)>,
}

/// Resident memory in KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Once the partitions are known.
    pub idle_rss_kib: f64,
    /// After each partition was written.
    pub written_rss_kib: f64,
}

/// In what way a run has no figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The client cannot do what is asked, and says so: no fault.
    Unsupported,
    /// Records that were acknowledged or written are not where they must be.
    Lost,
    /// Anything else.
    Failed,
}

/// Why a run has no figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In what way.
    pub kind: FailureKind,
    /// What was said or seen.
    pub reason: String,
}

impl Failure {
    /// Records are not where they must be.
    pub fn lost(reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Lost, reason: reason.into() }
    }

    /// The client cannot do it.
    pub fn unsupported(reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Unsupported, reason: reason.into() }
    }

    /// Unless there are as many records as a client said.
    pub fn of_counts(what: &str, said: u64, there: u64) -> Option<Self> {
        let reason = || format!("MISMATCH: {what} {said} records, but {there} are in the topic");
        (said != there).then(|| Self::lost(reason()))
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { kind: FailureKind::Failed, reason }
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Outcome {
    /// What is wrong with the line of a driver in this mode, if anything is.
    pub fn flaw(&self, mode: Mode) -> Option<String> {
        let windowed = matches!(mode, Mode::Produce | Mode::Latency | Mode::Consume);
        if windowed && self.records == 0 {
            return Some("no record came in its window".into());
        }
        if windowed && self.seconds <= 0.0 {
            return Some("its window took no time".into());
        }
        match mode {
            Mode::Latency => match &self.latency_us {
                Some(latency) => latency.flaw().map(str::to_owned),
                None => Some("it tells no latencies".into()),
            },
            Mode::Start if self.first_ack_us.is_none() => Some("it tells no first acknowledgement".into()),
            Mode::Memory if self.memory.is_none() => Some("it tells no memory".into()),
            _ => None,
        }
    }

    /// Why this is not the rate that was asked for, if so. Latency is of an open loop: there a client that falls behind
    /// shows it in its latencies, and to fail it for a long tail would hide just that; so only the number of records counts.
    pub fn missed_rate(&self, rate: u64, scenario: &Scenario) -> Option<String> {
        if rate == 0 {
            return None;
        }
        let (rate, records) = (rate as f64, self.records as f64);
        let missed = if scenario.mode == Mode::Latency {
            (records - rate * scenario.seconds).abs() > RATE_TOLERANCE * rate * scenario.seconds
        } else {
            let under_way = f64::from(scenario.linger_us) / 1e6 + UNDER_WAY;
            (self.seconds - records / rate).abs() > RATE_TOLERANCE * self.seconds + under_way
        };
        missed.then(|| {
            let took = self.seconds;
            format!("{rate} records/s were asked for, but {records} records took {took:.2} s")
        })
    }
}

impl Latency {
    fn flaw(&self) -> Option<&'static str> {
        let total = self.histogram.iter().try_fold(0_u64, |sum, &(_, count)| sum.checked_add(count));
        if self.histogram.is_empty() {
            Some("its histogram is empty")
        } else if !self.histogram.is_sorted_by(|(a, _), (b, _)| a <= b) {
            Some("its histogram does not ascend")
        } else if total != Some(self.count) {
            Some("its histogram does not hold as many latencies as were taken")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{latency, run, scenario};

    #[test]
    fn only_what_depends_on_the_mode_may_be_left_out() {
        let line = r#"{"client":"x","version":"1","mode":"start","records":1,"bytes":116,"errors":0,"seconds":0.1,
            "cpu_user_s":0.01,"cpu_sys_s":0.0,"rss_peak_kib":9,"voluntary_switches":3,"requests":null,"first_ack_us":1500,
            "latency_us":null,"acked_total":1}"#;
        let outcome: Outcome = serde_json::from_str(line).unwrap();
        assert_eq!((outcome.first_ack_us, outcome.acked_total), (Some(1500.0), 1));
        for field in ["\"cpu_user_s\":0.01,", "\"rss_peak_kib\":9,", "\"errors\":0,"] {
            assert!(serde_json::from_str::<Outcome>(&line.replace(field, "")).is_err(), "{field}");
        }
        assert_eq!(outcome.flaw(Mode::Start), None);
        for mode in [Mode::Latency, Mode::Memory, Mode::Produce] {
            assert!(
                Outcome { records: u64::from(mode != Mode::Produce), ..outcome.clone() }.flaw(mode).is_some()
            );
        }
    }

    #[test]
    fn a_histogram_ascends_and_holds_every_latency() {
        let said = r#"{"p50":1,"p99":2.5,"p999":2.5,"max":2.5,"count":7,"histogram":[[1,4],[2.5,3]]}"#;
        let read: Latency = serde_json::from_str(said).unwrap();
        assert_eq!(read, latency(&[(1.0, 4), (2.5, 3)]));
        assert_eq!(read.flaw(), None);
        assert!(Latency { count: 8, ..read }.flaw().is_some());
        assert!(latency(&[]).flaw().is_some());
        assert!(latency(&[(2.0, 1), (1.0, 1)]).flaw().is_some());
        assert!(latency(&[(1.0, u64::MAX), (2.0, 2)]).flaw().is_some());
        assert!(serde_json::from_str::<Latency>(r#"{"p50":1,"count":7}"#).is_err());
    }

    #[test]
    fn a_rate_is_kept_but_for_what_is_still_under_way() {
        let of =
            |records, seconds| Outcome { records, seconds, ..run("start", "ours", 1, 1.0).outcome.unwrap() };
        let rate = scenario("produce-real-rate");
        assert_eq!(of(200_000, 2.03).missed_rate(100_000, &rate), None);
        assert!(of(200_000, 2.2).missed_rate(100_000, &rate).unwrap().contains("200000 records took 2.20 s"));
        assert!(of(190_000, 2.0).missed_rate(100_000, &rate).is_some());
        assert_eq!(of(190_000, 2.0).missed_rate(0, &rate), None);
        let latency = scenario("latency-linger-0");
        assert_eq!(of(300_000, 3.5).missed_rate(100_000, &latency), None);
        assert!(of(290_000, 3.0).missed_rate(100_000, &latency).is_some());
    }

    #[test]
    fn what_was_acknowledged_must_be_in_the_topic() {
        assert_eq!(Failure::of_counts("acknowledged", 5, 5), None);
        let failure = Failure::of_counts("acknowledged", 5, 4).unwrap();
        assert_eq!(failure.kind, FailureKind::Lost);
        assert!(failure.reason.contains("acknowledged 5 records, but 4"));
    }
}
