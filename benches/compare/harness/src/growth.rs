//! What the cost of producing is shown to grow with.

use crate::judge::{Sheet, Sheets};
use crate::scenario::{BrokerKind, Codec, Group, Mode, Rate, Scenario, Settings};

/// What cost grows with.
#[derive(Clone, Copy)]
pub struct Growth {
    /// What the table and the plot are called.
    pub title: &'static str,
    /// The plot's file.
    pub file: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// Which scenarios are part of it.
    pub part: fn(&Scenario) -> bool,
    /// How far along a scenario is.
    pub value: fn(&Scenario) -> u32,
}

/// Everything that cost is shown to grow with.
pub const GROWTHS: [Growth; 5] = [
    Growth {
        title: "Partitions, saturated",
        file: "growth-partitions",
        unit: "partitions",
        part: |scenario| scenario.name.starts_with("growth-partitions-") && scenario.rate == Rate::Saturated,
        value: |scenario| scenario.partitions,
    },
    Growth {
        title: "Partitions, 100 k/s",
        file: "growth-partitions-rate",
        unit: "partitions",
        part: |scenario| scenario.name.starts_with("growth-partitions-") && scenario.rate != Rate::Saturated,
        value: |scenario| scenario.partitions,
    },
    Growth {
        title: "Producing tasks",
        file: "growth-tasks",
        unit: "tasks",
        part: |scenario| scenario.name.starts_with("growth-tasks-"),
        value: |scenario| scenario.tasks,
    },
    Growth {
        title: "Brokers",
        file: "growth-brokers",
        unit: "brokers",
        part: |scenario| scenario.name.starts_with("growth-brokers-"),
        value: |scenario| u32::from(scenario.brokers),
    },
    Growth {
        title: "Size of values",
        file: "growth-size",
        unit: "B",
        part: |scenario| {
            is_table_cell(scenario)
                && (scenario.mode, scenario.broker) == (Mode::Produce, BrokerKind::Null)
                && (scenario.settings, scenario.codec) == (Settings::Equal, Codec::None)
        },
        value: |scenario| scenario.size,
    },
];

impl Growth {
    /// Its sheets, from little to much.
    pub fn columns<'s, 'a>(&self, sheets: &'s Sheets<'a>) -> Vec<&'s Sheet<'a>> {
        let mut columns: Vec<&Sheet<'a>> =
            sheets.values().filter(|sheet| (self.part)(sheet.scenario)).collect();
        columns.sort_by_key(|sheet| (self.value)(sheet.scenario));
        columns
    }
}

/// Whether a scenario is a cell of the two tables.
pub fn is_table_cell(scenario: &Scenario) -> bool {
    scenario.group != Group::Growth
        && matches!(scenario.mode, Mode::Produce | Mode::Consume)
        && scenario.rate == Rate::Saturated
}
