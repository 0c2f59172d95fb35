//! One driver, once: started on its core, ended when it hangs, and its line read.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::building::Program;
use crate::outcome::{Failure, Outcome};
use crate::scenario::{Mode, Occasion, Scenario};

/// The core that drivers run on.
const DRIVER_CORE: &str = "0";
/// How much of what a failed driver said on stderr is kept.
const TOLD: usize = 400;
/// The exit code of a driver whose client cannot do what is asked, and how the line on stderr begins that says why.
const UNSUPPORTED: (i32, &str) = (3, "unsupported: ");

/// Runs a driver to its end; gives what its line says.
///
/// # Errors
/// It cannot do what is asked, could not be started, hung, failed, lost records, or printed something else.
pub fn drive(program: &Program, scenario: &Scenario, mut occasion: Occasion<'_>) -> Result<Outcome, Failure> {
    let deadline = scenario.deadline(occasion.warmup);
    occasion.epoch_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let mut command = Command::new("taskset");
    command.args(["-c", DRIVER_CORE]).arg(&program.file).args(&program.arguments);
    command.args(scenario.arguments(&occasion));
    let said = run_with_deadline(&mut command, deadline)?;
    let outcome = read_outcome(&said.stdout)?;
    if outcome.errors > 0 {
        let reason = format!("{} records failed: {}", outcome.errors, ending(&said.stderr));
        // What a consumer counts as errors are gaps and repetitions.
        return Err(if scenario.mode == Mode::Consume { Failure::lost(reason) } else { reason.into() });
    }
    if let Some(flaw) = outcome.flaw(scenario.mode) {
        return Err(format!("{flaw}: {}", ending(&said.stderr)).into());
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

fn run_with_deadline(command: &mut Command, deadline: Duration) -> Result<Said, Failure> {
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
        return Err(format!("hung: ended after {} s: {}", deadline.as_secs(), ending(&said)).into());
    };
    let status = child.wait().map_err(|error| error.to_string())?;
    let said = Said { stdout, stderr: stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default() };
    if status.success() {
        return Ok(said);
    }
    let (code, beginning) = UNSUPPORTED;
    let unsupported = said.stderr.lines().find_map(|line| line.strip_prefix(beginning));
    Err(match unsupported.filter(|_| status.code() == Some(code)) {
        Some(what) => Failure::unsupported(what.trim()),
        None => format!("{status}: {}", ending(&said.stderr)).into(),
    })
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
    use crate::outcome::FailureKind;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_driver_that_hangs_is_ended() {
        let failed = run_with_deadline(&mut shell("echo why >&2; exec sleep 60"), Duration::from_millis(200));
        let reason = failed.unwrap_err().reason;
        assert!(reason.contains("hung") && reason.contains("why"), "{reason}");
    }

    #[test]
    fn a_driver_that_fails_says_why() {
        let failure = |script| run_with_deadline(&mut shell(script), Duration::from_secs(10)).unwrap_err();
        let failed = failure("echo reason >&2; exit 3");
        assert_eq!(failed.kind, FailureKind::Failed);
        assert!(failed.reason.contains('3') && failed.reason.contains("reason"), "{failed}");
        assert_eq!(failure("echo 'unsupported: zstd' >&2; exit 1").kind, FailureKind::Failed);
    }

    #[test]
    fn a_driver_that_cannot_do_it_says_what() {
        let script = "echo a warning >&2; echo 'unsupported: zstd' >&2; exit 3";
        let failed = run_with_deadline(&mut shell(script), Duration::from_secs(10)).unwrap_err();
        assert_eq!(failed, Failure::unsupported("zstd"));
    }

    #[test]
    fn exactly_one_line_of_results_is_taken() {
        let line = serde_json::to_string(&Outcome { records: 7, ..Outcome::default() }).unwrap();
        assert_eq!(read_outcome(&format!("{line}\n")).unwrap().records, 7);
        assert!(read_outcome("").is_err());
        assert!(read_outcome("{}\n").is_err());
        assert!(read_outcome(&format!("{line}\n{line}\n")).is_err());
        assert!(read_outcome("listening\n").is_err());
    }
}
