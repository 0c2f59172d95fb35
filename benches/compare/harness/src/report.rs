//! The report: goals, the two tables, and the rest, of the newest runs of each scenario.

use std::collections::BTreeMap;

use crate::chapters::{at_a_rate, comparison, growth, latency, others};
use crate::clients::{CLIENTS, OURS_AGAIN};
use crate::failures::failures;
use crate::judge::{Sheet, Sheets};
use crate::latest::Latest;
use crate::record::Session;
use crate::scenario::Settings;
use crate::table::{Table, shortened};
use crate::verdicts::goals;

const METHOD: &str = include_str!("method.md");
/// The one section that had better be empty.
const FAILED: &str = "Runs that failed";

/// Everything that was measured, ready to be shown.
#[derive(Debug)]
pub struct Report<'a> {
    sheets: Sheets<'a>,
    /// Each with the scenarios that it tells of.
    sessions: Vec<(&'a Session, Vec<&'a str>)>,
}

impl<'a> Report<'a> {
    /// Of the newest runs of each scenario.
    pub fn new(latest: &BTreeMap<&'a str, Latest<'a>>) -> Self {
        let sheet =
            |(&name, latest): (&&'a str, &Latest<'a>)| Some((name, Sheet::of(&latest.runs, latest.session)?));
        let mut sessions: BTreeMap<&str, (&Session, Vec<&str>)> = BTreeMap::new();
        for (&name, latest) in latest {
            let session = sessions.entry(latest.session.id.as_str());
            session.or_insert_with(|| (latest.session, Vec::new())).1.push(name);
        }
        Self { sheets: latest.iter().filter_map(sheet).collect(), sessions: sessions.into_values().collect() }
    }

    /// The sheets by scenario.
    pub fn sheets(&self) -> &Sheets<'a> {
        &self.sheets
    }

    /// The whole report as Markdown; `plots` are the files to show with it, by name.
    pub fn markdown(&self, plots: &[String]) -> String {
        let sections = [
            ("Side by side", self.circumstances()),
            ("Method", METHOD.to_owned()),
            ("Goals", goals(&self.sheets)),
            ("Table 1: everyone at defaults", comparison(&self.sheets, Settings::Defaults)),
            ("Table 2: everyone at equal settings", comparison(&self.sheets, Settings::Equal)),
            ("At an equal rate", at_a_rate(&self.sheets)),
            ("Latency", latency(&self.sheets)),
            ("Memory, start, wakeups", others(&self.sheets)),
            ("How cost grows", growth(&self.sheets)),
            (FAILED, failures(&self.sheets)),
        ];
        let mut text = String::new();
        for (index, (title, section)) in sections.iter().enumerate() {
            let nothing = if *title == FAILED { "None." } else { "Not measured." };
            let section = if section.trim().is_empty() { nothing } else { section.trim_end() };
            text += &format!("{} {title}\n\n{section}\n\n", if index == 0 { "#" } else { "##" });
        }
        if !plots.is_empty() {
            text += "## Plots\n\n";
            plots.iter().for_each(|plot| text += &format!("![{plot}](plots/{plot}.svg)\n\n"));
        }
        text.trim_end().to_owned() + "\n"
    }

    fn circumstances(&self) -> String {
        let mut text = String::new();
        for (session, scenarios) in &self.sessions {
            let machine = &session.machine;
            text += &format!(
                "- {}{}, commit {}, seed {}; {}, {} cores, {} GiB, Linux {}; {}{}\n",
                session.id,
                if session.quick { " (a quick check, no measurement)" } else { "" },
                session.commit,
                session.seed,
                machine.cpu,
                machine.cores,
                machine.memory_gib,
                machine.kernel,
                session.brokers.join(", "),
                // With one session alone it is plain which scenarios are its.
                if self.sessions.len() > 1 { format!("; {}", scenarios.join(", ")) } else { String::new() },
            );
        }
        if self.sheets.is_empty() {
            text += "Nothing was measured.\n";
        }
        let mut table = Table::new(["client", "version"]);
        for client in CLIENTS.iter().map(|client| client.name).filter(|&name| name != OURS_AGAIN) {
            let version = self.sheets.values().find_map(|sheet| sheet.outcome(client));
            let version = version.map(|outcome| outcome.version.clone());
            let cells: Vec<String> = version.into_iter().chain(self.left_out(client)).collect();
            if !cells.is_empty() {
                table.row([client, &cells.join("; ")]);
            }
        }
        format!(
            "Figures hold only for this machine and day; compare only within one table. † rests on runs that other load \
             disturbed, ‡ on a comparison whose control is not 1.0; **bold** is the best of a column.\n\n{text}\n{}",
            table.markdown()
        )
    }

    /// Where a client was left out, in the order of the sessions, with the first reason.
    fn left_out(&self, client: &str) -> Option<String> {
        let out = self.sessions.iter().filter_map(|(session, _)| {
            let participant = session.clients.iter().find(|participant| participant.name == client)?;
            Some((session.id.as_str(), participant.left_out.as_deref()?))
        });
        let (sessions, reasons): (Vec<&str>, Vec<&str>) = out.unzip();
        let reason = shortened(reasons.first()?);
        let all = sessions.len() == self.sessions.len();
        let of = if all { String::new() } else { format!(" of {}", sessions.join(", ")) };
        Some(format!("LEFT OUT{of}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latest::latest_by_scenario;
    use crate::record::{Recorded, Run};
    use crate::testing::{run, session};

    fn report_of(runs: Vec<Run>) -> String {
        let sessions = [Recorded { session: session("2026-01-01T00-00-00Z"), runs }];
        Report::new(&latest_by_scenario(&sessions)).markdown(&["produce".into()])
    }

    fn of_everyone(rounds: u32, control: f64) -> Vec<Run> {
        let clients =
            [("ours", 0.2), ("ours-control", control), ("franz-go", 0.6), ("java", 2.0), ("control", 0.0)];
        let round = |round| clients.map(|(client, cpu)| run("produce-real", client, round, cpu));
        (0..rounds).flat_map(round).collect()
    }

    fn assert_told(text: &str, all: &[&str]) {
        let squeezed = text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        for expected in all {
            assert!(squeezed.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn the_report_has_goals_tables_versions_and_who_was_left_out() {
        let mut runs = of_everyone(8, 0.2);
        runs.retain(|run| run.client != "java");
        for round in 0..3 {
            runs.push(run("consume-real-100B-defaults", "ours", round, 0.1));
            runs.push(run("growth-tasks-8", "ours", round, 0.3));
            runs.push(run("growth-tasks-8", "control", round, 0.0));
        }
        let told = [
            "Apache Kafka 4.3.1",
            "LEFT OUT: mvn is not on this machine",
            "franz-go 1.0",
            "| 7 rounds of 2 s | 0.200 | franz-go 0.600 | 0.333 [0.333, 0.333] | ≤ 0.35 |",
            "| met |",
            "Not compared: 0 in which ours failed, and 4 that are void.",
            "| consume-real-100B-defaults | CPU-s per million records; records/s | no peer was measured |",
            "**produce, real broker, none**\n\n7 rounds of 2 s.",
            "**0.200** (500)",
            "## Table 1",
            "8 tasks",
            "## Runs that failed\n\nNone.",
            "![produce](plots/produce.svg)",
        ];
        assert_told(&report_of(runs), &told);
    }

    #[test]
    fn what_is_doubtful_or_failed_is_marked() {
        let mut runs = of_everyone(8, 0.3);
        for round in 0..2 {
            runs.push(Run { failure: Some("hung".into()), ..run("produce-real", "krafka", round, 0.6) });
        }
        let told = [
            "met, but not for certain: ours ÷ ours is not 1",
            "(500)‡",
            "| krafka | failed |",
            "| 2 of 2 | hung |",
        ];
        assert_told(&report_of(runs), &told);
    }

    #[test]
    fn with_several_sessions_each_is_named_with_its_scenarios() {
        let of = |id: &str, scenario: &str| Recorded {
            session: Session { commit: format!("c{id}"), ..session(id) },
            runs: vec![run(scenario, "ours", 0, 0.5)],
        };
        let sessions = [of("1", "produce-real"), of("2", "start")];
        let text = Report::new(&latest_by_scenario(&sessions)).markdown(&[]);
        assert_told(&text, &["- 1, commit c1", "4.3.1; produce-real\n", "- 2, commit c2", "4.3.1; start\n"]);
    }

    #[test]
    fn nothing_measured_is_a_report_too() {
        let text = report_of(Vec::new());
        assert!(text.contains("not measured") && text.contains("Nothing was measured."));
        assert_told(
            &text,
            &["## Table 1: everyone at defaults\n\nNot measured.", "## How cost grows\n\nNot measured."],
        );
    }
}
