//! What tests of several modules make up: sessions, and runs with figures of their own.

use crate::machine::Disturbance;
use crate::outcome::{Latency, Outcome};
use crate::record::{Participant, Run, Session};
use crate::scenario::Scenario;
use crate::scenarios::{Effort, all};

/// The scenario of that name.
pub(crate) fn scenario(name: &str) -> Scenario {
    let effort = Effort { rounds: 8, seconds: 2.0, quick: false };
    all(effort).into_iter().find(|scenario| scenario.name == name).unwrap()
}

/// A session of that name.
pub(crate) fn session(id: &str) -> Session {
    Session {
        id: id.into(),
        seed: 1,
        quick: false,
        all_clients: true,
        machine: Default::default(),
        commit: "abc".into(),
        brokers: vec!["Apache Kafka 4.3.1".into()],
        clients: vec![
            Participant { name: "ours".into(), left_out: None },
            Participant { name: "java".into(), left_out: Some("mvn is not on this machine".into()) },
        ],
    }
}

/// A run of a million records that took so many CPU seconds, half of them in the kernel.
pub(crate) fn run(name: &str, client: &str, round: u32, cpu: f64) -> Run {
    Run {
        session: "2026-01-01T00-00-00Z".into(),
        scenario: scenario(name),
        round,
        repeated: false,
        client: client.into(),
        rate: 0,
        outcome: Some(Outcome {
            version: format!("{client} 1.0"),
            records: 1_000_000,
            bytes: 116_000_000,
            seconds: 2.0,
            cpu_user_s: cpu / 2.0,
            cpu_sys_s: cpu / 2.0,
            rss_peak_kib: 10_240.0,
            voluntary_switches: 2_000.0,
            acked_total: 1_250_000,
            ..Outcome::default()
        }),
        failure: None,
        produce_requests: Some(5_000),
        disturbance: Disturbance { steal: 0.0, foreign_cores: 0.1, broker_cpu_s: 1.0, wall_s: 3.0 },
        void: None,
    }
}

/// Latencies and how many records had them.
pub(crate) fn latency(histogram: &[(f64, u64)]) -> Latency {
    let count = histogram.iter().fold(0, |sum: u64, &(_, count)| sum.saturating_add(count));
    Latency { count, histogram: histogram.to_vec() }
}
