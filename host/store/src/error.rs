//! What can go wrong in the store. Each error says what it was about and what to do next.

use rehydrate_core::{EventId, InstanceKey, RunNumber};
use std::path::PathBuf;

use crate::rows::DedupRow;

/// Why one batch was not written, while others of the same commit were. Nothing of it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommitError {
    /// The run has another last event than the batch was made for: somebody else wrote to it.
    #[error(
        "instance {key:?} run {}: the last stored event is {found}, the batch was made for {expected}; \
         load the instance again and decide anew",
        run.0
    )]
    Conflict {
        /// Whose run.
        key: InstanceKey,
        /// Which run.
        run: RunNumber,
        /// What the batch expected.
        expected: EventId,
        /// What is stored.
        found: EventId,
    },
    /// The idempotency key is already taken.
    #[error("the idempotency key `{}` was already used; answer with what it created", .0.key)]
    Duplicate(Box<DedupRow>),
    /// The batch is not well formed; it must never be sent again as it is.
    #[error("instance {key:?} run {}: the batch is malformed: {reason}; this is a fault of the host, report it", run.0)]
    Malformed {
        /// Whose batch.
        key: InstanceKey,
        /// Which run.
        run: RunNumber,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why the store could not do something.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// A write failed, so whether it is on disk is unknown. The process must end; a restart finds out.
    #[error(
        "the store could not write {what}: {reason}; whether it is on disk is unknown, so the host must end: \
         check the data disk and start it again"
    )]
    Write {
        /// What was written.
        what: String,
        /// What the database or the system said.
        reason: String,
    },
    /// A write failed earlier, so none is tried any more.
    #[error("the store takes no more writes since one failed ({reason}); restart the host")]
    Failed {
        /// The earlier failure.
        reason: String,
    },
    /// A read failed.
    #[error("the store could not read {what}: {reason}; check the data disk")]
    Read {
        /// What was read.
        what: String,
        /// What the database or the system said.
        reason: String,
    },
    /// Something was read, but it can't be what was written.
    #[error("{what} can't be read: {reason}; the store is damaged, restore it from a backup")]
    Damaged {
        /// What is damaged.
        what: String,
        /// What the decoder said.
        reason: String,
    },
    /// Written by a newer build.
    #[error("{what} has format {found}, this build reads up to {reads}; start the newer build that wrote it")]
    NewerFormat {
        /// What was read.
        what: String,
        /// Its version byte.
        found: u8,
        /// The newest that this build reads.
        reads: u8,
    },
    /// The committer's thread panicked; requests in its queue will never be answered.
    #[error("the committer panicked; restart the host and report this")]
    Panicked,
}

/// Why the data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory could not be made or read.
    #[error("the data directory {path} can't be used: {reason}; check that it exists and belongs to this user")]
    Directory {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Another process has it open.
    #[error("another host uses the data directory {path}; stop that one or give this one a directory of its own")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a newer build.
    #[error("the data directory {path} has format {found}, this build reads up to {reads}; start the newer build")]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that this build reads.
        reads: u64,
    },
    /// Acknowledged commits are missing.
    #[error(
        "the database in {path} has lost commits: it ends at {found}, but {marked} was acknowledged; restore a backup, \
         or remove the file `{mark_file}` to go on without what was lost"
    )]
    Behind {
        /// The data directory.
        path: PathBuf,
        /// The last commit that was known to be durable.
        marked: u64,
        /// The last commit in the database.
        found: u64,
        /// The mark file's name, within the data directory.
        mark_file: &'static str,
    },
    /// The mark file is not what was written.
    #[error(
        "the file `{mark_file}` in {path} is damaged ({reason}), so it can't be checked that the database is complete; \
         restore a backup, or remove that file to go on unchecked"
    )]
    DamagedMark {
        /// The data directory.
        path: PathBuf,
        /// The mark file's name, within the data directory.
        mark_file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The database refused to open.
    #[error("the database in {path} can't be opened: {reason}; if it is damaged, restore a backup")]
    Database {
        /// The data directory.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The database opened, but what it says of itself can't be read or written.
    #[error("the database in {path} can't be used: {source}")]
    Store {
        /// The data directory.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}
