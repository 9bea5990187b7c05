//! The goals, judged by the figures of a run. A goal whose figures were not measured is left out.

use crate::bench::{HTTP_TIME, STORE_TIME};
use crate::figures;
use crate::numbers::{float, shown};
use crate::record::Record;
use std::fmt;

/// The share of the bare store's commits that W1 is to reach in steps.
const STEPS_BY_COMMITS: f64 = 0.5;

/// How a figure stands to its bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Relation {
    AtLeast,
    AtMost,
    Above,
    Below,
}

/// A goal and whether it was met.
#[derive(Clone, PartialEq, Debug)]
pub struct Goal {
    number: u8,
    what: String,
    value: f64,
    relation: Relation,
    bound: f64,
    unit: &'static str,
}

impl Goal {
    /// Whether it was met.
    pub fn is_met(&self) -> bool {
        match self.relation {
            Relation::AtLeast => self.value >= self.bound,
            Relation::AtMost => self.value <= self.bound,
            Relation::Above => self.value > self.bound,
            Relation::Below => self.value < self.bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_met() { "pass" } else { "FAIL" };
        let relation = match self.relation {
            Relation::AtLeast => ">=",
            Relation::AtMost => "<=",
            Relation::Above => ">",
            Relation::Below => "<",
        };
        let Goal { number, what, value, bound, unit, .. } = self;
        write!(f, "{verdict}  {number}. {what}: {} {relation} {}", shown(*value), shown(*bound))?;
        if unit.is_empty() { Ok(()) } else { write!(f, " {unit}") }
    }
}

/// The figures of a run, to look things up in.
struct Figures<'a>(&'a [Record]);

impl Figures<'_> {
    fn record(&self, work: &str, concurrency: u64, figure: &str) -> Option<&Record> {
        let is_it =
            |record: &&Record| record.work == work && record.concurrency == concurrency && record.figure == figure;
        self.0.iter().rev().find(is_it)
    }

    fn value(&self, work: &str, concurrency: u64, figure: &str) -> Option<f64> {
        self.record(work, concurrency, figure).map(|record| record.value)
    }

    fn ratio(&self, work: &str, concurrency: u64, figure: &str) -> Option<f64> {
        self.record(work, concurrency, figure)?.ratio
    }

    /// The counts for which a work has a figure, in order.
    fn counts(&self, work: &str, figure: &str) -> Vec<u64> {
        let records = self.0.iter().filter(|record| record.work == work && record.figure == figure);
        let mut counts: Vec<u64> = records.map(|record| record.concurrency).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }
}

/// Judges a run.
pub fn judge(records: &[Record]) -> Vec<Goal> {
    let figures = Figures(records);
    let all = [sequential(&figures), callback(&figures), timers(&figures), parked(&figures)];
    let more = [long_history(&figures), idle(&figures), written(&figures)];
    all.into_iter().chain(more).flatten().collect()
}

type Goals = Vec<Goal>;

/// One goal, if its figure was measured.
fn goal(
    number: u8,
    what: impl Into<String>,
    value: Option<f64>,
    relation: Relation,
    bound: f64,
    unit: &'static str,
) -> Option<Goal> {
    value.map(|value| Goal { number, what: what.into(), value, relation, bound, unit })
}

/// Says of which works the ratios are worth little, because the disk changed while they were measured.
pub fn drifted(records: &[Record]) -> Vec<String> {
    const MUCH: f64 = 1.5;
    let drifted = records.iter().filter(|record| record.figure == figures::DRIFT && record.value > MUCH);
    let warn = |record: &Record| {
        let (work, at, drift) = (&record.work, shown(float(record.concurrency)), shown(record.value));
        format!(
            "note  {work} at {at}: the bare store drifted by a factor of {drift}; measure again to trust its ratios"
        )
    };
    drifted.map(warn).collect()
}

/// Says how much of what the goal for W1 leaves for a step is taken by the parts of a host alone.
pub fn share_of_the_parts(records: &[Record]) -> Option<String> {
    let figures = Figures(records);
    let most = figures.record("W1", 512, figures::PARTS)?;
    let share = shown(STEPS_BY_COMMITS / most.ratio? * 100.0);
    Some(format!(
        "note  W1 at 512: store, HTTP, guest and activity alone take {share} % of the CPU time that the goal by commits \
         leaves this machine for a step"
    ))
}

fn sequential(figures: &Figures<'_>) -> Goals {
    let throughput = figures::THROUGHPUT;
    let ratio = figures.ratio("W1", 512, throughput);
    let rate = figures.value("W1", 512, throughput);
    let alone = figures.ratio("W1", 1, figures::P50);
    let goals = [
        goal(1, "W1 steps at 512 clients by commits of the bare store", ratio, Relation::AtLeast, STEPS_BY_COMMITS, ""),
        goal(1, "W1 steps at 512 clients", rate, Relation::Above, 40_000.0, "steps/s"),
        goal(2, "W1 alone, ten steps by one commit of the bare store", alone, Relation::AtMost, 12.0, ""),
    ];
    goals.into_iter().flatten().collect()
}

fn callback(figures: &Figures<'_>) -> Goals {
    let time = figures.value("W2", 1, &format!("{} {}", figures::CALLBACK_COMPLETED, figures::P50));
    let limits = figures.value("W2", 1, STORE_TIME).zip(figures.value("W2", 1, HTTP_TIME));
    let latency = limits.and_then(|(commit, round_trip)| {
        let bound = 3.0 * commit + round_trip;
        goal(3, "W2 callback to completed, 3 commits and a round trip", time, Relation::AtMost, bound, "us")
    });
    let rate = figures.value("W2", 64, figures::CALLBACKS);
    let rate = goal(3, "W2 callbacks at 64 clients", rate, Relation::AtLeast, 5_000.0, "callbacks/s");
    latency.into_iter().chain(rate).collect()
}

fn timers(figures: &Figures<'_>) -> Goals {
    let late = format!("{} {}", figures::LATENESS, figures::P99);
    let of = |timers: u64| {
        let bound = if timers <= 10_000 { 20.0 } else { 100.0 };
        let (early, late) = (figures.value("W3", timers, figures::EARLY), figures.value("W3", timers, &late));
        let of = shown(float(timers));
        [
            goal(4, format!("W3 early ones of {of} timers"), early, Relation::AtMost, 0.0, ""),
            goal(4, format!("W3 lateness p99 of {of} timers"), late, Relation::Below, bound, "ms"),
        ]
    };
    figures.counts("W3", figures::EARLY).into_iter().flat_map(of).flatten().collect()
}

fn parked(figures: &Figures<'_>) -> Goals {
    let of = |parked: u64| {
        let value = |figure| figures.value("W4", parked, figure);
        let of = shown(float(parked));
        let (memory, disk) = (value(figures::PARKED_MEMORY), value(figures::PARKED_DISK));
        let first = value(figures::FIRST_CALLBACK);
        [
            goal(5, format!("W4 memory per workflow, {of} parked"), memory, Relation::AtMost, 1_024.0, "B"),
            goal(5, format!("W4 disk per workflow, {of} parked"), disk, Relation::AtMost, 2_048.0, "B"),
            goal(5, format!("W4 first callback after kill -9, {of} parked"), first, Relation::Below, 1_000.0, "ms"),
        ]
    };
    figures.counts("W4", figures::FIRST_CALLBACK).into_iter().flat_map(of).flatten().collect()
}

fn long_history(figures: &Figures<'_>) -> Goals {
    let recovery = figures.value("W5", 10_000, figures::RECOVERY);
    let recovery = goal(6, "W5 recovery of 10,000 steps, less start-up", recovery, Relation::Below, 100.0, "ms");
    flatness(figures).into_iter().chain(recovery).collect()
}

/// How far the time per step at the end of the longest run is from that after its first 1,000 steps.
fn flatness(figures: &Figures<'_>) -> Option<Goal> {
    let reference = format!("{}1000", figures::STEP_FROM);
    let steps = *figures.counts("W5", &reference).last()?;
    let pieces = figures.0.iter().filter(|record| record.work == "W5" && record.concurrency == steps);
    let starts = pieces.filter_map(|record| Some((step_of(record)?, record.value)));
    let (_, at_end) = starts.max_by_key(|(start, _)| *start)?;
    let change = (at_end / figures.value("W5", steps, &reference)? - 1.0).abs() * 100.0;
    let what = format!("W5 change of the time per step from 1,000 to {}", shown(float(steps)));
    goal(6, what, Some(change), Relation::AtMost, 20.0, "%")
}

/// The step from which a figure counts, if it is one of the time per step.
pub fn step_of(record: &Record) -> Option<u64> {
    record.figure.strip_prefix(figures::STEP_FROM)?.parse().ok()
}

fn idle(figures: &Figures<'_>) -> Goals {
    let (start_up, memory) = (figures.value("W7", 1, figures::START_UP), figures.value("W7", 1, figures::IDLE_MEMORY));
    let start_up = goal(7, "W7 start-up", start_up, Relation::Below, 100.0, "ms");
    start_up.into_iter().chain(goal(7, "W7 idle memory", memory, Relation::Below, 40.0, "MiB")).collect()
}

fn written(figures: &Figures<'_>) -> Goals {
    let bytes = figures.value("W1", 512, figures::WAL_BYTES);
    goal(8, "W1 bytes of the log per workflow at 512 clients", bytes, Relation::Below, 4_096.0, "B")
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Limit;

    fn verdicts(records: &[Record]) -> Vec<(u8, bool)> {
        judge(records).iter().map(|goal| (goal.number, goal.is_met())).collect()
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert_eq!(judge(&[]), []);
        let elsewhere = Record::new("W1", 64, figures::THROUGHPUT, 50_000.0, "steps/s");
        assert_eq!(judge(&[elsewhere]), []);
    }

    #[test]
    fn w1_is_judged_by_its_ratio_and_by_its_rate() {
        let at = |rate: f64, limit: f64| {
            let record = Record::new("W1", 512, figures::THROUGHPUT, rate, "steps/s");
            verdicts(&[record.beside(Limit::new("bare-store commits", limit))])
        };
        assert_eq!(at(41_000.0, 82_000.0), [(1, true), (1, true)]);
        assert_eq!(at(41_000.0, 83_000.0), [(1, false), (1, true)]);
        assert_eq!(at(40_000.0, 60_000.0), [(1, true), (1, false)]);
        let alone = Record::new("W1", 1, figures::P50, 1_200.0, "us").beside(Limit::new(STORE_TIME, 100.0));
        assert_eq!(verdicts(&[alone]), [(2, true)]);
    }

    #[test]
    fn w2_is_judged_by_three_commits_and_a_round_trip() {
        let at = |time: f64| {
            verdicts(&[
                Record::new("W2", 1, STORE_TIME, 100.0, "us"),
                Record::new("W2", 1, HTTP_TIME, 30.0, "us"),
                Record::new("W2", 1, "callback to completed p50", time, "us"),
            ])
        };
        assert_eq!(at(330.0), [(3, true)]);
        assert_eq!(at(331.0), [(3, false)]);
    }

    #[test]
    fn more_timers_may_be_later() {
        let at = |timers: u64, late: f64| {
            let early = Record::new("W3", timers, figures::EARLY, 0.0, "workflows");
            verdicts(&[early, Record::new("W3", timers, "lateness p99", late, "ms")])
        };
        assert_eq!(at(10_000, 20.0), [(4, true), (4, false)]);
        assert_eq!(at(100_000, 20.0), [(4, true), (4, true)]);
        let early = Record::new("W3", 10, figures::EARLY, 1.0, "workflows");
        assert_eq!(verdicts(&[early]), [(4, false)]);
    }

    #[test]
    fn every_count_of_parked_workflows_is_judged() {
        let of = |parked: u64| {
            [
                Record::new("W4", parked, figures::FIRST_CALLBACK, 999.0, "ms"),
                Record::new("W4", parked, figures::PARKED_MEMORY, 1_024.0, "B"),
                Record::new("W4", parked, figures::PARKED_DISK, 2_049.0, "B"),
            ]
        };
        let judged = verdicts(&[of(10), of(1_000)].concat());
        assert_eq!(judged, [(5, true), (5, false), (5, true)].repeat(2));
    }

    #[test]
    fn the_time_per_step_may_change_by_a_fifth_either_way() {
        let at = |end: f64| {
            verdicts(&[
                Record::new("W5", 10_000, "time per step from 1000", 1.0, "us"),
                Record::new("W5", 10_000, "time per step from 9000", 9.0, "us"),
                Record::new("W5", 100_000, "time per step from 1000", 100.0, "us"),
                Record::new("W5", 100_000, "time per step from 99000", end, "us"),
                Record::new("W5", 100_000, "time per step from 50000", 500.0, "us"),
            ])
        };
        assert_eq!(at(119.0), [(6, true)]);
        assert_eq!(at(81.0), [(6, true)]);
        assert_eq!(at(121.0), [(6, false)]);
        assert_eq!(at(79.0), [(6, false)]);
    }

    #[test]
    fn the_last_goals_have_plain_bounds() {
        let records = [
            Record::new("W5", 10_000, figures::RECOVERY, 99.0, "ms"),
            Record::new("W7", 1, figures::START_UP, 100.0, "ms"),
            Record::new("W7", 1, figures::IDLE_MEMORY, 39.0, "MiB"),
            Record::new("W1", 512, figures::WAL_BYTES, 4_000.0, "B"),
        ];
        assert_eq!(verdicts(&records), [(6, true), (7, false), (7, true), (8, true)]);
    }

    #[test]
    fn a_disk_that_changed_is_named() {
        let drift = |factor| drifted(&[Record::new("W1", 512, figures::DRIFT, factor, "x")]);
        assert!(drift(1.4).is_empty());
        assert!(drift(6.0)[0].contains("W1 at 512: the bare store drifted by a factor of 6"));
    }

    #[test]
    fn the_parts_are_put_beside_what_the_goal_leaves() {
        let most = Record::new("W1", 512, figures::PARTS, 100_000.0, "steps/s");
        let note = share_of_the_parts(&[most.beside(Limit::new("bare-store commits", 100_000.0))]);
        assert!(note.as_ref().is_some_and(|note| note.contains("alone take 50 %")), "{note:?}");
        assert_eq!(share_of_the_parts(&[]), None);
    }

    #[test]
    fn a_goal_says_what_it_found_and_what_was_asked() {
        let goals = judge(&[Record::new("W7", 1, figures::IDLE_MEMORY, 41.5, "MiB")]);
        assert_eq!(goals[0].to_string(), "FAIL  7. W7 idle memory: 41.50 < 40 MiB");
    }
}
