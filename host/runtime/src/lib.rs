//! The runtime: owns the clock, the workers, the timer loop, the commit loop and the resident cache, and
//! carries out core's decisions.
//!
//! Every instance is an actor: its inputs wait in a mailbox and one task at a time takes them. A turn is
//! what the guest does from one wait to the next, and is one commit; nothing it led to becomes visible
//! before that commit is durable. The runtime decides nothing about a workflow itself, and knows neither
//! HTTP nor the command line.

mod actor;
mod admission;
mod api;
mod catalog;
mod clock;
mod commit;
mod deploy_check;
mod entities;
mod error;
mod follow;
mod identity;
mod lifecycle;
mod load;
pub mod outbound;
mod outbox;
mod purge;
mod replay_check;
mod residents;
mod restart;
mod retention;
mod runtime;
mod schedules;
mod timers;
mod tokens;
mod turn;
mod versions;
mod workers;

pub use api::{
    CallbackPost, ConflictPolicy, DeployReply, HistoryPage, InstanceDetail, InstanceResult, LogEntry, Readiness,
    ReplayReport, ReplayVerdict, RestartAs, RestartId, ReusePolicy, RuntimeConfig, StartReply, StartRequest,
};
pub use deploy_check::{CheckTotals, DeployCheck, FailingInstance, MigrateAllReply};
pub use entities::EntityDetail;
pub use error::{ErrorKind, RuntimeError};
pub use follow::{Changes, WatchedRun};
pub use retention::{Kept, KeptByOutcome, RetentionConfig};
pub use runtime::Runtime;
pub use schedules::{PutSchedule, ScheduleDetail};
pub use tokens::mask_tokens;
pub use versions::DeploymentDetail;

/// The core's types that the runtime's own are made of.
pub use rehydrate_core as core;
/// The store's types that the runtime's own are made of.
pub use rehydrate_store as store;
