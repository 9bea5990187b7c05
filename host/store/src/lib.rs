//! Makes histories, timers, tasks, logs and deployments durable and atomic: in RocksDB, and in memory for
//! tests, behind one conformance suite.
//!
//! A [`Batch`] is everything that one cause changes in one instance; it is written whole or not at all, and
//! only if the run's last event is still the one the batch was made for. [`Store::commit`] writes the
//! batches of many instances with one synced write, and [`Committer`] is the one thread that does so.
//!
//! The room never decides what an instance does, never reads a clock except to pace its own housekeeping,
//! and lets no type of the database out: another store must be able to stand in its place.
//!
//! Every call blocks; an async caller makes them where blocking is allowed.

mod codec;
mod committer;
mod entities;
mod error;
mod keys;
mod mark;
mod memory;
mod record;
mod rocks;
mod rows;
mod schedules;
#[cfg(test)]
mod tests;

pub use committer::{
    Acknowledge, CommitHere, Committer, CommitterOptions, CommitterStats, OnFatal, Request, SubmitError,
};
pub use entities::{EntityChange, EntityPage, EntityQuery, EntityRow, LockHolder};
pub use error::{CommitError, OpenError, StoreError};
pub use memory::MemoryStore;
pub use rocks::{RocksStore, StoreOptions};
pub use rows::{
    Batch, ComponentKind, Cursor, DedupRow, DeploymentRow, InstanceRow, InstanceStateTag, ListPage, ListQuery, LogLine,
    Problem, Purge, PutDeployment, RowIndexKeys, TaskRow, TimerRow, UnderWay,
};
pub use schedules::{CatchUp, Overlap, ScheduleError, ScheduleRow, ScheduleSpec, ScheduledRun};

use rehydrate_core::{Digest, EventId, InstanceKey, Json, Message, MessageId, RunNumber, Timestamp};
use std::collections::{BTreeMap, HashMap};

/// A map by instances, or by things of instances. A key is part of a SHA-256, so nobody can choose many that fall into
/// one place, and hashing it may be quick.
pub type KeyMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A durable store of instances. Reads see everything whose commit has returned.
pub trait Store: Send + Sync + 'static {
    /// Writes several instances' batches as one synced write, and returns once they are durable. The answer
    /// has one result per batch, in order: a batch may be refused alone. Several batches of one run may be in
    /// one call, each made for the last event of the one before.
    ///
    /// An error of the whole means that the outcome is unknown: the caller must end the process.
    fn commit(&self, batches: &[Batch]) -> Result<Vec<Result<(), CommitError>>, StoreError>;

    /// The row of an instance.
    fn instance(&self, key: InstanceKey) -> Result<Option<InstanceRow>, StoreError>;

    /// The bytes of one event.
    fn event(&self, key: InstanceKey, run: RunNumber, id: EventId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Events of a run from `from` on (which is included), in order, at most `limit`.
    fn events(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: EventId,
        limit: usize,
    ) -> Result<Vec<(EventId, Vec<u8>)>, StoreError>;

    /// A page of the list of instances, newest first.
    fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError>;

    /// Timers due at `now` or before, in order, strictly after `after`, at most `limit`.
    fn due_timers(&self, now: Timestamp, after: Option<&TimerRow>, limit: usize) -> Result<Vec<TimerRow>, StoreError>;

    /// When the first timer strictly after `after` is due.
    fn next_due(&self, after: Option<&TimerRow>) -> Result<Option<Timestamp>, StoreError>;

    /// The last event of a run, as bytes; none for a run that has no events.
    fn last_event(&self, key: InstanceKey, run: RunNumber) -> Result<Option<(EventId, Vec<u8>)>, StoreError>;

    /// Runs with something under way, in order, strictly after `after`, at most `limit`: the recovery scan, in
    /// pages.
    fn tasks(&self, after: Option<&TaskRow>, limit: usize) -> Result<Vec<TaskRow>, StoreError>;

    /// Log lines of a run with their numbers (from 1, gapless; the oldest may be gone) from number `from` on,
    /// in order, at most `limit`.
    fn log(&self, key: InstanceKey, run: RunNumber, from: u64, limit: usize)
    -> Result<Vec<(u64, LogLine)>, StoreError>;

    /// What the request with this idempotency key created.
    fn dedup(&self, scope: &str, key: &str) -> Result<Option<DedupRow>, StoreError>;

    /// Drops idempotency keys used before `at`, oldest first, at most `limit`; says how many. Not synced: a
    /// crash may bring some back.
    fn drop_dedup_before(&self, at: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Messages that were not received yet as far as is known, in the order in which each sender sent them, strictly
    /// after `after`, at most `limit`.
    fn outbox(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<Message>, StoreError>;

    /// Whether a message was received before.
    fn was_received(&self, id: MessageId) -> Result<bool, StoreError>;

    /// Forgets messages that were received, the sender's row and the receiver's as one. Not synced: a crash may
    /// bring both back.
    fn drop_messages(&self, ids: &[MessageId]) -> Result<(), StoreError>;

    /// The row of an entity, by its id as text.
    fn entity(&self, id: &str) -> Result<Option<EntityRow>, StoreError>;

    /// All values of an entity.
    fn entity_values(&self, id: &str) -> Result<BTreeMap<String, Json>, StoreError>;

    /// A page of the list of entities.
    fn entities(&self, query: &EntityQuery) -> Result<EntityPage, StoreError>;

    /// Keeps a component's bytes under their digest, durably. The caller has checked the digest; bytes that
    /// are already there are left as they are.
    fn put_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError>;

    /// A component's bytes.
    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// Binds a name and version to a digest, durably, unless they are bound already.
    fn put_deployment(&self, row: &DeploymentRow) -> Result<PutDeployment, StoreError>;

    /// Unbinds a name and version, durably; whether they were bound. `drop_blob`: its bytes go with it, in the same
    /// write, because nothing else needs them.
    fn remove_deployment(&self, name: &str, version: &str, drop_blob: Option<Digest>) -> Result<bool, StoreError>;

    /// All deployments in the order they were made.
    fn deployments(&self) -> Result<Vec<DeploymentRow>, StoreError>;

    /// Keeps a schedule in place of what was there under its name, durably.
    fn put_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError>;

    /// The same, but not synced: a power cut may bring back the row that was there before. For steps that are taken
    /// again from there to the same end.
    fn advance_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError>;

    /// The schedule of that name.
    fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError>;

    /// Schedules in the order of their names, strictly after `after`, at most `limit`.
    fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Vec<ScheduleRow>, StoreError>;

    /// Drops a schedule, durably; dropping one that is not there does nothing.
    fn drop_schedule(&self, name: &str) -> Result<(), StoreError>;

    /// Bytes that commits have written since the store was opened, before the database rearranges them; zero if
    /// the store has no disk.
    fn bytes_written(&self) -> u64;

    /// Bytes that are free on the data disk for this user; none if the store has no disk.
    fn free_bytes(&self) -> Result<Option<u64>, StoreError>;
}
