//! The report: for each scenario a table with the median of each figure on each system, its spread, and the ratio to the
//! first system; runs that did something wrong are named and do not count. Plots are small SVGs of the same figures.

use std::collections::BTreeMap;

use crate::{machine::Machine, run::Run, series::median};

mod plot;

/// Figures that a plot is made of, where a scenario has them.
const PLOTTED: [&str; 6] = [
    "deliveries/s",
    "acks/s",
    "requests/s",
    "memory per socket connected (PSS), kB",
    "at a rate: product CPU per delivery, us",
    "product CPU per send, us",
];

/// Problems of one run that the report tells; the raw data has all.
const PROBLEMS_SHOWN: usize = 3;

/// The good runs of one scenario: side → figure → values.
type Figures<'a> = BTreeMap<&'a str, Vec<f64>>;

/// The names of the scenarios, and of the systems within one, in the order in which they were run.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

fn figures<'a>(runs: &[&'a Run], side: &str) -> Figures<'a> {
    let mut figures: Figures<'a> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.side == side && run.counts()) {
        for (name, value) in &run.figures {
            figures.entry(name).or_default().push(*value);
        }
    }
    figures
}

/// The whole report.
pub(crate) fn markdown(runs: &[Run], machine: &Machine) -> String {
    let mut text = format!("# Measured\n\n{}\n", machine.markdown());
    text.push_str("Median of the runs (least to most); ×: the first system's figure divided by this one's.\n");
    for scenario in in_order(runs.iter().map(|run| run.scenario.as_str())) {
        let runs: Vec<_> = runs.iter().filter(|run| run.scenario == scenario).collect();
        text.push_str(&format!("\n## {scenario}\n\n{}", table(&runs)));
        for run in runs.iter().filter(|run| !run.problems.is_empty()) {
            let what = if run.counts() { "Counted with its faults" } else { "Not counted" };
            let shown = run.problems.iter().take(PROBLEMS_SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
            let more = run.problems.len().saturating_sub(PROBLEMS_SHOWN);
            let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
            text.push_str(&format!("\n{what}: {}, run {}: {shown}{rest}\n", run.side, run.round));
        }
    }
    text
}

fn table(runs: &[&Run]) -> String {
    let sides = in_order(runs.iter().map(|run| run.side.as_str()));
    let columns: Vec<_> = sides.iter().map(|side| figures(runs, side)).collect();
    let names: std::collections::BTreeSet<_> = columns.iter().flat_map(|column| column.keys().copied()).collect();
    let mut text = format!("| figure | {} |\n|---|{}\n", sides.join(" | "), "---|".repeat(sides.len()));
    for name in names {
        text.push_str(&format!("| {name} |"));
        let first = columns.first().and_then(|column| column.get(name)).map(|values| median(values));
        for (place, column) in columns.iter().enumerate() {
            let cell = match column.get(name) {
                Some(values) if place == 0 => spread(values),
                Some(values) => format!("{}{}", spread(values), ratio(first, median(values))),
                None => "–".to_owned(),
            };
            text.push_str(&format!(" {cell} |"));
        }
        text.push('\n');
    }
    text
}

fn ratio(first: Option<f64>, other: f64) -> String {
    match first {
        Some(first) if other != 0.0 => format!(" ×{:.2}", first / other),
        _ => String::new(),
    }
}

fn spread(values: &[f64]) -> String {
    let (min, max) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(*value), max.max(*value)));
    let middle = number(median(values));
    if values.len() == 1 { middle } else { format!("{middle} ({} to {})", number(min), number(max)) }
}

/// Three digits or the whole number.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place) % 3 == 0 && digit.is_ascii_digit() && !text.ends_with('-') {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A plot for each figure worth one: its file's name and its SVG.
pub(crate) fn plots(runs: &[Run]) -> Vec<(String, String)> {
    let mut plots = Vec::new();
    for scenario in in_order(runs.iter().map(|run| run.scenario.as_str())) {
        let runs: Vec<_> = runs.iter().filter(|run| run.scenario == scenario).collect();
        let sides = in_order(runs.iter().map(|run| run.side.as_str()));
        for figure in PLOTTED {
            let bars: Vec<_> = sides
                .iter()
                .filter_map(|side| {
                    let values = figures(&runs, side).remove(figure)?;
                    Some(plot::Bar { name: (*side).to_owned(), values })
                })
                .collect();
            if bars.len() > 1 {
                let name: String = format!("{scenario}-{figure}")
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
                    .collect();
                plots.push((format!("{name}.svg"), plot::bars(&format!("{scenario}: {figure}"), &bars, number)));
            }
        }
    }
    plots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(side: &str, value: f64, problem: Option<&str>) -> Run {
        let mut run = Run { scenario: "fan-out".into(), side: side.into(), ..Run::default() };
        run.figure("deliveries/s", value);
        run.problems.extend(problem.map(str::to_owned));
        run
    }

    #[test]
    fn the_table_has_medians_spreads_and_ratios_and_no_bad_run() {
        let runs = [
            run("switchboard", 300_000.0, None),
            run("node", 100_000.0, None),
            run("switchboard", 400_000.0, None),
            // A peer's faults are told, and its figures count.
            run("node", 100_000.0, Some("seq has holes")),
            run("switchboard", 9.0, Some("two sockets saw different orders")),
        ];
        let text = table(&runs.iter().collect::<Vec<_>>());
        assert!(text.contains("| 350,000 (300,000 to 400,000) | 100,000 (100,000 to 100,000) ×3.50 |"), "{text}");
        let [(name, svg)] = &plots(&runs)[..] else { panic!("one plot") };
        assert_eq!(name, "fan-out-deliveries-s.svg");
        assert!(svg.starts_with("<svg") && svg.contains("350,000") && svg.contains("node"));
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(1_234_567.8, "1,234,568"), (-1_234.0, "-1,234"), (123.4, "123"), (12.34, "12.3"), (0.5, "0.50")]
        {
            assert_eq!(number(value), text);
        }
    }
}
