//! Code generation: `cargo run -p xtask -- generate` writes what kafka-wire takes from Kafka's message schemas.

mod messages;
mod schema;
mod shapes;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use schema::Schemas;

/// The version of Kafka whose schemas are used.
const KAFKA: &str = "4.3.1";

const USAGE: &str = "\
usage: cargo run -p xtask -- generate [--schemas DIR] [--check]

Writes kafka-wire/src/shape_tables.rs and kafka-wire/src/generated/ from Kafka's message schemas.
  --schemas DIR  the folder with the *.json files; without it, Maven fetches them in kafka-clients
  --check        writes nothing, and fails if a file would change";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let mut arguments = arguments.iter().map(String::as_str);
    if arguments.next() != Some("generate") {
        return Err(USAGE.into());
    }
    let (mut directory, mut check) = (None, false);
    while let Some(argument) = arguments.next() {
        match argument {
            "--schemas" => directory = Some(PathBuf::from(arguments.next().ok_or(USAGE)?)),
            "--check" => check = true,
            _ => return Err(USAGE.into()),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask is not inside the workspace")?;
    let directory = match directory {
        Some(directory) => directory,
        None => fetch_schemas(&root.join("target/schemas"))?,
    };
    let schemas = Schemas::read(&directory)?;
    let source = root.join("kafka-wire/src");
    write(&source.join("shape_tables.rs"), &shapes::render(&schemas)?, check)?;
    for (file, text) in messages::render(&schemas)? {
        write(&source.join("generated").join(file), &text, check)?;
    }
    Ok(())
}

/// Lets Maven fetch the jar of Kafka's client, and unpacks the schemas in it.
fn fetch_schemas(target: &Path) -> Result<PathBuf> {
    fs::create_dir_all(target)?;
    let artifact = format!("-Dartifact=org.apache.kafka:kafka-clients:{KAFKA}");
    let output = format!("-DoutputDirectory={}", target.display());
    run_command(Command::new("mvn").args(["-q", "dependency:copy", &artifact, &output]))?;
    let jar = target.join(format!("kafka-clients-{KAFKA}.jar"));
    run_command(Command::new("jar").current_dir(target).arg("xf").arg(jar).arg("common/message"))?;
    Ok(target.join("common/message"))
}

fn run_command(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

fn write(path: &Path, text: &str, check: bool) -> Result<()> {
    let formatted = format(text)?;
    if check {
        let current = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        return if current == formatted {
            Ok(())
        } else {
            Err(format!("{} is not current", path.display()).into())
        };
    }
    fs::create_dir_all(path.parent().ok_or("a file without a folder")?)?;
    Ok(fs::write(path, formatted)?)
}

/// Formats as `cargo fmt` would.
fn format(text: &str) -> Result<String> {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../rustfmt.toml");
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path", config])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    rustfmt.stdin.take().ok_or("rustfmt has no input")?.write_all(text.as_bytes())?;
    let output = rustfmt.wait_with_output()?;
    if output.status.success() { Ok(String::from_utf8(output.stdout)?) } else { Err("rustfmt failed".into()) }
}
