//! Would a new version go on with what is under way? Replays a candidate against the histories of its workflow before
//! it is deployed, and moves the open instances to it if all of them match.
//!
//! One check runs at a time, one replay after the other on a thread that may block, so that a check of very many
//! histories takes one processor and leaves the others to the instances. Nothing is written, and nothing goes out.

use crate::actor::{MovePlan, Post, answered};
use crate::api::ReplayVerdict;
use crate::catalog::{Candidate, blocking, internal};
use crate::error::{ErrorKind, RuntimeError};
use crate::identity;
use crate::replay_check::{self, Run};
use crate::runtime::Runtime;
use bytes::Bytes;
use rehydrate_core::RunNumber;
use rehydrate_store::{DeploymentRow, InstanceRow, InstanceStateTag, ListQuery};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Failing instances that a report names, and instances that it says were not moved.
const NAMED_MAX: usize = 100;

/// Instances replayed without looking whether somebody still waits for the result.
const PIECE: usize = 64;

/// Rows looked at for one piece.
const SCAN_MAX: usize = 10_000;

/// Instances moved at once: they share their syncs.
const MOVES_AT_ONCE: usize = 16;

/// How many histories match.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CheckTotals {
    /// Those that the candidate replays to the same point.
    pub compatible: u64,
    /// Those in which it does something else.
    pub diverging: u64,
    /// Those in which it is stopped, by a limit or a trap.
    pub stopped: u64,
}

impl CheckTotals {
    /// All of them.
    pub fn all(self) -> u64 {
        self.compatible + self.diverging + self.stopped
    }

    /// Those that don't match.
    pub fn failing(self) -> u64 {
        self.diverging + self.stopped
    }

    fn add(&mut self, verdict: &ReplayVerdict) {
        match verdict {
            ReplayVerdict::Matches { .. } => self.compatible += 1,
            ReplayVerdict::Diverges(_) => self.diverging += 1,
            ReplayVerdict::Stopped(_) => self.stopped += 1,
        }
    }
}

/// An instance whose history the candidate does not match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailingInstance {
    /// Its id.
    pub id: String,
    /// Its last run, which was replayed.
    pub run: RunNumber,
    /// How it stands.
    pub state: InstanceStateTag,
    /// The version that it is pinned to.
    pub version: String,
    /// Events in its history.
    pub events: u64,
    /// How the replay went.
    pub verdict: ReplayVerdict,
}

/// What a candidate does with the histories of its workflow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeployCheck {
    /// The workflow.
    pub workflow: String,
    /// The version that the candidate might get.
    pub version: String,
    /// The SHA-256 of its bytes.
    pub digest: rehydrate_core::Digest,
    /// All open instances.
    pub open: CheckTotals,
    /// The newest of those that have ended.
    pub ended: CheckTotals,
    /// Those that don't match: the first 100, open ones first, each kind from the newest.
    pub failing: Vec<FailingInstance>,
    /// How long it took.
    pub took: Duration,
}

/// What came of moving all open instances to a new version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrateAllReply {
    /// The deployment.
    pub deployment: DeploymentRow,
    /// The check before it.
    pub check: DeployCheck,
    /// Instances that are pinned to it now and were not before.
    pub moved: u64,
    /// Instances that no longer matched when they were to be moved, and stay with their version.
    pub left: u64,
    /// The first 100 of them, with the reason.
    pub left_named: Vec<(String, String)>,
}

impl Runtime {
    /// Replays what might be deployed as `name@version` against all open instances of workflow `name` and the newest
    /// `ended` of those that have ended. Nothing is deployed or written.
    ///
    /// Errors: those of a deploy; `deployment.no-workflow` for a component of activities; `deploy-check.busy` while
    /// another check runs.
    pub async fn check_deploy(
        &self,
        name: &str,
        version: &str,
        bytes: Bytes,
        ended: usize,
    ) -> Result<DeployCheck, RuntimeError> {
        let _only = self.only_check()?;
        let candidate = self.instances.catalog.candidate(name, version, bytes).await?;
        let checked = self.checked(name, version, &candidate, ended).await;
        self.instances.catalog.forget(&candidate).await;
        checked
    }

    /// Deploys a workflow and moves all open instances of its name to it, if it matches the histories of all of them;
    /// else nothing is deployed and none is moved. Each is checked again when it is moved: one that has gone on to
    /// where it does not match any more stays with its version, and is named.
    ///
    /// Errors: those of a check; `deployment.diverges` if a history does not match, which names the first.
    pub async fn deploy_and_migrate(
        &self,
        name: &str,
        version: &str,
        bytes: Bytes,
    ) -> Result<MigrateAllReply, RuntimeError> {
        self.instances.admission.admit()?;
        let _only = self.only_check()?;
        let candidate = self.instances.catalog.candidate(name, version, bytes.clone()).await?;
        let checked = self.checked(name, version, &candidate, 0).await;
        let check = match checked {
            Ok(check) if check.open.failing() == 0 => check,
            other => {
                self.instances.catalog.forget(&candidate).await;
                return Err(other.map_or_else(|error| error, |check| diverges(&check)));
            }
        };
        let deployment = self.deploy(name, version, bytes).await?.deployment;
        let mut reply = MigrateAllReply { deployment, check, moved: 0, left: 0, left_named: Vec::new() };
        self.move_all(&candidate, &mut reply).await?;
        Ok(reply)
    }

    /// The right to check: one at a time.
    fn only_check(&self) -> Result<tokio::sync::SemaphorePermit<'_>, RuntimeError> {
        self.instances.checking.try_acquire().map_err(|_| {
            let message = "another deployment is being checked; try again when that is done";
            RuntimeError::new(ErrorKind::Unavailable, "deploy-check.busy", message)
        })
    }

    async fn checked(
        &self,
        name: &str,
        version: &str,
        candidate: &Candidate,
        ended: usize,
    ) -> Result<DeployCheck, RuntimeError> {
        let begun = Instant::now();
        let mut check = DeployCheck {
            workflow: name.to_owned(),
            version: version.to_owned(),
            digest: candidate.digest,
            open: CheckTotals::default(),
            ended: CheckTotals::default(),
            failing: Vec::new(),
            took: Duration::ZERO,
        };
        let open = |state: InstanceStateTag| !state.is_closed();
        check.open = self.replay_all(name, open, usize::MAX, candidate, &mut check.failing).await?;
        check.ended = self.replay_all(name, InstanceStateTag::is_closed, ended, candidate, &mut check.failing).await?;
        check.took = begun.elapsed();
        Ok(check)
    }

    /// Replays the newest `count` instances of a workflow that are in such a state.
    async fn replay_all(
        &self,
        workflow: &str,
        wanted: impl Fn(InstanceStateTag) -> bool,
        count: usize,
        candidate: &Candidate,
        failing: &mut Vec<FailingInstance>,
    ) -> Result<CheckTotals, RuntimeError> {
        let mut query = of_workflow(workflow, wanted);
        let (mut totals, mut left) = (CheckTotals::default(), count);
        while left > 0 {
            query.limit = left.min(PIECE);
            let (next, looked, checked) = self.replay_piece(query.clone(), candidate).await?;
            left = left.saturating_sub(looked);
            for instance in checked {
                totals.add(&instance.verdict);
                let matches = matches!(instance.verdict, ReplayVerdict::Matches { .. });
                if !matches && failing.len() < NAMED_MAX {
                    failing.push(instance);
                }
            }
            query.after = next;
            if query.after.is_none() {
                break;
            }
        }
        Ok(totals)
    }

    /// Replays the instances of one page of a list.
    async fn replay_piece(
        &self,
        query: ListQuery,
        candidate: &Candidate,
    ) -> Result<(Option<rehydrate_store::Cursor>, usize, Vec<FailingInstance>), RuntimeError> {
        let room = self.instances.guest_room().await?;
        let (instances, component) = (self.instances.clone(), candidate.workflow.clone());
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let page = instances.store.list(&query)?;
            let mut checked = Vec::with_capacity(page.rows.len());
            let looked = page.rows.len();
            for row in page.rows {
                let run = Run::load(&instances, identity::instance_key(&row.id), &row, row.run)?;
                let events = run.len();
                // Purged since it was listed.
                if events == 0 {
                    continue;
                }
                let verdict = runtime.block_on(replay_check::verdict(&instances, run, &component));
                let verdict =
                    verdict.map_err(|error| internal(&format!("instance `{}`: {}", row.id, error.message)))?;
                let InstanceRow { id, run, state, version, .. } = row;
                checked.push(FailingInstance { id, run, state, version, events, verdict });
            }
            drop(room);
            Ok((page.next, looked, checked))
        })
        .await?
    }

    /// Moves all open instances of the deployment's workflow that are not pinned to it.
    async fn move_all(&self, candidate: &Candidate, reply: &mut MigrateAllReply) -> Result<(), RuntimeError> {
        let mut query = of_workflow(&reply.deployment.name, |state| !state.is_closed());
        loop {
            let (store, of_piece) = (self.instances.store.clone(), query.clone());
            let page = blocking(move || store.list(&of_piece)).await??;
            let mut under_way = JoinSet::new();
            for row in page.rows {
                if row.digest == reply.deployment.digest && row.version == reply.deployment.version {
                    continue;
                }
                if under_way.len() >= MOVES_AT_ONCE {
                    reply.moved(under_way.join_next().await)?;
                }
                let deployment = &reply.deployment;
                let (pinned, pin) =
                    self.instances.catalog.pinned_workflow(&deployment.name, Some(&deployment.version))?;
                let component = candidate.workflow.clone();
                let plan = MovePlan { version: pinned.version, digest: pinned.digest, component, pin };
                let runtime = self.clone();
                under_way.spawn(async move {
                    let (tell, answer) = oneshot::channel();
                    runtime.instances.post(identity::instance_key(&row.id), Post::Move(Box::new(plan), tell));
                    (row.id, answered(answer).await)
                });
            }
            while let Some(moved) = under_way.join_next().await {
                reply.moved(Some(moved))?;
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(());
            }
        }
    }
}

/// The instance of a task, and whether it was moved.
type Moved = Result<(String, Result<(), RuntimeError>), tokio::task::JoinError>;

impl MigrateAllReply {
    /// Counts one instance.
    fn moved(&mut self, moved: Option<Moved>) -> Result<(), RuntimeError> {
        let Some(moved) = moved else { return Ok(()) };
        let (id, result) = moved.map_err(|error| internal(&format!("a migration failed: {error}")))?;
        match result {
            Ok(()) => self.moved += 1,
            // It has ended, or was even purged.
            Err(error) if matches!(error.kind, ErrorKind::Gone | ErrorKind::NotFound) => {}
            Err(error) if error.kind == ErrorKind::Conflict => {
                self.left += 1;
                if self.left_named.len() < NAMED_MAX {
                    self.left_named.push((id, error.message));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The instances of a workflow that are in such a state, in pieces.
fn of_workflow(workflow: &str, wanted: impl Fn(InstanceStateTag) -> bool) -> ListQuery {
    ListQuery {
        states: InstanceStateTag::ALL.into_iter().filter(|state| wanted(*state)).collect(),
        workflow: Some(workflow.to_owned()),
        limit: PIECE,
        scan_max: SCAN_MAX,
        ..ListQuery::default()
    }
}

fn diverges(check: &DeployCheck) -> RuntimeError {
    let (failing, all) = (check.open.failing(), check.open.all());
    let first = check.failing.first().map_or_else(String::new, |instance| {
        let how = match &instance.verdict {
            ReplayVerdict::Diverges(divergence) => divergence.to_string(),
            ReplayVerdict::Stopped(failure) => format!("it is stopped: {failure}"),
            ReplayVerdict::Matches { .. } => "it matches".to_owned(),
        };
        format!("; the newest is `{}`: {how}", instance.id)
    });
    let message = format!(
        "{}@{} does not match the histories of {failing} of {all} open instances{first}; nothing was deployed and none \
         was moved: see them all with `rehydrate deploy --check`",
        check.workflow, check.version
    );
    RuntimeError::new(ErrorKind::Conflict, "deployment.diverges", message)
}
