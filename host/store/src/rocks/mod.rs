//! The store on disk. No type of RocksDB leaves this module.
//!
//! Writes take one lock, so that what a commit checks still holds when it writes; reads take none. Nothing
//! that was read is kept for later: a condition is checked against what this process itself has made durable,
//! or else against the database.

mod open;
mod read;
mod recent;
mod settings;
mod write;

use crate::entities::{EntityPage, EntityQuery, EntityRow};
use crate::error::{CommitError, OpenError, StoreError};
use crate::mark::Marker;
use crate::rows::{
    Batch, DedupRow, DeploymentRow, InstanceRow, ListPage, ListQuery, LogLine, PutDeployment, TaskRow, TimerRow,
};
use crate::{ScheduleRow, Store};
use recent::RecentRuns;
use rehydrate_core::{Digest, EventId, InstanceKey, Json, Message, MessageId, RunNumber, Timestamp};
use rocksdb::{ColumnFamily, DB};
use serde::{Deserialize, Serialize};
use settings::Family;
use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// How the store on disk works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// Bytes of each run's log that are kept, at most; the oldest lines go first.
    pub log_bytes_kept: usize,
    /// Bytes of memory for what was read.
    pub cache_bytes: usize,
    /// Bytes of memory for what was written and is not yet in tables.
    pub write_buffer_bytes: usize,
    /// The mark is written after so many commits...
    pub mark_commits: u64,
    /// ...or after so long, if that comes first.
    pub mark_interval: Duration,
    /// For tests of recovery: the process aborts right after so many writes since the store was opened, synced or not,
    /// before anybody learns of the last one. None: never.
    pub abort_after_writes: Option<NonZeroU64>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            log_bytes_kept: 1 << 20,
            cache_bytes: 32 << 20,
            write_buffer_bytes: 24 << 20,
            mark_commits: 10_000,
            mark_interval: Duration::from_secs(1),
            abort_after_writes: None,
        }
    }
}

/// The store on disk. Closing it (dropping) marks its last commit.
pub struct RocksStore {
    // Fields are dropped in this order: the last mark is written, the database closed, the directory unlocked.
    marker: Marker,
    db: DB,
    path: PathBuf,
    log_bytes_kept: usize,
    write: Mutex<WriteState>,
    bytes_written: AtomicU64,
    /// Writes that are left until the process aborts, if it shall.
    writes_left: Option<AtomicU64>,
    failed: OnceLock<String>,
    _lock: File,
}

/// What the next write continues from.
struct WriteState {
    /// The last commit.
    sequence: u64,
    /// How many deployments were made.
    deployments: u64,
    /// The last events of the runs written lately.
    recent: RecentRuns,
}

/// Where a run's log begins and ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LogHead {
    /// The number of the oldest line kept.
    first: u64,
    /// The number that the next line gets.
    next: u64,
    /// Bytes kept, as [`LogLine::len_bytes`] counts.
    bytes: u64,
}

impl LogHead {
    /// Of a log without lines.
    const EMPTY: LogHead = LogHead { first: 1, next: 1, bytes: 0 };
}

impl RocksStore {
    /// Opens the data directory, or makes it (for this user only) if it is not there. The database is in its
    /// subdirectory `db`; other files in the directory are left alone.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<RocksStore, OpenError> {
        open::open(path.as_ref(), options)
    }

    fn family(&self, wanted: Family) -> Result<&ColumnFamily, StoreError> {
        family(&self.db, wanted)
    }
}

fn family(db: &DB, wanted: Family) -> Result<&ColumnFamily, StoreError> {
    let missing = || StoreError::Damaged {
        what: format!("the column family `{}`", wanted.name()),
        reason: "it is not there".to_owned(),
    };
    db.cf_handle(wanted.name()).ok_or_else(missing)
}

impl Store for RocksStore {
    fn commit(&self, batches: &[Batch]) -> Result<Vec<Result<(), CommitError>>, StoreError> {
        self.commit_group(batches)
    }

    fn instance(&self, key: InstanceKey) -> Result<Option<InstanceRow>, StoreError> {
        self.row(Family::Instances, &key.0, || format!("the row of instance {key:?}"))
    }

    fn event(&self, key: InstanceKey, run: RunNumber, id: EventId) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.read_events(key, run, id, 1)?.pop();
        Ok(found.filter(|(found, _)| *found == id).map(|(_, bytes)| bytes))
    }

    fn events(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: EventId,
        limit: usize,
    ) -> Result<Vec<(EventId, Vec<u8>)>, StoreError> {
        self.read_events(key, run, from, limit)
    }

    fn last_event(&self, key: InstanceKey, run: RunNumber) -> Result<Option<(EventId, Vec<u8>)>, StoreError> {
        self.read_last_event(key, run)
    }

    fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.read_list(query)
    }

    fn due_timers(&self, now: Timestamp, after: Option<&TimerRow>, limit: usize) -> Result<Vec<TimerRow>, StoreError> {
        self.read_timers(now, after, limit)
    }

    fn next_due(&self, after: Option<&TimerRow>) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.read_timers(Timestamp::MAX, after, 1)?.first().map(|row| row.due))
    }

    fn tasks(&self, after: Option<&TaskRow>, limit: usize) -> Result<Vec<TaskRow>, StoreError> {
        self.read_tasks(after, limit)
    }

    fn log(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogLine)>, StoreError> {
        self.read_log(key, run, from, limit)
    }

    fn dedup(&self, scope: &str, key: &str) -> Result<Option<DedupRow>, StoreError> {
        self.row(Family::Dedup, &crate::keys::pair(scope, key), || format!("the idempotency key `{key}`"))
    }

    fn drop_dedup_before(&self, at: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.drop_old_dedup(at, limit)
    }

    fn outbox(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<Message>, StoreError> {
        self.read_outbox(after, limit)
    }

    fn was_received(&self, id: MessageId) -> Result<bool, StoreError> {
        Ok(self.get(Family::Inbox, &crate::keys::message(id))?.is_some())
    }

    fn drop_messages(&self, ids: &[MessageId]) -> Result<(), StoreError> {
        RocksStore::drop_messages(self, ids)
    }

    fn entity(&self, id: &str) -> Result<Option<EntityRow>, StoreError> {
        self.row(Family::Entities, id.as_bytes(), || format!("the row of entity {id}"))
    }

    fn entity_values(&self, id: &str) -> Result<BTreeMap<String, Json>, StoreError> {
        self.read_entity_values(id)
    }

    fn entities(&self, query: &EntityQuery) -> Result<EntityPage, StoreError> {
        self.read_entities(query)
    }

    fn put_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_blob(digest, bytes)
    }

    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get(Family::Blobs, &digest.0)?.map(|bytes| bytes.to_vec()))
    }

    fn put_deployment(&self, row: &DeploymentRow) -> Result<PutDeployment, StoreError> {
        self.write_deployment(row)
    }

    fn remove_deployment(&self, name: &str, version: &str, drop_blob: Option<Digest>) -> Result<bool, StoreError> {
        self.drop_deployment(name, version, drop_blob)
    }

    fn deployments(&self) -> Result<Vec<DeploymentRow>, StoreError> {
        self.read_deployments()
    }

    fn put_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        self.write_schedule(row, true)
    }

    fn advance_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        self.write_schedule(row, false)
    }

    fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        self.row(Family::Schedules, name.as_bytes(), || format!("the schedule `{name}`"))
    }

    fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Vec<ScheduleRow>, StoreError> {
        self.read_schedules(after, limit)
    }

    fn drop_schedule(&self, name: &str) -> Result<(), StoreError> {
        self.delete_schedule(name)
    }

    fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let failed = |e: rustix::io::Errno| StoreError::Read {
            what: format!("the free space of {}", self.path.display()),
            reason: e.to_string(),
        };
        let disk = rustix::fs::statvfs(&self.path).map_err(failed)?;
        Ok(Some(disk.f_bavail.saturating_mul(disk.f_frsize)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehydrate_core::{Digest, EventId, RunNumber};

    #[test]
    fn once_a_write_has_failed_no_other_is_tried_and_reads_still_answer() {
        let directory = tempfile::tempdir().unwrap();
        let store = RocksStore::open(directory.path(), StoreOptions::default()).unwrap();
        store.failed.set("Input/output error".to_owned()).unwrap();
        let batch = Batch::new(InstanceKey([1; 16]), RunNumber::FIRST, EventId::NONE);
        let refused = StoreError::Failed { reason: "Input/output error".to_owned() };
        assert_eq!(store.commit(&[batch]), Err(refused.clone()));
        assert_eq!(store.put_blob(Digest([1; 32]), b"x"), Err(refused.clone()));
        assert_eq!(store.drop_dedup_before(Timestamp::MAX, 1), Err(refused));
        assert_eq!(store.blob(Digest([1; 32])), Ok(None));
    }
}
