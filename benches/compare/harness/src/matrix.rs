//! Tables with a client in each row and a scenario in each column.

use crate::clients::{CLIENTS, EMPTY, OURS, OURS_AGAIN};
use crate::judge::Sheet;
use crate::metric::Metric;
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
        return if sheet.failure(client).is_some() { "failed".into() } else { "–".into() };
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
    if client == OURS && sheet.control(metric).is_some_and(|control| !control.holds_one()) {
        text.push('‡');
    }
    text
}

/// A figure with its interval, as `0.31 [0.29, 0.33]`.
pub fn with_interval(figure: Estimate) -> String {
    format!("{} [{}, {}]", number(figure.value), number(figure.low), number(figure.high))
}
