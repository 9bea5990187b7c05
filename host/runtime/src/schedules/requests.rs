//! What can be asked of schedules: to be put, shown, paused, resumed, triggered and deleted.

use super::fire;
use super::policy::{self, ON_TIME};
use super::timing::{Timing, in_id};
use crate::api::{ConflictPolicy, StartReply};
use crate::clock;
use crate::error::{ErrorKind, RuntimeError};
use crate::identity::check_name;
use crate::runtime::{Runtime, check_json, shortened};
use rehydrate_core::{Nanos, Timestamp};
use rehydrate_store::{ScheduleRow, ScheduleSpec, Store};
use tokio::task::block_in_place;

/// Due times shown with a schedule.
const NEXT_SHOWN: usize = 5;

/// The longest jitter: a schedule is not to be late by more.
const JITTER_MAX: Nanos = Nanos::from_secs(24 * 3_600);

/// The longest catch-up window.
const WINDOW_MAX: Nanos = Nanos::from_secs(366 * 24 * 3_600);

/// A schedule to be put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutSchedule {
    /// What it is to do.
    pub spec: ScheduleSpec,
    /// Whether it is paused; none: as it was, and a new one is not.
    pub paused: Option<bool>,
    /// A note; none: as it was.
    pub note: Option<String>,
}

/// Everything about a schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleDetail {
    /// Its row; what it says is running has not ended.
    pub row: ScheduleRow,
    /// Its next due times; none while it is paused or if it is over.
    pub next: Vec<Timestamp>,
}

/// What schedules need of the runtime.
impl Runtime {
    pub(super) fn store(&self) -> &dyn Store {
        &*self.instances().store
    }

    pub(super) fn is_draining(&self) -> bool {
        self.instances().admission.is_draining()
    }
}

impl Runtime {
    /// Puts a schedule in place of the one of that name, if there is one; whether it is new. The same again changes
    /// nothing. What counts, and what runs, stays; new times are due from now on.
    pub async fn put_schedule(&self, name: &str, put: PutSchedule) -> Result<(ScheduleDetail, bool), RuntimeError> {
        self.instances().admission.admit()?;
        check_name("name", name).map_err(|error| RuntimeError { code: "schedule.invalid-name", ..error })?;
        self.check_schedule(&put.spec)?;
        let timing = Timing::parse(&put.spec)?;
        let schedules = self.schedules();
        let _lock = schedules.lock(name).await;
        let now = clock::now();
        let before = block_in_place(|| self.store().schedule(name))?;
        let is_new = before.is_none();
        // The same may be put again after its end.
        let is_other = before.as_ref().is_none_or(|before| before.spec != put.spec);
        if is_other && timing.next_after(now).is_none() {
            let message = "the schedule is never due; look at its days, and at its start and end";
            return Err(invalid("schedule.never-due", message));
        }
        let row = match &before {
            Some(before) => replaced(before, put, now),
            None => new(name, put, now),
        };
        if before.as_ref() != Some(&row) {
            self.keep(&row, is_new)?;
            schedules.look_now(name);
        }
        Ok((self.detail(row, now)?, is_new))
    }

    fn keep(&self, row: &ScheduleRow, is_new: bool) -> Result<(), RuntimeError> {
        let schedules = self.schedules();
        if is_new {
            // Its place is taken before it is written, so that two at once can't both have the last one.
            let mut agenda = schedules.agenda();
            let (found, limit) = (agenda.len(), self.instances().config.schedules_max);
            if found >= limit {
                let message = format!(
                    "limit `schedules-max` reached: there are {found} schedules (at most {limit}); delete one, or raise \
                     `runtime.schedules-max` in the configuration"
                );
                return Err(RuntimeError::new(ErrorKind::Conflict, "limit.schedules-max", message));
            }
            agenda.add(&row.name);
        }
        let kept = block_in_place(|| self.store().put_schedule(row));
        if kept.is_err() && is_new {
            schedules.agenda().remove(&row.name);
        }
        Ok(kept?)
    }

    fn check_schedule(&self, spec: &ScheduleSpec) -> Result<(), RuntimeError> {
        check_json("the input", &spec.input)?;
        self.check_payload("the input", spec.input.len())?;
        // A schedule of a workflow that is not there would fail at its first due time, perhaps at night.
        self.instances().catalog.workflow(&spec.workflow, spec.version.as_deref())?;
        if !(ON_TIME..=WINDOW_MAX).contains(&spec.catch_up_window) {
            let found = spec.catch_up_window;
            let message = format!("the catch-up window {found} is out of range; give {ON_TIME} to {WINDOW_MAX}");
            return Err(invalid("schedule.invalid-window", message));
        }
        if spec.jitter > JITTER_MAX {
            let message = format!("the jitter {} is too long; give at most {JITTER_MAX}", spec.jitter);
            return Err(invalid("schedule.invalid-jitter", message));
        }
        if spec.remaining_runs == Some(0) {
            let message = "0 remaining runs start nothing; give at least 1, or pause the schedule";
            return Err(invalid("schedule.invalid-runs", message));
        }
        Ok(())
    }

    /// Schedules in the order of their names, strictly after `after`, at most `limit`.
    pub async fn list_schedules(&self, after: Option<&str>, limit: usize) -> Result<Vec<ScheduleDetail>, RuntimeError> {
        let now = clock::now();
        block_in_place(|| {
            let rows = self.store().schedules(after, limit)?;
            rows.into_iter().map(|row| self.detail(row, now)).collect()
        })
    }

    /// Everything about a schedule.
    pub async fn show_schedule(&self, name: &str) -> Result<ScheduleDetail, RuntimeError> {
        let row = block_in_place(|| self.schedule_row(name))?;
        self.detail(row, clock::now())
    }

    fn schedule_row(&self, name: &str) -> Result<ScheduleRow, RuntimeError> {
        self.store().schedule(name)?.ok_or_else(|| {
            let message = format!("there is no schedule `{name}`; list them with `rehydrate schedule list`");
            RuntimeError::new(ErrorKind::NotFound, "schedule.not-found", message)
        })
    }

    fn detail(&self, mut row: ScheduleRow, now: Timestamp) -> Result<ScheduleDetail, RuntimeError> {
        block_in_place(|| fire::forget_ended(self.store(), &mut row))?;
        let left = row.remaining.map_or(NEXT_SHOWN, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let shown = if row.paused { 0 } else { left.min(NEXT_SHOWN) };
        let next = match Timing::parse(&row.spec) {
            Ok(timing) => timing.following(row.through.max(now)).take(shown).collect(),
            Err(error) => {
                tracing::warn!(schedule = row.name, %error, "a stored schedule can't be read; put it anew");
                Vec::new()
            }
        };
        Ok(ScheduleDetail { row, next })
    }

    async fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut ScheduleRow, Timestamp),
    ) -> Result<ScheduleDetail, RuntimeError> {
        self.instances().admission.admit_completion()?;
        let _lock = self.schedules().lock(name).await;
        let before = block_in_place(|| self.schedule_row(name))?;
        let mut row = before.clone();
        let now = clock::now();
        change(&mut row, now);
        if row != before {
            row.updated = now;
            block_in_place(|| self.store().put_schedule(&row))?;
            self.schedules().look_now(name);
        }
        self.detail(row, now)
    }

    /// Pauses a schedule: nothing is due until it is resumed, and what waits is given up. What runs goes on.
    pub async fn pause_schedule(&self, name: &str, note: Option<String>) -> Result<ScheduleDetail, RuntimeError> {
        self.change(name, |row, _| {
            row.paused = true;
            policy::given_up(row);
            set_note(row, note);
        })
        .await
    }

    /// Resumes a schedule. What was due while it was paused is not made.
    pub async fn resume_schedule(&self, name: &str, note: Option<String>) -> Result<ScheduleDetail, RuntimeError> {
        self.change(name, |row, now| {
            resumed(row, now);
            set_note(row, note);
        })
        .await
    }

    /// Starts an instance of a schedule now, whether it is paused or not, and beside what runs: who asks by hand
    /// decides. It counts as running for the due times that follow.
    pub async fn trigger_schedule(&self, name: &str) -> Result<StartReply, RuntimeError> {
        self.instances().admission.admit()?;
        let _lock = self.schedules().lock(name).await;
        let mut row = block_in_place(|| self.schedule_row(name))?;
        let now = clock::now();
        let id = format!("{name}-trigger-{}", in_id(now));
        let reply = self.start(fire::start_request(&row, id, ConflictPolicy::Refuse)).await?;
        block_in_place(|| {
            fire::forget_ended(self.store(), &mut row)?;
            policy::triggered(&mut row, now, reply.id.clone(), reply.run);
            self.store().put_schedule(&row).map_err(RuntimeError::from)
        })?;
        // One that waits has one more to wait for.
        self.schedules().look_now(name);
        Ok(reply)
    }

    /// Deletes a schedule. What it has started goes on.
    pub async fn delete_schedule(&self, name: &str) -> Result<(), RuntimeError> {
        let _lock = self.schedules().lock(name).await;
        block_in_place(|| {
            self.schedule_row(name)?;
            self.store().drop_schedule(name).map_err(RuntimeError::from)
        })?;
        self.schedules().agenda().remove(name);
        fire::wait_for(self, name, Vec::new());
        Ok(())
    }
}

fn invalid(code: &'static str, message: impl Into<String>) -> RuntimeError {
    RuntimeError::new(ErrorKind::Invalid, code, message)
}

/// A schedule that was put just now.
pub(super) fn new(name: &str, put: PutSchedule, now: Timestamp) -> ScheduleRow {
    ScheduleRow {
        name: name.to_owned(),
        paused: put.paused.unwrap_or_default(),
        note: put.note.map(shortened).unwrap_or_default(),
        created: now,
        updated: now,
        through: now,
        remaining: put.spec.remaining_runs,
        waiting: None,
        running: Vec::new(),
        last: None,
        error: None,
        fired: 0,
        skipped: 0,
        missed: 0,
        failed: 0,
        spec: put.spec,
    }
}

/// The row after another specification was put in its place; the same row if nothing is new.
fn replaced(before: &ScheduleRow, put: PutSchedule, now: Timestamp) -> ScheduleRow {
    let mut row = before.clone();
    if times(&before.spec) != times(&put.spec) {
        row.through = row.through.max(now);
    }
    if before.spec.remaining_runs != put.spec.remaining_runs {
        row.remaining = put.spec.remaining_runs;
    }
    row.spec = put.spec;
    match put.paused {
        Some(false) => resumed(&mut row, now),
        Some(true) => {
            row.paused = true;
            policy::given_up(&mut row);
        }
        None => {}
    }
    set_note(&mut row, put.note);
    if row != *before {
        row.updated = now;
    }
    row
}

/// The parts of a specification that say when.
fn times(spec: &ScheduleSpec) -> impl PartialEq + use<'_> {
    (&spec.cron, &spec.time_zone, spec.start, spec.end)
}

fn resumed(row: &mut ScheduleRow, now: Timestamp) {
    if std::mem::take(&mut row.paused) {
        row.through = row.through.max(now);
    }
}

fn set_note(row: &mut ScheduleRow, note: Option<String>) {
    if let Some(note) = note {
        row.note = shortened(note);
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
