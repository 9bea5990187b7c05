//! What a put changes and what it leaves.

use super::super::timing::tests::{at, spec};
use super::*;

fn put(cron: &str) -> PutSchedule {
    PutSchedule { spec: spec(cron, "UTC"), paused: None, note: None }
}

/// A schedule that has done something.
fn row() -> ScheduleRow {
    let put = PutSchedule { spec: ScheduleSpec { remaining_runs: Some(9), ..spec("@daily", "UTC") }, ..put("@daily") };
    let through = at("2026-01-05T00:00:00Z");
    ScheduleRow { through, remaining: Some(5), fired: 4, ..new("s", put, at("2026-01-01T00:00:00Z")) }
}

fn same() -> PutSchedule {
    PutSchedule { spec: row().spec, paused: None, note: None }
}

const LATER: &str = "2026-01-05T12:00:00Z";

#[test]
fn the_same_again_changes_nothing() {
    assert_eq!(replaced(&row(), same(), at(LATER)), row());
    let said = PutSchedule { paused: Some(false), note: Some(String::new()), ..same() };
    assert_eq!(replaced(&row(), said, at(LATER)), row());
}

#[test]
fn other_times_are_due_from_now_on_and_the_rest_stays() {
    let mut other = same();
    other.spec.cron = "@hourly".to_owned();
    let row = replaced(&row(), other, at(LATER));
    assert_eq!((row.through, row.updated, row.fired, row.remaining), (at(LATER), at(LATER), 4, Some(5)));
    let mut other = same();
    other.spec.input = "1".to_owned();
    assert_eq!(replaced(&super::tests::row(), other, at(LATER)).through, super::tests::row().through);
}

#[test]
fn a_clock_that_was_set_back_does_not_make_due_times_due_again() {
    let mut other = same();
    other.spec.cron = "@hourly".to_owned();
    assert_eq!(replaced(&row(), other, at("2026-01-01T00:00:00Z")).through, row().through);
}

#[test]
fn another_number_of_runs_is_counted_anew() {
    let mut other = same();
    other.spec.remaining_runs = Some(20);
    assert_eq!(replaced(&row(), other, at(LATER)).remaining, Some(20));
    let mut other = same();
    other.spec.remaining_runs = None;
    assert_eq!(replaced(&row(), other, at(LATER)).remaining, None);
}

#[test]
fn a_put_pauses_and_resumes_only_if_it_says_so() {
    let waiting = ScheduleRow { waiting: Some(at("2026-01-05T00:00:00Z")), ..row() };
    let paused = replaced(&waiting, PutSchedule { paused: Some(true), ..same() }, at(LATER));
    assert_eq!((paused.paused, paused.waiting, paused.skipped), (true, None, 1));
    assert!(replaced(&paused, same(), at(LATER)).paused);
    let resumed = replaced(&paused, PutSchedule { paused: Some(false), ..same() }, at(LATER));
    assert_eq!((resumed.paused, resumed.through), (false, at(LATER)), "what was due meanwhile is not made");
}
