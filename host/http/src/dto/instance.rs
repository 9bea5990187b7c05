//! What comes out of the API: instances, components, logs and replays.

use crate::show;
use rehydrate_runtime as runtime;
use rehydrate_runtime::core;
use rehydrate_runtime::core::view::{ActivityView, AttemptView, Waiting};
use rehydrate_runtime::store::{ComponentKind, DeploymentRow, InstanceRow, InstanceStateTag};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// The state of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs or waits.
    Running,
    /// It can't go on until somebody does something about its problem.
    Paused,
    /// It returned an output.
    Completed,
    /// It returned a failure, or the host stopped it.
    Failed,
    /// It ended because it was asked to.
    Cancelled,
    /// It was ended from outside.
    Terminated,
    /// It was suspended, and runs again when it is resumed.
    Suspended,
}

impl State {
    /// All of them.
    pub const ALL: [State; 7] = [
        State::Running,
        State::Paused,
        State::Completed,
        State::Failed,
        State::Cancelled,
        State::Terminated,
        State::Suspended,
    ];

    /// The word in JSON and in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Terminated => "terminated",
            State::Suspended => "suspended",
        }
    }

    /// As the store knows it.
    pub fn tag(self) -> InstanceStateTag {
        match self {
            State::Running => InstanceStateTag::Running,
            State::Paused => InstanceStateTag::Paused,
            State::Completed => InstanceStateTag::Completed,
            State::Failed => InstanceStateTag::Failed,
            State::Cancelled => InstanceStateTag::Cancelled,
            State::Terminated => InstanceStateTag::Terminated,
            State::Suspended => InstanceStateTag::Suspended,
        }
    }
}

impl From<InstanceStateTag> for State {
    fn from(tag: InstanceStateTag) -> Self {
        match tag {
            InstanceStateTag::Running => State::Running,
            InstanceStateTag::Paused => State::Paused,
            InstanceStateTag::Completed => State::Completed,
            InstanceStateTag::Failed => State::Failed,
            InstanceStateTag::Cancelled => State::Cancelled,
            InstanceStateTag::Terminated => State::Terminated,
            InstanceStateTag::Suspended => State::Suspended,
        }
    }
}

/// A structured failure.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// `application`, `timed-out`, `cancelled`, `terminated`, `not-found` or `rejected`.
    pub kind: String,
    /// A short, stable code.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// More.
    #[schema(value_type = Option<Value>)]
    pub details: Option<Box<RawValue>>,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// The earliest next attempt, in milliseconds from the end of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<f64>,
}

impl From<&core::Failure> for Failure {
    fn from(failure: &core::Failure) -> Self {
        Failure {
            kind: failure.kind.as_str().to_owned(),
            code: show::text(&failure.code),
            message: show::text(&failure.message),
            details: failure.details.as_deref().map(show::json),
            retryable: failure.retryable,
            retry_after_ms: failure.retry_after.map(show::millis),
        }
    }
}

/// Where a workflow left its history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Divergence {
    /// The first event that does not match.
    pub event: u64,
    /// What the history has there.
    pub expected: String,
    /// What the workflow did.
    pub got: String,
}

impl From<&core::Divergence> for Divergence {
    fn from(divergence: &core::Divergence) -> Self {
        Divergence {
            event: divergence.event.0,
            expected: show::text(&divergence.expected),
            got: show::text(&divergence.got),
        }
    }
}

/// Why an instance is paused, or what stopped it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceProblem {
    /// A stable code.
    pub code: String,
    /// What is wrong and what to do next.
    pub message: String,
    /// Where the workflow left its history, if that is the problem.
    pub divergence: Option<Divergence>,
}

impl From<&runtime::store::Problem> for InstanceProblem {
    fn from(problem: &runtime::store::Problem) -> Self {
        InstanceProblem {
            code: problem.code.clone(),
            message: show::text(&problem.message),
            divergence: problem.divergence.as_ref().map(Divergence::from),
        }
    }
}

/// Something an instance waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitingFor {
    /// The event that began it.
    pub event: u64,
    /// `activity`, `timer`, `callback`, `signal`, `child`, `start`, `cancel`, `entity` or `lock`.
    pub kind: String,
    /// The name of the activity, callback or signal; the id of the instance or entity.
    pub name: Option<String>,
    /// Since when.
    pub since: String,
    /// When it fires, expires, times out or is tried again.
    pub due: Option<String>,
    /// All of it in words.
    pub text: String,
}

impl From<&Waiting> for WaitingFor {
    fn from(waiting: &Waiting) -> Self {
        let words = show::text(&waiting.text);
        WaitingFor {
            event: waiting.event.0,
            kind: waiting.kind.to_owned(),
            name: waiting.name.as_deref().map(show::text),
            since: show::time(waiting.since),
            due: waiting.due.map(show::time),
            text: match waiting.due {
                Some(due) => format!("{words}, due {}", show::time_in_words(due)),
                None => words,
            },
        }
    }
}

/// An attempt of an activity.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// `scheduled`, `executing`, `backing-off`, `completed`, `failed`, `timed-out` or `cancelled`.
    pub state: String,
    /// When it started.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// When it is timed out; for one that backs off: when it starts.
    pub deadline: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

impl From<&AttemptView> for Attempt {
    fn from(attempt: &AttemptView) -> Self {
        Attempt {
            attempt: attempt.attempt.0,
            state: attempt.state.to_owned(),
            started: attempt.started.map(show::time),
            ended: attempt.ended.map(show::time),
            deadline: attempt.deadline.map(show::time),
            failure: attempt.failure.as_ref().map(Failure::from),
        }
    }
}

/// An activity with its attempts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// The event that scheduled it.
    pub event: u64,
    /// Its name.
    pub name: String,
    /// `executing`, `backing-off`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// When it was scheduled.
    pub scheduled: String,
    /// The latest point at which it ends, if it has one.
    pub deadline: Option<String>,
    /// Its attempts, oldest first; of very many only the latest.
    pub attempts: Vec<Attempt>,
}

impl From<&ActivityView> for Activity {
    fn from(activity: &ActivityView) -> Self {
        Activity {
            event: activity.event.0,
            name: show::text(&activity.name),
            state: activity.state.to_owned(),
            scheduled: show::time(activity.scheduled),
            deadline: activity.deadline.map(show::time),
            attempts: activity.attempts.iter().map(Attempt::from).collect(),
        }
    }
}

/// An instance in a list. Its input, output and custom status are in its own document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceSummary {
    /// Its id.
    pub id: String,
    /// Its current run.
    pub run: u32,
    /// The deployment's name.
    pub workflow: String,
    /// The deployment's version.
    pub version: String,
    /// The SHA-256 of the component, in hex.
    pub digest: String,
    /// How it stands.
    pub state: State,
    /// When the current run was created, or the first of the runs that it goes on from.
    pub created: String,
    /// When its last event was recorded.
    pub updated: String,
    /// Why it is paused, or what stopped it.
    pub problem: Option<InstanceProblem>,
}

impl From<&InstanceRow> for InstanceSummary {
    fn from(row: &InstanceRow) -> Self {
        InstanceSummary {
            id: row.id.clone(),
            run: row.run.0,
            workflow: row.workflow.clone(),
            version: row.version.clone(),
            digest: row.digest.to_string(),
            state: row.state.into(),
            created: show::time(row.created),
            updated: show::time(row.updated),
            problem: row.problem.as_ref().map(InstanceProblem::from),
        }
    }
}

/// A page of the list of instances, newest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceList {
    /// The instances; may be fewer than asked for, or none, while there are more pages.
    pub instances: Vec<InstanceSummary>,
    /// What to give as `cursor` for the next page; none: this is the last.
    pub next_cursor: Option<String>,
}

/// Everything about an instance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceStatus {
    /// Its id.
    pub id: String,
    /// Its current run.
    pub run: u32,
    /// The deployment's name.
    pub workflow: String,
    /// The deployment's version.
    pub version: String,
    /// The SHA-256 of the component, in hex.
    pub digest: String,
    /// How it stands.
    pub state: State,
    /// When the current run was created, or the first of the runs that it goes on from.
    pub created: String,
    /// When its last event was recorded.
    pub updated: String,
    /// The last event of the run.
    pub last_event: u64,
    /// Its input.
    #[schema(value_type = Value)]
    pub input: Box<RawValue>,
    /// Its output, once completed.
    #[schema(value_type = Option<Value>)]
    pub output: Option<Box<RawValue>>,
    /// Its failure, once failed, cancelled or terminated.
    pub failure: Option<Failure>,
    /// The status that the workflow set.
    #[schema(value_type = Option<Value>)]
    pub custom_status: Option<Box<RawValue>>,
    /// Why it was asked to cancel.
    pub cancel_requested: Option<String>,
    /// Why it is suspended, if it is.
    pub suspended: Option<String>,
    /// The instance whose child it is.
    pub parent: Option<String>,
    /// What it waits for, oldest first.
    pub waiting_for: Vec<WaitingFor>,
    /// Open and recent activities with their attempts, oldest first.
    pub activities: Vec<Activity>,
    /// Signals that wait to be taken.
    pub buffered_signals: u64,
    /// Whether its guest is in memory.
    pub resident: bool,
    /// Why it is paused, or what stopped it.
    pub problem: Option<InstanceProblem>,
}

impl From<&runtime::InstanceDetail> for InstanceStatus {
    fn from(detail: &runtime::InstanceDetail) -> Self {
        let row = InstanceSummary::from(&detail.row);
        InstanceStatus {
            id: row.id,
            run: row.run,
            workflow: row.workflow,
            version: row.version,
            digest: row.digest,
            state: row.state,
            created: row.created,
            updated: row.updated,
            last_event: detail.row.last_event.0,
            input: show::json(&detail.input),
            output: detail.output.as_deref().map(show::json),
            failure: detail.failure.as_ref().map(Failure::from),
            custom_status: detail.row.custom_status.as_deref().map(show::json),
            cancel_requested: detail.cancel_requested.as_deref().map(show::text),
            suspended: detail.suspended.as_deref().map(show::text),
            parent: detail.parent.as_deref().map(show::text),
            waiting_for: detail.waiting_for.iter().map(WaitingFor::from).collect(),
            activities: detail.activities.iter().map(Activity::from).collect(),
            buffered_signals: u64::try_from(detail.buffered_signals).unwrap_or(u64::MAX),
            resident: detail.resident,
            problem: row.problem,
        }
    }
}

/// How an instance stands, and what it gave once it has ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceResult {
    /// Its id.
    pub id: String,
    /// Its current run.
    pub run: u32,
    /// How that stands.
    pub state: State,
    /// Its output, once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub output: Option<Box<RawValue>>,
    /// Its failure, once failed, cancelled or terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl From<&runtime::InstanceResult> for InstanceResult {
    fn from(result: &runtime::InstanceResult) -> Self {
        let (output, failure) = match &result.outcome {
            None => (None, None),
            Some(Ok(output)) => (Some(show::json(output)), None),
            Some(Err(failure)) => (None, Some(Failure::from(failure))),
        };
        InstanceResult { id: result.id.clone(), run: result.run.0, state: result.state.into(), output, failure }
    }
}

/// A deployed component.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// The deployment's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of the component, in hex.
    pub digest: String,
    /// `workflow`, `activity` or `entity`.
    pub kind: String,
    /// The activities it offers.
    pub activities: Vec<String>,
    /// What it imports.
    pub imports: Vec<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was deployed.
    pub created: String,
}

impl From<&DeploymentRow> for Component {
    fn from(row: &DeploymentRow) -> Self {
        let kind = match row.kind {
            ComponentKind::Workflow => "workflow",
            ComponentKind::Activity => "activity",
            ComponentKind::Entity => "entity",
        };
        Component {
            name: row.name.clone(),
            version: row.version.clone(),
            digest: row.digest.to_string(),
            kind: kind.to_owned(),
            activities: row.activities.clone(),
            imports: row.imports.clone(),
            bytes: row.bytes,
            created: show::time(row.created),
        }
    }
}

/// All deployed components, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ComponentList {
    /// The components.
    pub components: Vec<Component>,
}

/// A line of an instance's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Its place in the log.
    pub sequence: u64,
    /// When it was written, in the workflow's time.
    pub time: String,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The text.
    pub text: String,
}

impl From<&runtime::LogEntry> for LogLine {
    fn from(entry: &runtime::LogEntry) -> Self {
        LogLine {
            sequence: entry.sequence,
            time: show::time(entry.time),
            level: entry.level.to_owned(),
            text: show::text(&entry.text),
        }
    }
}

/// A piece of an instance's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Log {
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// What to give as `from` to go on.
    pub next: u64,
}

/// The result of a replay, which wrote nothing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReplayReport {
    /// The instance.
    pub id: String,
    /// The run.
    pub run: u32,
    /// The version it was replayed with.
    pub version: String,
    /// Events in the history.
    pub events: u64,
    /// `matches`, `diverges` or `stopped`.
    pub verdict: String,
    /// If it matches and completed: the output it gave again.
    #[schema(value_type = Option<Value>)]
    pub output: Option<Box<RawValue>>,
    /// If it matches and failed: the failure it gave again. If it was stopped: by what.
    pub failure: Option<Failure>,
    /// If it diverges: where.
    pub divergence: Option<Divergence>,
}

impl From<&runtime::ReplayReport> for ReplayReport {
    fn from(report: &runtime::ReplayReport) -> Self {
        let (verdict, output, failure, divergence) = match &report.verdict {
            runtime::ReplayVerdict::Matches { result: None } => ("matches", None, None, None),
            runtime::ReplayVerdict::Matches { result: Some(Ok(output)) } => ("matches", Some(output), None, None),
            runtime::ReplayVerdict::Matches { result: Some(Err(failure)) } => ("matches", None, Some(failure), None),
            runtime::ReplayVerdict::Diverges(divergence) => ("diverges", None, None, Some(divergence)),
            runtime::ReplayVerdict::Stopped(failure) => ("stopped", None, Some(failure), None),
        };
        ReplayReport {
            id: report.id.clone(),
            run: report.run.0,
            version: report.version.clone(),
            events: report.events,
            verdict: verdict.to_owned(),
            output: output.map(|output| show::json(output)),
            failure: failure.map(Failure::from),
            divergence: divergence.map(Divergence::from),
        }
    }
}

/// The answer of the health probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `alive`.
    pub status: String,
}

/// The answer of the readiness probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether the host takes new work.
    pub ready: bool,
    /// If not, why.
    pub reason: Option<String>,
}
