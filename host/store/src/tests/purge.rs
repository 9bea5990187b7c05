//! Dropping instances, runs and components: nothing is left, nothing else is touched.

use super::conformance::{conformance, listed};
use super::*;
use crate::{CommitError, ListQuery, MemoryStore, Purge, PutDeployment};
use InstanceStateTag::{Completed, Running};

fn second_run(batch: Batch) -> Batch {
    Batch { run: RunNumber(2), ..batch }
}

/// An instance with two runs and everything that may hang on them.
fn put_instance(store: &dyn Store, instance: u8, events_of_first: u64) {
    let row = row(instance, Completed, 5);
    let with_all = Batch {
        row: Some(row),
        put_timers: vec![timer(7, instance, 1)],
        under_way: Some(ACTIVITIES),
        log: vec![line(1)],
        ..events(instance, 0, 2)
    };
    for last in 0..events_of_first {
        commit(store, &[Batch { log: vec![line(2)], ..events(instance, last, 1) }]);
    }
    commit(store, &[second_run(with_all)]);
}

fn purge_instance(store: &dyn Store, instance: u8) -> Batch {
    let previous = store.instance(key(instance)).unwrap().map(|row| row.index_keys());
    let drop_timers = vec![timer(7, instance, 1)];
    let batch = second_run(Batch::new(key(instance), RUN, EventId(2)));
    Batch { purge: Some(Purge::Instance), previous, drop_timers, ..batch }
}

fn purge_first_run(instance: u8) -> Batch {
    let purge = Some(Purge::RunsBefore(RunNumber(2)));
    Batch { purge, ..second_run(Batch::new(key(instance), RUN, EventId(2))) }
}

/// What there is of an instance: events and log lines by run, its row, its places in lists, tasks and timers.
fn left(store: &dyn Store, instance: u8) -> [usize; 8] {
    let key = key(instance);
    let events = |run| store.events(key, run, EventId(1), usize::MAX).unwrap().len();
    let lines = |run| store.log(key, run, 0, usize::MAX).unwrap().len();
    let id = format!("instance-{instance}");
    [
        events(RUN),
        events(RunNumber(2)),
        lines(RUN),
        lines(RunNumber(2)),
        usize::from(store.instance(key).unwrap().is_some()),
        store.list(&ListQuery::default()).unwrap().rows.iter().filter(|row| row.id == id).count(),
        store.tasks(None, 99).unwrap().iter().filter(|task| task.key == key).count(),
        store.due_timers(Timestamp::MAX, None, 99).unwrap().iter().filter(|timer| timer.key == key).count(),
    ]
}

conformance! {
    fn of_a_purged_instance_nothing_is_left_and_its_neighbours_are_whole(store: &dyn Store) {
        // Neighbours in the order of keys, and more records than are dropped one by one.
        for (instance, events) in [(1, 3), (2, 700), (3, 3)] {
            put_instance(store, instance, events);
        }
        let neighbours = [left(store, 1), left(store, 3)];
        assert_eq!(neighbours[0], [3, 2, 3, 1, 1, 1, 1, 1]);
        commit(store, &[purge_instance(store, 2)]);
        assert_eq!(left(store, 2), [0; 8]);
        assert_eq!([left(store, 1), left(store, 3)], neighbours);
        commit(store, &[purge_instance(store, 1)]);
        assert_eq!(left(store, 1), [0; 8]);
        assert_eq!(left(store, 3), neighbours[1]);
    }

    fn the_id_of_a_purged_instance_begins_anew(store: &dyn Store) {
        put_instance(store, 1, 3);
        commit(store, &[purge_instance(store, 1)]);
        commit(store, &[Batch { row: Some(row(1, Running, 9)), log: vec![line(9)], ..events(1, 0, 1) }]);
        commit(store, &[events(1, 1, 1)]);
        assert_eq!(event_ids(store, 1), [1, 2]);
        assert_eq!(store.log(key(1), RUN, 0, 9).unwrap(), [(1, line(9))]);
        assert_eq!(listed(store, &ListQuery::default()), ["1"]);
    }

    fn a_purge_is_refused_when_events_have_come_since(store: &dyn Store) {
        put_instance(store, 1, 3);
        let purge = purge_instance(store, 1);
        commit(store, &[second_run(events(1, 2, 1))]);
        let before = left(store, 1);
        let results = store.commit(&[purge]).unwrap();
        assert!(matches!(results[..], [Err(CommitError::Conflict { found: EventId(3), .. })]), "{results:?}");
        assert_eq!(left(store, 1), before);
    }

    fn purged_runs_are_gone_and_the_last_one_stays(store: &dyn Store) {
        for events in [3, 700] {
            put_instance(store, 1, events);
            commit(store, &[purge_first_run(1)]);
            assert_eq!(left(store, 1), [0, 2, 0, 1, 1, 1, 1, 1]);
            commit(store, &[purge_first_run(1), second_run(events_after(2)), purge_instance_after(store, 3)]);
            assert_eq!(left(store, 1), [0; 8]);
        }
    }

    fn within_one_commit_a_purge_covers_what_came_before_it_and_nothing_after(store: &dyn Store) {
        put_instance(store, 1, 3);
        let grown = second_run(Batch { log: vec![line(3)], under_way: Some(ACTIVITIES), ..events(1, 2, 1) });
        let anew = Batch { row: Some(row(1, Running, 9)), log: vec![line(4)], ..events(1, 0, 2) };
        commit(store, &[grown, purge_instance_after(store, 3), anew, events(1, 2, 1)]);
        assert_eq!(left(store, 1), [3, 0, 1, 0, 1, 1, 0, 0]);
        assert_eq!(store.log(key(1), RUN, 0, 9).unwrap(), [(1, line(4))]);
        commit(store, &[events(1, 3, 1)]);
        assert_eq!(event_ids(store, 1), [1, 2, 3, 4]);
    }

    fn a_purge_that_also_writes_or_drops_its_own_run_is_malformed(store: &dyn Store) {
        let writes = Batch { purge: Some(Purge::Instance), ..events(1, 0, 1) };
        let own_run = Batch { purge: Some(Purge::RunsBefore(RunNumber(2))), ..events(1, 0, 1) };
        for batch in [writes, own_run] {
            let results = store.commit(&[batch]).unwrap();
            assert!(matches!(results[..], [Err(CommitError::Malformed { .. })]), "{results:?}");
        }
        assert!(event_ids(store, 1).is_empty());
    }

    fn a_removed_deployment_is_gone_and_its_number_is_not_used_again(store: &dyn Store) {
        store.put_blob(Digest([1; 32]), b"one").unwrap();
        for (version, digest) in [("1", 1), ("2", 1), ("3", 3)] {
            store.put_deployment(&deployment("pay", version, digest)).unwrap();
        }
        assert!(!store.remove_deployment("pay", "9", Some(Digest([1; 32]))).unwrap());
        assert!(store.remove_deployment("pay", "3", None).unwrap());
        assert!(store.remove_deployment("pay", "1", None).unwrap());
        assert_eq!(store.blob(Digest([1; 32])).unwrap().as_deref(), Some(&b"one"[..]));
        assert!(store.remove_deployment("pay", "2", Some(Digest([1; 32]))).unwrap());
        assert_eq!(store.blob(Digest([1; 32])).unwrap(), None);
        assert_eq!(store.deployments().unwrap(), []);
        assert_eq!(store.put_deployment(&deployment("pay", "1", 9)).unwrap(), PutDeployment::Created);
        assert_eq!(store.deployments().unwrap()[0].order, 4);
    }

    fn a_list_can_be_of_one_version_or_of_one_component(store: &dyn Store) {
        for n in 1..=4 {
            let version = if n < 3 { "1" } else { "2" }.to_owned();
            commit(store, &[with_row(n, &InstanceRow { version, ..row(n, Running, i64::from(n)) }, None)]);
        }
        assert_eq!(listed(store, &ListQuery { version: Some("2".to_owned()), ..ListQuery::default() }), ["4", "3"]);
        assert_eq!(listed(store, &ListQuery { digest: Some(Digest([2; 32])), ..ListQuery::default() }), ["2"]);
    }
}

fn events_after(last: u64) -> Batch {
    events(1, last, 1)
}

fn purge_instance_after(store: &dyn Store, last: u64) -> Batch {
    Batch { expected_last: EventId(last), ..purge_instance(store, 1) }
}

#[test]
fn what_was_purged_stays_so_when_the_store_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    for events in [3, 700] {
        {
            let store = rocks(directory.path());
            put_instance(&store, 1, events);
            put_instance(&store, 2, 1);
            commit(&store, &[purge_instance(&store, 1)]);
        }
        let store = rocks(directory.path());
        assert_eq!(left(&store, 1), [0; 8]);
        assert_eq!(left(&store, 2), [1, 2, 1, 1, 1, 1, 1, 1]);
        commit(&store, &[purge_instance(&store, 2)]);
    }
}
