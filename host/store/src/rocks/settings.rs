//! How RocksDB is set up, and why. A setting that durability hangs on is set even where it is the default.

use crate::keys::RUN_BYTES;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    SliceTransform, WriteOptions,
};

/// The kinds of data, each in a column family of its own: they are read and dropped in different ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// `instance | run | first event` to the record of the events that were written together.
    Events,
    /// `instance` to its row.
    Instances,
    /// `state | created, newest first | instance` to nothing.
    Index,
    /// `due | instance | run | op | purpose` to nothing.
    Timers,
    /// `instance | run` to what the run has under way.
    Tasks,
    /// `instance | run` to the log's head, `instance | run | number` to a line.
    Log,
    /// Scope and key to the row.
    Dedup,
    /// `at | scope and key` to nothing.
    DedupTimes,
    /// A message's id to the message, until it was received.
    Outbox,
    /// The id of a message that was received to nothing, as long as it could come again.
    Inbox,
    /// An entity's id to its row.
    Entities,
    /// An entity's id and a key to the value.
    EntityValues,
    /// A digest to a component's bytes.
    Blobs,
    /// Name and version to the row.
    Deployments,
    /// A schedule's name to its row.
    Schedules,
    /// What the database says of itself.
    Meta,
}

impl Family {
    pub(crate) const ALL: [Family; 16] = [
        Family::Events,
        Family::Instances,
        Family::Index,
        Family::Timers,
        Family::Tasks,
        Family::Log,
        Family::Dedup,
        Family::DedupTimes,
        Family::Outbox,
        Family::Inbox,
        Family::Entities,
        Family::EntityValues,
        Family::Blobs,
        Family::Deployments,
        Family::Schedules,
        Family::Meta,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::Events => "events",
            Family::Instances => "instances",
            Family::Index => "index",
            Family::Timers => "timers",
            Family::Tasks => "tasks",
            Family::Log => "log",
            Family::Dedup => "dedup",
            Family::DedupTimes => "dedup-times",
            Family::Outbox => "outbox",
            Family::Inbox => "inbox",
            Family::Entities => "entities",
            Family::EntityValues => "entity-values",
            Family::Blobs => "blobs",
            Family::Deployments => "deployments",
            Family::Schedules => "schedules",
            Family::Meta => "meta",
        }
    }

    /// Whether most of what is put is soon dropped, so that scans from the front would wade through tombstones.
    fn is_queue(self) -> bool {
        matches!(
            self,
            Family::Index | Family::Timers | Family::Tasks | Family::DedupTimes | Family::Outbox | Family::Inbox
        )
    }

    /// Whether a purge drops much of it at once.
    fn is_purged(self) -> bool {
        matches!(self, Family::Events | Family::Instances | Family::Log)
    }

    /// Whether every read is of one run.
    pub(super) fn is_read_by_run(self) -> bool {
        self == Family::Events
    }

    /// Whether single keys are asked for that are mostly not there: a filter answers that without the disk.
    fn asks_for_absent_keys(self) -> bool {
        matches!(
            self,
            Family::Events | Family::Instances | Family::Log | Family::Dedup | Family::Inbox | Family::Entities
        )
    }
}

/// Settings of the whole database. `create` only for a directory that has none: a database that lost its
/// `CURRENT` file must not be replaced by an empty one.
pub(crate) fn database(create: bool, write_buffer_bytes: usize) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(true);

    // The default mode, PointInTime, takes a flipped bit in the log for its end and silently loses every
    // acknowledged write behind it. This mode accepts only a torn tail, which nothing was acknowledged from;
    // the mark sees if that was not so.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // Damage that is found anywhere stops the database instead of being stepped over.
    options.set_paranoid_checks(true);
    // The manifest remembers which closed logs there must be and how long they were when synced, so a log that
    // went missing or was cut is found at opening.
    options.set_track_and_verify_wals_in_manifest(true);
    // Each of these trades durability or order for speed: a write would be kept in this process only, readers
    // could see half a batch, or a sync would be left to the background.
    options.set_manual_wal_flush(false);
    options.set_unordered_write(false);
    options.set_wal_bytes_per_sync(0);
    // A recycled log holds old records behind the new ones, which the recovery mode above can't tell from damage.
    options.set_recycle_log_file_num(0);

    // Families that are seldom written keep old logs alive; beyond this they are flushed, which bounds both the
    // disk the logs take and how long opening takes.
    options.set_max_total_wal_size(64 << 20);
    // One limit for the buffers of all families: the host stays small whatever is written.
    options.set_db_write_buffer_size(write_buffer_bytes);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);

    // Its own log: only what matters, and not for ever. Nobody reads its statistics, which cost memory.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Settings of one family; all share one cache.
pub(crate) fn family(family: Family, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Filters and indexes count against the cache instead of growing with the data.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In parts, of which a read takes one: those of a large table would not fit into a small cache, and be read again
    // and again.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_pin_top_level_index_and_filter(true);
    if family.asks_for_absent_keys() {
        table.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    if family.is_read_by_run() {
        // The filters know runs and not single records: so they are small, and a scan of a run's events looks only
        // into those tables that have some.
        table.set_whole_key_filtering(false);
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(RUN_BYTES));
    }
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(16 << 20);
    // The default, 1 MiB for each family that was ever written to, would be most of an idle host's memory.
    options.set_arena_block_size(128 << 10);
    if family.is_queue() || family.is_purged() {
        // A file in which half of some 1,000 entries are tombstones is compacted soon: scans need not wade through
        // them, and what was purged gives its room back.
        options.add_compact_on_deletion_collector_factory(1_000, 500, 0.5);
    }
    options
}

/// A write that is on the disk when it returns.
pub(crate) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options.disable_wal(false);
    options
}
