//! The brokers: started on their core, asked how many requests came, and stopped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::building::{Paths, run_quietly};
use crate::machine::is_running;
use crate::scenario::{BrokerKind, Scenario};
use crate::topics::Topics;

/// The core that brokers run on.
const BROKER_CORE: &str = "1";
/// What a record has in a batch beside its key and value, about.
const RECORD_OVERHEAD: u32 = 10;

/// What a broker must be like; scenarios that need the same share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    kind: BrokerKind,
    brokers: u16,
    /// What the bundled broker is told.
    arguments: Vec<String>,
}

impl Needs {
    /// Those of the scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let mut arguments = Vec::new();
        let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        option("port", "0".into());
        option("brokers", scenario.brokers.to_string());
        option("config", "auto.create.topics.enable=false".into());
        if scenario.broker == BrokerKind::Null {
            let record = scenario.size + scenario.key + RECORD_OVERHEAD;
            option("null-records", (scenario.batch_bytes / record).max(1).to_string());
            option("null-size", scenario.size.to_string());
            option("null-key", scenario.key.to_string());
            option("null-codec", scenario.codec.word().into());
            arguments.push("--null".into());
        }
        if scenario.broker == BrokerKind::Real {
            arguments.clear();
        }
        Self { kind: scenario.broker, brokers: scenario.brokers, arguments }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Broker {
    needs: Needs,
    /// Where it listens.
    pub bootstrap: String,
    /// What is asked of it about topics.
    pub topics: Topics,
    /// Its processes.
    pub pids: Vec<u32>,
    // Behind the topics, whose client goes before what it is connected to.
    process: Process,
}

/// What was started, and is stopped with it: made before anything else can fail, so that no broker is left behind on its core.
#[derive(Debug)]
enum Process {
    Bundled { child: Child, pipes: Option<(ChildStdin, BufReader<ChildStdout>)> },
    Real { script: PathBuf, data: PathBuf },
}

impl Broker {
    /// Starts one on its core.
    ///
    /// # Errors
    /// It does not start, for the reason given; nothing of it runs on then.
    pub fn start(paths: &Paths, program: &Path, needs: Needs) -> Result<Self, String> {
        let mut process = match needs.kind {
            BrokerKind::Real => Process::Real { script: kafka_script(paths), data: paths.kafka_data() },
            BrokerKind::Bundled | BrokerKind::Null => Process::bundled(program, &needs.arguments)?,
        };
        let (bootstrap, pids) = process.listening(needs.brokers)?;
        let topics = Topics::connect(&bootstrap)?;
        if needs.kind == BrokerKind::Real {
            topics.free_soon(needs.brokers)?;
        }
        Ok(Self { needs, bootstrap, topics, pids, process })
    }

    /// Whether it is such a one, and still runs.
    pub fn meets(&self, needs: &Needs) -> bool {
        self.needs == *needs && self.pids.iter().all(|&pid| is_running(pid))
    }

    /// How many produce requests have come so far; `None` where nobody counts them.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn produce_requests(&mut self) -> Result<Option<u64>, String> {
        let Process::Bundled { pipes: Some((stdin, stdout)), .. } = &mut self.process else {
            return Ok(None);
        };
        let mut line = String::new();
        stdin
            .write_all(b"requests\n")
            .and_then(|()| stdin.flush())
            .and_then(|()| stdout.read_line(&mut line))
            .map_err(|error| format!("the broker does not tell its requests: {error}"))?;
        let counts: BTreeMap<String, u64> = serde_json::from_str(&line)
            .map_err(|error| format!("the broker tells no requests but {line:?}: {error}"))?;
        Ok(Some(counts.get("Produce").copied().unwrap_or(0)))
    }
}

impl Process {
    fn bundled(program: &Path, arguments: &[String]) -> Result<Self, String> {
        let mut child = Command::new("taskset")
            .args(["-c", BROKER_CORE])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let pipes = child.stdin.take().zip(child.stdout.take().map(BufReader::new));
        Ok(Self::Bundled { child, pipes })
    }

    /// Waits until it listens; gives where, and its processes. Apache Kafka is only started by that.
    fn listening(&mut self, brokers: u16) -> Result<(String, Vec<u32>), String> {
        match self {
            Process::Bundled { child, pipes } => {
                let (_, stdout) = pipes.as_mut().ok_or("the broker has no pipes")?;
                let mut line = String::new();
                stdout.read_line(&mut line).map_err(|error| error.to_string())?;
                let bootstrap = line.trim().strip_prefix("listening on ");
                let bootstrap = bootstrap.ok_or_else(|| format!("the broker did not start: {line}"))?;
                // `taskset` becomes the program, so this is its process.
                Ok((bootstrap.to_owned(), vec![child.id()]))
            }
            Process::Real { script, data } => {
                let said = run_quietly(
                    Command::new("taskset")
                        .args(["-c", BROKER_CORE])
                        .arg(&*script)
                        .args(["start", "--nodes", &brokers.to_string(), "--dir"])
                        .arg(&*data),
                )?;
                let bootstrap = said
                    .lines()
                    .find_map(|line| line.strip_prefix("KAFKA_BOOTSTRAP="))
                    .ok_or_else(|| format!("{} told no address", script.display()))?;
                let pids = fs::read_to_string(data.join("pids"))
                    .map_err(|error| format!("pids of Apache Kafka: {error}"))?;
                let pids = pids.lines().filter_map(|line| line.trim().parse().ok()).collect();
                Ok((bootstrap.to_owned(), pids))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        match self {
            Process::Bundled { child, .. } => {
                // Both fail only when it has ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
            Process::Real { script, data } => {
                if let Err(error) = run_quietly(Command::new(&*script).arg("stop").arg("--dir").arg(&*data)) {
                    eprintln!("Apache Kafka was not stopped: {error}");
                }
                match fs::remove_dir_all(&*data) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        eprintln!("{} could not be removed: {error}", data.display());
                    }
                    _ => {}
                }
            }
        }
    }
}

fn kafka_script(paths: &Paths) -> PathBuf {
    paths.repository.join("tests/interop/apache-kafka/kafka.sh")
}

/// The version of Apache Kafka that is started here; fetches it if need be.
///
/// # Errors
/// It cannot be fetched, or Java is not on this machine.
pub fn real_version(paths: &Paths) -> Result<String, String> {
    let libs = run_quietly(Command::new(kafka_script(paths)).arg("libs"))?;
    Ok(libs.trim().rsplit_once("libs-").map_or("of unknown version", |(_, version)| version).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scenario;

    /// A shell in the place of the bundled broker; gives its process too.
    fn started(script: &str) -> (Process, u32) {
        let process = Process::bundled(Path::new("sh"), &["-c".into(), script.into()]).unwrap();
        let Process::Bundled { child, .. } = &process else { panic!("not bundled") };
        let pid = child.id();
        (process, pid)
    }

    #[test]
    fn a_broker_is_stopped_with_its_owner_and_known_to_run_until_then() {
        let (mut process, pid) = started("echo listening on here:1; exec sleep 60");
        assert_eq!(process.listening(1), Ok(("here:1".to_owned(), vec![pid])));
        assert!(is_running(pid));
        drop(process);
        assert!(!is_running(pid));
    }

    #[test]
    fn a_broker_that_does_not_listen_is_no_broker() {
        let (mut process, pid) = started("echo no port; exec sleep 60");
        assert!(process.listening(1).unwrap_err().contains("no port"));
        drop(process);
        assert!(!is_running(pid));
        let nowhere = Path::new("/nowhere/kafka-broker");
        let needs = Needs::of(&scenario("produce-null"));
        assert!(Broker::start(&Paths::of_checkout(), nowhere, needs).is_err());
    }
}
