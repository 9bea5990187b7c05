//! What the store keeps of a schedule. Like every row: fields and variants only ever grow at the end.

use rehydrate_core::{Json, Nanos, RunNumber, Timestamp};
use serde::{Deserialize, Serialize};

/// What happens at a due time while an instance that the schedule started has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Overlap {
    /// The due time is left out.
    #[default]
    Skip,
    /// Another instance is started beside it.
    Allow,
    /// One due time waits for it to end; further ones are left out.
    BufferOne,
    /// It is asked to cancel, and the newest due time waits for it to end.
    CancelOther,
    /// It is terminated, and an instance is started.
    TerminateOther,
}

/// Which of the due times that passed while the host did not look are still made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum CatchUp {
    /// Each that is not later than the window.
    #[default]
    All,
    /// Only the latest of them.
    Latest,
    /// None.
    None,
}

/// What a schedule is told to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// When: a cron expression, a nickname such as `@daily`, or an interval such as `every 90s`.
    pub cron: String,
    /// The IANA time zone in which the expression is read.
    pub time_zone: String,
    /// The deployment's name.
    pub workflow: String,
    /// Its version; none: the newest when it fires.
    pub version: Option<String>,
    /// The input of every instance, JSON text.
    pub input: Json,
    /// While an instance of the schedule goes on.
    pub overlap: Overlap,
    /// After the host did not run.
    pub catch_up: CatchUp,
    /// How late a due time may still be made.
    pub catch_up_window: Nanos,
    /// The longest delay, different for each due time, so that not all schedules fire at once.
    pub jitter: Nanos,
    /// No due time before this.
    pub start: Option<Timestamp>,
    /// No due time after this.
    pub end: Option<Timestamp>,
    /// How many instances it starts before it is over, counted from when this was put; none: no limit.
    pub remaining_runs: Option<u64>,
}

/// An instance that a schedule started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduledRun {
    /// The due time; none: it was triggered by hand.
    pub due: Option<Timestamp>,
    /// When it was started.
    pub at: Timestamp,
    /// The instance's id.
    pub instance: String,
    /// Its run.
    pub run: RunNumber,
}

/// A start that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleError {
    /// The due time.
    pub due: Timestamp,
    /// When it was tried.
    pub at: Timestamp,
    /// The error's stable code.
    pub code: String,
    /// The error in words.
    pub message: String,
}

/// A schedule as it stands now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// What it is told to do.
    pub spec: ScheduleSpec,
    /// Whether nothing is due until it is resumed.
    pub paused: bool,
    /// What whoever paused or resumed it had to say.
    pub note: String,
    /// When it was first put.
    pub created: Timestamp,
    /// When its specification, or whether it is paused, last changed.
    pub updated: Timestamp,
    /// Due times up to this one are dealt with, whatever the clock says.
    pub through: Timestamp,
    /// How many more instances it starts; none: no limit.
    pub remaining: Option<u64>,
    /// The due time that waits for a running instance to end.
    pub waiting: Option<Timestamp>,
    /// Its instances that were not known to have ended, oldest first.
    pub running: Vec<ScheduledRun>,
    /// The instance it started last.
    pub last: Option<ScheduledRun>,
    /// The last start that failed.
    pub error: Option<ScheduleError>,
    /// Due times at which an instance was started.
    pub fired: u64,
    /// Due times that were left out because an instance was running.
    pub skipped: u64,
    /// Due times that had passed by more than the window when the host looked. An outage with more than a
    /// thousand of them may count fewer.
    pub missed: u64,
    /// Due times at which no instance could be started.
    pub failed: u64,
}
