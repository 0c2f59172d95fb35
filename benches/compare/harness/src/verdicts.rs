//! The goals in the report: what was asked, what was measured, and what follows.

use crate::goals::{Bound, GOALS, judge};
use crate::judge::Sheets;
use crate::matrix::with_interval;
use crate::nowhere::{Survey, Untold};
use crate::stats::Estimate;
use crate::table::{Table, number};

/// Every goal with its verdict, and everything that speaks against the one about all the rest.
pub fn goals(sheets: &Sheets<'_>) -> String {
    let heads =
        ["goal", "figure", "measured", "ours", "best peer", "ratio", "asked", "ours ÷ ours", "verdict"];
    let mut table = Table::new(heads);
    for goal in GOALS {
        let (comparison, verdict) = judge(goal, sheets);
        let nothing = || "–".to_owned();
        let text = |figure: Option<Estimate>| figure.map_or_else(nothing, with_interval);
        let of = comparison.as_ref();
        let ours = of.and_then(|it| it.ours.clone().ok());
        let best = of.and_then(|it| it.best.clone().ok());
        // Whatever the peers show is no matter of such a goal.
        let ratio = of.filter(|_| !matches!(goal.bound, Bound::OurMost(_)));
        table.row([
            goal.title.to_owned(),
            goal.metric.title().to_owned(),
            sheets.get(goal.scenario).map_or_else(nothing, |sheet| sheet.effort()),
            ours.map_or_else(nothing, |figure| number(figure.value)),
            best.map_or_else(nothing, |(name, figure)| format!("{name} {}", number(figure.value))),
            text(ratio.and_then(|it| it.ratio.clone().ok())),
            goal.bound.text(),
            text(of.and_then(|it| it.control.clone().ok())),
            verdict.text(),
        ]);
    }
    format!("{}\n{}", table.markdown(), nowhere_worse(&Survey::of(sheets)))
}

fn nowhere_worse(survey: &Survey) -> String {
    let certain = survey.worse.iter().filter(|worse| worse.certain).count();
    let mut text = format!(
        "Nowhere worse than the best peer: worse for certain in {certain} of {} comparisons, and worse, but not for certain, in \
         {} more. Not compared: {} in which ours failed, and {} that are void.\n",
        survey.compared,
        survey.worse.len() - certain,
        survey.failed.len(),
        survey.void.len(),
    );
    let mut table = Table::new(["where we are worse", "figure", "best peer", "ratio", "for certain"]);
    for worse in &survey.worse {
        let certain = if worse.certain { "yes" } else { "worse, but not for certain" };
        let ratio = with_interval(worse.ratio);
        table.row([worse.scenario.as_str(), worse.metric.title(), worse.best, &ratio, certain]);
    }
    text += &spaced(&table);
    for (heading, all) in [("where ours failed", &survey.failed), ("what is void", &survey.void)] {
        text += &spaced(&untold(heading, all));
    }
    text
}

/// The figures of a scenario that tell nothing for the same reason share a row.
fn untold(heading: &str, all: &[Untold]) -> Table {
    let mut table = Table::new([heading, "figures", "reason"]);
    for same in all.chunk_by(|a, b| (&a.scenario, &a.reason) == (&b.scenario, &b.reason)) {
        let figures: Vec<&str> = same.iter().map(|untold| untold.metric.title()).collect();
        if let Some(first) = same.first() {
            table.row([first.scenario.as_str(), &figures.join("; "), &first.reason]);
        }
    }
    table
}

fn spaced(table: &Table) -> String {
    if table.is_empty() { String::new() } else { format!("\n{}", table.markdown()) }
}
