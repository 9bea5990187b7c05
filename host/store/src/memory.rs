//! The store in memory, for tests: the same answers as on disk, and nothing left afterwards.
//!
//! It is written on its own, of ordered maps, and not on top of the database's keys: the two check each
//! other in the conformance suite. It must never be what a host keeps its instances in.

use crate::entities::{EntityPage, EntityQuery, EntityRow};
use crate::error::{CommitError, StoreError};
use crate::rows::{
    Batch, Cursor, DedupRow, DeploymentRow, InstanceRow, ListPage, ListQuery, LogLine, Purge, PutDeployment, TaskRow,
    TimerRow, UnderWay, log_trim_target,
};
use crate::{ScheduleRow, Store, StoreOptions};
use rehydrate_core::{Digest, EventId, InstanceKey, Json, Message, MessageId, RunNumber, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A store that lives as long as its process.
pub struct MemoryStore {
    log_bytes_kept: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    events: BTreeMap<(InstanceKey, RunNumber, EventId), Vec<u8>>,
    instances: BTreeMap<InstanceKey, InstanceRow>,
    timers: BTreeSet<TimerRow>,
    tasks: BTreeMap<(InstanceKey, RunNumber), UnderWay>,
    logs: BTreeMap<(InstanceKey, RunNumber), Log>,
    dedup: BTreeMap<(String, String), DedupRow>,
    outbox: BTreeMap<MessageId, Message>,
    inbox: BTreeSet<MessageId>,
    entities: BTreeMap<String, EntityRow>,
    entity_values: BTreeMap<(String, String), Json>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    deployments: Vec<DeploymentRow>,
    /// How many deployments were made.
    deployed: u64,
    schedules: BTreeMap<String, ScheduleRow>,
}

#[derive(Default)]
struct Log {
    last: u64,
    bytes: usize,
    lines: VecDeque<(u64, LogLine)>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::new()
    }
}

impl MemoryStore {
    /// An empty store that keeps as much of each log as [`StoreOptions`] does by default.
    pub fn new() -> MemoryStore {
        MemoryStore::with_log_bytes_kept(StoreOptions::default().log_bytes_kept)
    }

    /// An empty store that keeps at most so many bytes of each log.
    pub fn with_log_bytes_kept(log_bytes_kept: usize) -> MemoryStore {
        MemoryStore { log_bytes_kept, inner: Mutex::default() }
    }

    // A change is checked before it is begun and can't fail half-way, so a poisoned lock guards whole data.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn last_event(&self, key: InstanceKey, run: RunNumber) -> EventId {
        let of_run = (key, run, EventId::NONE)..=(key, run, EventId(u64::MAX));
        self.events.range(of_run).next_back().map_or(EventId::NONE, |((_, _, id), _)| *id)
    }

    fn check(&self, batch: &Batch) -> Result<(), CommitError> {
        batch.check()?;
        let found = self.last_event(batch.key, batch.run);
        if found != batch.expected_last {
            let (key, run, expected) = (batch.key, batch.run, batch.expected_last);
            return Err(CommitError::Conflict { key, run, expected, found });
        }
        if let Some(then) = &batch.then {
            self.check(then)?;
        }
        let taken = batch.dedup.as_ref().and_then(|row| self.dedup.get(&(row.scope.clone(), row.key.clone())));
        taken.map_or(Ok(()), |row| Err(CommitError::Duplicate(Box::new(row.clone()))))
    }

    fn apply(&mut self, batch: &Batch, log_bytes_kept: usize) {
        let (key, run) = (batch.key, batch.run);
        if let Some(purge) = batch.purge {
            self.purge(key, purge);
        }
        self.events.extend(batch.events.iter().map(|(id, bytes)| ((key, run, *id), bytes.clone())));
        if let Some(row) = &batch.row {
            self.instances.insert(key, row.clone());
        }
        for row in &batch.drop_timers {
            self.timers.remove(row);
        }
        self.timers.extend(&batch.put_timers);
        match batch.under_way {
            Some(under_way) if under_way.is_nothing() => drop(self.tasks.remove(&(key, run))),
            Some(under_way) => drop(self.tasks.insert((key, run), under_way)),
            None => {}
        }
        if !batch.log.is_empty() {
            self.logs.entry((key, run)).or_default().append(&batch.log, log_bytes_kept);
        }
        if let Some(row) = &batch.dedup {
            self.dedup.insert((row.scope.clone(), row.key.clone()), row.clone());
        }
        self.outbox.extend(batch.send.iter().map(|message| (message.id, message.clone())));
        self.inbox.extend(&batch.received);
        if let Some(entity) = &batch.entity {
            match &entity.row {
                Some(row) => drop(self.entities.insert(entity.id.clone(), row.clone())),
                None => drop(self.entities.remove(&entity.id)),
            }
            for (key, value) in &entity.values {
                let at = (entity.id.clone(), key.clone());
                match value {
                    Some(value) => drop(self.entity_values.insert(at, value.clone())),
                    None => drop(self.entity_values.remove(&at)),
                }
            }
        }
        if let Some(then) = &batch.then {
            self.apply(then, log_bytes_kept);
        }
    }
}

impl Inner {
    fn purge(&mut self, key: InstanceKey, purge: Purge) {
        let stays = |of: InstanceKey, run: RunNumber| of != key || !purge.drops(run);
        self.events.retain(|(of, run, _), _| stays(*of, *run));
        self.logs.retain(|(of, run), _| stays(*of, *run));
        self.tasks.retain(|(of, run), _| stays(*of, *run));
        if purge == Purge::Instance {
            self.instances.remove(&key);
        }
    }
}

impl Log {
    fn append(&mut self, lines: &[LogLine], kept: usize) {
        for line in lines {
            self.last += 1;
            self.bytes += line.len_bytes();
            self.lines.push_back((self.last, line.clone()));
        }
        if self.bytes <= kept {
            return;
        }
        while self.bytes > log_trim_target(kept) {
            let Some((_, line)) = self.lines.pop_front() else { return };
            self.bytes -= line.len_bytes();
        }
    }
}

impl Store for MemoryStore {
    fn commit(&self, batches: &[Batch]) -> Result<Vec<Result<(), CommitError>>, StoreError> {
        let mut inner = self.lock();
        let mut write = |batch: &Batch| {
            inner.check(batch)?;
            inner.apply(batch, self.log_bytes_kept);
            Ok(())
        };
        Ok(batches.iter().map(&mut write).collect())
    }

    fn instance(&self, key: InstanceKey) -> Result<Option<InstanceRow>, StoreError> {
        Ok(self.lock().instances.get(&key).cloned())
    }

    fn event(&self, key: InstanceKey, run: RunNumber, id: EventId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().events.get(&(key, run, id)).cloned())
    }

    fn events(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: EventId,
        limit: usize,
    ) -> Result<Vec<(EventId, Vec<u8>)>, StoreError> {
        let inner = self.lock();
        let wanted = inner.events.range((key, run, from)..=(key, run, EventId(u64::MAX))).take(limit);
        Ok(wanted.map(|((_, _, id), bytes)| (*id, bytes.clone())).collect())
    }

    fn last_event(&self, key: InstanceKey, run: RunNumber) -> Result<Option<(EventId, Vec<u8>)>, StoreError> {
        let inner = self.lock();
        let mut of_run = inner.events.range((key, run, EventId::NONE)..=(key, run, EventId(u64::MAX)));
        Ok(of_run.next_back().map(|((_, _, id), bytes)| (*id, bytes.clone())))
    }

    fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        let inner = self.lock();
        let place = |created: Timestamp, key: InstanceKey| (Reverse(created), key);
        let in_index = |(key, row): &(&InstanceKey, &InstanceRow)| {
            (query.states.is_empty() || query.states.contains(&row.state))
                && query.created_from.is_none_or(|from| row.created >= from)
                && query.created_to.is_none_or(|to| row.created <= to)
                && query.after.is_none_or(|after| place(row.created, **key) > place(after.created, after.key))
        };
        let mut found: Vec<(&InstanceKey, &InstanceRow)> = inner.instances.iter().filter(in_index).collect();
        found.sort_unstable_by_key(|(key, row)| place(row.created, **key));
        let mut page = ListPage::default();
        let mut last = None;
        for (looked, (key, row)) in found.into_iter().enumerate() {
            if page.rows.len() >= query.limit.max(1) || looked >= query.scan_max.max(1) {
                page.next = last;
                break;
            }
            last = Some(Cursor { created: row.created, key: *key });
            if query.wants(row) {
                page.rows.push(row.clone());
            }
        }
        Ok(page)
    }

    fn due_timers(&self, now: Timestamp, after: Option<&TimerRow>, limit: usize) -> Result<Vec<TimerRow>, StoreError> {
        let inner = self.lock();
        let following =
            inner.timers.range((after.map_or(Bound::Unbounded, |row| Bound::Excluded(*row)), Bound::Unbounded));
        Ok(following.take_while(|row| row.due <= now).take(limit).copied().collect())
    }

    fn next_due(&self, after: Option<&TimerRow>) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.due_timers(Timestamp::MAX, after, 1)?.first().map(|row| row.due))
    }

    fn tasks(&self, after: Option<&TaskRow>, limit: usize) -> Result<Vec<TaskRow>, StoreError> {
        let inner = self.lock();
        let from = after.map_or(Bound::Unbounded, |row| Bound::Excluded((row.key, row.run)));
        let wanted = inner.tasks.range((from, Bound::Unbounded)).take(limit);
        Ok(wanted.map(|((key, run), under_way)| TaskRow { key: *key, run: *run, under_way: *under_way }).collect())
    }

    fn log(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogLine)>, StoreError> {
        let inner = self.lock();
        let lines = inner.logs.get(&(key, run)).into_iter().flat_map(|log| &log.lines);
        Ok(lines.filter(|(number, _)| *number >= from).take(limit).cloned().collect())
    }

    fn dedup(&self, scope: &str, key: &str) -> Result<Option<DedupRow>, StoreError> {
        Ok(self.lock().dedup.get(&(scope.to_owned(), key.to_owned())).cloned())
    }

    fn drop_dedup_before(&self, at: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut inner = self.lock();
        let mut old: Vec<(Timestamp, (String, String))> =
            inner.dedup.iter().filter(|(_, row)| row.at < at).map(|(key, row)| (row.at, key.clone())).collect();
        old.sort_unstable();
        old.truncate(limit);
        for (_, key) in &old {
            inner.dedup.remove(key);
        }
        Ok(old.len())
    }

    fn outbox(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<Message>, StoreError> {
        let inner = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(inner.outbox.range((from, Bound::Unbounded)).take(limit).map(|(_, message)| message.clone()).collect())
    }

    fn was_received(&self, id: MessageId) -> Result<bool, StoreError> {
        Ok(self.lock().inbox.contains(&id))
    }

    fn drop_messages(&self, ids: &[MessageId]) -> Result<(), StoreError> {
        let mut inner = self.lock();
        for id in ids {
            inner.outbox.remove(id);
            inner.inbox.remove(id);
        }
        Ok(())
    }

    fn entity(&self, id: &str) -> Result<Option<EntityRow>, StoreError> {
        Ok(self.lock().entities.get(id).cloned())
    }

    fn entity_values(&self, id: &str) -> Result<BTreeMap<String, Json>, StoreError> {
        let inner = self.lock();
        let of_entity = inner.entity_values.range((id.to_owned(), String::new())..);
        let of_entity = of_entity.take_while(|((of, _), _)| of == id);
        Ok(of_entity.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn entities(&self, query: &EntityQuery) -> Result<EntityPage, StoreError> {
        let inner = self.lock();
        let prefix = query.prefix();
        let follows = |row: &&EntityRow| query.after.as_ref().is_none_or(|after| row.id > *after);
        let all = inner.entities.values().filter(|row| row.id.starts_with(&prefix)).filter(follows);
        let mut page = EntityPage::default();
        let mut last = None;
        for (looked, row) in all.enumerate() {
            if page.rows.len() >= query.limit.max(1) || looked >= query.scan_max.max(1) {
                page.next = last;
                break;
            }
            last = Some(row.id.clone());
            if query.wants(row) {
                page.rows.push(row.clone());
            }
        }
        Ok(page)
    }

    fn put_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.lock().blobs.entry(digest).or_insert_with(|| bytes.to_vec());
        Ok(())
    }

    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().blobs.get(&digest).cloned())
    }

    fn put_deployment(&self, row: &DeploymentRow) -> Result<PutDeployment, StoreError> {
        let mut inner = self.lock();
        let existing = inner.deployments.iter().find(|old| old.name == row.name && old.version == row.version);
        match existing {
            Some(old) if old.digest == row.digest => Ok(PutDeployment::Same),
            Some(old) => Ok(PutDeployment::Different(old.digest)),
            None => {
                inner.deployed += 1;
                let order = inner.deployed;
                inner.deployments.push(DeploymentRow { order, ..row.clone() });
                Ok(PutDeployment::Created)
            }
        }
    }

    fn remove_deployment(&self, name: &str, version: &str, drop_blob: Option<Digest>) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let before = inner.deployments.len();
        inner.deployments.retain(|row| row.name != name || row.version != version);
        let removed = inner.deployments.len() < before;
        if let Some(digest) = drop_blob.filter(|_| removed) {
            inner.blobs.remove(&digest);
        }
        Ok(removed)
    }

    fn deployments(&self) -> Result<Vec<DeploymentRow>, StoreError> {
        Ok(self.lock().deployments.clone())
    }

    fn put_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        self.lock().schedules.insert(row.name.clone(), row.clone());
        Ok(())
    }

    fn advance_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        self.put_schedule(row)
    }

    fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        Ok(self.lock().schedules.get(name).cloned())
    }

    fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Vec<ScheduleRow>, StoreError> {
        let inner = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let wanted = inner.schedules.range::<str, _>((from, Bound::Unbounded)).take(limit);
        Ok(wanted.map(|(_, row)| row.clone()).collect())
    }

    fn drop_schedule(&self, name: &str) -> Result<(), StoreError> {
        self.lock().schedules.remove(name);
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        0
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }
}
