//! Purging, restarting, and what runs which version.

use super::{Component, Divergence, Failure, State};
use crate::show;
use rehydrate_runtime as runtime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;

/// What a purge by conditions did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Purged {
    /// How many instances were dropped.
    pub purged: u64,
}

/// The id of a restart: `false` for the same, `true` for one that is made, or the id itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum NewId {
    /// Whether one is made.
    Made(bool),
    /// This one.
    Chosen(String),
}

/// The body of a restart; none is `{}`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The id; the same if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_id: Option<NewId>,
    /// The version; none: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl From<Restart> for runtime::RestartAs {
    fn from(restart: Restart) -> Self {
        let id = match restart.new_id {
            None | Some(NewId::Made(false)) => runtime::RestartId::Same,
            Some(NewId::Made(true)) => runtime::RestartId::New,
            Some(NewId::Chosen(id)) => runtime::RestartId::Chosen(id),
        };
        runtime::RestartAs { id, version: restart.version }
    }
}

/// A deployed component with the instances that are pinned to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ComponentDetail {
    /// The deployment.
    #[serde(flatten)]
    pub component: Component,
    /// How many instances are pinned to it, by state; states without any are left out.
    pub instances: BTreeMap<String, u64>,
    /// Whether all that have ended were counted, or only the newest 100,000 were looked at. Open ones always are.
    pub counted_all: bool,
}

impl From<&runtime::DeploymentDetail> for ComponentDetail {
    fn from(detail: &runtime::DeploymentDetail) -> Self {
        let by_state = |(state, count): (&runtime::store::InstanceStateTag, &u64)| {
            (State::from(*state).as_str().to_owned(), *count)
        };
        ComponentDetail {
            component: Component::from(&detail.deployment),
            instances: detail.instances.iter().map(by_state).collect(),
            counted_all: detail.counted_all,
        }
    }
}

/// How many histories a component matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckTotals {
    /// Those that it replays to the same point.
    pub compatible: u64,
    /// Those in which it does something else.
    pub diverging: u64,
    /// Those in which it is stopped, by a limit or a trap.
    pub stopped: u64,
}

impl From<runtime::CheckTotals> for CheckTotals {
    fn from(totals: runtime::CheckTotals) -> Self {
        let runtime::CheckTotals { compatible, diverging, stopped } = totals;
        CheckTotals { compatible, diverging, stopped }
    }
}

/// An instance whose history a component does not match.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FailingInstance {
    /// Its id.
    pub id: String,
    /// Its last run, which was replayed.
    pub run: u32,
    /// How it stands.
    pub state: State,
    /// The version that it is pinned to.
    pub version: String,
    /// Events in its history.
    pub events: u64,
    /// `diverges` or `stopped`.
    pub verdict: String,
    /// If it diverges: where.
    pub divergence: Option<Divergence>,
    /// If it was stopped: by what.
    pub failure: Option<Failure>,
}

impl From<&runtime::FailingInstance> for FailingInstance {
    fn from(instance: &runtime::FailingInstance) -> Self {
        let (verdict, divergence, failure) = match &instance.verdict {
            runtime::ReplayVerdict::Matches { .. } => ("matches", None, None),
            runtime::ReplayVerdict::Diverges(divergence) => ("diverges", Some(divergence), None),
            runtime::ReplayVerdict::Stopped(failure) => ("stopped", None, Some(failure)),
        };
        FailingInstance {
            id: instance.id.clone(),
            run: instance.run.0,
            state: instance.state.into(),
            version: instance.version.clone(),
            events: instance.events,
            verdict: verdict.to_owned(),
            divergence: divergence.map(Divergence::from),
            failure: failure.map(Failure::from),
        }
    }
}

/// What a component does with the histories of its workflow. Nothing was written.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeployCheck {
    /// The workflow.
    pub workflow: String,
    /// The version that the component might get.
    pub version: String,
    /// The SHA-256 of the component, in hex.
    pub digest: String,
    /// All open instances.
    pub open: CheckTotals,
    /// The newest of those that have ended.
    pub ended: CheckTotals,
    /// Those that don't match: the first 100, open ones first, each kind from the newest.
    pub failing: Vec<FailingInstance>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

impl From<&runtime::DeployCheck> for DeployCheck {
    fn from(check: &runtime::DeployCheck) -> Self {
        DeployCheck {
            workflow: check.workflow.clone(),
            version: check.version.clone(),
            digest: check.digest.to_string(),
            open: check.open.into(),
            ended: check.ended.into(),
            failing: check.failing.iter().map(FailingInstance::from).collect(),
            took_ms: millis(check.took),
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// An instance that was not moved to a new version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LeftInstance {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// What came of deploying a component and moving all open instances to it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MigratedAll {
    /// The deployment.
    pub component: Component,
    /// The check before it.
    pub check: DeployCheck,
    /// Instances that are pinned to it now and were not before.
    pub moved: u64,
    /// Instances that no longer matched when they were to be moved, and stay with their version.
    pub left: u64,
    /// The first 100 of them.
    pub left_named: Vec<LeftInstance>,
}

impl From<&runtime::MigrateAllReply> for MigratedAll {
    fn from(reply: &runtime::MigrateAllReply) -> Self {
        let named = |(id, reason): &(String, String)| LeftInstance { id: id.clone(), reason: show::text(reason) };
        MigratedAll {
            component: Component::from(&reply.deployment),
            check: DeployCheck::from(&reply.check),
            moved: reply.moved,
            left: reply.left,
            left_named: reply.left_named.iter().map(named).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_keeps_its_id_unless_it_is_told_otherwise() {
        let id = |text: &str| serde_json::from_str::<Restart>(text).map(|body| runtime::RestartAs::from(body).id);
        assert_eq!(id("{}").expect("a body"), runtime::RestartId::Same);
        assert_eq!(id(r#"{"new_id":false}"#).expect("a body"), runtime::RestartId::Same);
        assert_eq!(id(r#"{"new_id":true}"#).expect("a body"), runtime::RestartId::New);
        assert_eq!(id(r#"{"new_id":"b"}"#).expect("a body"), runtime::RestartId::Chosen("b".to_owned()));
        for wrong in [r#"{"new_id":1}"#, r#"{"id":"b"}"#] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }
}
