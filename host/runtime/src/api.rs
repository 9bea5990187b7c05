//! What the runtime takes and gives: plain data, so that HTTP and the command line only translate.

use rehydrate_core::view::{ActivityView, Waiting};
use rehydrate_core::{Divergence, Event, EventId, Failure, Json, Limits, Nanos, RunNumber, Timestamp};
use rehydrate_store::{DeploymentRow, InstanceRow, InstanceStateTag};
use std::path::PathBuf;

use crate::outbound::OutboundClient;
use crate::retention::RetentionConfig;

/// Everything the runtime can be told.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Where keys and compiled components are kept.
    pub data_dir: PathBuf,
    /// The base URL under which external systems reach the public listener, without a trailing slash.
    pub public_url: String,
    /// Limits of one instance.
    pub limits: Limits,
    /// How many waiting guests stay in memory.
    pub resident_instances: usize,
    /// How many bytes of guest memory stay resident.
    pub resident_bytes: usize,
    /// How many attempts run at once.
    pub activity_concurrency: usize,
    /// How many attempts of queues other than `default` run at once, by queue.
    pub queue_concurrency: std::collections::BTreeMap<String, usize>,
    /// The longest an attempt runs when its options name no start-to-close limit.
    pub default_start_to_close: Nanos,
    /// The largest component, in bytes.
    pub component_bytes: usize,
    /// The longest a component may take to compile.
    pub compile_timeout: Nanos,
    /// New work is refused while the data disk has less than this free.
    pub free_bytes_min: u64,
    /// How long an `Idempotency-Key` is remembered.
    pub idempotency_retention: Nanos,
    /// How long instances are kept after their end, and how many of their past runs.
    pub retention: RetentionConfig,
    /// How many schedules there may be.
    pub schedules_max: usize,
    /// The way out for activities: where they may connect to, and the secrets they may use.
    pub outbound: OutboundClient,
}

/// What happens when a start names an id whose instance has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReusePolicy {
    /// A new run begins.
    #[default]
    Allow,
    /// A new run begins only if the last one did not complete.
    AllowIfFailed,
    /// The start is refused.
    Refuse,
}

/// What happens when a start names an id whose instance has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConflictPolicy {
    /// The start is refused.
    #[default]
    Refuse,
    /// The running instance is given back.
    UseExisting,
    /// The running instance is terminated and a new run begins.
    Terminate,
}

/// A request to start an instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StartRequest {
    /// The deployment's name.
    pub workflow: String,
    /// Its version; none: the newest.
    pub version: Option<String>,
    /// The instance's id; none: one is made.
    pub id: Option<String>,
    /// JSON text.
    pub input: Json,
    /// After the last run has ended.
    pub reuse: ReusePolicy,
    /// While the last run goes on.
    pub conflict: ConflictPolicy,
    /// Makes the request safe to repeat.
    pub idempotency_key: Option<String>,
}

/// Under which id a restart goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RestartId {
    /// The same, whose instance must have ended: it gets a new run.
    #[default]
    Same,
    /// One that is made.
    New,
    /// This one, which must not be taken.
    Chosen(String),
}

/// How an instance is started again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestartAs {
    /// Under which id.
    pub id: RestartId,
    /// With which version; none: the newest.
    pub version: Option<String>,
}

/// The answer to a start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartReply {
    /// The instance's id.
    pub id: String,
    /// The run.
    pub run: RunNumber,
    /// The version that runs it.
    pub version: String,
    /// False: it existed before (same idempotency key, or `UseExisting`).
    pub created: bool,
}

/// How an instance stands, and what it gave once it has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstanceResult {
    /// The instance's id.
    pub id: String,
    /// Its current run.
    pub run: RunNumber,
    /// How that stands.
    pub state: InstanceStateTag,
    /// Its output or failure; none while it has not ended.
    pub outcome: Option<Result<Json, Failure>>,
}

/// The answer to a deploy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeployReply {
    /// The deployment.
    pub deployment: DeploymentRow,
    /// False: the same bytes were deployed under this name and version before.
    pub created: bool,
}

/// Everything about one instance.
#[derive(Clone, Debug)]
pub struct InstanceDetail {
    /// Its row.
    pub row: InstanceRow,
    /// Its input.
    pub input: Json,
    /// Its output, once completed.
    pub output: Option<Json>,
    /// Its failure, once failed, cancelled or terminated.
    pub failure: Option<Failure>,
    /// Why it was asked to cancel.
    pub cancel_requested: Option<String>,
    /// Why it is suspended, if it is.
    pub suspended: Option<String>,
    /// The instance whose child it is.
    pub parent: Option<String>,
    /// What it waits for, oldest first.
    pub waiting_for: Vec<Waiting>,
    /// Open and recent activities with their attempts.
    pub activities: Vec<ActivityView>,
    /// Signals that wait to be taken.
    pub buffered_signals: usize,
    /// Whether its guest is in memory.
    pub resident: bool,
}

/// What is posted to a callback's URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallbackPost {
    /// Complete it with this JSON text.
    Complete(Json),
    /// Reject it with this failure.
    Reject(Failure),
}

/// The result of replaying an instance without writing anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayReport {
    /// The instance.
    pub id: String,
    /// The run.
    pub run: RunNumber,
    /// The version it was replayed with.
    pub version: String,
    /// Events in the history.
    pub events: u64,
    /// How it went.
    pub verdict: ReplayVerdict,
}

/// How a replay went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplayVerdict {
    /// The guest did what the history says, to the same end, or to the same wait.
    Matches {
        /// The result the guest gave again; none if it still waits.
        result: Option<Result<Json, Failure>>,
    },
    /// It did something else.
    Diverges(Divergence),
    /// It was stopped, as it was when it first ran or as it is now: by a limit or a trap.
    Stopped(Failure),
}

/// A line of an instance's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Its place in the log.
    pub sequence: u64,
    /// When it was written.
    pub time: Timestamp,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// The text.
    pub text: String,
}

/// A piece of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryPage {
    /// The run it belongs to.
    pub run: RunNumber,
    /// Events, ids gapless.
    pub events: Vec<Event>,
    /// The last event there is.
    pub last: EventId,
    /// Whether the run has ended.
    pub closed: bool,
}

/// Whether the host takes new work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// It does.
    pub ready: bool,
    /// If not, why.
    pub reason: Option<String>,
}
