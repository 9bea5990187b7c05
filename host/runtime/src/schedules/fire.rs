//! Carrying out what a schedule is to do next: starting instances, skipping, waiting for what runs.

use super::policy::{self, Moment, Step};
use super::timing::{Timing, in_id};
use super::{REST, Schedules};
use crate::api::{ConflictPolicy, ReusePolicy, StartRequest};
use crate::error::{ErrorKind, RuntimeError};
use crate::runtime::Runtime;
use crate::{clock, identity};
use rehydrate_core::{RunNumber, Timestamp};
use rehydrate_store::{ScheduleError, ScheduleRow, ScheduledRun, Store};
use std::sync::Arc;
use tokio::task::block_in_place;

/// Steps taken for one schedule before others have their turn.
const STEPS_MAX: usize = 16;

/// The start that a due time or a trigger leads to. Whatever exists under its id is it.
pub fn start_request(row: &ScheduleRow, id: String, conflict: ConflictPolicy) -> StartRequest {
    StartRequest {
        workflow: row.spec.workflow.clone(),
        version: row.spec.version.clone(),
        id: Some(id),
        input: row.spec.input.clone(),
        reuse: ReusePolicy::Refuse,
        conflict,
        idempotency_key: None,
    }
}

/// The id of the instance of a due time. Names have no colon, so no two schedules share one.
fn instance_id(name: &str, due: Timestamp) -> String {
    format!("{name}-{}", in_id(due))
}

/// Whether the run of a schedule goes on. One that was removed, or whose instance has a later run, does not.
pub fn goes_on(store: &dyn Store, run: &ScheduledRun) -> Result<bool, RuntimeError> {
    let row = store.instance(identity::instance_key(&run.instance))?;
    Ok(row.is_some_and(|row| row.run == run.run && !row.state.is_closed()))
}

/// Forgets the instances of a schedule that have ended.
pub fn forget_ended(store: &dyn Store, row: &mut ScheduleRow) -> Result<(), RuntimeError> {
    let mut running = Vec::new();
    for run in std::mem::take(&mut row.running) {
        if goes_on(store, &run)? {
            running.push(run);
        }
    }
    row.running = running;
    Ok(())
}

/// Does what a schedule is to do now, and notes when it is to be looked at next.
pub async fn look_at(runtime: &Runtime, name: &str) {
    let schedules = runtime.schedules();
    let _lock = schedules.lock(name).await;
    match steps(runtime, name).await {
        Ok(Next { at, waits_for }) => {
            schedules.look(name, at);
            // After that: an instance that has ended by now is seen at once, and not overwritten.
            wait_for(runtime, name, waits_for);
        }
        Err(error) => {
            tracing::error!(schedule = name, %error, "a schedule could not be looked at; it is tried again");
            schedules.look(name, Some(clock::now().after(REST)));
        }
    }
}

/// When to look next.
struct Next {
    at: Option<Timestamp>,
    /// Look as well when these have ended.
    waits_for: Vec<ScheduledRun>,
}

async fn steps(runtime: &Runtime, name: &str) -> Result<Next, RuntimeError> {
    let store = runtime.store();
    let Some(mut row) = block_in_place(|| store.schedule(name))? else {
        return Ok(Next { at: None, waits_for: Vec::new() });
    };
    let timing = Timing::parse(&row.spec)?;
    for _ in 0..STEPS_MAX {
        let step = block_in_place(|| {
            forget_ended(store, &mut row)?;
            next_step(store, &row, &timing)
        })?;
        if let Step::Sleep(at) = step {
            let waits_for = if row.waiting.is_some() { row.running } else { Vec::new() };
            return Ok(Next { at, waits_for });
        }
        take(runtime, &mut row, step).await?;
        // Not synced: from the row before, the same steps are taken again, and what was started is found.
        block_in_place(|| store.advance_schedule(&row))?;
    }
    Ok(Next { at: Some(clock::now()), waits_for: Vec::new() })
}

fn next_step(store: &dyn Store, row: &ScheduleRow, timing: &Timing) -> Result<Step, RuntimeError> {
    let next = timing.next_after(row.through);
    let next_is_there = match next {
        Some(due) => store.instance(identity::instance_key(&instance_id(&row.name, due)))?.is_some(),
        None => false,
    };
    Ok(policy::decide(&Moment { row, timing, now: clock::now(), next_is_there }))
}

async fn take(runtime: &Runtime, row: &mut ScheduleRow, step: Step) -> Result<(), RuntimeError> {
    match step {
        Step::Sleep(_) => {}
        Step::Skip { through, count, why } => policy::skipped(row, through, count, why),
        Step::Hold { due, cancel } => {
            if cancel {
                cancel_all(runtime, row).await;
            }
            policy::held(row, due);
        }
        Step::Start { due, terminate } => {
            let alone = if terminate { terminate_all(runtime, row).await } else { Ok(()) };
            let started = match alone {
                Ok(()) => start(runtime, row, due).await,
                Err(error) => Err(error),
            };
            match started {
                Ok((instance, run)) => policy::fired(row, due, clock::now(), instance, run),
                // A host that ends makes this due time when it is back.
                Err(error) if runtime.is_draining() => return Err(error),
                Err(RuntimeError { code, message, .. }) => {
                    tracing::warn!(schedule = row.name, due = in_id(due), code, message, "a scheduled start failed");
                    let error = ScheduleError { due, at: clock::now(), code: code.to_owned(), message };
                    policy::failed(row, error);
                }
            }
        }
    }
    Ok(())
}

fn due_again(row: &ScheduleRow) -> String {
    format!("the schedule `{}` is due again", row.name)
}

/// Asks what runs to cancel. One that can't be asked now is waited for all the same.
async fn cancel_all(runtime: &Runtime, row: &ScheduleRow) {
    for run in &row.running {
        if let Err(error) = runtime.cancel(&run.instance, due_again(row)).await {
            tracing::debug!(instance = run.instance, %error, "an instance of a schedule was not asked to cancel");
        }
    }
}

async fn terminate_all(runtime: &Runtime, row: &ScheduleRow) -> Result<(), RuntimeError> {
    for run in &row.running {
        match runtime.terminate(&run.instance, due_again(row)).await {
            // It has ended meanwhile.
            Err(error) if matches!(error.kind, ErrorKind::Gone | ErrorKind::NotFound) => {}
            ended => drop(ended?),
        }
    }
    Ok(())
}

/// Starts the instance of a due time, or finds it.
async fn start(runtime: &Runtime, row: &ScheduleRow, due: Timestamp) -> Result<(String, RunNumber), RuntimeError> {
    let id = instance_id(&row.name, due);
    if let Some(there) = runtime.store().instance(identity::instance_key(&id))? {
        return Ok((id, there.run));
    }
    let reply = runtime.start(start_request(row, id, ConflictPolicy::UseExisting)).await?;
    Ok((reply.id, reply.run))
}

/// Has a schedule looked at when all these have ended; none: it waits for nothing.
pub fn wait_for(runtime: &Runtime, name: &str, runs: Vec<ScheduledRun>) {
    let schedules = runtime.schedules();
    let wait = (!runs.is_empty()).then(|| {
        let wait = ended(runtime.clone(), schedules.clone(), name.to_owned(), runs);
        tokio::spawn(wait).abort_handle()
    });
    let before = match wait {
        Some(wait) => schedules.waits().insert(name.to_owned(), wait),
        None => schedules.waits().remove(name),
    };
    if let Some(before) = before {
        before.abort();
    }
}

async fn ended(runtime: Runtime, schedules: Arc<Schedules>, name: String, runs: Vec<ScheduledRun>) {
    for run in runs {
        let mut end = runtime.watch_end(&run.instance);
        // It is watched first, so that an end between the two is not missed. What can't be read is seen by the look.
        if block_in_place(|| goes_on(runtime.store(), &run)).unwrap_or(false) {
            end.result(RunNumber::FIRST).await;
        }
    }
    schedules.look_now(&name);
}
