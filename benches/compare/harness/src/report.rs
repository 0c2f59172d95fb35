//! The report: goals, the two tables, and the rest, of the newest runs of each scenario.

use std::collections::{BTreeMap, BTreeSet};

use crate::clients::{CLIENTS, EMPTY, OURS_AGAIN};
use crate::goals::{Bound, GOALS, judge, worse_than_the_best};
use crate::growth::{GROWTHS, is_table_cell};
use crate::judge::Sheet;
use crate::matrix::{matrix, with_interval};
use crate::metric::Metric;
use crate::record::{Latest, Session};
use crate::scenario::{BrokerKind, Codec, Group, Mode, Rate, Scenario, Settings};
use crate::scenarios::size_word;
use crate::stats::Estimate;
use crate::table::{Table, number};

const METHOD: &str = "\
1. One small driver for each client, all with the same command line, records and loop; one line of results each.
2. The driver is pinned to core 0, the broker to core 1; a fresh topic for each run, its leaders awaited. Apache
   Kafka keeps its logs in memory (`/dev/shm`, where there is one) and is written to for 15 s before anything is measured.
3. Clients run interleaved, in an order shuffled in every round; the first round is dropped.
4. What a client says was acknowledged must be what the topic's end offsets say, and what it consumed must be what is there.
5. CPU is user and system time of the client's process in the measured window, for a million records; of producers, what an empty driver costs is taken off.
6. Ratios are ours ÷ the best peer's median, with a 95 % bootstrap interval over rounds. Below 1 is better, but for throughput.
7. Our client runs twice under two names: if their ratio's interval does not hold 1.0, the comparison is void.
8. A run is void when its host took more than 5 % of the time or other processes used more than half a core; it is repeated once.
9. Latency is of an open loop: from the time a record was due until it was acknowledged. A raw socket with one request each tick is the floor.
10. `null` is the bundled broker storing nothing, so that the client is the limit; `real` is Apache Kafka on one core. Java warms up longer, and runs in every third round.
";

/// Everything that was measured, ready to be shown.
#[derive(Debug)]
pub struct Report<'a> {
    sheets: BTreeMap<&'a str, Sheet<'a>>,
    sessions: Vec<&'a Session>,
}

impl<'a> Report<'a> {
    /// Of the newest runs of each scenario.
    pub fn new(latest: &BTreeMap<&'a str, Latest<'a>>) -> Self {
        let sheet = |(&name, latest): (&&'a str, &Latest<'a>)| {
            Some((name, Sheet::of(&latest.runs, latest.session.seed)?))
        };
        let sessions: BTreeMap<&str, &Session> =
            latest.values().map(|latest| (latest.session.id.as_str(), latest.session)).collect();
        Self { sheets: latest.iter().filter_map(sheet).collect(), sessions: sessions.into_values().collect() }
    }

    /// The sheets by scenario.
    pub fn sheets(&self) -> &BTreeMap<&'a str, Sheet<'a>> {
        &self.sheets
    }

    /// The whole report as Markdown; `plots` are the files to show with it, by name.
    pub fn markdown(&self, plots: &[String]) -> String {
        let sections = [
            ("Side by side", self.circumstances()),
            ("Method", METHOD.to_owned()),
            ("Goals", self.goals()),
            ("Table 1: everyone at defaults", self.comparison(Settings::Defaults)),
            ("Table 2: everyone at equal settings", self.comparison(Settings::Equal)),
            ("At an equal rate", self.at_a_rate()),
            ("Latency", self.latency()),
            ("Memory, start, wakeups", self.others()),
            ("How cost grows", self.growth()),
        ];
        let mut text = String::new();
        for (index, (title, section)) in sections.iter().enumerate() {
            let section = if section.trim().is_empty() { "Not measured." } else { section.trim_end() };
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
        for session in &self.sessions {
            let machine = &session.machine;
            let of = self.sheets.len();
            text += &format!(
                "- {}{}, commit {}, seed {}; {}, {} cores, {} GiB, Linux {}; {}\n",
                session.id,
                if session.quick { " (a quick check, no measurement)" } else { "" },
                session.commit,
                session.seed,
                machine.cpu,
                machine.cores,
                machine.memory_gib,
                machine.kernel,
                session.brokers.join(", "),
            );
            if of == 0 {
                text += "\nNothing was measured.\n";
            }
        }
        let mut table = Table::new(["client", "version"]);
        let left_out: BTreeMap<&str, &str> = self
            .sessions
            .iter()
            .flat_map(|session| &session.clients)
            .filter_map(|client| Some((client.name.as_str(), client.left_out.as_deref()?)))
            .collect();
        for client in CLIENTS.iter().map(|client| client.name).filter(|&name| name != OURS_AGAIN) {
            let version = self.sheets.values().find_map(|sheet| sheet.outcome(client));
            match (version, left_out.get(client)) {
                (Some(outcome), _) => table.row([client, outcome.version.as_str()]),
                (None, Some(reason)) => table.row([client, &format!("LEFT OUT: {}", shortened(reason))]),
                (None, None) => {}
            }
        }
        format!(
            "Figures hold only for this machine and day; compare only within one table. † rests on runs that other load \
             disturbed, ‡ on a comparison whose control is not 1.0; **bold** is the best of a column.\n\n{text}\n{}",
            table.markdown()
        )
    }

    fn goals(&self) -> String {
        let mut table =
            Table::new(["goal", "figure", "ours", "best peer", "ratio", "asked", "ours ÷ ours", "verdict"]);
        for goal in GOALS {
            let judged = judge(goal, &self.sheets);
            let text = |figure: Option<Estimate>| figure.map_or("–".into(), with_interval);
            table.row([
                goal.title.to_owned(),
                goal.metric.title().to_owned(),
                judged.ours.map_or("–".into(), |figure| number(figure.value)),
                judged.best.map_or("–".into(), |(name, figure)| format!("{name} {}", number(figure.value))),
                if matches!(goal.bound, Bound::OurMost(_)) { "–".into() } else { text(judged.ratio) },
                goal.bound.text(),
                text(judged.control),
                judged.verdict.text(),
            ]);
        }
        let (worse, looked) = worse_than_the_best(&self.sheets);
        let certain = worse.iter().filter(|worse| worse.certain).count();
        let mut text = format!(
            "{}\nNowhere worse than the best peer: worse for certain in {certain} of {looked} comparisons, and by the median \
             in {} more.\n",
            table.markdown(),
            worse.len() - certain
        );
        let mut table = Table::new(["where we are worse", "figure", "best peer", "ratio", "for certain"]);
        for worse in worse {
            table.row([
                worse.scenario.as_str(),
                worse.metric.title(),
                worse.best,
                &with_interval(worse.ratio),
                if worse.certain { "yes" } else { "no" },
            ]);
        }
        if !table.is_empty() {
            text += &format!("\n{}", table.markdown());
        }
        text
    }

    /// Saturated producing and consuming at these settings, on every broker.
    fn comparison(&self, settings: Settings) -> String {
        let mut text =
            String::from("CPU-seconds per million records, and thousand records in a second in brackets.\n");
        for (mode, broker) in [
            (Mode::Produce, BrokerKind::Real),
            (Mode::Produce, BrokerKind::Null),
            (Mode::Produce, BrokerKind::Bundled),
            (Mode::Consume, BrokerKind::Real),
            (Mode::Consume, BrokerKind::Null),
        ] {
            for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
                let mut columns: Vec<&Sheet<'_>> = self
                    .sheets
                    .values()
                    .filter(|sheet| {
                        let scenario = sheet.scenario;
                        is_table_cell(scenario)
                            && (scenario.mode, scenario.broker) == (mode, broker)
                            && (scenario.settings, scenario.codec) == (settings, codec)
                    })
                    .collect();
                columns.sort_by_key(|sheet| (sheet.scenario.size, sheet.scenario.batch_bytes));
                let batches: BTreeSet<u32> = columns.iter().map(|sheet| sheet.scenario.batch_bytes).collect();
                let heading = |scenario: &Scenario| {
                    let size = size_word(scenario.size);
                    if batches.len() > 1 { format!("{size}, {}K", scenario.batch_bytes / 1024) } else { size }
                };
                let table = matrix(&columns, heading, &[Metric::Cpu, Metric::Throughput]);
                if !table.is_empty() {
                    let (mode, broker, codec) = (mode.word(), broker.word(), codec.word());
                    text += &format!("\n**{mode}, {broker} broker, {codec}**\n\n{}", table.markdown());
                }
            }
        }
        text
    }

    fn at_a_rate(&self) -> String {
        let columns = self.columns(|scenario| {
            scenario.group == Group::Goals
                && scenario.mode == Mode::Produce
                && scenario.rate != Rate::Saturated
        });
        let mut text = String::new();
        for metric in [Metric::Cpu, Metric::RssPeak] {
            let table = matrix(&columns, |scenario| scenario.name.clone(), &[metric]);
            if !table.is_empty() {
                text += &format!("**{}**\n\n{}\n", metric.title(), table.markdown());
            }
        }
        let own = |sheet: &&Sheet<'_>| {
            Some(format!("{} in {}", number(sheet.own_cost(Metric::Cpu)?), sheet.scenario.name))
        };
        let own: Vec<String> = columns.iter().filter_map(own).collect();
        if !own.is_empty() {
            text += &format!("The empty driver's own cost, taken off above: {}.\n", own.join(", "));
        }
        text
    }

    fn latency(&self) -> String {
        let mut text = String::new();
        for sheet in self.columns(|scenario| scenario.mode == Mode::Latency) {
            let mut table = Table::new(["client", "p50, µs", "p99, µs", "p99.9, µs"]);
            for client in sheet.clients() {
                let figure = |metric| sheet.figure(client, metric).map_or("–".into(), with_interval);
                table.row([
                    client.to_owned(),
                    figure(Metric::P50),
                    figure(Metric::P99),
                    figure(Metric::P999),
                ]);
            }
            let rate = sheet.rate();
            text += &format!(
                "**{}** ({rate} records/s; `{EMPTY}` is the raw socket)\n\n{}\n",
                sheet.scenario.description(),
                table.markdown()
            );
        }
        text
    }

    fn others(&self) -> String {
        let mut text = String::new();
        for (mode, metrics) in [
            (Mode::Memory, vec![Metric::IdleRss, Metric::WrittenRss]),
            (Mode::Start, vec![Metric::FirstAck]),
            (Mode::Produce, vec![Metric::Wakeups]),
        ] {
            let columns = self.columns(|scenario| {
                scenario.group == Group::Goals
                    && scenario.mode == mode
                    && (mode != Mode::Produce || scenario.broker == BrokerKind::Null)
            });
            for metric in metrics {
                let table = matrix(&columns, |scenario| scenario.name.clone(), &[metric]);
                if !table.is_empty() {
                    text += &format!("**{}**\n\n{}\n", metric.title(), table.markdown());
                }
            }
        }
        text
    }

    fn growth(&self) -> String {
        let mut text =
            String::from("CPU-seconds per million records, and thousand records in a second in brackets.\n");
        for growth in GROWTHS {
            let columns = growth.columns(&self.sheets);
            let table = matrix(
                &columns,
                |scenario| format!("{} {}", (growth.value)(scenario), growth.unit),
                &[Metric::Cpu, Metric::Throughput],
            );
            if !table.is_empty() {
                text += &format!("\n**{}**\n\n{}", growth.title, table.markdown());
            }
        }
        text
    }

    fn columns(&self, wanted: impl Fn(&Scenario) -> bool) -> Vec<&Sheet<'a>> {
        self.sheets.values().filter(|sheet| wanted(sheet.scenario)).collect()
    }
}

/// The beginning of a text, on one line.
fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    let line = text.replace('\n', " ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Recorded;
    use crate::testing::{run, session};

    fn report_of(runs: Vec<crate::record::Run>) -> String {
        let sessions = [Recorded { session: session("2026-01-01T00-00-00Z"), runs }];
        let latest = crate::record::latest_by_scenario(&sessions);
        Report::new(&latest).markdown(&["produce".into()])
    }

    #[test]
    fn the_report_has_goals_tables_versions_and_who_was_left_out() {
        let mut runs = Vec::new();
        for round in 0..5 {
            runs.push(run("produce-real", "ours", round, 0.2));
            runs.push(run("produce-real", "ours-control", round, 0.2));
            runs.push(run("produce-real", "franz-go", round, 0.6));
            runs.push(run("consume-real-100B-defaults", "ours", round, 0.1));
            runs.push(run("growth-tasks-8", "ours", round, 0.3));
        }
        let text = report_of(runs);
        for expected in [
            "Apache Kafka 4.3.1",
            "LEFT OUT: mvn is not on this machine",
            "franz-go 1.0",
            "0.333 [0.333, 0.333]",
            "| met |",
            "**produce, real broker, none**",
            "**0.200** (500)",
            "## Table 1",
            "8 tasks",
            "![produce](plots/produce.svg)",
        ] {
            let squeezed = text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            assert!(squeezed.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn a_void_comparison_and_a_failed_client_are_marked() {
        let mut runs = Vec::new();
        for round in 0..5 {
            runs.push(run("produce-real", "ours", round, 0.2));
            runs.push(run("produce-real", "ours-control", round, 0.3));
            runs.push(run("produce-real", "franz-go", round, 0.6));
            let mut failed = run("produce-real", "krafka", round, 0.6);
            failed.failure = Some("hung".into());
            runs.push(failed);
        }
        let text = report_of(runs);
        assert!(text.contains("void: ours ÷ ours is 1.50"), "{text}");
        assert!(text.contains("‡") && text.contains("failed"));
    }

    #[test]
    fn nothing_measured_is_a_report_too() {
        assert!(report_of(Vec::new()).contains("not measured"));
    }
}
