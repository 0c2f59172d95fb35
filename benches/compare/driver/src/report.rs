//! The line of results, and the errors counted on the way to it.

use std::fmt::Display;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::Result;
use crate::options::Options;
use crate::usage::{self, Used};

/// What one run has measured; the README says what each field means.
#[derive(Debug, Serialize)]
pub struct Report {
    client: String,
    version: String,
    mode: &'static str,
    /// Records acknowledged or consumed in the window.
    pub records: u64,
    /// Their keys and values.
    pub bytes: u64,
    /// Records that failed, in the warm-up too.
    pub errors: u64,
    seconds: f64,
    cpu_user_s: f64,
    cpu_sys_s: f64,
    rss_peak_kib: u64,
    voluntary_switches: i64,
    /// Requests sent in the window, where the client counts them.
    pub requests: Option<u64>,
    /// From the start of the process to the first acknowledgement.
    pub first_ack_us: Option<u64>,
    /// From schedule to acknowledgement.
    pub latency_us: Option<Latency>,
    /// Records acknowledged or consumed, warm-up included.
    pub acked_total: u64,
    /// What many partitions cost.
    pub memory: Option<Memory>,
}

/// Quantiles in µs, and what they come from.
#[derive(Debug, Serialize)]
pub struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
    count: u64,
    /// Values in µs, right to a hundredth, in ascending order, with their counts: to be added to those of other runs.
    histogram: Vec<(f64, u64)>,
}

/// Resident memory in KiB.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// With the topic known, before anything but one record was written.
    pub idle_rss_kib: u64,
    /// After one record to each partition.
    pub written_rss_kib: u64,
}

impl Report {
    /// Takes the last readings: call it while the client still lives.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(options: &Options, version: String, used: Used) -> Result<Self> {
        Ok(Self {
            client: options.client.clone(),
            version,
            mode: options.mode.name(),
            records: 0,
            bytes: 0,
            errors: 0,
            seconds: used.seconds,
            cpu_user_s: used.cpu_user_s,
            cpu_sys_s: used.cpu_sys_s,
            rss_peak_kib: usage::peak_rss_kib()?,
            voluntary_switches: used.voluntary_switches,
            requests: None,
            first_ack_us: None,
            latency_us: None,
            acked_total: 0,
            memory: None,
        })
    }
}

impl Latency {
    /// Quantiles of a histogram of ns.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50: us(0.5),
            p99: us(0.99),
            p999: us(0.999),
            max: histogram.max() as f64 / 1e3,
            count: histogram.len(),
            histogram: histogram
                .iter_recorded()
                .map(|step| (step.value_iterated_to() as f64 / 1e3, step.count_at_value()))
                .collect(),
        }
    }
}

/// Counts what was acknowledged and what failed; tells the first few failures on stderr.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcomes {
    /// Records acknowledged.
    pub acked: u64,
    /// Records that failed.
    pub failed: u64,
}

impl Outcomes {
    /// Counts one record's outcome.
    #[inline]
    pub fn count<T, E: Display>(&mut self, outcome: std::result::Result<T, E>) {
        match outcome {
            Ok(_) => self.acked += 1,
            Err(error) => {
                self.failed += 1;
                if self.failed <= 3 {
                    eprintln!("error: {error}");
                }
            }
        }
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: Self) {
        self.acked += other.acked;
        self.failed += other.failed;
    }
}
