//! Counts what a client does: requests, bytes, connections, throttling; read as a snapshot or as Prometheus text.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kafka_wire::api::Api;

/// The upper bounds of a request's latency classes; one more holds what took longer.
pub const LATENCY_BOUNDS: [Duration; 13] = [
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Kafka numbers its APIs from 0 without large gaps; 4.3 ends below 100.
const APIS: usize = 128;

/// The counters of one client.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: [OnceLock<Box<ApiCounters>>; APIS],
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    connects: AtomicU64,
    failed_connects: AtomicU64,
    disconnects: AtomicU64,
    reauthentications: AtomicU64,
    throttles: AtomicU64,
    throttled_micros: AtomicU64,
}

#[derive(Debug, Default)]
struct ApiCounters {
    answered: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    latency_micros: AtomicU64,
    latencies: [AtomicU64; LATENCY_BOUNDS.len() + 1],
}

/// How a request ended.
pub(crate) enum Outcome {
    Answered { bytes: usize },
    Failed,
    Abandoned,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: [const { OnceLock::new() }; APIS],
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            failed_connects: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
            reauthentications: AtomicU64::new(0),
            throttles: AtomicU64::new(0),
            throttled_micros: AtomicU64::new(0),
        }
    }

    pub(crate) fn request(&self, api: Api, request_bytes: usize, latency: Duration, outcome: Outcome) {
        let Some(slot) = usize::try_from(api.key()).ok().and_then(|key| self.requests.get(key)) else {
            return;
        };
        let counters = slot.get_or_init(Box::default);
        counters.request_bytes.fetch_add(request_bytes as u64, Relaxed);
        match outcome {
            Outcome::Answered { bytes } => {
                counters.answered.fetch_add(1, Relaxed);
                counters.response_bytes.fetch_add(bytes as u64, Relaxed);
                counters.latency_micros.fetch_add(micros(latency), Relaxed);
                let class = LATENCY_BOUNDS.partition_point(|bound| *bound < latency);
                counters.latencies[class].fetch_add(1, Relaxed);
            }
            Outcome::Failed => {
                counters.failed.fetch_add(1, Relaxed);
            }
            Outcome::Abandoned => {
                counters.abandoned.fetch_add(1, Relaxed);
            }
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn connected(&self) {
        self.connects.fetch_add(1, Relaxed);
    }

    pub(crate) fn connect_failed(&self) {
        self.failed_connects.fetch_add(1, Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.disconnects.fetch_add(1, Relaxed);
    }

    pub(crate) fn reauthenticated(&self) {
        self.reauthentications.fetch_add(1, Relaxed);
    }

    pub(crate) fn throttled(&self, duration: Duration) {
        self.throttles.fetch_add(1, Relaxed);
        self.throttled_micros.fetch_add(micros(duration), Relaxed);
    }

    pub(crate) fn snapshot(&self) -> MetricsSnapshot {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        let disconnects = load(&self.disconnects);
        MetricsSnapshot {
            requests: self.requests.iter().enumerate().filter_map(request_snapshot).collect(),
            bytes_sent: load(&self.bytes_sent),
            bytes_received: load(&self.bytes_received),
            connects: load(&self.connects),
            failed_connects: load(&self.failed_connects),
            disconnects,
            reauthentications: load(&self.reauthentications),
            throttles: load(&self.throttles),
            throttled: Duration::from_micros(load(&self.throttled_micros)),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn request_snapshot((key, slot): (usize, &OnceLock<Box<ApiCounters>>)) -> Option<RequestMetrics> {
    let counters = slot.get()?;
    Some(RequestMetrics {
        api: Api::from_key(i16::try_from(key).ok()?)?,
        answered: counters.answered.load(Relaxed),
        failed: counters.failed.load(Relaxed),
        abandoned: counters.abandoned.load(Relaxed),
        request_bytes: counters.request_bytes.load(Relaxed),
        response_bytes: counters.response_bytes.load(Relaxed),
        latency: Duration::from_micros(counters.latency_micros.load(Relaxed)),
        latencies: std::array::from_fn(|class| counters.latencies[class].load(Relaxed)),
    })
}

/// What a client has done since it was built. Every number only grows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// Requests, one entry for each API that was used.
    pub requests: Vec<RequestMetrics>,
    /// Bytes handed to sockets.
    pub bytes_sent: u64,
    /// Bytes read from sockets.
    pub bytes_received: u64,
    /// Connections that became ready.
    pub connects: u64,
    /// Attempts to connect that failed, at any step up to being ready.
    pub failed_connects: u64,
    /// Ready connections that ended, for whatever reason.
    pub disconnects: u64,
    /// Times that an open connection authenticated again before its session ended (KIP-368).
    pub reauthentications: u64,
    /// Answers with which a broker muted its connection (KIP-219).
    pub throttles: u64,
    /// The time brokers asked for in those answers, added up.
    pub throttled: Duration,
}

/// What became of the requests of one API.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestMetrics {
    /// The API.
    pub api: Api,
    /// Requests that were answered, whatever the answer said.
    pub answered: u64,
    /// Requests that failed without an answer.
    pub failed: u64,
    /// Requests whose caller went away before the answer.
    pub abandoned: u64,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
    /// The latency of the answered requests, added up.
    pub latency: Duration,
    /// The answered requests by latency: as many as took at most the bound of [`LATENCY_BOUNDS`] at the same place (and
    /// longer than the one before), and last those that took longer than all.
    pub latencies: [u64; LATENCY_BOUNDS.len() + 1],
}

impl MetricsSnapshot {
    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        self.connects.saturating_sub(self.disconnects)
    }

    /// The requests of one API; `None` if there were none.
    pub fn request(&self, api: Api) -> Option<&RequestMetrics> {
        self.requests.iter().find(|request| request.api == api)
    }

    /// The numbers in Prometheus's text format, names beginning with `kafka_client_`.
    pub fn to_prometheus(&self) -> String {
        let mut out = String::new();
        let single: [(&str, &str, &str, f64); 9] = [
            ("bytes_sent_total", "counter", "Bytes handed to sockets.", self.bytes_sent as f64),
            ("bytes_received_total", "counter", "Bytes read from sockets.", self.bytes_received as f64),
            ("connections", "gauge", "Connections that are open.", self.connections() as f64),
            ("connects_total", "counter", "Connections that became ready.", self.connects as f64),
            (
                "failed_connects_total",
                "counter",
                "Attempts to connect that failed.",
                self.failed_connects as f64,
            ),
            ("disconnects_total", "counter", "Ready connections that ended.", self.disconnects as f64),
            (
                "reauthentications_total",
                "counter",
                "Times that an open connection authenticated again.",
                self.reauthentications as f64,
            ),
            ("throttles_total", "counter", "Answers that muted their connection.", self.throttles as f64),
            ("throttled_seconds_total", "counter", "Time brokers asked for.", self.throttled.as_secs_f64()),
        ];
        for (name, kind, help, value) in single {
            describe(&mut out, name, kind, help);
            let _ = writeln!(out, "kafka_client_{name} {value}");
        }
        describe(&mut out, "requests_total", "counter", "Requests, by how they ended.");
        for request in &self.requests {
            let api = request.api.name();
            for (outcome, count) in
                [("answered", request.answered), ("failed", request.failed), ("abandoned", request.abandoned)]
            {
                let _ = writeln!(
                    out,
                    "kafka_client_requests_total{{api=\"{api}\",outcome=\"{outcome}\"}} {count}"
                );
            }
        }
        type Column = fn(&RequestMetrics) -> u64;
        let columns: [(&str, &str, Column); 2] = [
            ("request_bytes_total", "Bytes of request bodies.", |request| request.request_bytes),
            ("response_bytes_total", "Bytes of response bodies.", |request| request.response_bytes),
        ];
        for (name, help, column) in columns {
            describe(&mut out, name, "counter", help);
            for request in &self.requests {
                let _ = writeln!(
                    out,
                    "kafka_client_{name}{{api=\"{}\"}} {}",
                    request.api.name(),
                    column(request)
                );
            }
        }
        describe(&mut out, "request_seconds", "histogram", "From a request's call to its answer.");
        for request in &self.requests {
            request.write_histogram(&mut out);
        }
        out
    }
}

impl RequestMetrics {
    fn write_histogram(&self, out: &mut String) {
        let api = self.api.name();
        let mut below = 0;
        for (count, bound) in self.latencies.iter().zip(LATENCY_BOUNDS) {
            below += count;
            let bound = bound.as_secs_f64();
            let _ =
                writeln!(out, "kafka_client_request_seconds_bucket{{api=\"{api}\",le=\"{bound}\"}} {below}");
        }
        let all: u64 = self.latencies.iter().sum();
        let _ = writeln!(out, "kafka_client_request_seconds_bucket{{api=\"{api}\",le=\"+Inf\"}} {all}");
        let _ =
            writeln!(out, "kafka_client_request_seconds_sum{{api=\"{api}\"}} {}", self.latency.as_secs_f64());
        let _ = writeln!(out, "kafka_client_request_seconds_count{{api=\"{api}\"}} {all}");
    }
}

fn describe(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP kafka_client_{name} {help}\n# TYPE kafka_client_{name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_holds_what_was_counted() {
        let metrics = Metrics::new();
        metrics.request(Api::Fetch, 10, Duration::from_millis(3), Outcome::Answered { bytes: 100 });
        metrics.request(Api::Fetch, 10, Duration::from_secs(60), Outcome::Answered { bytes: 1 });
        metrics.request(Api::Fetch, 10, Duration::ZERO, Outcome::Failed);
        metrics.request(Api::Metadata, 1, Duration::ZERO, Outcome::Abandoned);
        metrics.connected();
        metrics.connected();
        metrics.disconnected();
        let snapshot = metrics.snapshot();
        let fetch = snapshot.request(Api::Fetch).unwrap();
        assert_eq!(
            (fetch.answered, fetch.failed, fetch.request_bytes, fetch.response_bytes),
            (2, 1, 30, 101)
        );
        assert_eq!(fetch.latency, Duration::from_millis(60_003));
        assert_eq!((fetch.latencies[4], fetch.latencies[LATENCY_BOUNDS.len()]), (1, 1));
        assert_eq!(snapshot.request(Api::Metadata).unwrap().abandoned, 1);
        assert!(snapshot.request(Api::Produce).is_none());
        assert_eq!(snapshot.connections(), 1);
    }

    #[test]
    fn a_latency_on_a_bound_belongs_to_that_bound() {
        let metrics = Metrics::new();
        for bound in LATENCY_BOUNDS {
            metrics.request(Api::Fetch, 0, bound, Outcome::Answered { bytes: 0 });
        }
        let latencies = metrics.snapshot().requests[0].latencies;
        assert_eq!(latencies[..LATENCY_BOUNDS.len()], [1; LATENCY_BOUNDS.len()]);
        assert_eq!(latencies[LATENCY_BOUNDS.len()], 0);
    }

    #[test]
    fn prometheus_text_has_cumulative_buckets_and_every_metric_once() {
        let metrics = Metrics::new();
        for millis in [1, 3, 3, 20_000] {
            metrics.request(Api::Fetch, 7, Duration::from_millis(millis), Outcome::Answered { bytes: 9 });
        }
        metrics.throttled(Duration::from_millis(1_500));
        let text = metrics.snapshot().to_prometheus();
        for line in [
            "kafka_client_request_seconds_bucket{api=\"Fetch\",le=\"0.001\"} 1",
            "kafka_client_request_seconds_bucket{api=\"Fetch\",le=\"0.005\"} 3",
            "kafka_client_request_seconds_bucket{api=\"Fetch\",le=\"5\"} 3",
            "kafka_client_request_seconds_bucket{api=\"Fetch\",le=\"+Inf\"} 4",
            "kafka_client_request_seconds_count{api=\"Fetch\"} 4",
            "kafka_client_request_bytes_total{api=\"Fetch\"} 28",
            "kafka_client_requests_total{api=\"Fetch\",outcome=\"answered\"} 4",
            "kafka_client_throttled_seconds_total 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let mut described = "";
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                described = help.split_once(' ').unwrap().0;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, described);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
                let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
                let suffix = name.strip_prefix(described).unwrap();
                assert!(matches!(suffix, "" | "_bucket" | "_sum" | "_count"), "{line}");
                assert!(labels.ends_with('}') && !labels.contains(['\\', '\n']), "{line}");
            }
        }
        let mut types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = types.len();
        types.dedup();
        assert_eq!((types.len(), all), (13, 13));
    }
}
