//! The tables of the report that show everyone's figures.

use std::collections::BTreeSet;

use crate::clients::EMPTY;
use crate::growth::{GROWTHS, is_table_cell};
use crate::judge::{Sheet, Sheets};
use crate::matrix::{effort, matrix, with_interval};
use crate::metric::Metric;
use crate::scenario::{BrokerKind, Codec, Group, Mode, Rate, Scenario, Settings};
use crate::scenarios::size_word;
use crate::table::{Table, number};

const CPU_AND_THROUGHPUT: &str =
    "CPU-seconds per million records, and thousand records in a second in brackets.\n\n";

/// Saturated producing and consuming at these settings, on every broker.
pub fn comparison(sheets: &Sheets<'_>, settings: Settings) -> String {
    let mut text = String::new();
    for (mode, broker) in [
        (Mode::Produce, BrokerKind::Real),
        (Mode::Produce, BrokerKind::Null),
        (Mode::Produce, BrokerKind::Bundled),
        (Mode::Consume, BrokerKind::Real),
        (Mode::Consume, BrokerKind::Null),
    ] {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            let mut columns = columns(sheets, |scenario| {
                is_table_cell(scenario)
                    && (scenario.mode, scenario.broker) == (mode, broker)
                    && (scenario.settings, scenario.codec) == (settings, codec)
            });
            columns.sort_by_key(|sheet| (sheet.scenario.size, sheet.scenario.batch_bytes));
            let batches: BTreeSet<u32> = columns.iter().map(|sheet| sheet.scenario.batch_bytes).collect();
            let heading = |scenario: &Scenario| {
                let size = size_word(scenario.size);
                if batches.len() > 1 { format!("{size}, {}K", scenario.batch_bytes / 1024) } else { size }
            };
            let title = format!("{}, {} broker, {}", mode.word(), broker.word(), codec.word());
            text += &table(&title, &columns, heading, &[Metric::Cpu, Metric::Throughput]);
        }
    }
    explained(text)
}

/// Producing at the rate that is the same for everyone.
pub fn at_a_rate(sheets: &Sheets<'_>) -> String {
    let columns = columns(sheets, |scenario| {
        scenario.group == Group::Goals && scenario.mode == Mode::Produce && scenario.rate != Rate::Saturated
    });
    let mut text = String::new();
    for metric in [Metric::Cpu, Metric::RssPeak] {
        text += &table(metric.title(), &columns, name, &[metric]);
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

/// Everyone's quantiles in an open loop.
pub fn latency(sheets: &Sheets<'_>) -> String {
    let mut text = String::new();
    for sheet in columns(sheets, |scenario| scenario.mode == Mode::Latency) {
        let metrics = [Metric::P50, Metric::P99, Metric::P999];
        let mut table = Table::new(["client"].into_iter().chain(metrics.map(Metric::title)));
        for client in sheet.clients() {
            let figure = |metric| sheet.figure(client, metric).map_or("–".into(), with_interval);
            table.row([client.to_owned()].into_iter().chain(metrics.map(figure)));
        }
        text += &format!(
            "**{}** ({} records/s; `{EMPTY}` is the raw socket)\n\n{}\n\n{}\n",
            sheet.scenario.description(),
            sheet.rate(),
            effort(&[sheet], name),
            table.markdown()
        );
    }
    text
}

/// Memory, the first acknowledgement, and wakeups.
pub fn others(sheets: &Sheets<'_>) -> String {
    let mut text = String::new();
    for (mode, metrics) in [
        (Mode::Memory, vec![Metric::IdleRss, Metric::WrittenRss]),
        (Mode::Start, vec![Metric::FirstAck]),
        (Mode::Produce, vec![Metric::Wakeups]),
    ] {
        let columns = columns(sheets, |scenario| {
            scenario.group == Group::Goals
                && scenario.mode == mode
                && (mode != Mode::Produce || scenario.broker == BrokerKind::Null)
        });
        for metric in metrics {
            text += &table(metric.title(), &columns, name, &[metric]);
        }
    }
    text
}

/// What the cost of producing grows with.
pub fn growth(sheets: &Sheets<'_>) -> String {
    let mut text = String::new();
    for growth in GROWTHS {
        let heading = |scenario: &Scenario| format!("{} {}", (growth.value)(scenario), growth.unit);
        let metrics = [Metric::Cpu, Metric::Throughput];
        text += &table(growth.title, &growth.columns(sheets), heading, &metrics);
    }
    explained(text)
}

/// Tables of CPU and throughput, if there are any.
fn explained(tables: String) -> String {
    if tables.is_empty() { tables } else { format!("{CPU_AND_THROUGHPUT}{tables}") }
}

fn columns<'s, 'a>(sheets: &'s Sheets<'a>, wanted: impl Fn(&Scenario) -> bool) -> Vec<&'s Sheet<'a>> {
    sheets.values().filter(|sheet| wanted(sheet.scenario)).collect()
}

fn name(scenario: &Scenario) -> String {
    scenario.name.clone()
}

/// A table with its title, and how often and how long it was measured. Nothing where nobody was.
fn table(
    title: &str,
    columns: &[&Sheet<'_>],
    heading: impl Fn(&Scenario) -> String,
    metrics: &[Metric],
) -> String {
    let table = matrix(columns, &heading, metrics);
    if table.is_empty() {
        return String::new();
    }
    format!("**{title}**\n\n{}\n\n{}\n", effort(columns, heading), table.markdown())
}
