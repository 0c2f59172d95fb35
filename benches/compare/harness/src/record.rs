//! The raw results: one JSON line for each session and each run, appended at once, and read back by session.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::{Disturbance, Machine};
use crate::outcome::{Failure, Outcome};
use crate::scenario::Scenario;

/// A client that was to take part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Participant {
    /// Its name.
    pub name: String,
    /// Why it did not, if so.
    pub left_out: Option<String>,
}

/// One call of `compare run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its name, which sorts by time: when it began, in UTC.
    pub id: String,
    /// What its random order came from.
    pub seed: u64,
    /// Whether it was only a check.
    pub quick: bool,
    /// Whether every client was asked for; some may have been left out for all that, or the session cut off.
    pub all_clients: bool,
    /// Where it ran.
    pub machine: Machine,
    /// The commit that was measured.
    pub commit: String,
    /// The brokers' versions.
    pub brokers: Vec<String>,
    /// The clients that were asked for.
    pub clients: Vec<Participant>,
}

/// One driver, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The session.
    pub session: String,
    /// What was asked.
    pub scenario: Scenario,
    /// The round; round 0 is dropped.
    pub round: u32,
    /// Whether the run before it was void, so that this is another try of the same round.
    pub repeated: bool,
    /// The client.
    pub client: String,
    /// Records in a second that were asked for, 0 when saturated.
    pub rate: u64,
    /// What the driver measured; `None` if it failed.
    pub outcome: Option<Outcome>,
    /// What failed, if anything did.
    pub failure: Option<Failure>,
    /// Produce requests that the brokers counted, where they do.
    pub produce_requests: Option<u64>,
    /// What else the machine did.
    pub disturbance: Disturbance,
    /// Why it does not count, if so.
    pub void: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Line {
    Session(Session),
    Run(Box<Run>),
}

/// The file of a session, which grows as it goes on.
#[derive(Debug)]
pub struct Recorder {
    file: File,
}

impl Recorder {
    /// Begins the session's file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(folder: &Path, session: &Session) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.jsonl", session.id));
        let mut recorder = Self { file: OpenOptions::new().create(true).append(true).open(path)? };
        recorder.append(&Line::Session(session.clone()))?;
        Ok(recorder)
    }

    /// Adds a run.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn run(&mut self, run: &Run) -> io::Result<()> {
        self.append(&Line::Run(Box::new(run.clone())))
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        // In one write, so that what was cut off is at most the last line.
        self.file.write_all(text.as_bytes())
    }
}

/// A session with its runs, as it was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The session.
    pub session: Session,
    /// Its runs, in order.
    pub runs: Vec<Run>,
}

/// Every recorded session, the oldest first.
///
/// # Errors
/// A file cannot be read. Lines that were cut off or that an older harness wrote are passed over, and counted on stderr.
pub fn read_all(folder: &Path) -> io::Result<Vec<Recorded>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    let mut sessions = Vec::new();
    for path in paths {
        let (mut recorded, mut unreadable): (Option<Recorded>, u32) = (None, 0);
        for line in BufReader::new(File::open(&path)?).lines() {
            match (serde_json::from_str(&line?), &mut recorded) {
                (Ok(Line::Session(session)), _) => recorded = Some(Recorded { session, runs: Vec::new() }),
                (Ok(Line::Run(run)), Some(recorded)) => recorded.runs.push(*run),
                _ => unreadable += 1,
            }
        }
        if unreadable > 0 {
            eprintln!("{}: passed over {unreadable} lines", path.display());
        }
        sessions.extend(recorded);
    }
    Ok(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{run, session};

    #[test]
    fn what_was_written_before_a_line_was_cut_off_is_read_back() {
        let folder = std::env::temp_dir().join(format!("compare-record-{}", std::process::id()));
        let session = session("2026-01-01T00-00-00Z");
        let mut recorder = Recorder::begin(&folder, &session).unwrap();
        let run = run("produce-real", "ours", 1, 0.5);
        recorder.run(&run).unwrap();
        recorder.file.write_all(b"{\"kind\":\"run\",\"sess").unwrap();
        let read = read_all(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].session, session);
        assert_eq!(read[0].runs, [run]);
    }
}
