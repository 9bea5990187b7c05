//! Opening and opening again: nothing is lost by closing, and what must not be opened is refused by name.

use super::*;
use crate::mark::{self, MARK_FILE};
use crate::{ListQuery, OpenError};
use std::os::unix::fs::PermissionsExt;

#[test]
fn everything_is_there_after_closing_and_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let instance = row(1, InstanceStateTag::Running, 5);
    let batch = Batch {
        row: Some(instance.clone()),
        put_timers: vec![timer(10, 1, 1)],
        under_way: Some(ACTIVITIES),
        log: vec![line(1)],
        dedup: Some(dedup("k", 1, 5)),
        ..events(1, 0, 3)
    };
    let store = rocks(directory.path());
    commit(&store, &[batch]);
    store.put_blob(Digest([1; 32]), b"component").unwrap();
    store.put_deployment(&deployment("pay", "1", 1)).unwrap();
    store.put_schedule(&schedule("nightly")).unwrap();
    drop(store);

    let store = rocks(directory.path());
    assert_eq!(event_ids(&store, 1), [1, 2, 3]);
    assert_eq!(store.instance(key(1)).unwrap(), Some(instance));
    assert_eq!(store.due_timers(Timestamp(10), None, 9).unwrap(), [timer(10, 1, 1)]);
    assert_eq!(store.tasks(None, 9).unwrap(), [task(1, ACTIVITIES)]);
    assert_eq!(store.log(key(1), RUN, 0, 9).unwrap(), [(1, line(1))]);
    assert_eq!(store.dedup("start", "k").unwrap(), Some(dedup("k", 1, 5)));
    assert_eq!(store.blob(Digest([1; 32])).unwrap().as_deref(), Some(&b"component"[..]));
    assert_eq!(store.list(&ListQuery::default()).unwrap().rows.len(), 1);
    assert_eq!(store.schedules(None, 9).unwrap(), [schedule("nightly")]);
    store.put_deployment(&deployment("pay", "2", 2)).unwrap();
    let orders: Vec<u64> = store.deployments().unwrap().into_iter().map(|row| row.order).collect();
    assert_eq!(orders, [1, 2]);
    commit(&store, &[events(1, 3, 1)]);
}

#[test]
fn a_second_host_in_the_same_directory_is_refused_until_the_first_has_closed() {
    let directory = tempfile::tempdir().unwrap();
    let first = rocks(directory.path());
    let second = RocksStore::open(directory.path(), options()).err().expect("the directory is in use");
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    assert!(second.to_string().contains("another host uses the data directory"));
    drop(first);
    rocks(directory.path());
}

#[test]
fn a_new_data_directory_can_be_looked_into_by_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not/yet/there");
    let store = rocks(&path);
    for made in ["not", "not/yet", "not/yet/there", "not/yet/there/db"] {
        let mode = std::fs::metadata(directory.path().join(made)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{made}");
    }
    assert!(store.free_bytes().unwrap().is_some_and(|bytes| bytes > 0));
}

#[test]
fn a_path_that_is_a_file_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "text").unwrap();
    let error = RocksStore::open(&path, options()).err().expect("a file is not a directory");
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
}

#[test]
fn a_database_of_a_newer_format_is_refused_even_with_families_this_build_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    drop(rocks(directory.path()));
    let path = directory.path().join("db");
    let plain = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&plain, &path).unwrap();
    let mut db = rocksdb::DB::open_cf(&plain, &path, families).unwrap();
    db.create_cf("from-the-future", &plain).unwrap();
    db.put_cf(db.cf_handle("meta").unwrap(), b"format", 4_u64.to_be_bytes()).unwrap();
    drop(db);
    let error = RocksStore::open(directory.path(), options()).err().expect("the format is newer");
    assert!(matches!(error, OpenError::NewerFormat { found: 4, reads: 3, .. }), "{error}");
}

#[test]
fn a_database_of_the_first_format_is_brought_up_and_keeps_what_is_under_way() {
    let directory = tempfile::tempdir().unwrap();
    drop(rocks(directory.path()));
    let path = directory.path().join("db");
    let plain = rocksdb::Options::default();
    let db = rocksdb::DB::open_cf(&plain, &path, rocksdb::DB::list_cf(&plain, &path).unwrap()).unwrap();
    let tasks = db.cf_handle("tasks").unwrap();
    for (instance, op) in [(1, 2), (1, 5), (2, 0), (3, 0), (3, 4)] {
        db.put_cf(tasks, crate::keys::numbered(key(instance), RUN, op), 1_u32.to_be_bytes()).unwrap();
    }
    db.put_cf(db.cf_handle("meta").unwrap(), b"format", 1_u64.to_be_bytes()).unwrap();
    drop(db);
    let of = |instance, activities, guest| task(instance, UnderWay { activities, guest });
    for _ in 0..2 {
        let store = rocks(directory.path());
        assert_eq!(store.tasks(None, 9).unwrap(), [of(1, true, false), of(2, false, true), of(3, true, true)]);
    }
}

#[test]
fn a_database_from_before_there_were_schedules_takes_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = rocks(directory.path());
    commit(&store, &[events(1, 0, 1)]);
    drop(store);
    let path = directory.path().join("db");
    let plain = rocksdb::Options::default();
    let mut db = rocksdb::DB::open_cf(&plain, &path, rocksdb::DB::list_cf(&plain, &path).unwrap()).unwrap();
    db.drop_cf("schedules").unwrap();
    drop(db);
    let store = rocks(directory.path());
    assert_eq!(store.schedules(None, 9).unwrap(), []);
    store.put_schedule(&schedule("nightly")).unwrap();
    assert_eq!(store.schedule("nightly").unwrap(), Some(schedule("nightly")));
    assert_eq!(event_ids(&store, 1), [1]);
}

#[test]
fn a_database_that_vanished_is_not_replaced_by_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = rocks(directory.path());
    commit(&store, &[events(1, 0, 1)]);
    drop(store);
    let current = directory.path().join("db/CURRENT");
    let aside = directory.path().join("CURRENT.aside");
    std::fs::rename(&current, &aside).unwrap();
    let error = RocksStore::open(directory.path(), options()).err().expect("the database is gone");
    assert!(matches!(error, OpenError::Behind { marked: 1, found: 0, .. }), "{error}");
    std::fs::rename(&aside, &current).unwrap();
    assert_eq!(event_ids(&rocks(directory.path()), 1), [1], "the attempt left the database as it was");
}

#[test]
fn a_database_behind_its_mark_is_refused_until_the_operator_removes_the_mark() {
    let directory = tempfile::tempdir().unwrap();
    let store = rocks(directory.path());
    commit(&store, &[events(1, 0, 1)]);
    commit(&store, &[events(1, 1, 1)]);
    drop(store);
    assert_eq!(mark::read(directory.path()), Ok(Some(2)));
    mark::write(directory.path(), 3).unwrap();
    for _ in 0..2 {
        let error = RocksStore::open(directory.path(), options()).err().expect("a commit is missing");
        assert!(matches!(error, OpenError::Behind { marked: 3, found: 2, .. }), "{error}");
        assert!(error.to_string().contains("remove the file `mark`"), "{error}");
    }
    std::fs::remove_file(directory.path().join(MARK_FILE)).unwrap();
    assert_eq!(event_ids(&rocks(directory.path()), 1), [1, 2]);
    assert_eq!(mark::read(directory.path()), Ok(Some(2)));
}

#[test]
fn a_damaged_mark_is_not_taken_for_none() {
    let directory = tempfile::tempdir().unwrap();
    drop(rocks(directory.path()));
    std::fs::write(directory.path().join(MARK_FILE), "nonsense").unwrap();
    let error = RocksStore::open(directory.path(), options()).err().expect("the mark is damaged");
    assert!(matches!(error, OpenError::DamagedMark { .. }), "{error}");
}

#[test]
fn rows_that_can_not_be_read_are_named_and_do_not_panic() {
    let directory = tempfile::tempdir().unwrap();
    let store = rocks(directory.path());
    commit(&store, &[Batch { row: Some(row(1, InstanceStateTag::Running, 5)), ..events(1, 0, 1) }]);
    commit(&store, &[events(1, 1, 1), events(1, 2, 1)]);
    drop(store);
    let path = directory.path().join("db");
    let plain = rocksdb::Options::default();
    let db = rocksdb::DB::open_cf(&plain, &path, rocksdb::DB::list_cf(&plain, &path).unwrap()).unwrap();
    db.put_cf(db.cf_handle("instances").unwrap(), key(1).0, [1, 255, 255]).unwrap();
    db.put_cf(db.cf_handle("instances").unwrap(), key(2).0, [9]).unwrap();
    db.delete_cf(db.cf_handle("events").unwrap(), crate::keys::numbered(key(1), RUN, 2)).unwrap();
    drop(db);
    let store = rocks(directory.path());
    let damaged = store.instance(key(1)).unwrap_err().to_string();
    assert!(damaged.contains("the row of instance 0101") && damaged.contains("restore it from a backup"), "{damaged}");
    assert!(store.list(&ListQuery::default()).is_err());
    let newer = store.instance(key(2)).unwrap_err().to_string();
    assert!(newer.contains("has format 9, this build reads up to 1"), "{newer}");
    let gap = store.events(key(1), RUN, EventId(1), 9).unwrap_err().to_string();
    assert!(gap.contains("event 2") && gap.contains("it is missing"), "{gap}");
}

#[test]
fn a_database_of_the_format_without_messages_is_brought_up_and_keeps_its_histories() {
    let directory = tempfile::tempdir().unwrap();
    commit(&rocks(directory.path()), &[events(1, 0, 3)]);
    let path = directory.path().join("db");
    let plain = rocksdb::Options::default();
    let mut db = rocksdb::DB::open_cf(&plain, &path, rocksdb::DB::list_cf(&plain, &path).unwrap()).unwrap();
    for family in ["outbox", "inbox", "entities", "entity-values"] {
        db.drop_cf(family).unwrap();
    }
    db.put_cf(db.cf_handle("meta").unwrap(), b"format", 2_u64.to_be_bytes()).unwrap();
    drop(db);
    let id = rehydrate_core::MessageId { sender: key(1), run: RUN, event: EventId(4), part: 1, is_answer: false };
    for last in [3, 4] {
        let store = rocks(directory.path());
        assert_eq!(store.was_received(id).unwrap(), last == 4);
        assert!(store.outbox(None, 9).unwrap().is_empty());
        commit(&store, &[Batch { received: vec![id], ..events(1, last, 1) }]);
    }
    assert_eq!(event_ids(&rocks(directory.path()), 1), [1, 2, 3, 4, 5]);
}
