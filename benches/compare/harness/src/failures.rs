//! The runs that gave no figures, in the report: what is not there has left a trace at least.

use std::collections::BTreeMap;

use crate::judge::{Sheet, Sheets};
use crate::outcome::{Failure, FailureKind};
use crate::table::{Table, shortened};

/// So many scenarios are named where the same is told of more; the raw results name all.
const NAMED: usize = 4;

/// How a client failed in a scenario: how many of its runs, and what the first of them said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Trace {
    failed: usize,
    of: usize,
    reason: String,
}

/// The runs that failed, and who cannot do what; nothing where every run gave figures.
pub fn failures(sheets: &Sheets<'_>) -> String {
    let mut table = Table::new(["scenarios", "clients", "failed runs", "first reason"]);
    for ((clients, trace), scenarios) in alike(sheets, failed) {
        let Trace { failed, of, reason } = trace;
        table.row([some(&scenarios), clients.join(", "), format!("{failed} of {of}"), reason]);
    }
    let mut cannot = Table::new(["scenarios", "clients", "n/a, because"]);
    for ((clients, reason), scenarios) in alike(sheets, unsupported) {
        cannot.row([some(&scenarios), clients.join(", "), reason]);
    }
    let tables = [table, cannot].into_iter().filter(|table| !table.is_empty());
    tables.map(|table| table.markdown()).collect::<Vec<_>>().join("\n")
}

fn some(scenarios: &[String]) -> String {
    let named = scenarios.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match scenarios.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn failed(sheet: &Sheet<'_>, client: &str) -> Option<Trace> {
    let of_kind = |kind| {
        let failures = sheet.runs_of(client).filter_map(|run| run.failure.as_ref());
        failures.filter(move |failure| failure.kind == kind)
    };
    let (lost, failed) = (of_kind(FailureKind::Lost), of_kind(FailureKind::Failed));
    // Lost records weigh more than anything that came before them.
    let all: Vec<&Failure> = lost.chain(failed).collect();
    let reason = shortened(&all.first()?.reason);
    Some(Trace { failed: all.len(), of: sheet.runs_of(client).count(), reason })
}

fn unsupported(sheet: &Sheet<'_>, client: &str) -> Option<String> {
    let failure = sheet.failure(client).filter(|failure| failure.kind == FailureKind::Unsupported)?;
    Some(shortened(&failure.reason))
}

/// Clients of which the same is told in the same scenarios, so that it is told once: a broker that does not start fails everyone
/// everywhere.
fn alike<T: Ord + Clone>(
    sheets: &Sheets<'_>,
    told: impl Fn(&Sheet<'_>, &str) -> Option<T>,
) -> BTreeMap<(Vec<&'static str>, T), Vec<String>> {
    let mut alike: BTreeMap<(Vec<&'static str>, T), Vec<String>> = BTreeMap::new();
    for (scenario, sheet) in sheets {
        let mut clients: BTreeMap<T, Vec<&'static str>> = BTreeMap::new();
        for client in sheet.clients() {
            if let Some(told) = told(sheet, client) {
                clients.entry(told).or_default().push(client);
            }
        }
        for (told, clients) in clients {
            alike.entry((clients, told)).or_default().push((*scenario).to_owned());
        }
    }
    alike
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Run;
    use crate::testing::{run, session};

    #[test]
    fn of_many_scenarios_some_are_named() {
        let names: Vec<String> = (1..=6).map(|number| number.to_string()).collect();
        assert_eq!((some(&names[..4]), some(&names)), ("1, 2, 3, 4".into(), "1, 2, 3, 4 and 2 more".into()));
    }

    #[test]
    fn every_failure_leaves_a_trace_and_what_is_alike_is_told_once() {
        let mut runs: Vec<Run> = Vec::new();
        for scenario in ["start", "produce-real"] {
            for client in ["ours", "krafka", "kacrab", "rskafka", "java"] {
                runs.extend((0..3).map(|round| run(scenario, client, round, 0.5)));
            }
        }
        for run in &mut runs {
            run.failure = match (run.client.as_str(), run.round) {
                ("krafka" | "kacrab", 0 | 2) => Some("hung".into()),
                ("rskafka", 0) => Some(Failure::unsupported("no defaults")),
                ("java", 1) if run.scenario.name == "start" => Some("exit code 1\nand why".into()),
                ("java", 2) if run.scenario.name == "start" => Failure::of_counts("acknowledged", 5, 4),
                _ => None,
            };
        }
        let session = session("1");
        let (start, produce): (Vec<&Run>, Vec<&Run>) =
            runs.iter().partition(|run| run.scenario.name == "start");
        let sheets = Sheets::from([
            ("produce-real", Sheet::of(&produce, &session).unwrap()),
            ("start", Sheet::of(&start, &session).unwrap()),
        ]);
        let text = failures(&sheets);
        let squeezed = text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        for expected in [
            "| produce-real, start | krafka, kacrab | 2 of 3 | hung |",
            "| start | java | 2 of 3 | MISMATCH: acknowledged 5 records, but 4 are in the topic |",
            "| produce-real, start | rskafka | no defaults |",
        ] {
            assert!(squeezed.contains(expected), "{expected} is not in\n{text}");
        }
        assert_eq!(failures(&Sheets::new()), "");
    }
}
