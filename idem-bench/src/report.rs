//! The figures of all runs, as a table for people and as JSON for machines.

use std::fmt;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Value, json};

use crate::rounds::Spread;

/// One figure of one run.
#[derive(Debug)]
pub(crate) struct Figure {
    /// A short name that stays the same between versions.
    pub(crate) id: &'static str,
    /// What was measured.
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    pub(crate) value: Spread,
    /// What explains the value, in the same unit: the floor, the subject, the same of another map.
    pub(crate) comparisons: Vec<(&'static str, Spread)>,
    /// How long the disk took to flush a page at that time, in milliseconds, where that is part of the value.
    pub(crate) flush: Option<Spread>,
}

/// What a value has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// It is there to explain others.
    Untargeted,
}

impl Figure {
    fn is_met(&self) -> bool {
        match self.target {
            Target::AtMost(target) => self.value.median <= target,
            Target::AtLeast(target) => self.value.median >= target,
            Target::Untargeted => true,
        }
    }
}

/// All runs.
#[derive(Debug)]
pub(crate) struct Report {
    store: String,
    quick: bool,
    runs: Vec<Vec<Figure>>,
}

impl Report {
    pub(crate) fn new(store: &str, quick: bool) -> Self {
        Self { store: store.to_owned(), quick, runs: Vec::new() }
    }

    pub(crate) fn add_run(&mut self, figures: Vec<Figure>) {
        self.runs.push(figures);
    }

    pub(crate) fn all_met(&self) -> bool {
        self.runs.iter().flatten().all(Figure::is_met)
    }

    /// The figures of each run that have the same id.
    fn by_figure(&self) -> impl Iterator<Item = Vec<&Figure>> {
        let first = self.runs.first().into_iter().flatten();
        first.map(|figure| self.runs.iter().flatten().filter(|other| other.id == figure.id).collect())
    }

    pub(crate) fn to_json(&self) -> Value {
        let figure = |runs: Vec<&Figure>| {
            let run = |figure: &&Figure| {
                let comparisons: serde_json::Map<_, _> = figure
                    .comparisons
                    .iter()
                    .map(|(name, spread)| ((*name).to_owned(), spread_json(spread)))
                    .collect();
                json!({
                    "value": spread_json(&figure.value),
                    "comparisons": comparisons,
                    "flush_ms": figure.flush.as_ref().map(spread_json),
                    "met": figure.is_met(),
                })
            };
            json!({
                "id": runs[0].id,
                "what": runs[0].what,
                "unit": runs[0].unit,
                "target": target(runs[0]),
                "verdict": verdict(&runs),
                "runs": runs.iter().map(run).collect::<Vec<_>>(),
            })
        };
        json!({
            "store": self.store,
            "quick": self.quick,
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "figures": self.by_figure().map(figure).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["figure", "target", "measured (least .. greatest)", "verdict", "compared with"]);
        for runs in self.by_figure() {
            let figure = runs[0];
            let lines = |line: &dyn Fn(&Figure) -> String| {
                runs.iter().map(|figure| line(figure)).collect::<Vec<_>>().join("\n")
            };
            let measured = lines(&|figure| spread(&figure.value, figure.unit));
            let comparisons = lines(&|figure| {
                let of =
                    |(name, value): &(&str, Spread)| format!("{name} {}", number(value.median, figure.unit));
                let flush = figure.flush.map(|flush| format!("flush {}", number(flush.median, "ms")));
                figure.comparisons.iter().map(of).chain(flush).collect::<Vec<_>>().join(", ")
            });
            let what = format!("{} {}", figure.id, figure.what);
            table.add_row([what, target(figure), measured, verdict(&runs), comparisons]);
        }
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        writeln!(
            f,
            "{} on {cores} cores{}",
            self.store,
            if self.quick { ", quick: not to be judged by" } else { "" }
        )?;
        write!(f, "{table}")
    }
}

fn verdict(runs: &[&Figure]) -> String {
    let missed = runs.iter().filter(|figure| !figure.is_met()).count();
    match (missed, runs[0].target) {
        (_, Target::Untargeted) => "-".to_owned(),
        (0, _) => "met".to_owned(),
        (missed, _) => format!("MISSED in {missed} of {}", runs.len()),
    }
}

fn target(figure: &Figure) -> String {
    match figure.target {
        Target::AtMost(target) => format!("<= {}", number(target, figure.unit)),
        Target::AtLeast(target) => format!(">= {}", number(target, figure.unit)),
        Target::Untargeted => "-".to_owned(),
    }
}

fn spread(spread: &Spread, unit: &str) -> String {
    if spread.least.to_bits() == spread.greatest.to_bits() {
        return number(spread.median, unit);
    }
    let [median, least, greatest] =
        [spread.median, spread.least, spread.greatest].map(|value| number(value, unit));
    format!("{median} ({least} .. {greatest})")
}

fn number(value: f64, unit: &str) -> String {
    let digits = if value.abs() < 10.0 && unit != "ns" { 2 } else { 0 };
    format!("{value:.digits$} {unit}")
}

fn spread_json(spread: &Spread) -> Value {
    json!({ "median": spread.median, "least": spread.least, "greatest": spread.greatest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(target: Target, values: [f64; 3]) -> Report {
        let mut report = Report::new("memory:", false);
        for value in values {
            let value = Spread::single(value);
            let (what, comparisons) = ("something".to_owned(), vec![("floor", Spread::single(1.0))]);
            report.add_run(vec![Figure {
                id: "a",
                what,
                unit: "ns",
                target,
                value,
                comparisons,
                flush: None,
            }]);
        }
        report
    }

    #[test]
    fn a_target_missed_in_one_run_is_missed() {
        assert!(report(Target::AtMost(10.0), [9.0, 10.0, 1.0]).all_met());
        assert!(report(Target::AtLeast(10.0), [10.0, 11.0, 12.0]).all_met());
        assert!(!report(Target::AtLeast(10.0), [9.0, 11.0, 12.0]).all_met());
        let missed = report(Target::AtMost(10.0), [9.0, 11.0, 1.0]);
        assert!(!missed.all_met());
        assert_eq!(missed.to_json()["figures"][0]["verdict"], "MISSED in 1 of 3");
        assert!(missed.to_string().contains("MISSED in 1 of 3"));
    }
}
