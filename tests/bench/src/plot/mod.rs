//! Plots of the figures of one run, or of two to compare them.

mod chart;

use crate::bench::STORE_RATE;
use crate::figures;
use crate::goals::step_of;
use crate::numbers::float;
use crate::record::Record;
use anyhow::Context as _;
use chart::{Chart, Ink, Series};
use std::path::Path;

/// The figures of a run and what the run is called.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    /// What it is called in legends; empty if there is only one.
    pub name: String,
    /// Its figures.
    pub records: Vec<Record>,
}

/// Draws what there are figures for; says which files were written.
pub fn draw(sources: &[Source], directory: &Path) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("{} can't be made; name another directory by --svg", directory.display()))?;
    let mut files = Vec::new();
    for (name, chart) in charts(sources) {
        if chart.series.is_empty() {
            continue;
        }
        let path = directory.join(format!("{name}.svg"));
        chart.draw(&path)?;
        files.push(path.display().to_string());
    }
    Ok(files)
}

/// A figure to draw as a line: the name in the legend, the figure, how it looks.
type Line<'a> = (&'a str, &'a str, Ink);

fn charts(sources: &[Source]) -> Vec<(&'static str, Chart)> {
    let lateness = ["p50", "p99"].map(|percentile| format!("{} {percentile}", figures::LATENESS));
    let throughput: &[Line<'_>] =
        &[("steps of W1", figures::THROUGHPUT, Ink::Figure(0)), ("commits of the bare store", STORE_RATE, Ink::Limit)];
    let lateness: &[Line<'_>] = &[("p50", &lateness[0], Ink::Figure(0)), ("p99", &lateness[1], Ink::Figure(1))];
    let size: &[Line<'_>] =
        &[("memory", figures::PARKED_MEMORY, Ink::Figure(0)), ("disk", figures::PARKED_DISK, Ink::Figure(1))];
    let restart: &[Line<'_>] = &[
        ("ready", figures::READY, Ink::Figure(0)),
        ("first callback", figures::FIRST_CALLBACK, Ink::Figure(1)),
        ("last of 1,000 callbacks", figures::LAST_CALLBACK, Ink::Figure(2)),
    ];
    let of = |work, lines| lines_of(sources, work, lines);
    let chart = |title: &str, x: &str, y: &str, log_y, series| Chart {
        title: title.to_owned(),
        x: x.to_owned(),
        y: y.to_owned(),
        log_y,
        series,
    };
    let (clients, parked) = ("clients at once", "parked workflows");
    vec![
        ("w1-throughput", chart("W1: ten activities in a row", clients, "per second", true, of("W1", throughput))),
        ("w3-lateness", chart("W3: lateness of timers", "timers", "milliseconds late", true, of("W3", lateness))),
        ("w4-size", chart("W4: what a parked workflow takes", parked, "bytes per workflow", false, of("W4", size))),
        (
            "w4-restart",
            chart("W4: restart after kill -9", parked, "milliseconds since process start", true, of("W4", restart)),
        ),
        ("w5-step", chart("W5: time per step", "steps taken before", "microseconds per step", false, steps(sources))),
    ]
}

fn lines_of(sources: &[Source], work: &str, lines: &[Line<'_>]) -> Vec<Series> {
    let mut all = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        for (name, figure, ink) in lines {
            let records = source.records.iter().filter(|record| record.work == work && record.figure == *figure);
            let points = records.map(|record| (float(record.concurrency), record.value)).collect();
            all.extend(series(source, name, points, *ink, is_earlier(sources, index)));
        }
    }
    all
}

/// The longest run of each source, piece by piece.
fn steps(sources: &[Source]) -> Vec<Series> {
    let line = |(index, source): (usize, &Source)| {
        let pieces = || source.records.iter().filter_map(|record| Some((step_of(record)?, record)));
        let longest = pieces().map(|(_, record)| record.concurrency).max()?;
        let pieces = pieces().filter(|(_, record)| record.concurrency == longest);
        // A logarithmic axis has no zero: the first piece stands at its first 100 steps.
        let points = pieces.map(|(start, record)| (float(start.max(100)), record.value)).collect();
        let name = format!("a run of {} steps", crate::numbers::shown(float(longest)));
        series(source, &name, points, Ink::Figure(0), is_earlier(sources, index))
    };
    sources.iter().enumerate().filter_map(line).collect()
}

fn is_earlier(sources: &[Source], index: usize) -> bool {
    index + 1 < sources.len()
}

/// A line, if it has points. What is not above zero has no place on a logarithmic axis and lies at its lower end.
fn series(source: &Source, name: &str, points: Vec<(f64, f64)>, ink: Ink, dashed: bool) -> Option<Series> {
    const LEAST: f64 = 0.01;
    let mut points: Vec<(f64, f64)> = points.into_iter().map(|(x, y)| (x, y.max(LEAST))).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    let name = if source.name.is_empty() { name.to_owned() } else { format!("{name}, {}", source.name) };
    (!points.is_empty()).then_some(Series { name, points, ink, dashed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, factor: f64) -> Source {
        let record = |work: &str, concurrency, figure: &str, value: f64| {
            Record::new(work, concurrency, figure, value * factor, "")
        };
        let records = vec![
            record("W1", 512, figures::THROUGHPUT, 40_000.0),
            record("W1", 1, figures::THROUGHPUT, 2_000.0),
            record("W1", 1, STORE_RATE, 5_000.0),
            record("W3", 10_000, "lateness p50", 0.0),
            record("W4", 10_000, figures::PARKED_MEMORY, 500.0),
            record("W4", 10_000, figures::READY, 40.0),
            record("W5", 1_000, "time per step from 0", 9_999.0),
            record("W5", 10_000, "time per step from 9000", 210.0),
            record("W5", 10_000, "time per step from 0", 200.0),
        ];
        Source { name: name.to_owned(), records }
    }

    #[test]
    fn lines_run_to_the_right_and_the_longest_run_is_drawn() {
        let charts = charts(&[run("", 1.0)]);
        let series = |name: &str| &charts.iter().find(|(chart, _)| *chart == name).unwrap().1.series;
        assert_eq!(series("w1-throughput")[0].points, [(1.0, 2_000.0), (512.0, 40_000.0)]);
        assert_eq!(series("w1-throughput")[1].ink, Ink::Limit);
        assert_eq!(series("w5-step")[0].points, [(100.0, 200.0), (9_000.0, 210.0)]);
        assert_eq!(series("w3-lateness")[0].points, [(10_000.0, 0.01)]);
    }

    #[test]
    fn of_two_runs_the_earlier_one_is_dashed_and_both_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let sources = [run("before", 1.0), run("after", 2.0)];
        let lines = lines_of(&sources, "W1", &[("steps", figures::THROUGHPUT, Ink::Figure(0))]);
        let looks: Vec<(&str, bool)> = lines.iter().map(|line| (line.name.as_str(), line.dashed)).collect();
        assert_eq!(looks, [("steps, before", true), ("steps, after", false)]);
        let files = draw(&sources, directory.path()).unwrap();
        assert_eq!(files.len(), 5);
        for file in files {
            let svg = std::fs::read_to_string(&file).unwrap();
            assert!(svg.contains("before") && svg.contains("after"), "{file}");
        }
    }

    #[test]
    fn without_figures_nothing_is_drawn() {
        let directory = tempfile::tempdir().unwrap();
        assert!(draw(&[Source { name: String::new(), records: Vec::new() }], directory.path()).unwrap().is_empty());
    }
}
