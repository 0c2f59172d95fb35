//! The brokers: started on their core, asked how many requests came, and stopped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::building::{Paths, run_quietly};
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
    process: Process,
}

#[derive(Debug)]
enum Process {
    Bundled { child: Child, stdin: ChildStdin, stdout: BufReader<ChildStdout> },
    Real { script: PathBuf, data: PathBuf },
}

impl Broker {
    /// Starts one on its core.
    ///
    /// # Errors
    /// It does not start, for the reason given.
    pub fn start(paths: &Paths, program: &std::path::Path, needs: Needs) -> Result<Self, String> {
        let (process, pids, bootstrap) = match needs.kind {
            BrokerKind::Real => start_real(paths, needs.brokers)?,
            BrokerKind::Bundled | BrokerKind::Null => start_bundled(program, &needs.arguments)?,
        };
        let topics = Topics::connect(&bootstrap)?;
        if needs.kind == BrokerKind::Real {
            topics.free_soon(needs.brokers)?;
        }
        Ok(Self { needs, bootstrap, topics, pids, process })
    }

    /// Whether it is such a one.
    pub fn meets(&self, needs: &Needs) -> bool {
        self.needs == *needs
    }

    /// How many produce requests have come so far; `None` where nobody counts them.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn produce_requests(&mut self) -> Result<Option<u64>, String> {
        let Process::Bundled { stdin, stdout, .. } = &mut self.process else { return Ok(None) };
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

impl Drop for Broker {
    fn drop(&mut self) {
        match &mut self.process {
            Process::Bundled { child, .. } => {
                // Both fail only when it has ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
            Process::Real { script, data } => {
                if let Err(error) = run_quietly(Command::new(&*script).arg("stop").arg("--dir").arg(&*data)) {
                    eprintln!("Apache Kafka was not stopped: {error}");
                }
                if let Err(error) = fs::remove_dir_all(&*data) {
                    eprintln!("{} could not be removed: {error}", data.display());
                }
            }
        }
    }
}

type Started = (Process, Vec<u32>, String);

fn start_bundled(program: &std::path::Path, arguments: &[String]) -> Result<Started, String> {
    let mut child = Command::new("taskset")
        .args(["-c", BROKER_CORE])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the broker has no pipes".into());
    };
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line).map_err(|error| error.to_string())?;
    let Some(bootstrap) = line.trim().strip_prefix("listening on ") else {
        let status = child.wait().map_err(|error| error.to_string())?;
        return Err(format!("the broker did not start: {status} {line}"));
    };
    // `taskset` becomes the program, so this is its process.
    let pids = vec![child.id()];
    Ok((Process::Bundled { child, stdin, stdout }, pids, bootstrap.to_owned()))
}

fn kafka_script(paths: &Paths) -> PathBuf {
    paths.repository.join("tests/interop/apache-kafka/kafka.sh")
}

fn start_real(paths: &Paths, brokers: u16) -> Result<Started, String> {
    let (script, data) = (kafka_script(paths), paths.kafka_data());
    let said = run_quietly(
        Command::new("taskset")
            .args(["-c", BROKER_CORE])
            .arg(&script)
            .args(["start", "--nodes", &brokers.to_string(), "--dir"])
            .arg(&data),
    )?;
    let bootstrap = said
        .lines()
        .find_map(|line| line.strip_prefix("KAFKA_BOOTSTRAP="))
        .ok_or_else(|| format!("{} told no address", script.display()))?;
    let pids =
        fs::read_to_string(data.join("pids")).map_err(|error| format!("pids of Apache Kafka: {error}"))?;
    let pids = pids.lines().filter_map(|line| line.trim().parse().ok()).collect();
    Ok((Process::Real { script, data }, pids, bootstrap.to_owned()))
}

/// The version of Apache Kafka that is started here; fetches it if need be.
///
/// # Errors
/// It cannot be fetched, or Java is not on this machine.
pub fn real_version(paths: &Paths) -> Result<String, String> {
    let libs = run_quietly(Command::new(kafka_script(paths)).arg("libs"))?;
    Ok(libs.trim().rsplit_once("libs-").map_or("of unknown version", |(_, version)| version).to_owned())
}
