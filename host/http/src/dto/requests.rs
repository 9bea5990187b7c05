//! What goes into the API, and the short answers to it.

use rehydrate_runtime as runtime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What happens when a start names an id whose instance has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReusePolicy {
    /// A new run begins.
    #[default]
    Allow,
    /// A new run begins only if the last one did not complete.
    AllowIfFailed,
    /// The start is refused with 409.
    Refuse,
}

/// What happens when a start names an id whose instance has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictPolicy {
    /// The start is refused with 409.
    #[default]
    Refuse,
    /// The running instance is given back.
    UseExisting,
    /// The running instance is terminated and a new run begins.
    Terminate,
}

/// The body of a start.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartInstance {
    /// The deployment's name.
    pub workflow: String,
    /// Its version; none: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The instance's id; none: one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The workflow's input; none: `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub input: Option<Box<RawValue>>,
    /// If the id's instance has ended.
    #[serde(default)]
    pub reuse_policy: ReusePolicy,
    /// If the id's instance has not ended.
    #[serde(default)]
    pub conflict_policy: ConflictPolicy,
}

impl StartInstance {
    /// As the runtime takes it.
    pub fn into_request(self, idempotency_key: Option<String>) -> runtime::StartRequest {
        runtime::StartRequest {
            workflow: self.workflow,
            version: self.version,
            id: self.id,
            input: self.input.map_or_else(|| "null".to_owned(), |input| input.get().to_owned()),
            reuse: match self.reuse_policy {
                ReusePolicy::Allow => runtime::ReusePolicy::Allow,
                ReusePolicy::AllowIfFailed => runtime::ReusePolicy::AllowIfFailed,
                ReusePolicy::Refuse => runtime::ReusePolicy::Refuse,
            },
            conflict: match self.conflict_policy {
                ConflictPolicy::Refuse => runtime::ConflictPolicy::Refuse,
                ConflictPolicy::UseExisting => runtime::ConflictPolicy::UseExisting,
                ConflictPolicy::Terminate => runtime::ConflictPolicy::Terminate,
            },
            idempotency_key,
        }
    }
}

/// The answer to a start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceStarted {
    /// The instance's id.
    pub id: String,
    /// The run.
    pub run: u32,
    /// The version that runs it.
    pub version: String,
    /// False: it existed before (same idempotency key, or policy `use-existing`).
    pub created: bool,
    /// The path of its status.
    pub status_url: String,
}

impl From<runtime::StartReply> for InstanceStarted {
    fn from(reply: runtime::StartReply) -> Self {
        let status_url = crate::paths::instance(&reply.id);
        InstanceStarted { id: reply.id, run: reply.run.0, version: reply.version, created: reply.created, status_url }
    }
}

/// The body of a cancel or terminate; none is `{}`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why, for people and for the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The body of a migrate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// The version to go on with.
    pub version: String,
}

/// The body of a replay; none is `{}`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The version to replay with; none: the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The run; none: the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Taken {
    /// It is recorded.
    Accepted,
    /// The same was recorded before; nothing was added.
    Duplicate,
}

/// The answer to a message: a signal, a callback, a request to cancel or terminate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct MessageTaken {
    /// What became of it.
    pub status: Taken,
}

/// The body of a callback's rejection.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// A short, stable code of 1 to 256 characters, which the workflow can tell failures apart by.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// Whether another attempt may succeed.
    #[serde(default)]
    pub retryable: bool,
    /// More.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub details: Option<Box<RawValue>>,
}
