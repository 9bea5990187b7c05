//! What a schedule does at each moment. The clock is a number, and instances run or have ended as the test says.

use super::super::requests::{PutSchedule, new};
use super::super::timing::in_id;
use super::super::timing::tests::{at, spec};
use super::*;
use rehydrate_store::ScheduleSpec;
use std::collections::BTreeSet;

const BEGIN: &str = "2026-01-31T00:00:00Z";

/// A schedule under a clock of the test, with the instances it has started.
struct World {
    row: ScheduleRow,
    now: Timestamp,
    there: BTreeSet<String>,
    asked_to_cancel: usize,
    terminated: usize,
}

impl World {
    /// A schedule that is due every ten seconds, made at [`BEGIN`].
    fn new(change: impl FnOnce(&mut ScheduleSpec)) -> World {
        let mut spec = spec("every 10s", "UTC");
        change(&mut spec);
        let put = PutSchedule { spec, paused: None, note: None };
        let now = at(BEGIN);
        World { row: new("s", put, now), now, there: BTreeSet::new(), asked_to_cancel: 0, terminated: 0 }
    }

    fn overlapping(overlap: Overlap) -> World {
        World::new(|spec| spec.overlap = overlap)
    }

    fn catching_up(catch_up: CatchUp, window_seconds: u64) -> World {
        World::new(|spec| {
            (spec.catch_up, spec.overlap) = (catch_up, Overlap::Allow);
            spec.catch_up_window = Nanos::from_secs(window_seconds);
        })
    }

    fn decide(&self) -> Step {
        let timing = Timing::parse(&self.row.spec).expect("a schedule");
        let next = timing.next_after(self.row.through);
        let next_is_there = next.is_some_and(|due| self.there.contains(&in_id(due)));
        decide(&Moment { row: &self.row, timing: &timing, now: self.now, next_is_there })
    }

    /// Takes steps until there is nothing more to do; the seconds of the due times whose instances began.
    fn settle(&mut self) -> Vec<i64> {
        let mut begun = Vec::new();
        for _ in 0..10_000 {
            match self.decide() {
                Step::Sleep(until) => {
                    assert!(until.is_none_or(|until| until > self.now));
                    return begun;
                }
                Step::Skip { through, count, why } => skipped(&mut self.row, through, count, why),
                Step::Hold { due, cancel } => {
                    self.asked_to_cancel += usize::from(cancel);
                    held(&mut self.row, due);
                }
                Step::Start { due, terminate } => {
                    if terminate {
                        self.terminated += self.row.running.len();
                        self.row.running.clear();
                    }
                    if self.there.insert(in_id(due)) {
                        begun.push((due.0 - at(BEGIN).0) / 1_000_000_000);
                    }
                    fired(&mut self.row, due, self.now, in_id(due), RunNumber::FIRST);
                }
            }
        }
        panic!("it never settles: {:?}", self.row);
    }

    /// The clock shows so many seconds after [`BEGIN`].
    fn at(&mut self, seconds: i64) -> Vec<i64> {
        self.now = Timestamp(at(BEGIN).0 + seconds * 1_000_000_000);
        self.settle()
    }

    /// What runs has ended.
    fn ended(&mut self) -> Vec<i64> {
        self.row.running.clear();
        self.settle()
    }

    fn counts(&self) -> [u64; 4] {
        [self.row.fired, self.row.skipped, self.row.missed, self.row.failed]
    }
}

#[test]
fn a_due_time_is_met_once_and_not_before_its_time() {
    let mut world = World::overlapping(Overlap::Allow);
    assert_eq!(world.at(9), [] as [i64; 0]);
    assert_eq!(world.decide(), Step::Sleep(Some(Timestamp(at(BEGIN).0 + 10_000_000_000))));
    assert_eq!(world.at(10), [10]);
    assert_eq!(world.at(11), [] as [i64; 0]);
    assert_eq!(world.at(20), [20]);
    assert_eq!(world.counts(), [2, 0, 0, 0]);
}

#[test]
fn skip_leaves_out_what_is_due_while_an_instance_runs() {
    let mut world = World::overlapping(Overlap::Skip);
    assert_eq!((world.at(10), world.at(20), world.at(30)), (vec![10], vec![], vec![]));
    assert_eq!(world.ended(), [] as [i64; 0], "what was left out is not made later");
    assert_eq!(world.at(40), [40]);
    assert_eq!(world.counts(), [2, 2, 0, 0]);
}

#[test]
fn allow_starts_beside_what_runs() {
    let mut world = World::overlapping(Overlap::Allow);
    assert_eq!((world.at(10), world.at(20)), (vec![10], vec![20]));
    assert_eq!(world.row.running.len(), 2);
}

#[test]
fn buffer_one_keeps_the_first_that_is_due_until_what_runs_has_ended() {
    let mut world = World::overlapping(Overlap::BufferOne);
    assert_eq!((world.at(10), world.at(20), world.at(30)), (vec![10], vec![], vec![]));
    assert_eq!(world.row.waiting.map(in_id).as_deref(), Some("2026-01-31T00:00:20Z"));
    assert_eq!(world.ended(), [20]);
    assert_eq!((world.ended(), world.row.waiting), (vec![], None), "only one waits");
    assert_eq!(world.counts(), [2, 1, 0, 0]);
}

#[test]
fn cancel_other_keeps_the_newest_until_what_runs_has_ended() {
    let mut world = World::overlapping(Overlap::CancelOther);
    assert_eq!((world.at(10), world.at(20), world.at(30)), (vec![10], vec![], vec![]));
    assert_eq!(world.asked_to_cancel, 2);
    assert_eq!(world.ended(), [30]);
    assert_eq!(world.counts(), [2, 1, 0, 0]);
}

#[test]
fn terminate_other_ends_what_runs_and_starts_at_once() {
    let mut world = World::overlapping(Overlap::TerminateOther);
    assert_eq!((world.at(10), world.at(20), world.at(30)), (vec![10], vec![20], vec![30]));
    assert_eq!((world.terminated, world.row.running.len()), (2, 1));
}

#[test]
fn after_an_outage_what_lies_in_the_window_is_made_and_the_rest_is_missed() {
    let mut world = World::catching_up(CatchUp::All, 60);
    assert_eq!(world.at(605), [550, 560, 570, 580, 590, 600]);
    assert_eq!(world.counts(), [6, 0, 54, 0]);
    assert_eq!(world.at(610), [610]);
}

#[test]
fn only_the_latest_is_made_if_so_asked_and_only_within_the_window() {
    let mut world = World::catching_up(CatchUp::Latest, 60);
    assert_eq!(world.at(605), [600]);
    assert_eq!(world.counts(), [1, 0, 59, 0]);
    let mut world = World::new(|spec| (spec.cron, spec.catch_up) = ("every 10m".to_owned(), CatchUp::Latest));
    assert_eq!(world.at(670), [] as [i64; 0]);
    assert_eq!(world.counts(), [0, 0, 1, 0]);
}

#[test]
fn none_is_made_late_but_a_host_that_was_busy_for_a_moment_makes_it() {
    let mut world = World::catching_up(CatchUp::None, 60);
    assert_eq!(world.at(606), [] as [i64; 0]);
    assert_eq!(world.counts(), [0, 0, 60, 0]);
    assert_eq!(world.at(614), [610]);
}

#[test]
fn an_outage_of_years_is_over_in_a_few_steps() {
    for catch_up in [CatchUp::All, CatchUp::Latest, CatchUp::None] {
        let mut world = World::new(|spec| {
            (spec.cron, spec.overlap, spec.catch_up) = ("* * * * * *".to_owned(), Overlap::Allow, catch_up);
            spec.catch_up_window = ON_TIME;
        });
        let years = 20 * 365 * 24 * 3_600;
        let begun = world.at(years);
        assert_eq!(begun.last(), Some(&years), "{catch_up:?}");
        assert!(begun.len() <= 6 && world.row.missed >= 1_000, "{catch_up:?}: {begun:?}");
    }
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_twice_and_one_set_forward_makes_it_once() {
    let mut world = World::overlapping(Overlap::Allow);
    assert_eq!(world.at(10), [10]);
    assert_eq!(world.at(3_600 + 10).last(), Some(&3_610));
    let all = world.counts();
    for seconds in [5, 10, 20, 3_000, 3_610] {
        assert_eq!(world.at(seconds), [] as [i64; 0]);
    }
    assert_eq!(world.counts(), all);
    assert_eq!(world.at(3_620), [3_620]);
}

#[test]
fn an_instance_that_was_started_before_a_crash_is_found_however_late_that_is() {
    let mut world = World::overlapping(Overlap::Skip);
    let before = world.row.clone();
    assert_eq!(world.at(10), [10]);
    // The host ended before the row was written, and comes back after more than the window.
    world.row = before;
    assert_eq!(world.at(3_600), [] as [i64; 0]);
    assert_eq!(world.row.last.as_ref().map(|run| run.instance.as_str()), Some("2026-01-31T00:00:10Z"));
    assert_eq!(world.row.fired, 1);
    assert_eq!(world.row.running.len(), 1, "and it counts as running");
}

#[test]
fn a_schedule_is_over_after_its_runs() {
    let mut world = World::new(|spec| (spec.remaining_runs, spec.overlap) = (Some(2), Overlap::Allow));
    assert_eq!((world.at(10), world.at(20), world.at(30)), (vec![10], vec![20], vec![]));
    assert_eq!((world.decide(), world.row.remaining), (Step::Sleep(None), Some(0)));
}

#[test]
fn a_due_time_left_out_or_failed_takes_none_of_the_runs() {
    let mut world = World::new(|spec| spec.remaining_runs = Some(2));
    assert_eq!((world.at(10), world.at(20)), (vec![10], vec![]));
    let error = ScheduleError { due: at("2026-01-31T00:00:30Z"), at: world.now, code: "c".into(), message: "m".into() };
    failed(&mut world.row, error);
    assert_eq!((world.row.remaining, world.counts()), (Some(1), [1, 1, 0, 1]));
    world.row.running.clear();
    assert_eq!((world.at(30), world.at(40)), (vec![], vec![40]));
}

#[test]
fn a_waiting_due_time_that_fails_waits_no_more() {
    let mut world = World::overlapping(Overlap::BufferOne);
    assert_eq!((world.at(10), world.at(20)), (vec![10], vec![]));
    let error = ScheduleError { due: at("2026-01-31T00:00:20Z"), at: world.now, code: "c".into(), message: "m".into() };
    failed(&mut world.row, error);
    assert_eq!((world.row.waiting, world.ended()), (None, vec![]));
}

#[test]
fn a_paused_schedule_does_nothing_and_gives_up_what_waits() {
    let mut world = World::overlapping(Overlap::BufferOne);
    assert_eq!((world.at(10), world.at(20)), (vec![10], vec![]));
    world.row.paused = true;
    given_up(&mut world.row);
    assert_eq!((world.ended(), world.at(300)), (vec![], vec![]));
    assert_eq!((world.decide(), world.counts()), (Step::Sleep(None), [1, 1, 0, 0]));
}

#[test]
fn jitter_makes_it_late_and_not_missed() {
    let mut world = World::new(|spec| {
        (spec.cron, spec.jitter) = ("every 10m".to_owned(), Nanos::from_secs(500));
        spec.catch_up_window = ON_TIME;
    });
    let timing = Timing::parse(&world.row.spec).expect("a schedule");
    let due = timing.next_after(world.now).expect("due");
    let made_at = timing.made_at("s", due);
    assert_ne!(made_at, due);
    world.now = due;
    assert_eq!(world.decide(), Step::Sleep(Some(made_at)));
    world.now = made_at;
    assert_eq!(world.settle(), [600]);
}

#[test]
fn what_runs_is_remembered_up_to_a_bound() {
    let mut world = World::overlapping(Overlap::Allow);
    for n in 1..=150 {
        world.at(n * 10);
    }
    assert_eq!((world.row.running.len(), world.row.fired), (RUNNING_MAX, 150));
    assert_eq!(world.row.running.last(), world.row.last.as_ref());
}
