//! Opening a data directory: one host at a time, no newer format, no lost commits.

use super::recent::RecentRuns;
use super::settings::{self, Family};
use super::{RocksStore, StoreOptions, WriteState};
use crate::error::{OpenError, StoreError};
use crate::keys;
use crate::mark::{self, MARK_FILE, MarkPace, Marker};
use crate::rows::UnderWay;
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, IteratorMode, LruCacheOptions, Options, WriteBatch};
use rustix::fs::FlockOperation;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock};

/// The format of the whole database; a newer one is refused, an older one is brought up.
const FORMAT: u64 = 3;
/// In the first format each activity attempt under way had a row of its own.
const FORMAT_OF_ATTEMPT_ROWS: u64 = 1;
/// The format before messages and entities.
const FORMAT_WITHOUT_MESSAGES: u64 = 2;
const LOCK_FILE: &str = "lock";
const DATABASE_DIRECTORY: &str = "db";

pub(super) const META_FORMAT: &[u8] = b"format";
pub(super) const META_SEQUENCE: &[u8] = b"sequence";
pub(super) const META_DEPLOYMENTS: &[u8] = b"deployments";

/// Opens or makes the database in a data directory.
pub(super) fn open(path: &Path, options: StoreOptions) -> Result<RocksStore, OpenError> {
    let unusable = |reason| OpenError::Directory { path: path.to_owned(), reason };
    make_directory(path).map_err(unusable)?;
    let lock = lock(path)?;
    let marked = read_mark(path)?;
    let directory = path.join(DATABASE_DIRECTORY);
    let exists = directory.join("CURRENT").try_exists().map_err(unusable)?;
    if !exists {
        // Creating a database would remove what is left of a lost one.
        refuse_behind(path, marked, 0)?;
        make_directory(&directory).map_err(unusable)?;
    }
    let db = open_database(&directory, exists, &options)
        .map_err(|e| OpenError::Database { path: path.to_owned(), reason: e.to_string() })?;
    let (sequence, deployments) = read_meta(path, &db)?;
    refuse_behind(path, marked, sequence)?;
    mark::write(path, sequence).map_err(unusable)?;
    let pace = MarkPace { commits: options.mark_commits.max(1), interval: options.mark_interval };
    let marker = Marker::start(path, sequence, pace).map_err(unusable)?;
    Ok(RocksStore {
        marker,
        db,
        path: path.to_owned(),
        log_bytes_kept: options.log_bytes_kept,
        write: Mutex::new(WriteState { sequence, deployments, recent: RecentRuns::default() }),
        bytes_written: AtomicU64::new(0),
        writes_left: options.abort_after_writes.map(|writes| AtomicU64::new(writes.get())),
        failed: OnceLock::new(),
        _lock: lock,
    })
}

/// Makes a directory that only this user can look into, with those above it, and makes their names durable.
fn make_directory(path: &Path) -> std::io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    make_directory(parent)?;
    DirBuilder::new().mode(0o700).create(path)?;
    File::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?.sync_all()
}

/// The lock is taken before anything is read, and kept as long as the store lives.
fn lock(path: &Path) -> Result<File, OpenError> {
    let unusable = |reason| OpenError::Directory { path: path.to_owned(), reason };
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK_FILE));
    let file = file.map_err(unusable)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(e) => Err(unusable(e.into())),
    }
}

fn read_mark(path: &Path) -> Result<u64, OpenError> {
    let damaged = |reason| OpenError::DamagedMark { path: path.to_owned(), mark_file: MARK_FILE, reason };
    Ok(mark::read(path).map_err(damaged)?.unwrap_or(0))
}

fn refuse_behind(path: &Path, marked: u64, found: u64) -> Result<(), OpenError> {
    if found >= marked {
        return Ok(());
    }
    Err(OpenError::Behind { path: path.to_owned(), marked, found, mark_file: MARK_FILE })
}

fn open_database(directory: &Path, exists: bool, options: &StoreOptions) -> Result<DB, rocksdb::Error> {
    let database = settings::database(!exists, options.write_buffer_bytes);
    // Few shards, so that each has room for the largest block.
    let mut lru = LruCacheOptions::default();
    lru.set_capacity(options.cache_bytes);
    lru.set_num_shard_bits(2);
    let cache = Cache::new_lru_cache_opts(&lru);
    let known = Family::ALL.map(|family| ColumnFamilyDescriptor::new(family.name(), settings::family(family, &cache)));
    // A newer build may have made families that this one does not know. They must be opened too, or the
    // database says so in words that don't name the cause; its format is looked at next.
    let names: BTreeSet<&str> = Family::ALL.map(Family::name).into();
    let there = if exists { DB::list_cf(&database, directory)? } else { Vec::new() };
    let unknown = there.iter().filter(|name| !names.contains(name.as_str()));
    let unknown = unknown.map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    DB::open_cf_descriptors(&database, directory, known.into_iter().chain(unknown))
}

/// The last commit and the number of deployments. Says in a new database which format it has.
fn read_meta(path: &Path, db: &DB) -> Result<(u64, u64), OpenError> {
    let failed = |source| OpenError::Store { path: path.to_owned(), source };
    match meta_number(db, META_FORMAT).map_err(failed)? {
        Some(FORMAT) => {}
        // Nothing to rearrange: older builds must not open what may have messages and entities in it.
        Some(FORMAT_WITHOUT_MESSAGES) => write_format(db, WriteBatch::default()).map_err(failed)?,
        Some(FORMAT_OF_ATTEMPT_ROWS) => join_attempt_rows(db).map_err(failed)?,
        Some(found) => return Err(OpenError::NewerFormat { path: path.to_owned(), found, reads: FORMAT }),
        None => write_format(db, WriteBatch::default()).map_err(failed)?,
    }
    let sequence = meta_number(db, META_SEQUENCE).map_err(failed)?.unwrap_or(0);
    let deployments = meta_number(db, META_DEPLOYMENTS).map_err(failed)?.unwrap_or(0);
    Ok((sequence, deployments))
}

fn meta_number(db: &DB, key: &[u8]) -> Result<Option<u64>, StoreError> {
    let what = || format!("the database's `{}`", String::from_utf8_lossy(key));
    let bytes = db
        .get_pinned_cf(super::family(db, Family::Meta)?, key)
        .map_err(|e| StoreError::Read { what: what(), reason: e.to_string() })?;
    let Some(bytes) = bytes else { return Ok(None) };
    let number = <[u8; 8]>::try_from(&bytes[..])
        .map_err(|_| StoreError::Damaged { what: what(), reason: "it is not a number".to_owned() })?;
    Ok(Some(u64::from_be_bytes(number)))
}

/// From a row for each attempt (`instance | run | op`, op 0 standing for the guest) to one for each run.
fn join_attempt_rows(db: &DB) -> Result<(), StoreError> {
    let tasks = super::family(db, Family::Tasks)?;
    let mut runs: BTreeMap<_, UnderWay> = BTreeMap::new();
    let mut batch = WriteBatch::default();
    for entry in db.iterator_cf(tasks, IteratorMode::Start) {
        let (at, _) = entry.map_err(|e| StoreError::Read { what: "the tasks".to_owned(), reason: e.to_string() })?;
        let (key, run, op) = keys::parse_numbered("a task's key", &at)?;
        let under_way = runs.entry((key, run)).or_default();
        if op == 0 {
            under_way.guest = true
        } else {
            under_way.activities = true
        }
        batch.delete_cf(tasks, &at);
    }
    for ((key, run), under_way) in runs {
        batch.put_cf(tasks, keys::run(key, run), keys::under_way(under_way));
    }
    write_format(db, batch)
}

/// Says which format the database has, together with what brings it there.
fn write_format(db: &DB, mut batch: WriteBatch) -> Result<(), StoreError> {
    batch.put_cf(super::family(db, Family::Meta)?, META_FORMAT, FORMAT.to_be_bytes());
    db.write_opt(batch, &settings::synced())
        .map_err(|e| StoreError::Write { what: "the database's format".to_owned(), reason: e.to_string() })
}
