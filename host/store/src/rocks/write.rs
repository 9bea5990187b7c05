//! Everything that is written. One commit is one write of the database, synced, with its number in it.
//!
//! Several batches of one run may be in one commit: what the earlier ones will have written is kept aside
//! while the later ones are checked, and forgotten afterwards.

mod purge;

use super::open::{META_DEPLOYMENTS, META_SEQUENCE};
use super::recent::RecentRuns;
use super::settings::{self, Family};
use super::{LogHead, RocksStore, WriteState};
use crate::KeyMap;
use crate::codec::encode;
use crate::entities::EntityChange;
use crate::error::{CommitError, StoreError};
use crate::keys::{self, wide};
use crate::record;
use crate::rows::{
    Batch, DedupRow, DeploymentRow, InstanceRow, LogLine, Purge, PutDeployment, UnderWay, log_trim_target,
};
use crate::schedules::ScheduleRow;
use rehydrate_core::{Digest, EventId, InstanceKey, MessageId, RunNumber, Timestamp};
use rocksdb::{IteratorMode, WriteBatch, WriteOptions};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

/// What the accepted batches of a commit will have written.
struct Group<'a> {
    store: &'a RocksStore,
    recent: &'a RecentRuns,
    write: WriteBatch,
    last_events: KeyMap<(InstanceKey, RunNumber), EventId>,
    dedup: HashMap<Vec<u8>, DedupRow>,
    logs: KeyMap<(InstanceKey, RunNumber), PendingLog>,
    purged: purge::Purged,
}

/// A log that is being appended to: its head, and the numbers and bytes of lines the database has not yet.
struct PendingLog {
    head: LogHead,
    lines: Vec<(u64, u64)>,
}

impl RocksStore {
    pub(super) fn commit_group(&self, batches: &[Batch]) -> Result<Vec<Result<(), CommitError>>, StoreError> {
        let mut state = self.lock_writes()?;
        let mut group = Group {
            store: self,
            recent: &state.recent,
            write: WriteBatch::default(),
            last_events: KeyMap::default(),
            dedup: HashMap::new(),
            logs: KeyMap::default(),
            purged: purge::Purged::default(),
        };
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            let checked = group.check(batch)?;
            if checked.is_ok() {
                group.put(batch)?;
            }
            results.push(checked);
        }
        group.put_log_heads()?;
        let Group { write, last_events, purged, .. } = group;
        if results.iter().any(Result::is_ok) {
            self.write_synced(&mut state, write, "a commit")?;
            purged.into_runs().for_each(|(key, until)| state.recent.purged(key, until));
            last_events.into_iter().for_each(|(run, last)| state.recent.written(run, last));
        }
        Ok(results)
    }

    /// The lock that all writes take; none is given once a write has failed, because the next sync of the same
    /// file would say that all is well.
    fn lock_writes(&self) -> Result<MutexGuard<'_, WriteState>, StoreError> {
        let state = self.write.lock().unwrap_or_else(PoisonError::into_inner);
        match self.failed.get() {
            Some(reason) => Err(StoreError::Failed { reason: reason.clone() }),
            None => Ok(state),
        }
    }

    fn write_synced(&self, state: &mut WriteState, mut write: WriteBatch, what: &str) -> Result<(), StoreError> {
        let sequence = state.sequence.saturating_add(1);
        write.put_cf(self.family(Family::Meta)?, META_SEQUENCE, sequence.to_be_bytes());
        self.write(write, &settings::synced(), what)?;
        state.sequence = sequence;
        self.marker.durable(sequence).map_err(|reason| self.fail(what, reason))
    }

    fn write(&self, write: WriteBatch, options: &WriteOptions, what: &str) -> Result<(), StoreError> {
        self.bytes_written.fetch_add(wide(write.size_in_bytes()), Ordering::Relaxed);
        self.db.write_opt(write, options).map_err(|e| self.fail(what, e.to_string()))?;
        self.written();
        Ok(())
    }

    /// Ends the process if this was the last write that it was to make. Whoever asked for the write learns nothing of
    /// it: that is what a kill at the worst moment looks like.
    fn written(&self) {
        let Some(left) = &self.writes_left else { return };
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }

    fn fail(&self, what: &str, reason: String) -> StoreError {
        let reason = self.failed.get_or_init(|| reason).clone();
        StoreError::Write { what: what.to_owned(), reason }
    }

    pub(super) fn drop_old_dedup(&self, at: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let state = self.lock_writes()?;
        let mut write = WriteBatch::default();
        let until = keys::time(at).to_vec();
        let old =
            self.scan(Family::DedupTimes, Vec::new(), until, IteratorMode::Start, limit, |key, _| Ok(key.to_vec()))?;
        for key in &old {
            write.delete_cf(self.family(Family::DedupTimes)?, key);
            write.delete_cf(self.family(Family::Dedup)?, key.get(8..).unwrap_or_default());
        }
        if !old.is_empty() {
            // Not synced: an old key that comes back in a crash is dropped again.
            self.write(write, &WriteOptions::default(), "the dropping of idempotency keys")?;
        }
        drop(state);
        Ok(old.len())
    }

    pub(super) fn drop_messages(&self, ids: &[MessageId]) -> Result<(), StoreError> {
        let state = self.lock_writes()?;
        let (outbox, inbox) = (self.family(Family::Outbox)?, self.family(Family::Inbox)?);
        let mut write = WriteBatch::default();
        for id in ids {
            write.delete_cf(outbox, keys::message(*id));
            write.delete_cf(inbox, keys::message(*id));
        }
        // Not synced: a message that comes back in a crash is known by its id, which comes back with it.
        self.write(write, &WriteOptions::default(), "the dropping of messages")?;
        drop(state);
        Ok(())
    }

    pub(super) fn write_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.lock_writes()?;
        if self.get(Family::Blobs, &digest.0)?.is_some() {
            return Ok(());
        }
        let mut write = WriteBatch::default();
        write.put_cf(self.family(Family::Blobs)?, digest.0, bytes);
        self.write_synced(&mut state, write, "a component")?;
        // A component is large: it goes to its table at once and does not stay in memory.
        self.db.flush_cf(self.family(Family::Blobs)?).map_err(|e| self.fail("a component", e.to_string()))
    }

    pub(super) fn write_deployment(&self, row: &DeploymentRow) -> Result<PutDeployment, StoreError> {
        let mut state = self.lock_writes()?;
        let key = keys::pair(&row.name, &row.version);
        let what = || format!("the deployment {}@{}", row.name, row.version);
        if let Some(old) = self.row::<DeploymentRow>(Family::Deployments, &key, what)? {
            let same = old.digest == row.digest;
            return Ok(if same { PutDeployment::Same } else { PutDeployment::Different(old.digest) });
        }
        let order = state.deployments.saturating_add(1);
        let mut write = WriteBatch::default();
        let bytes = encode("a deployment", &DeploymentRow { order, ..row.clone() })?;
        write.put_cf(self.family(Family::Deployments)?, key, bytes);
        write.put_cf(self.family(Family::Meta)?, META_DEPLOYMENTS, order.to_be_bytes());
        self.write_synced(&mut state, write, "a deployment")?;
        state.deployments = order;
        Ok(PutDeployment::Created)
    }

    pub(super) fn write_schedule(&self, row: &ScheduleRow, synced: bool) -> Result<(), StoreError> {
        let mut state = self.lock_writes()?;
        let mut write = WriteBatch::default();
        write.put_cf(self.family(Family::Schedules)?, row.name.as_bytes(), encode("a schedule", row)?);
        if synced {
            return self.write_synced(&mut state, write, "a schedule");
        }
        self.write(write, &WriteOptions::default(), "a schedule")
    }

    pub(super) fn delete_schedule(&self, name: &str) -> Result<(), StoreError> {
        let mut state = self.lock_writes()?;
        let mut write = WriteBatch::default();
        write.delete_cf(self.family(Family::Schedules)?, name.as_bytes());
        self.write_synced(&mut state, write, "the dropping of a schedule")
    }
}

impl RocksStore {
    pub(super) fn drop_deployment(
        &self,
        name: &str,
        version: &str,
        drop_blob: Option<Digest>,
    ) -> Result<bool, StoreError> {
        let key = keys::pair(name, version);
        let blobs = self.family(Family::Blobs)?;
        {
            let mut state = self.lock_writes()?;
            if self.get(Family::Deployments, &key)?.is_none() {
                return Ok(false);
            }
            let mut write = WriteBatch::default();
            write.delete_cf(self.family(Family::Deployments)?, &key);
            if let Some(digest) = drop_blob {
                write.delete_cf(blobs, digest.0);
            }
            self.write_synced(&mut state, write, "the removal of a deployment")?;
        }
        if let Some(digest) = drop_blob {
            // Components are few and large: nothing else would soon give their room back.
            self.db.compact_range_cf(blobs, Some(digest.0), Some(keys::just_after(&digest.0)));
        }
        Ok(true)
    }
}

impl Group<'_> {
    /// Whether the batch may be written. Writes nothing.
    fn check(&self, batch: &Batch) -> Result<Result<(), CommitError>, StoreError> {
        if let Err(malformed) = batch.check() {
            return Ok(Err(malformed));
        }
        let next = batch.then.as_ref().map(|then| self.check_runs_and_keys(then)).transpose()?;
        match next {
            Some(refused @ Err(_)) => Ok(refused),
            _ => self.check_runs_and_keys(batch),
        }
    }

    fn check_runs_and_keys(&self, batch: &Batch) -> Result<Result<(), CommitError>, StoreError> {
        let (key, run, expected) = (batch.key, batch.run, batch.expected_last);
        if let Some(found) = self.other_last_event(key, run, expected)? {
            return Ok(Err(CommitError::Conflict { key, run, expected, found }));
        }
        let Some(row) = &batch.dedup else { return Ok(Ok(())) };
        let taken = match self.dedup.get(&keys::pair(&row.scope, &row.key)) {
            Some(taken) => Some(taken.clone()),
            None => crate::Store::dedup(self.store, &row.scope, &row.key)?,
        };
        Ok(taken.map_or(Ok(()), |taken| Err(CommitError::Duplicate(Box::new(taken)))))
    }

    /// The run's last event, if it is not the expected one. Only for a run that was not written lately must the
    /// database be asked; a new run costs a look for a key that is mostly absent.
    fn other_last_event(
        &self,
        key: InstanceKey,
        run: RunNumber,
        expected: EventId,
    ) -> Result<Option<EventId>, StoreError> {
        let known = match self.last_events.get(&(key, run)) {
            Some(last) => Some(*last),
            None if self.purged.has(key, run) => Some(EventId::NONE),
            None => self.recent.last((key, run)),
        };
        let first = keys::numbered(key, run, EventId::NONE.next().0);
        let found = match known {
            Some(found) => found,
            None if expected == EventId::NONE && self.store.get(Family::Events, &first)?.is_none() => EventId::NONE,
            None => self.store.read_last_event(key, run)?.map_or(EventId::NONE, |(id, _)| id),
        };
        Ok((found != expected).then_some(found))
    }

    fn put(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let (store, key, run) = (self.store, batch.key, batch.run);
        if let Some(purge) = batch.purge {
            self.put_purge(batch, purge)?;
            if purge == Purge::Instance {
                return self.put_timers(batch);
            }
        }
        if let Some((first, bytes)) = record::join(&batch.events)? {
            self.write.put_cf(store.family(Family::Events)?, keys::numbered(key, run, first.0), bytes);
        }
        self.last_events.insert((key, run), batch.last_event());
        if let Some(row) = &batch.row {
            self.put_row(batch, row)?;
        }
        self.put_timers(batch)?;
        if let Some(under_way) = batch.under_way {
            self.put_under_way(key, run, under_way)?;
        }
        if !batch.log.is_empty() {
            self.put_log(key, run, &batch.log)?;
        }
        if let Some(row) = &batch.dedup {
            self.put_dedup(row)?;
        }
        self.put_messages(batch)?;
        if let Some(entity) = &batch.entity {
            self.put_entity(entity)?;
        }
        batch.then.as_ref().map_or(Ok(()), |then| self.put(then))
    }

    fn put_messages(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for message in &batch.send {
            let bytes = encode("a message", message)?;
            self.write.put_cf(self.store.family(Family::Outbox)?, keys::message(message.id), bytes);
        }
        for id in &batch.received {
            self.write.put_cf(self.store.family(Family::Inbox)?, keys::message(*id), []);
        }
        Ok(())
    }

    fn put_entity(&mut self, entity: &EntityChange) -> Result<(), StoreError> {
        let store = self.store;
        let rows = store.family(Family::Entities)?;
        match &entity.row {
            Some(row) => self.write.put_cf(rows, &entity.id, encode("an entity's row", row)?),
            None => self.write.delete_cf(rows, &entity.id),
        }
        let values = store.family(Family::EntityValues)?;
        for (key, value) in &entity.values {
            let at = keys::pair(&entity.id, key);
            match value {
                Some(value) => self.write.put_cf(values, at, value),
                None => self.write.delete_cf(values, at),
            }
        }
        Ok(())
    }

    fn put_row(&mut self, batch: &Batch, row: &InstanceRow) -> Result<(), StoreError> {
        let (key, store) = (batch.key, self.store);
        self.write.put_cf(store.family(Family::Instances)?, key.0, encode("an instance's row", row)?);
        let entry = row.index_keys();
        if batch.previous == Some(entry) {
            return Ok(());
        }
        let index = store.family(Family::Index)?;
        if let Some(previous) = batch.previous {
            self.write.delete_cf(index, keys::index(previous, key));
        }
        self.write.put_cf(index, keys::index(entry, key), []);
        Ok(())
    }

    fn put_timers(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let timers = self.store.family(Family::Timers)?;
        for row in &batch.drop_timers {
            self.write.delete_cf(timers, keys::timer(row));
        }
        for row in &batch.put_timers {
            self.write.put_cf(timers, keys::timer(row), []);
        }
        Ok(())
    }

    fn put_under_way(&mut self, key: InstanceKey, run: RunNumber, under_way: UnderWay) -> Result<(), StoreError> {
        let tasks = self.store.family(Family::Tasks)?;
        if under_way.is_nothing() {
            self.write.delete_cf(tasks, keys::run(key, run));
        } else {
            self.write.put_cf(tasks, keys::run(key, run), keys::under_way(under_way));
        }
        Ok(())
    }

    fn put_dedup(&mut self, row: &DedupRow) -> Result<(), StoreError> {
        let key = keys::pair(&row.scope, &row.key);
        let by_time = [&keys::time(row.at)[..], &key[..]].concat();
        self.write.put_cf(self.store.family(Family::Dedup)?, &key, encode("an idempotency key", row)?);
        self.write.put_cf(self.store.family(Family::DedupTimes)?, by_time, []);
        self.dedup.insert(key, row.clone());
        Ok(())
    }

    fn put_log(&mut self, key: InstanceKey, run: RunNumber, lines: &[LogLine]) -> Result<(), StoreError> {
        let store = self.store;
        let family = store.family(Family::Log)?;
        let mut log = match self.logs.remove(&(key, run)) {
            Some(log) => log,
            None if self.purged.has(key, run) => PendingLog { head: LogHead::EMPTY, lines: Vec::new() },
            None => PendingLog { head: store.log_head(key, run)?, lines: Vec::new() },
        };
        for line in lines {
            let bytes = wide(line.len_bytes());
            self.write.put_cf(family, keys::numbered(key, run, log.head.next), encode("a log line", line)?);
            log.lines.push((log.head.next, bytes));
            log.head.next = log.head.next.saturating_add(1);
            log.head.bytes = log.head.bytes.saturating_add(bytes);
        }
        if log.head.bytes > wide(store.log_bytes_kept) {
            self.trim_log(key, run, &mut log)?;
        }
        self.logs.insert((key, run), log);
        Ok(())
    }

    /// Drops the oldest lines: first those in the database, then those of this commit.
    fn trim_log(&mut self, key: InstanceKey, run: RunNumber, log: &mut PendingLog) -> Result<(), StoreError> {
        const PAGE: usize = 256;
        let target = wide(log_trim_target(self.store.log_bytes_kept));
        let stored_end = log.lines.first().map_or(log.head.next, |(number, _)| *number);
        while log.head.bytes > target {
            let page = self.store.log_lines(key, run, log.head.first, stored_end, PAGE)?;
            if page.is_empty() {
                break;
            }
            for (number, line) in page {
                if log.head.bytes > target {
                    self.drop_log_line(key, run, log, number, wide(line.len_bytes()))?;
                }
            }
        }
        let pending = std::mem::take(&mut log.lines);
        for (number, bytes) in pending {
            if log.head.bytes > target {
                self.drop_log_line(key, run, log, number, bytes)?;
            } else {
                log.lines.push((number, bytes));
            }
        }
        Ok(())
    }

    fn drop_log_line(
        &mut self,
        key: InstanceKey,
        run: RunNumber,
        log: &mut PendingLog,
        number: u64,
        bytes: u64,
    ) -> Result<(), StoreError> {
        self.write.delete_cf(self.store.family(Family::Log)?, keys::numbered(key, run, number));
        log.head.first = number.saturating_add(1);
        log.head.bytes = log.head.bytes.saturating_sub(bytes);
        Ok(())
    }

    fn put_log_heads(&mut self) -> Result<(), StoreError> {
        let family = self.store.family(Family::Log)?;
        for ((key, run), log) in &self.logs {
            self.write.put_cf(family, keys::run(*key, *run), encode("a log's head", &log.head)?);
        }
        Ok(())
    }
}
