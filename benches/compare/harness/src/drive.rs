//! One driver, once: started on its core, ended when it hangs, and its line read.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::building::Program;
use crate::record::Outcome;
use crate::scenario::{Mode, Occasion, Scenario};

/// The core that drivers run on.
const DRIVER_CORE: &str = "0";
/// How much of what a failed driver said on stderr is kept.
const TOLD: usize = 400;

/// Runs a driver to its end; gives what its line says.
///
/// # Errors
/// It could not be started, hung, failed, lost records, or printed something else.
pub fn drive(program: &Program, scenario: &Scenario, mut occasion: Occasion<'_>) -> Result<Outcome, String> {
    let deadline = scenario.deadline(occasion.warmup);
    occasion.epoch_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let mut command = Command::new("taskset");
    command.args(["-c", DRIVER_CORE]).arg(&program.file).args(&program.arguments);
    command.args(scenario.arguments(&occasion));
    let said = run_with_deadline(&mut command, deadline)?;
    let outcome = read_outcome(&said.stdout)?;
    if outcome.records == 0 && matches!(scenario.mode, Mode::Produce | Mode::Latency | Mode::Consume) {
        return Err(format!("no record came in its window: {}", ending(&said.stderr)));
    }
    if outcome.errors > 0 {
        return Err(format!("{} records failed: {}", outcome.errors, ending(&said.stderr)));
    }
    Ok(outcome)
}

/// The one line of JSON that a driver prints.
fn read_outcome(stdout: &str) -> Result<Outcome, String> {
    let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
    match (lines.next(), lines.next()) {
        (Some(line), None) => {
            serde_json::from_str(line).map_err(|error| format!("its line is no result: {error}"))
        }
        (None, _) => Err("it printed nothing".into()),
        (Some(_), Some(_)) => Err("it printed more than one line".into()),
    }
}

#[derive(Debug)]
struct Said {
    stdout: String,
    stderr: String,
}

fn run_with_deadline(command: &mut Command, deadline: Duration) -> Result<Said, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let (stdout, stderr) = (read_aside(child.stdout.take()), read_aside(child.stderr.take()));
    // A process that ends closes its stdout; nothing else here has to be watched for that.
    let Ok(stdout) = stdout.recv_timeout(deadline) else {
        end(&mut child);
        let said = stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        return Err(format!("hung: ended after {} s: {}", deadline.as_secs(), ending(&said)));
    };
    let status = child.wait().map_err(|error| error.to_string())?;
    let said = Said { stdout, stderr: stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default() };
    if status.success() { Ok(said) } else { Err(format!("{status}: {}", ending(&said.stderr))) }
}

/// Reads a pipe to its end on a thread of its own, so that no pipe fills up while another is waited for.
fn read_aside(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (read, all) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is all there is to tell.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = read.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    all
}

fn end(child: &mut Child) {
    // Both fail only when it has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// The end of what was said, on one line.
fn ending(text: &str) -> String {
    let text = text.trim();
    let from = text.char_indices().rev().nth(TOLD).map_or(0, |(index, _)| index);
    text.get(from..).unwrap_or(text).replace('\n', " | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_driver_that_hangs_is_ended() {
        let failed = run_with_deadline(&mut shell("echo why >&2; exec sleep 60"), Duration::from_millis(200));
        let reason = failed.unwrap_err();
        assert!(reason.contains("hung") && reason.contains("why"), "{reason}");
    }

    #[test]
    fn a_driver_that_fails_says_why() {
        let reason =
            run_with_deadline(&mut shell("echo reason >&2; exit 3"), Duration::from_secs(10)).unwrap_err();
        assert!(reason.contains('3') && reason.contains("reason"), "{reason}");
    }

    #[test]
    fn exactly_one_line_of_results_is_taken() {
        assert_eq!(read_outcome("{\"records\": 7}\n").unwrap().records, 7);
        assert!(read_outcome("").is_err());
        assert!(read_outcome("{}\n{}\n").is_err());
        assert!(read_outcome("listening\n").is_err());
    }
}
