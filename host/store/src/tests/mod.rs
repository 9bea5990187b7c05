//! Tests of the store: one conformance suite for every store, a comparison of the two stores under random
//! work, the committer, opening, damage, and crashes. Nothing here waits without a deadline.

mod committer;
mod conformance;
mod conformance_model;
mod crash;
mod damage;
mod differential;
mod open;
mod purge;

use crate::{
    Batch, CatchUp, DedupRow, DeploymentRow, InstanceRow, InstanceStateTag, LogLine, Overlap, RocksStore,
    ScheduleError, ScheduleRow, ScheduleSpec, ScheduledRun, Store, StoreOptions, TaskRow, TimerRow, UnderWay,
};
use rehydrate_core::{Digest, EventId, InstanceKey, Nanos, RunNumber, TimerPurpose, Timestamp};
use std::path::Path;

const RUN: RunNumber = RunNumber::FIRST;

/// Bytes that every store under test keeps of a log: room for ten of the lines used here.
const LOG_BYTES_KEPT: usize = 10 * LINE_BYTES;
const LINE_BYTES: usize = 16 + 84;

fn options() -> StoreOptions {
    StoreOptions { log_bytes_kept: LOG_BYTES_KEPT, ..StoreOptions::default() }
}

fn rocks(path: &Path) -> RocksStore {
    RocksStore::open(path, options()).expect("a store opens")
}

fn key(n: u8) -> InstanceKey {
    InstanceKey([n; 16])
}

/// A batch of `count` events after `last`, each of whose bytes name it.
fn events(instance: u8, last: u64, count: u64) -> Batch {
    let events = (last + 1..=last + count).map(|id| (EventId(id), event_bytes(instance, id))).collect();
    Batch { events, ..Batch::new(key(instance), RUN, EventId(last)) }
}

fn event_bytes(instance: u8, id: u64) -> Vec<u8> {
    format!("event {id} of {instance}").into_bytes()
}

fn row(instance: u8, state: InstanceStateTag, created: i64) -> InstanceRow {
    InstanceRow {
        id: format!("instance-{instance}"),
        run: RUN,
        workflow: if instance.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
        version: "1".to_owned(),
        digest: Digest([instance; 32]),
        state,
        created: Timestamp(created),
        updated: Timestamp(created),
        last_event: EventId::NONE,
        ran_through: EventId::NONE,
        custom_status: Some("{\"step\":1}".to_owned()),
        problem: None,
    }
}

fn with_row(instance: u8, row: &InstanceRow, previous: Option<&InstanceRow>) -> Batch {
    let previous = previous.map(InstanceRow::index_keys);
    Batch { row: Some(row.clone()), previous, ..Batch::new(key(instance), RUN, EventId::NONE) }
}

fn timer(due: i64, instance: u8, op: u64) -> TimerRow {
    TimerRow { due: Timestamp(due), key: key(instance), run: RUN, op: EventId(op), purpose: TimerPurpose::Timer }
}

const ACTIVITIES: UnderWay = UnderWay { activities: true, guest: false };

fn task(instance: u8, under_way: UnderWay) -> TaskRow {
    TaskRow { key: key(instance), run: RUN, under_way }
}

/// A line that counts for [`LINE_BYTES`].
fn line(n: i64) -> LogLine {
    LogLine { time: Timestamp(n), level: 2, text: format!("{n:084}") }
}

fn dedup(name: &str, instance: u8, at: i64) -> DedupRow {
    DedupRow {
        scope: "start".to_owned(),
        key: name.to_owned(),
        fingerprint: Digest([instance; 32]),
        instance: key(instance),
        run: RUN,
        at: Timestamp(at),
    }
}

fn deployment(name: &str, version: &str, digest: u8) -> DeploymentRow {
    DeploymentRow {
        name: name.to_owned(),
        version: version.to_owned(),
        digest: Digest([digest; 32]),
        kind: crate::ComponentKind::Workflow,
        activities: vec!["charge".to_owned()],
        imports: vec!["rehydrate:workflow/timers@0.1.0".to_owned()],
        bytes: 123,
        created: Timestamp(7),
        order: 0,
    }
}

/// A schedule in which every field that may be empty is not.
fn schedule(name: &str) -> ScheduleRow {
    let run = |due| ScheduledRun { due, at: Timestamp(9), instance: format!("{name}-x"), run: RUN };
    let (code, message) = ("workflow.not-found".to_owned(), "no workflow".to_owned());
    ScheduleRow {
        name: name.to_owned(),
        spec: ScheduleSpec {
            cron: "0 2 * * *".to_owned(),
            time_zone: "Europe/Stockholm".to_owned(),
            workflow: "report".to_owned(),
            version: Some("1".to_owned()),
            input: "{}".to_owned(),
            overlap: Overlap::TerminateOther,
            catch_up: CatchUp::None,
            catch_up_window: Nanos(60),
            jitter: Nanos(1),
            start: Some(Timestamp(-1)),
            end: Some(Timestamp::MAX),
            remaining_runs: Some(7),
        },
        paused: true,
        note: "over the holidays".to_owned(),
        created: Timestamp(1),
        updated: Timestamp(2),
        through: Timestamp(3),
        remaining: Some(5),
        waiting: Some(Timestamp(4)),
        running: vec![run(Some(Timestamp(8))), run(None)],
        last: Some(run(None)),
        error: Some(ScheduleError { due: Timestamp(5), at: Timestamp(6), code, message }),
        fired: 1,
        skipped: 2,
        missed: 3,
        failed: 4,
    }
}

/// Commits batches that must all be accepted.
fn commit(store: &dyn Store, batches: &[Batch]) {
    let results = store.commit(batches).expect("the store works");
    assert_eq!(results, vec![Ok(()); batches.len()]);
}

/// The ids of all events of an instance's first run, whose bytes must be the right ones.
fn event_ids(store: &dyn Store, instance: u8) -> Vec<u64> {
    let events = store.events(key(instance), RUN, EventId::NONE, usize::MAX).expect("events can be read");
    for (id, bytes) in &events {
        assert_eq!(*bytes, event_bytes(instance, id.0));
    }
    events.into_iter().map(|(id, _)| id.0).collect()
}
