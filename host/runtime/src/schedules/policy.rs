//! What a schedule does next, as a function of its row, its timing and the time. Nothing here does anything.
//!
//! | the schedule | step |
//! |---|---|
//! | is paused | sleep until it is resumed |
//! | has a due time that waits, and nothing of it runs | start that |
//! | has started all it may, or has no due time left | sleep |
//! | is not due yet | sleep until it is |
//! | is due, and the instance of that due time is there | start, which finds it: the host ended before it could say so |
//! | is due, but longer ago than the window | skip, with all that are as late |
//! | is due, and due again by now, and catches up on the latest only | skip all but the latest |
//! | is due, and something of it runs | as the overlap policy says |
//! | is due | start |
//!
//! `through` only moves forward, and due times are counted from there and not from the clock: whatever the clock does,
//! no due time is met twice.

use super::timing::Timing;
use rehydrate_core::{Nanos, RunNumber, Timestamp};
use rehydrate_store::{CatchUp, Overlap, ScheduleError, ScheduleRow, ScheduledRun};

/// How late a due time may be and still be on time: what a running host makes up for anyway.
pub const ON_TIME: Nanos = Nanos::from_secs(5);

/// Due times skipped in one step.
const SKIPPED_AT_ONCE_MAX: usize = 1_000;

/// Instances remembered as running; beyond that the oldest are forgotten.
const RUNNING_MAX: usize = 100;

/// What a decision is made from.
pub struct Moment<'a> {
    /// The schedule. What it says of running instances must be true at this moment.
    pub row: &'a ScheduleRow,
    /// Its timing.
    pub timing: &'a Timing,
    /// The time.
    pub now: Timestamp,
    /// Whether the instance of its next due time is there.
    pub next_is_there: bool,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing until then, or until something else happens.
    Sleep(Option<Timestamp>),
    /// Leave out the due times up to and including `through`, that many.
    Skip {
        /// The last of them.
        through: Timestamp,
        /// How many they are.
        count: u64,
        /// Why.
        why: Why,
    },
    /// Start the instance of that due time.
    Start {
        /// The due time.
        due: Timestamp,
        /// Terminate what runs before.
        terminate: bool,
    },
    /// Let that due time wait until what runs has ended.
    Hold {
        /// The due time.
        due: Timestamp,
        /// Ask what runs to cancel.
        cancel: bool,
    },
}

/// Why due times are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// An instance was running.
    Overlap,
    /// They had passed.
    Missed,
}

/// The step for that moment.
pub fn decide(moment: &Moment<'_>) -> Step {
    let Moment { row, timing, now, next_is_there } = moment;
    if row.paused {
        return Step::Sleep(None);
    }
    if let Some(due) = row.waiting
        && row.running.is_empty()
    {
        return Step::Start { due, terminate: false };
    }
    let next = timing.next_after(row.through).filter(|_| row.remaining != Some(0));
    let Some(due) = next else { return Step::Sleep(None) };
    let made_at = timing.made_at(&row.name, due);
    if *now < made_at {
        return Step::Sleep(Some(made_at));
    }
    if *next_is_there {
        return Step::Start { due, terminate: false };
    }
    late(moment, due).unwrap_or_else(|| overlapping(row, due))
}

/// What becomes of a due time if it or others after it are late.
fn late(moment: &Moment<'_>, due: Timestamp) -> Option<Step> {
    let Moment { row, timing, now, .. } = moment;
    let window = match row.spec.catch_up {
        CatchUp::None => ON_TIME,
        CatchUp::All | CatchUp::Latest => row.spec.catch_up_window.max(ON_TIME),
    };
    let made_at = |due: &Timestamp| timing.made_at(&row.name, *due);
    let all = timing.following(row.through).take(SKIPPED_AT_ONCE_MAX);
    let missed: Vec<Timestamp> = all.take_while(|due| now.since(made_at(due)) > window).collect();
    if let Some(last) = missed.last().copied() {
        // Of a long outage not each is looked at, or the host would be busy with what it has to leave out.
        let horizon = now.0.saturating_sub_unsigned(window.0).saturating_sub_unsigned(row.spec.jitter.0);
        let whole = missed.len() < SKIPPED_AT_ONCE_MAX;
        let through = if whole { last } else { last.max(Timestamp(horizon.saturating_sub(1))) };
        return Some(Step::Skip { through, count: wide(missed.len()), why: Why::Missed });
    }
    if row.spec.catch_up != CatchUp::Latest {
        return None;
    }
    let later = timing.following(due).take(SKIPPED_AT_ONCE_MAX);
    let later: Vec<Timestamp> = later.take_while(|due| made_at(due) <= *now).collect();
    let through = match later.as_slice() {
        [] => return None,
        [_] => due,
        [.., last_but_one, _] => *last_but_one,
    };
    Some(Step::Skip { through, count: wide(later.len()), why: Why::Missed })
}

fn overlapping(row: &ScheduleRow, due: Timestamp) -> Step {
    let start = Step::Start { due, terminate: false };
    if row.running.is_empty() {
        return start;
    }
    let skip = Step::Skip { through: due, count: 1, why: Why::Overlap };
    match row.spec.overlap {
        Overlap::Allow => start,
        Overlap::Skip => skip,
        Overlap::BufferOne if row.waiting.is_some() => skip,
        Overlap::BufferOne => Step::Hold { due, cancel: false },
        Overlap::CancelOther => Step::Hold { due, cancel: true },
        Overlap::TerminateOther => Step::Start { due, terminate: true },
    }
}

/// Due times are left out.
pub fn skipped(row: &mut ScheduleRow, through: Timestamp, count: u64, why: Why) {
    pass(row, through);
    let counter = match why {
        Why::Overlap => &mut row.skipped,
        Why::Missed => &mut row.missed,
    };
    *counter = counter.saturating_add(count);
}

/// A due time waits. One that waited before it is left out.
pub fn held(row: &mut ScheduleRow, due: Timestamp) {
    pass(row, due);
    if row.waiting.replace(due).is_some() {
        row.skipped = row.skipped.saturating_add(1);
    }
}

/// The instance of a due time was started, or found to have been.
pub fn fired(row: &mut ScheduleRow, due: Timestamp, at: Timestamp, instance: String, run: RunNumber) {
    settle(row, due);
    row.fired = row.fired.saturating_add(1);
    row.remaining = row.remaining.map(|left| left.saturating_sub(1));
    runs(row, ScheduledRun { due: Some(due), at, instance, run });
}

/// An instance was started by hand.
pub fn triggered(row: &mut ScheduleRow, at: Timestamp, instance: String, run: RunNumber) {
    runs(row, ScheduledRun { due: None, at, instance, run });
}

/// The instance of a due time could not be started.
pub fn failed(row: &mut ScheduleRow, error: ScheduleError) {
    settle(row, error.due);
    row.failed = row.failed.saturating_add(1);
    row.error = Some(error);
}

/// What waits is given up.
pub fn given_up(row: &mut ScheduleRow) {
    if row.waiting.take().is_some() {
        row.skipped = row.skipped.saturating_add(1);
    }
}

fn pass(row: &mut ScheduleRow, due: Timestamp) {
    row.through = row.through.max(due);
}

/// The due time is dealt with, whether it was the next or the one that waited.
fn settle(row: &mut ScheduleRow, due: Timestamp) {
    pass(row, due);
    if row.waiting == Some(due) {
        row.waiting = None;
    }
}

fn runs(row: &mut ScheduleRow, run: ScheduledRun) {
    if row.running.len() >= RUNNING_MAX {
        row.running.remove(0);
    }
    row.running.push(run.clone());
    row.last = Some(run);
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
