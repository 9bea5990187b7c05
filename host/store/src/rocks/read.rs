//! Everything that is read. Scans have both bounds set: a scan never wanders into what belongs to others,
//! nor wades through dropped rows in front of where it begins.

use super::settings::Family;
use super::{LogHead, RocksStore};
use crate::codec::decode;
use crate::entities::{EntityPage, EntityQuery, EntityRow};
use crate::error::StoreError;
use crate::keys::{self, INDEX_BYTES, MESSAGE_BYTES, RUN_BYTES, TIMER_BYTES};
use crate::record;
use crate::rows::{
    Cursor, DeploymentRow, InstanceRow, InstanceStateTag, ListPage, ListQuery, LogLine, RowIndexKeys, TaskRow, TimerRow,
};
use crate::schedules::ScheduleRow;
use rehydrate_core::{EventId, InstanceKey, Json, Message, MessageId, RunNumber, Timestamp};
use rocksdb::{DB, DBIteratorWithThreadMode, DBPinnableSlice, IteratorMode, ReadOptions, SnapshotWithThreadMode};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

fn unread(family: Family, error: &rocksdb::Error) -> StoreError {
    StoreError::Read { what: format!("`{}`", family.name()), reason: error.to_string() }
}

fn bounded(family: Family, from: Vec<u8>, until: Vec<u8>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_prefix_same_as_start(family.is_read_by_run());
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(until);
    options
}

impl RocksStore {
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.db.get_pinned_cf(self.family(family)?, key).map_err(|e| unread(family, &e))
    }

    pub(super) fn row<T: DeserializeOwned>(
        &self,
        family: Family,
        key: &[u8],
        what: impl Fn() -> String,
    ) -> Result<Option<T>, StoreError> {
        self.get(family, key)?.map(|bytes| decode(what, &bytes)).transpose()
    }

    /// Reads `from..until`, at most `limit` entries.
    pub(super) fn scan<T>(
        &self,
        family: Family,
        from: Vec<u8>,
        until: Vec<u8>,
        mode: IteratorMode<'_>,
        limit: usize,
        mut parse: impl FnMut(&[u8], &[u8]) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        if from >= until || limit == 0 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in self.db.iterator_cf_opt(self.family(family)?, bounded(family, from, until), mode).take(limit) {
            let (key, value) = entry.map_err(|e| unread(family, &e))?;
            found.push(parse(&key, &value)?);
        }
        Ok(found)
    }

    pub(super) fn read_last_event(
        &self,
        key: InstanceKey,
        run: RunNumber,
    ) -> Result<Option<(EventId, Vec<u8>)>, StoreError> {
        let (from, until) = (keys::run(key, run).to_vec(), end_of_run(key, run));
        let mut last = self.scan(Family::Events, from, until, IteratorMode::End, 1, |at, bytes| {
            let events = record::split(first_of_record(at)?, bytes)?;
            Ok(events.last().map(|(id, bytes)| (*id, bytes.to_vec())))
        })?;
        Ok(last.pop().flatten())
    }

    pub(super) fn read_events(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: EventId,
        limit: usize,
    ) -> Result<Vec<(EventId, Vec<u8>)>, StoreError> {
        let mut expected = EventId(from.0.max(1));
        let mut found = Vec::new();
        let bounds = bounded(Family::Events, keys::run(key, run).to_vec(), end_of_run(key, run));
        let mut records = self.db.raw_iterator_cf_opt(self.family(Family::Events)?, bounds);
        let first = keys::numbered(key, run, expected.0);
        // The record that has the first event wanted may begin with an earlier one.
        if expected > EventId(1) {
            records.seek_for_prev(first);
        }
        if !records.valid() {
            records.seek(first);
        }
        while let Some((at, record)) = records.item() {
            let first = first_of_record(at)?;
            if first > expected {
                let what = format!("event {expected} of instance {key:?} run {}", run.0);
                return Err(StoreError::Damaged { what, reason: format!("it is missing, but event {first} is there") });
            }
            let events = record::split(first, record)?;
            let wanted = events.iter().skip_while(|(id, _)| *id < expected).take(limit - found.len());
            found.extend(wanted.map(|(id, bytes)| (*id, bytes.to_vec())));
            if found.len() == limit {
                return Ok(found);
            }
            expected = found.last().map_or(expected, |(id, _)| id.next());
            records.next();
        }
        records.status().map_err(|e| unread(Family::Events, &e))?;
        Ok(found)
    }

    pub(super) fn read_timers(
        &self,
        now: Timestamp,
        after: Option<&TimerRow>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        // Longer and greater than the key of any timer due at `now`.
        let until = [&keys::time(now)[..], &[0xff; TIMER_BYTES]].concat();
        let from = after.map_or_else(Vec::new, |row| keys::just_after(&keys::timer(row)));
        self.scan(Family::Timers, from, until, IteratorMode::Start, limit, |key, _| keys::parse_timer(key))
    }

    pub(super) fn read_tasks(&self, after: Option<&TaskRow>, limit: usize) -> Result<Vec<TaskRow>, StoreError> {
        let until = vec![0xff; RUN_BYTES + 1];
        let from = after.map_or_else(Vec::new, |row| keys::just_after(&keys::run(row.key, row.run)));
        self.scan(Family::Tasks, from, until, IteratorMode::Start, limit, |key, value| {
            let (key, run) = keys::parse_run("a task's key", key)?;
            let under_way = keys::parse_under_way(value).ok_or_else(|| StoreError::Damaged {
                what: format!("the task of instance {key:?} run {}", run.0),
                reason: "it does not say what is under way".to_owned(),
            })?;
            Ok(TaskRow { key, run, under_way })
        })
    }

    pub(super) fn read_outbox(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<Message>, StoreError> {
        let until = vec![0xff; MESSAGE_BYTES + 1];
        let from = after.map_or_else(Vec::new, |id| keys::just_after(&keys::message(id)));
        self.scan(Family::Outbox, from, until, IteratorMode::Start, limit, |_, bytes| {
            decode(|| "a message".to_owned(), bytes)
        })
    }

    pub(super) fn read_entities(&self, query: &EntityQuery) -> Result<EntityPage, StoreError> {
        let prefix = query.prefix().into_bytes();
        let until = [&prefix[..], &[0xff]].concat();
        let from = query.after.as_ref().map_or_else(Vec::new, |id| keys::just_after(id.as_bytes())).max(prefix);
        let mut page = EntityPage::default();
        let mut last: Option<String> = None;
        let bounds = bounded(Family::Entities, from, until);
        let rows = self.db.iterator_cf_opt(self.family(Family::Entities)?, bounds, IteratorMode::Start);
        for (looked, entry) in rows.enumerate() {
            if looked == query.scan_max.max(1) || page.rows.len() == query.limit.max(1) {
                page.next = last;
                break;
            }
            let (at, bytes) = entry.map_err(|e| unread(Family::Entities, &e))?;
            let row: EntityRow = decode(|| format!("entity {}", String::from_utf8_lossy(&at)), &bytes)?;
            last = Some(row.id.clone());
            if query.wants(&row) {
                page.rows.push(row);
            }
        }
        Ok(page)
    }

    pub(super) fn read_entity_values(&self, id: &str) -> Result<BTreeMap<String, Json>, StoreError> {
        let from = keys::entity_values(id);
        let until = [&from[..], &[0xff]].concat();
        let (head, what) = (from.len(), || format!("a value of entity {id}"));
        let text = |bytes: &[u8]| {
            let damaged = |e: std::str::Utf8Error| StoreError::Damaged { what: what(), reason: e.to_string() };
            std::str::from_utf8(bytes).map(str::to_owned).map_err(damaged)
        };
        let values = self.scan(Family::EntityValues, from, until, IteratorMode::Start, usize::MAX, |at, value| {
            Ok((text(at.get(head..).unwrap_or_default())?, text(value)?))
        })?;
        Ok(values.into_iter().collect())
    }

    pub(super) fn log_head(&self, key: InstanceKey, run: RunNumber) -> Result<LogHead, StoreError> {
        let what = || format!("the log's head of instance {key:?}");
        let head = self.row(Family::Log, &keys::run(key, run), what)?;
        Ok(head.unwrap_or(LogHead::EMPTY))
    }

    /// The stored lines `from..until`, at most `limit`.
    pub(super) fn log_lines(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: u64,
        until: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogLine)>, StoreError> {
        let (from, until) = (keys::numbered(key, run, from).to_vec(), keys::numbered(key, run, until).to_vec());
        self.scan(Family::Log, from, until, IteratorMode::Start, limit, |at, bytes| {
            let (_, _, number) = keys::parse_numbered("a log line's key", at)?;
            let line = decode(|| format!("line {number} of the log of instance {key:?}"), bytes)?;
            Ok((number, line))
        })
    }

    pub(super) fn read_log(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogLine)>, StoreError> {
        let head = self.log_head(key, run)?;
        self.log_lines(key, run, from.max(head.first), head.next, limit)
    }

    pub(super) fn read_deployments(&self) -> Result<Vec<DeploymentRow>, StoreError> {
        let family = self.family(Family::Deployments)?;
        let mut rows = Vec::new();
        for entry in self.db.iterator_cf(family, IteratorMode::Start) {
            let (_, bytes) = entry.map_err(|e| unread(Family::Deployments, &e))?;
            rows.push(decode::<DeploymentRow>(|| "a deployment".to_owned(), &bytes)?);
        }
        rows.sort_unstable_by_key(|row| row.order);
        Ok(rows)
    }

    pub(super) fn read_schedules(&self, after: Option<&str>, limit: usize) -> Result<Vec<ScheduleRow>, StoreError> {
        let from = after.map_or_else(Vec::new, |name| keys::just_after(name.as_bytes()));
        // No UTF-8 text has a byte that is as large.
        self.scan(Family::Schedules, from, vec![0xff], IteratorMode::Start, limit, |name, bytes| {
            decode(|| format!("the schedule `{}`", String::from_utf8_lossy(name)), bytes)
        })
    }

    pub(super) fn read_list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        // One snapshot for the index of every state and for the rows: an instance that changes its state
        // meanwhile is listed once, not twice or never.
        let snapshot = self.db.snapshot();
        let instances = self.family(Family::Instances)?;
        let mut merge = self.merge(&snapshot, query)?;
        let mut page = ListPage::default();
        let mut last = None;
        let mut looked = 0_usize;
        while let Some((state, created, key)) = merge.peek()? {
            if page.rows.len() >= query.limit.max(1) || looked >= query.scan_max.max(1) {
                page.next = last;
                break;
            }
            merge.advance()?;
            looked += 1;
            last = Some(Cursor { created, key });
            let bytes = snapshot.get_pinned_cf(instances, key.0).map_err(|e| unread(Family::Instances, &e))?;
            let Some(bytes) = bytes else { continue };
            let row: InstanceRow = decode(|| format!("the row of instance {key:?}"), &bytes)?;
            // An entry that a batch failed to name as its previous one is stale; the row has another entry.
            if row.index_keys() == (RowIndexKeys { created, state }) && query.wants(&row) {
                page.rows.push(row);
            }
        }
        Ok(page)
    }

    fn merge<'a>(
        &'a self,
        snapshot: &'a SnapshotWithThreadMode<'a, DB>,
        query: &ListQuery,
    ) -> Result<Merge<'a>, StoreError> {
        let index = self.family(Family::Index)?;
        let mut merge = Merge { states: Vec::new() };
        for state in InstanceStateTag::ALL {
            if !query.states.is_empty() && !query.states.contains(&state) {
                continue;
            }
            let (from, until) = index_bounds(state, query);
            if from < until {
                let entries = snapshot.iterator_cf_opt(index, bounded(Family::Index, from, until), IteratorMode::Start);
                merge.states.push(StateEntries { state, entries, next: None });
            }
        }
        for entries in &mut merge.states {
            entries.advance()?;
        }
        Ok(merge)
    }
}

/// The first event of a record, by its key.
fn first_of_record(key: &[u8]) -> Result<EventId, StoreError> {
    keys::parse_numbered("an event's key", key).map(|(_, _, id)| EventId(id))
}

/// Longer and greater than the number of any event of the run.
fn end_of_run(key: InstanceKey, run: RunNumber) -> Vec<u8> {
    let mut end = Vec::with_capacity(RUN_BYTES + 9);
    end.extend_from_slice(&keys::run(key, run));
    end.extend_from_slice(&[0xff; 9]);
    end
}

/// Where the entries that a query wants begin and end within one state. Time runs backwards in the index.
fn index_bounds(state: InstanceStateTag, query: &ListQuery) -> (Vec<u8>, Vec<u8>) {
    let newest = query.created_to.unwrap_or(Timestamp::MAX);
    let oldest = query.created_from.unwrap_or(Timestamp(i64::MIN));
    let mut from = [&[keys::state(state)][..], &keys::newest_first(newest)].concat();
    if let Some(after) = query.after {
        let entry = keys::index(RowIndexKeys { created: after.created, state }, after.key);
        from = from.max(keys::just_after(&entry));
    }
    let until = [&[keys::state(state)][..], &keys::newest_first(oldest), &[0xff; INDEX_BYTES]].concat();
    (from, until)
}

/// The index entries of several states as one list, newest first.
struct Merge<'a> {
    states: Vec<StateEntries<'a>>,
}

struct StateEntries<'a> {
    state: InstanceStateTag,
    entries: DBIteratorWithThreadMode<'a, DB>,
    next: Option<Box<[u8]>>,
}

impl StateEntries<'_> {
    fn advance(&mut self) -> Result<(), StoreError> {
        let entry = self.entries.next().transpose().map_err(|e| unread(Family::Index, &e))?;
        self.next = entry.map(|(key, _)| key);
        Ok(())
    }

    /// What orders the entries of different states: all but the state.
    fn place(&self) -> Option<&[u8]> {
        self.next.as_ref().and_then(|key| key.get(1..))
    }
}

impl Merge<'_> {
    fn peek(&self) -> Result<Option<(InstanceStateTag, Timestamp, InstanceKey)>, StoreError> {
        let first =
            self.states.iter().filter(|entries| entries.place().is_some()).min_by_key(|entries| entries.place());
        let Some((first, key)) = first.and_then(|first| Some((first, first.next.as_ref()?))) else { return Ok(None) };
        let (created, instance) = keys::parse_index(key)?;
        Ok(Some((first.state, created, instance)))
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        let with_entry = self.states.iter_mut().filter(|entries| entries.place().is_some());
        with_entry.min_by(|a, b| a.place().cmp(&b.place())).map_or(Ok(()), StateEntries::advance)
    }
}
