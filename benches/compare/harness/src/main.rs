//! `compare`: our clients beside every other, on the same work in the same run.

mod broker;
mod building;
mod chapters;
mod clients;
mod drive;
mod failures;
mod goals;
mod growth;
mod judge;
mod latest;
mod machine;
mod matrix;
mod metric;
mod nowhere;
mod outcome;
mod plot;
mod plots;
mod record;
mod report;
mod scenario;
mod scenarios;
mod schedule;
mod session;
mod stage;
mod stats;
mod table;
#[cfg(test)]
mod testing;
mod topics;
mod verdicts;

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::{Args, Parser, Subcommand};

use self::building::{Built, Paths, Program, build_broker, build_clients, run_quietly};
use self::clients::{CLIENTS, Client, EMPTY, OURS, OURS_AGAIN};
use self::latest::latest_by_scenario;
use self::machine::Machine;
use self::outcome::FailureKind;
use self::record::{Participant, Recorded, Recorder, Session, read_all};
use self::report::Report;
use self::scenario::{BrokerKind, Scenario};
use self::scenarios::Effort;
use self::session::{Conductor, Workshop};

/// Compares Kafka clients: builds every client and the brokers, runs them side by side, and reports.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure; every run is recorded at once, so that one that is cut off loses nothing
    Run(RunArguments),
    /// Render benches/RESULTS.md and the plots of the newest runs of each scenario, and print it
    Report,
    /// List the scenarios
    List(Choice),
}

#[derive(Debug, Args)]
struct Choice {
    /// Scenarios to run, by name, by group (goals, tables, growth), or by how their names begin, as in `consume*`
    #[arg(long, value_name = "SCENARIO", num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds of the scenarios that goals rest on; the first is dropped
    #[arg(long, default_value_t = 8)]
    rounds: u32,
    /// Seconds of their measured windows
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Three short rounds of everything, to see that it works
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    choice: Choice,
    /// Clients to run, all by default; what judging needs comes along
    #[arg(long, value_name = "CLIENT", value_delimiter = ',')]
    clients: Vec<String>,
    /// Take clients and brokers as they were built before, and build only what is not there
    #[arg(long)]
    as_built: bool,
    /// What the order of the clients comes from; random by default
    #[arg(long)]
    seed: Option<u64>,
}

impl Choice {
    fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        let all = scenarios::all(Effort { rounds: self.rounds, seconds: self.seconds, quick: self.quick });
        let named = |word: &str, scenario: &Scenario| match word.strip_suffix('*') {
            Some(beginning) => scenario.name.starts_with(beginning),
            None => scenario.name == word || scenario.group.word() == word,
        };
        if let Some(unknown) = self.only.iter().find(|word| !all.iter().any(|scenario| named(word, scenario)))
        {
            return Err(format!("no scenario is called {unknown}; `compare list` tells them all"));
        }
        let wanted =
            |scenario: &Scenario| self.only.is_empty() || self.only.iter().any(|word| named(word, scenario));
        Ok(all.into_iter().filter(wanted).collect())
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Run(arguments) => run(&arguments),
        Task::Report => report(),
        Task::List(choice) => list(&choice),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("compare: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn list(choice: &Choice) -> Result<bool, String> {
    for scenario in choice.scenarios()? {
        println!(
            "{:28} {:7} {} rounds: {}",
            scenario.name,
            scenario.group.word(),
            scenario.rounds,
            scenario.description()
        );
    }
    Ok(true)
}

fn chosen_clients(names: &[String]) -> Result<Vec<&'static Client>, String> {
    if let Some(unknown) = names.iter().find(|name| clients::find(name).is_none()) {
        let known: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
        return Err(format!("no client is called {unknown}; there are {}", known.join(", ")));
    }
    let judging = [OURS, OURS_AGAIN, EMPTY];
    let wanted = |client: &&Client| {
        names.is_empty() || judging.contains(&client.name) || names.iter().any(|name| name == client.name)
    };
    Ok(CLIENTS.iter().filter(wanted).collect())
}

/// Measures; tells whether everything that was written arrived.
fn run(arguments: &RunArguments) -> Result<bool, String> {
    let paths = Paths::of_checkout();
    let scenarios = arguments.choice.scenarios()?;
    let clients = build_clients(&paths, &chosen_clients(&arguments.clients)?, arguments.as_built);
    let filler = filler(&clients)?;
    let workshop = Workshop { broker: build_broker(&paths, arguments.as_built)?, clients, filler, paths };
    let session = session(arguments, &workshop, &scenarios)?;
    let minutes = schedule::expected_seconds(&workshop.clients, &scenarios) / 60.0;
    eprintln!(
        "session {}, seed {}: {} scenarios, about {minutes:.0} min",
        session.id,
        session.seed,
        scenarios.len()
    );
    let recorder = Recorder::begin(&workshop.paths.results(), &session).map_err(|error| error.to_string())?;
    let began = Instant::now();
    let mut conductor = Conductor::new(&workshop, &session, recorder);
    for (index, scenario) in scenarios.iter().enumerate() {
        eprintln!(
            "[{}/{}, {:.0} min] {}",
            index + 1,
            scenarios.len(),
            began.elapsed().as_secs_f64() / 60.0,
            scenario.description()
        );
        conductor.run_scenario(scenario)?;
    }
    let runs = std::mem::take(&mut conductor.runs);
    // Stops the broker, before anything else is done.
    drop(conductor);
    let lost: Vec<String> = runs
        .iter()
        .filter(|run| run.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Lost))
        .map(|run| run.client.clone())
        .collect();
    let recorded = [Recorded { session, runs }];
    println!("{}", Report::new(&latest_by_scenario(&recorded)).markdown(&[]));
    if !lost.is_empty() {
        eprintln!("MISMATCH between what was acknowledged and what is there, in runs of {}", lost.join(", "));
    }
    Ok(lost.is_empty())
}

/// Our own driver, which fills topics: nothing can be compared without.
fn filler(clients: &[Built]) -> Result<Program, String> {
    let ours =
        clients.iter().find(|built| built.client.name == OURS).ok_or("our own client is not among them")?;
    ours.program.clone()
}

fn session(arguments: &RunArguments, workshop: &Workshop, scenarios: &[Scenario]) -> Result<Session, String> {
    let ask = |program: &str, arguments: &[&str]| {
        let said = run_quietly(Command::new(program).args(arguments).current_dir(&workshop.paths.repository));
        said.map(|said| said.trim().to_owned())
    };
    let mut brokers = Vec::new();
    if scenarios.iter().any(|scenario| scenario.broker == BrokerKind::Real) {
        eprintln!("fetching Apache Kafka");
        brokers.push(match broker::real_version(&workshop.paths) {
            Ok(version) => format!("Apache Kafka {version}"),
            Err(reason) => format!("no Apache Kafka: {reason}"),
        });
    }
    brokers.push(ask(&workshop.broker.to_string_lossy(), &["--version"])?);
    let participant = |built: &Built| Participant {
        name: built.client.name.to_owned(),
        left_out: built.program.clone().err(),
    };
    Ok(Session {
        id: ask("date", &["-u", "+%Y-%m-%dT%H-%M-%SZ"])?,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        quick: arguments.choice.quick,
        all_clients: arguments.clients.is_empty(),
        machine: Machine::this(),
        commit: ask("git", &["describe", "--always", "--dirty"]).unwrap_or_else(|_| "unknown".into()),
        brokers,
        clients: workshop.clients.iter().map(participant).collect(),
    })
}

/// Renders what was recorded.
fn report() -> Result<bool, String> {
    let paths = Paths::of_checkout();
    let sessions = read_all(&paths.results()).map_err(|error| error.to_string())?;
    let latest = latest_by_scenario(&sessions);
    let report = Report::new(&latest);
    let plots = plots::all(&report);
    let folder = paths.benches().join("plots");
    let write = |path: &std::path::Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, svg) in &plots {
        write(&folder.join(format!("{name}.svg")), svg)?;
    }
    let text = report.markdown(&plots.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    write(&paths.benches().join("RESULTS.md"), &text)?;
    println!("{text}");
    Ok(true)
}
