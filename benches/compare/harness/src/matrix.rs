//! Tables with a client in each row and a scenario in each column.

use crate::clients::{CLIENTS, EMPTY, OURS, OURS_AGAIN};
use crate::judge::Sheet;
use crate::metric::Metric;
use crate::outcome::FailureKind;
use crate::scenario::Scenario;
use crate::stats::Estimate;
use crate::table::{Table, number};

/// Clients down, scenarios across; a second metric stands in brackets, in thousands.
pub fn matrix(columns: &[&Sheet<'_>], heading: impl Fn(&Scenario) -> String, metrics: &[Metric]) -> Table {
    let mut table = Table::new(
        ["client".to_owned()].into_iter().chain(columns.iter().map(|sheet| heading(sheet.scenario))),
    );
    for client in CLIENTS.iter().map(|client| client.name) {
        let took_part = columns.iter().any(|sheet| sheet.clients().contains(&client));
        if client == EMPTY || client == OURS_AGAIN || !took_part {
            continue;
        }
        let cells = columns.iter().map(|sheet| cell(sheet, client, metrics));
        table.row([client.to_owned()].into_iter().chain(cells));
    }
    table
}

fn cell(sheet: &Sheet<'_>, client: &str, metrics: &[Metric]) -> String {
    let figure = |metric: &Metric| sheet.figure(client, *metric);
    let (first, second) = (metrics.first(), metrics.get(1));
    let Some((metric, value)) = first.and_then(|metric| Some((*metric, figure(metric)?.value))) else {
        return match sheet.failure(client).map(|failure| failure.kind) {
            Some(FailureKind::Unsupported) => "n/a".into(),
            Some(FailureKind::Lost | FailureKind::Failed) => "failed".into(),
            None => "–".into(),
        };
    };
    let best_peer = sheet.best_peer(metric).map(|(_, best)| best.value);
    let our = sheet.figure(OURS, metric).map(|ours| ours.value);
    let best = best_peer
        .into_iter()
        .chain(our)
        .reduce(|a, b| if metric.higher_is_better() { a.max(b) } else { a.min(b) });
    let mut text = if best == Some(value) { format!("**{}**", number(value)) } else { number(value) };
    if let Some(second) = second.and_then(figure) {
        text += &format!(" ({})", number(second.value / 1000.0));
    }
    if sheet.is_disturbed(client) {
        text.push('†');
    }
    if client == OURS && sheet.control(metric).is_ok_and(|control| !control.may_be_one()) {
        text.push('‡');
    }
    text
}

/// How often and how long the columns were measured; those that differ are told apart by their headings.
pub fn effort(columns: &[&Sheet<'_>], heading: impl Fn(&Scenario) -> String) -> String {
    let mut efforts: Vec<(String, Vec<String>)> = Vec::new();
    for sheet in columns {
        let (effort, heading) = (sheet.effort(), heading(sheet.scenario));
        match efforts.iter_mut().find(|(known, _)| *known == effort) {
            Some((_, headings)) => headings.push(heading),
            None => efforts.push((effort, vec![heading])),
        }
    }
    let text = match &efforts[..] {
        [(effort, _)] => effort.clone(),
        several => {
            let told = several.iter().map(|(effort, headings)| format!("{effort}: {}", headings.join(", ")));
            told.collect::<Vec<_>>().join("; ")
        }
    };
    text + "."
}

/// A figure with its interval, as `0.31 [0.29, 0.33]`; alone where it has none.
pub fn with_interval(figure: Estimate) -> String {
    let interval =
        figure.interval.map_or(String::new(), |(low, high)| format!(" [{}, {}]", number(low), number(high)));
    number(figure.value) + &interval
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;
    use crate::record::Run;
    use crate::testing::{run, session};

    #[test]
    fn a_cell_says_what_became_of_a_client() {
        let mut runs: Vec<Run> = ["ours", "krafka", "kacrab", "control"]
            .into_iter()
            .map(|client| run("produce-real", client, 0, if client == "control" { 0.1 } else { 0.5 }))
            .collect();
        runs[1].failure = Some(Failure::unsupported("zstd"));
        runs[2].failure = Some("hung".into());
        let session = session("1");
        let sheet = Sheet::of(&runs.iter().collect::<Vec<_>>(), &session).unwrap();
        let metrics = [Metric::Cpu, Metric::Throughput];
        let of = |client| cell(&sheet, client, &metrics);
        assert_eq!(["ours", "krafka", "kacrab", "java"].map(of), ["**0.400** (500)", "n/a", "failed", "–"]);
    }

    #[test]
    fn a_table_says_how_long_it_was_measured() {
        let session = session("1");
        let short = [run("produce-real-10B-none-16K", "ours", 1, 0.5)];
        let long = [run("produce-real", "ours", 1, 0.5), run("produce-real", "ours", 2, 0.5)];
        let short = Sheet::of(&short.iter().collect::<Vec<_>>(), &session).unwrap();
        let long = Sheet::of(&long.iter().collect::<Vec<_>>(), &session).unwrap();
        let heading = |scenario: &Scenario| format!("{} B", scenario.size);
        assert_eq!(effort(&[&long], heading), "2 rounds of 2 s.");
        assert_eq!(effort(&[&short, &long], heading), "1 round of 0.8 s: 10 B; 2 rounds of 2 s: 100 B.");
    }

    #[test]
    fn a_figure_without_an_interval_stands_alone() {
        assert_eq!(
            with_interval(Estimate { value: 0.3, interval: Some((0.2, f64::INFINITY)) }),
            "0.300 [0.200, ∞]"
        );
        assert_eq!(with_interval(Estimate { value: 0.3, interval: None }), "0.300");
    }
}
