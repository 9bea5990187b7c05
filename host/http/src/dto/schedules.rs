//! Schedules: what is put, and what is shown.

use crate::problem::Problem;
use crate::show;
use rehydrate_runtime as runtime;
use rehydrate_runtime::core::{Nanos, Timestamp};
use rehydrate_runtime::store::{self, ScheduleSpec, ScheduledRun};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What happens at a due time while an instance of the schedule has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
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

/// Which of the due times that passed while the host did not run are still made, within the catch-up window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUp {
    /// All.
    #[default]
    All,
    /// The latest.
    Latest,
    /// None that is more than 5 seconds late.
    None,
}

/// How late a due time may still be made, if nobody says.
const WINDOW_DEFAULT_MS: u64 = 60_000;

fn window_default() -> u64 {
    WINDOW_DEFAULT_MS
}

fn utc() -> String {
    "UTC".to_owned()
}

/// The body that puts a schedule.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSchedule {
    /// When: a cron expression of 5 fields, or 6 with seconds in front; `@hourly`, `@daily`, `@weekly`, `@monthly`,
    /// `@yearly`; or an interval such as `every 90s`, counted from `start` or else from 1970-01-01T00:00:00Z.
    pub cron: String,
    /// The IANA time zone in which the expression is read.
    #[serde(default = "utc")]
    #[schema(default = "UTC")]
    pub time_zone: String,
    /// The deployment's name.
    pub workflow: String,
    /// Its version; none: the newest when the schedule fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The input of every instance; none: `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub input: Option<Box<RawValue>>,
    /// While an instance of the schedule has not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// After the host did not run.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// How late a due time may still be made, in milliseconds, at least 5000.
    #[serde(default = "window_default")]
    #[schema(default = 60_000)]
    pub catch_up_window_ms: u64,
    /// The longest delay, in milliseconds, at most a day. Each due time has its own.
    #[serde(default)]
    pub jitter_ms: u64,
    /// Nothing is due before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Nothing is due after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// The schedule is over after so many instances; none: no limit. Another number is counted anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_runs: Option<u64>,
    /// Whether it is paused; none: as it was, and a new one is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// A note for people; none: as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl PutSchedule {
    /// As the runtime takes it; 400 names the time that is wrong.
    pub fn into_request(self) -> Result<runtime::PutSchedule, Problem> {
        let spec = ScheduleSpec {
            cron: self.cron,
            time_zone: self.time_zone,
            workflow: self.workflow,
            version: self.version,
            input: self.input.map_or_else(|| "null".to_owned(), |input| input.get().to_owned()),
            overlap: match self.overlap {
                Overlap::Skip => store::Overlap::Skip,
                Overlap::Allow => store::Overlap::Allow,
                Overlap::BufferOne => store::Overlap::BufferOne,
                Overlap::CancelOther => store::Overlap::CancelOther,
                Overlap::TerminateOther => store::Overlap::TerminateOther,
            },
            catch_up: match self.catch_up {
                CatchUp::All => store::CatchUp::All,
                CatchUp::Latest => store::CatchUp::Latest,
                CatchUp::None => store::CatchUp::None,
            },
            catch_up_window: Nanos::from_millis(self.catch_up_window_ms),
            jitter: Nanos::from_millis(self.jitter_ms),
            start: time("start", self.start.as_deref())?,
            end: time("end", self.end.as_deref())?,
            remaining_runs: self.remaining_runs,
        };
        Ok(runtime::PutSchedule { spec, paused: self.paused, note: self.note })
    }
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let parse = |text: &str| {
        show::parse_time(text).map_err(|error| {
            let detail = format!("`{name}` is wrong: {error}; give a time such as 2026-01-31T12:00:00Z");
            Problem::invalid("schedule.invalid-time", detail)
        })
    };
    text.map(parse).transpose()
}

/// The body of a pause or resume; none is `{}`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// A note for people; none: as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An instance that a schedule started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduledInstance {
    /// The due time; none: it was triggered by hand.
    pub due: Option<String>,
    /// When it was started.
    pub started: String,
    /// The instance's id.
    pub instance: String,
    /// Its run.
    pub run: u32,
}

impl From<&ScheduledRun> for ScheduledInstance {
    fn from(run: &ScheduledRun) -> Self {
        ScheduledInstance {
            due: run.due.map(show::time),
            started: show::time(run.at),
            instance: run.instance.clone(),
            run: run.run.0,
        }
    }
}

/// A start that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleError {
    /// The due time.
    pub due: String,
    /// When it was tried.
    pub time: String,
    /// A stable code.
    pub code: String,
    /// One sentence for a person, with the next step.
    pub message: String,
}

impl From<&store::ScheduleError> for ScheduleError {
    fn from(error: &store::ScheduleError) -> Self {
        ScheduleError {
            due: show::time(error.due),
            time: show::time(error.at),
            code: error.code.clone(),
            message: show::text(&error.message),
        }
    }
}

/// A schedule in the list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleSummary {
    /// Its name.
    pub name: String,
    /// When it is due.
    pub cron: String,
    /// The time zone in which that is read.
    pub time_zone: String,
    /// The deployment's name.
    pub workflow: String,
    /// Its version; none: the newest when it fires.
    pub version: Option<String>,
    /// Whether nothing is due until it is resumed.
    pub paused: bool,
    /// The next due time; none while it is paused or if it is over.
    pub next: Option<String>,
    /// The instance it started last.
    pub last: Option<ScheduledInstance>,
    /// Due times at which an instance was started.
    pub fired: u64,
    /// Due times that were left out because an instance was running.
    pub skipped: u64,
    /// Due times that had passed by more than the catch-up allows; of a long outage not each is counted.
    pub missed: u64,
    /// Due times at which no instance could be started.
    pub failed: u64,
}

impl From<&runtime::ScheduleDetail> for ScheduleSummary {
    fn from(detail: &runtime::ScheduleDetail) -> Self {
        let row = &detail.row;
        ScheduleSummary {
            name: row.name.clone(),
            cron: row.spec.cron.clone(),
            time_zone: row.spec.time_zone.clone(),
            workflow: row.spec.workflow.clone(),
            version: row.spec.version.clone(),
            paused: row.paused,
            next: detail.next.first().copied().map(show::time),
            last: row.last.as_ref().map(ScheduledInstance::from),
            fired: row.fired,
            skipped: row.skipped,
            missed: row.missed,
            failed: row.failed,
        }
    }
}

/// A page of the schedules, in the order of their names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleList {
    /// The schedules.
    pub schedules: Vec<ScheduleSummary>,
    /// What to give as `after` to go on; none: there is no more.
    pub next_after: Option<String>,
}

/// Everything about a schedule.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it is due.
    pub cron: String,
    /// The time zone in which that is read.
    pub time_zone: String,
    /// The deployment's name.
    pub workflow: String,
    /// Its version; none: the newest when it fires.
    pub version: Option<String>,
    /// Whether nothing is due until it is resumed.
    pub paused: bool,
    /// The input of every instance.
    #[schema(value_type = Value)]
    pub input: Box<RawValue>,
    /// While an instance of the schedule has not ended.
    pub overlap: Overlap,
    /// After the host did not run.
    pub catch_up: CatchUp,
    /// How late a due time may still be made.
    pub catch_up_window_ms: f64,
    /// The longest delay.
    pub jitter_ms: f64,
    /// Nothing is due before this.
    pub start: Option<String>,
    /// Nothing is due after this.
    pub end: Option<String>,
    /// How many more instances it starts; none: no limit.
    pub remaining_runs: Option<u64>,
    /// What whoever put, paused or resumed it had to say.
    pub note: String,
    /// When it was first put.
    pub created: String,
    /// When it was last put anew, paused or resumed.
    pub updated: String,
    /// Its next five due times; none while it is paused or if it is over.
    pub next: Vec<String>,
    /// The due time that waits for a running instance to end.
    pub waiting: Option<String>,
    /// Its instances that have not ended, oldest first, at most 100.
    pub running: Vec<ScheduledInstance>,
    /// The instance it started last.
    pub last: Option<ScheduledInstance>,
    /// The last start that failed.
    pub last_error: Option<ScheduleError>,
    /// Due times at which an instance was started.
    pub fired: u64,
    /// Due times that were left out because an instance was running.
    pub skipped: u64,
    /// Due times that had passed by more than the catch-up allows; of a long outage not each is counted.
    pub missed: u64,
    /// Due times at which no instance could be started.
    pub failed: u64,
}

impl From<&runtime::ScheduleDetail> for Schedule {
    fn from(detail: &runtime::ScheduleDetail) -> Self {
        let row = &detail.row;
        Schedule {
            name: row.name.clone(),
            cron: row.spec.cron.clone(),
            time_zone: row.spec.time_zone.clone(),
            workflow: row.spec.workflow.clone(),
            version: row.spec.version.clone(),
            paused: row.paused,
            input: show::json(&row.spec.input),
            overlap: match row.spec.overlap {
                store::Overlap::Skip => Overlap::Skip,
                store::Overlap::Allow => Overlap::Allow,
                store::Overlap::BufferOne => Overlap::BufferOne,
                store::Overlap::CancelOther => Overlap::CancelOther,
                store::Overlap::TerminateOther => Overlap::TerminateOther,
            },
            catch_up: match row.spec.catch_up {
                store::CatchUp::All => CatchUp::All,
                store::CatchUp::Latest => CatchUp::Latest,
                store::CatchUp::None => CatchUp::None,
            },
            catch_up_window_ms: show::millis(row.spec.catch_up_window),
            jitter_ms: show::millis(row.spec.jitter),
            start: row.spec.start.map(show::time),
            end: row.spec.end.map(show::time),
            remaining_runs: row.remaining,
            note: show::text(&row.note),
            created: show::time(row.created),
            updated: show::time(row.updated),
            next: detail.next.iter().copied().map(show::time).collect(),
            waiting: row.waiting.map(show::time),
            running: row.running.iter().map(ScheduledInstance::from).collect(),
            last: row.last.as_ref().map(ScheduledInstance::from),
            last_error: row.error.as_ref().map(ScheduleError::from),
            fired: row.fired,
            skipped: row.skipped,
            missed: row.missed,
            failed: row.failed,
        }
    }
}
