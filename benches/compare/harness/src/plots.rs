//! Which plots there are, and what they show.

use crate::clients::{EMPTY, OURS, OURS_AGAIN};
use crate::growth::GROWTHS;
use crate::judge::Sheet;
use crate::metric::Metric;
use crate::plot::{Bar, Series, bars, lines};
use crate::report::Report;

/// Scenarios and figures that are shown as bars, with the plot's file.
const BARS: [(&str, &str, Metric); 9] = [
    ("produce-real", "produce-real", Metric::Cpu),
    ("produce-null", "produce-null", Metric::Cpu),
    ("produce-null-throughput", "produce-null", Metric::Throughput),
    ("produce-rate", "produce-real-rate", Metric::Cpu),
    ("consume-real", "consume-real", Metric::Cpu),
    ("consume-null", "consume-null", Metric::Cpu),
    ("latency-p99", "latency-linger-0", Metric::P99),
    ("memory", "memory", Metric::WrittenRss),
    ("start", "start", Metric::FirstAck),
];

/// Every plot that there are figures for: its file's name and its SVG.
pub fn all(report: &Report<'_>) -> Vec<(String, String)> {
    let bars = BARS.iter().filter_map(|&(file, scenario, metric)| {
        let sheet = report.sheets().get(scenario)?;
        Some((file.to_owned(), bar_plot(sheet, metric)?))
    });
    let growths = GROWTHS.iter().filter_map(|growth| {
        let columns = growth.columns(report.sheets());
        let series: Vec<Series> = line_plot_series(&columns, growth.value);
        let title = format!("Producing on the null broker: {}", growth.title.to_lowercase());
        let svg = || lines(&title, growth.unit, Metric::Cpu.title(), &series);
        (columns.len() > 1 && !series.is_empty()).then(|| (growth.file.to_owned(), svg()))
    });
    bars.chain(growths).collect()
}

fn shown(sheet: &Sheet<'_>) -> impl Iterator<Item = &'static str> {
    sheet.clients().into_iter().filter(|&name| name != EMPTY && name != OURS_AGAIN)
}

/// Everyone's figure, the best first.
fn bar_plot(sheet: &Sheet<'_>, metric: Metric) -> Option<String> {
    let mut all: Vec<Bar> = shown(sheet)
        .filter_map(|name| {
            Some(Bar { label: name.to_owned(), figure: sheet.figure(name, metric)?, ours: name == OURS })
        })
        .collect();
    all.sort_by(|a, b| {
        let order = a.figure.value.total_cmp(&b.figure.value);
        if metric.higher_is_better() { order.reverse() } else { order }
    });
    (!all.is_empty()).then(|| bars(metric.title(), &sheet.scenario.description(), &all))
}

fn line_plot_series(columns: &[&Sheet<'_>], value: fn(&crate::scenario::Scenario) -> u32) -> Vec<Series> {
    let mut names: Vec<&'static str> = Vec::new();
    for name in columns.iter().flat_map(|sheet| shown(sheet)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let point = |sheet: &Sheet<'_>, name| {
        let figure = sheet.figure(name, Metric::Cpu)?.value;
        (figure > 0.0).then(|| (f64::from(value(sheet.scenario)), figure))
    };
    let series = names.into_iter().map(|name| Series {
        label: name.to_owned(),
        points: columns.iter().filter_map(|sheet| point(sheet, name)).collect(),
    });
    series.filter(|series| !series.points.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latest::latest_by_scenario;
    use crate::record::Recorded;
    use crate::testing::{run, session};

    #[test]
    fn there_is_a_plot_for_what_was_measured_and_none_for_the_rest() {
        let mut runs = Vec::new();
        for round in 0..3 {
            runs.push(run("produce-real", "ours", round, 0.2));
            runs.push(run("produce-real", "control", round, 0.01));
            runs.push(run("growth-tasks-1", "ours", round, 0.2));
            runs.push(run("growth-tasks-8", "ours", round, 0.3));
            runs.push(run("growth-tasks-1", "control", round, 0.01));
            runs.push(run("growth-tasks-8", "control", round, 0.01));
        }
        let sessions = [Recorded { session: session("1"), runs }];
        let latest = latest_by_scenario(&sessions);
        let plots = all(&Report::new(&latest));
        let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["produce-real", "growth-tasks"]);
        assert!(!plots[0].1.contains("control"));
    }
}
