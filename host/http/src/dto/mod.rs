//! The JSON of the API: what goes in and out, and how the runtime's data becomes it.
//!
//! The types serve both sides, this server and the command line. Times are RFC 3339 in UTC with nanoseconds;
//! lengths of time end in `_ms` and are milliseconds, with a fraction where there is one. Payloads (inputs,
//! outputs, details) stand in the document as JSON values, exactly as they were given, with callback tokens
//! masked.

mod entity;
mod instance;
mod requests;
mod schedules;
mod upkeep;

pub use entity::{Entity, EntityList, EntityLock, EntitySummary, OperationResult};
pub use instance::{
    Activity, Attempt, Component, ComponentList, Divergence, Failure, Health, InstanceList, InstanceProblem,
    InstanceResult, InstanceStatus, InstanceSummary, Log, LogLine, Ready, ReplayReport, State, WaitingFor,
};
pub use requests::{
    ConflictPolicy, InstanceStarted, MessageTaken, Migrate, Reason, Rejection, Replay, ReusePolicy, StartInstance,
    Taken,
};
pub use schedules::{
    CatchUp, Note, Overlap, PutSchedule, Schedule, ScheduleError, ScheduleList, ScheduleSummary, ScheduledInstance,
};

pub use upkeep::{
    CheckTotals, ComponentDetail, DeployCheck, FailingInstance, LeftInstance, MigratedAll, NewId, Purged, Restart,
};

#[cfg(test)]
mod tests;
