//! Where things are in the checkout, and the builds of the bundled broker and of the clients' drivers.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::Client;

/// How much of a failed build's output is told.
const TOLD_LINES: usize = 12;

/// The places of the checkout.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The repository.
    pub repository: PathBuf,
    /// `benches/compare`.
    pub compare: PathBuf,
}

impl Paths {
    /// Those of the checkout that this program was built from.
    pub fn of_checkout() -> Self {
        let compare = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let compare = compare.canonicalize().unwrap_or(compare);
        Self {
            repository: compare.join("../..").canonicalize().unwrap_or_else(|_| compare.join("../..")),
            compare,
        }
    }

    /// Where raw results are.
    pub fn results(&self) -> PathBuf {
        self.compare.join("results")
    }

    /// The folder of the report and the plots.
    pub fn benches(&self) -> PathBuf {
        self.repository.join("benches")
    }

    /// What the real broker keeps: in memory where that is to be had, as writing to a disk takes memory bandwidth from whoever
    /// is measured, now and then.
    pub fn kafka_data(&self) -> PathBuf {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            memory.join("compare-apache-kafka")
        } else {
            self.compare.join("target/apache-kafka")
        }
    }
}

/// How a driver is started: without a shell or a script between, whose time would count as the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file, or a name to look for on the path.
    pub file: PathBuf,
    /// What comes before the driver's own arguments.
    pub arguments: Vec<String>,
}

impl From<PathBuf> for Program {
    fn from(file: PathBuf) -> Self {
        Self { file, arguments: Vec::new() }
    }
}

/// A client whose driver is ready, or why it is not.
#[derive(Clone, Debug)]
pub struct Built {
    /// The client.
    pub client: &'static Client,
    /// The program, or what stood in the way.
    pub program: Result<Program, String>,
}

/// Builds each client by itself, and tells at once of one that cannot be built. What was built before is taken `as_built`.
pub fn build_clients(paths: &Paths, clients: &[&'static Client], as_built: bool) -> Vec<Built> {
    clients
        .iter()
        .map(|&client| {
            let known = if as_built { client.as_built(paths) } else { None };
            let program = known.map_or_else(
                || {
                    eprintln!("building {}", client.name);
                    client.build(paths)
                },
                Ok,
            );
            if let Err(reason) = &program {
                eprintln!("LEFT OUT: {} cannot be built: {reason}", client.name);
            }
            Built { client, program }
        })
        .collect()
}

/// Builds the bundled broker, unless it was built before and is taken `as_built`; gives its program.
///
/// # Errors
/// What the build said last.
pub fn build_broker(paths: &Paths, as_built: bool) -> Result<PathBuf, String> {
    let program = paths.repository.join("target/release/kafka-broker");
    if as_built && program.exists() {
        return Ok(program);
    }
    eprintln!("building kafka-broker");
    run_quietly(
        Command::new("nice")
            .args(["cargo", "build", "--release", "--locked", "-p", "kafka-broker", "--features", "zstd"])
            .current_dir(&paths.repository),
    )?;
    Ok(program)
}

/// Runs a command to its end without showing what it says, unless it fails.
///
/// # Errors
/// Its last lines, or why it could not be started.
pub fn run_quietly(command: &mut Command) -> Result<String, String> {
    // Where the caller's own build goes is no matter of what is built here.
    command.env_remove("CARGO_TARGET_DIR");
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error")).collect();
    let told: Vec<&str> = if errors.is_empty() { said.lines().collect() } else { errors };
    let from = told.len().saturating_sub(TOLD_LINES);
    Err(told.get(from..).unwrap_or_default().join("\n"))
}
