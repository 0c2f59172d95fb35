//! What the machine is, and what else it did during a run: time stolen from it, and the load of other processes.

use std::fs;

use serde::{Deserialize, Serialize};

/// Ticks of the kernel's CPU accounting in a second, as every Linux reports them to programs.
const TICKS: f64 = 100.0;

/// The machine that was measured on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// How many cores there are.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Memory in GiB.
    pub memory_gib: u64,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpus = text("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kib = field(&text("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            cpu: field(&cpus, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_gib: kib.unwrap_or(0) / (1024 * 1024),
        }
    }
}

/// The machine's CPU time since it started, in ticks of all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct CpuTime {
    /// Spent on processes.
    busy: f64,
    /// Kept from this machine by its host.
    stolen: f64,
    /// All there was.
    total: f64,
}

/// Reads the first line of `/proc/stat`.
fn parse_stat(text: &str) -> Option<CpuTime> {
    let fields: Vec<f64> = text
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map(|field| field.parse().ok())
        .collect::<Option<_>>()?;
    let at = |index: usize| fields.get(index).copied();
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let (user, nice, system, stolen) = (at(0)?, at(1)?, at(2)?, at(7)?);
    Some(CpuTime { busy: user + nice + system, stolen, total: fields.iter().take(8).sum() })
}

/// The CPU time of a process from its `/proc/PID/stat`, in ticks; with that of its finished children.
fn parse_process(text: &str) -> Option<f64> {
    // The name may hold spaces and brackets, so what is counted begins behind its last bracket.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let at = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(at(11)? + at(12)? + at(13)? + at(14)?)
}

fn process_ticks(pid: u32) -> f64 {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| parse_process(&text)).unwrap_or(0.0)
}

/// Whether a process is there and has not ended; one that has ended stays in sight until its parent asks for it.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X"))
}

/// The machine at one moment.
#[derive(Clone, Debug)]
pub struct Moment {
    machine: CpuTime,
    /// The harness with the drivers that have ended.
    own: f64,
    brokers: f64,
}

/// What happened on the machine between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disturbance {
    /// The share of the CPU time that the host kept.
    pub steal: f64,
    /// How many cores other processes used.
    pub foreign_cores: f64,
    /// CPU seconds of the brokers.
    pub broker_cpu_s: f64,
    /// How long it was, in seconds.
    pub wall_s: f64,
}

impl Moment {
    /// Now, with brokers of these process ids.
    pub fn now(brokers: &[u32]) -> Self {
        let machine =
            fs::read_to_string("/proc/stat").ok().and_then(|text| parse_stat(&text)).unwrap_or_default();
        Self {
            machine,
            own: process_ticks(std::process::id()),
            brokers: brokers.iter().copied().map(process_ticks).sum(),
        }
    }

    /// What happened from then until `later`; `cores` is how many the machine has.
    pub fn until(&self, later: &Self, cores: usize) -> Disturbance {
        let total = later.machine.total - self.machine.total;
        if total <= 0.0 {
            return Disturbance::default();
        }
        let wall = total / cores.max(1) as f64;
        let brokers = later.brokers - self.brokers;
        let foreign = later.machine.busy - self.machine.busy - (later.own - self.own) - brokers;
        Disturbance {
            steal: (later.machine.stolen - self.machine.stolen) / total,
            foreign_cores: (foreign / wall).max(0.0),
            broker_cpu_s: brokers / TICKS,
            wall_s: wall / TICKS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_whole_machine_is_read() {
        let text = "cpu  100 5 50 800 10 3 2 30 7 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        assert_eq!(parse_stat(text), Some(CpuTime { busy: 155.0, stolen: 30.0, total: 1000.0 }));
        assert_eq!(parse_stat("intr 5"), None);
    }

    #[test]
    fn a_process_with_brackets_in_its_name_is_read() {
        let text = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0";
        assert_eq!(parse_process(text), Some(127.0));
    }

    #[test]
    fn foreign_load_is_what_neither_driver_nor_broker_used() {
        let at = |busy, stolen, total, own, brokers| Moment {
            machine: CpuTime { busy, stolen, total },
            own,
            brokers,
        };
        let before = at(1000.0, 10.0, 4000.0, 50.0, 500.0);
        let after = at(1350.0, 30.0, 4400.0, 150.0, 650.0);
        let between = before.until(&after, 2);
        assert_eq!(between, Disturbance { steal: 0.05, foreign_cores: 0.5, broker_cpu_s: 1.5, wall_s: 2.0 });
        assert_eq!(before.until(&before, 2), Disturbance::default());
    }

    #[test]
    fn a_process_that_has_ended_does_not_run() {
        assert!(is_running(std::process::id()));
        let mut child =
            std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        // Its end of the pipe closes as it ends.
        std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut Vec::new()).unwrap();
        let ended = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !is_running(child.id())
        });
        assert!(ended);
        child.wait().unwrap();
        assert!(!is_running(child.id()));
    }

    #[test]
    fn this_machine_has_cores_and_time() {
        assert!(Machine::this().cores > 0);
        assert!(Moment::now(&[]).machine.total > 0.0);
    }
}
