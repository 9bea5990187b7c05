//! What every store must do. Each test runs against the store in memory and the one on disk; a new store
//! joins by a line in the macro below.

use super::*;
use crate::{CommitError, Cursor, ListQuery, MemoryStore, PutDeployment};
use InstanceStateTag::{Completed, Failed, Paused, Running};

macro_rules! conformance {
    ($($(#[$attribute:meta])* fn $name:ident($store:ident: &dyn Store) $body:block)*) => {
        $($(#[$attribute])* fn $name($store: &dyn Store) $body)*

        mod in_memory {
            $(#[test]
            fn $name() {
                super::$name(&super::MemoryStore::with_log_bytes_kept(super::LOG_BYTES_KEPT));
            })*
        }

        mod on_disk {
            $(#[test]
            fn $name() {
                let directory = tempfile::tempdir().unwrap();
                super::$name(&super::rocks(directory.path()));
            })*
        }
    };
}

pub(super) use conformance;

fn conflict(instance: u8, expected: u64, found: u64) -> Result<(), CommitError> {
    let (expected, found) = (EventId(expected), EventId(found));
    Err(CommitError::Conflict { key: key(instance), run: RUN, expected, found })
}

pub(super) fn listed(store: &dyn Store, query: &ListQuery) -> Vec<String> {
    let page = store.list(query).unwrap();
    assert_eq!(page.next, None, "there is only one page");
    page.rows.into_iter().map(|row| row.id.trim_start_matches("instance-").to_owned()).collect()
}

fn states(states: &[InstanceStateTag]) -> ListQuery {
    ListQuery { states: states.to_vec(), ..ListQuery::default() }
}

conformance! {
    fn a_committed_history_is_read_back_in_order_from_any_event(store: &dyn Store) {
        commit(store, &[events(1, 0, 3)]);
        commit(store, &[events(1, 3, 2), events(2, 0, 1)]);
        assert_eq!(event_ids(store, 1), [1, 2, 3, 4, 5]);
        assert_eq!(event_ids(store, 2), [1]);
        let middle = store.events(key(1), RUN, EventId(3), 2).unwrap();
        assert_eq!(middle, [3, 4].map(|id| (EventId(id), event_bytes(1, id))));
        assert_eq!(store.events(key(1), RUN, EventId(6), 9).unwrap(), []);
        assert_eq!(store.events(key(1), RunNumber(2), EventId(1), 9).unwrap(), []);
        assert_eq!(store.event(key(1), RUN, EventId(4)).unwrap(), Some(event_bytes(1, 4)));
        assert_eq!(store.event(key(1), RUN, EventId(6)).unwrap(), None);
    }

    fn a_batch_for_another_last_event_is_refused_and_leaves_nothing(store: &dyn Store) {
        commit(store, &[events(1, 0, 3)]);
        for expected in [0, 1, 2, 4, 9] {
            let refused = Batch {
                row: Some(row(1, Running, 5)),
                put_timers: vec![timer(1, 1, 1)],
                under_way: Some(ACTIVITIES),
                log: vec![line(1)],
                dedup: Some(dedup("k", 1, 1)),
                ..events(1, expected, 2)
            };
            assert_eq!(store.commit(&[refused]).unwrap(), [conflict(1, expected, 3)]);
        }
        assert_eq!(event_ids(store, 1), [1, 2, 3]);
        assert_eq!(store.instance(key(1)).unwrap(), None);
        assert_eq!(store.next_due(None).unwrap(), None);
        assert_eq!(store.tasks(None, 9).unwrap(), []);
        assert_eq!(store.log(key(1), RUN, 0, 9).unwrap(), []);
        assert_eq!(store.dedup("start", "k").unwrap(), None);
        assert!(listed(store, &ListQuery::default()).is_empty());
    }

    fn a_batch_without_events_is_conditional_too(store: &dyn Store) {
        commit(store, &[events(1, 0, 2)]);
        let refused = Batch { row: Some(row(1, Running, 5)), ..Batch::new(key(1), RUN, EventId(1)) };
        assert_eq!(store.commit(&[refused]).unwrap(), [conflict(1, 1, 2)]);
        commit(store, &[Batch { row: Some(row(1, Running, 5)), ..Batch::new(key(1), RUN, EventId(2)) }]);
    }

    fn one_refused_batch_does_not_keep_the_others_from_being_written(store: &dyn Store) {
        commit(store, &[events(2, 0, 1)]);
        let results = store.commit(&[events(1, 0, 1), events(2, 0, 1), events(3, 0, 1)]).unwrap();
        assert_eq!(results, [Ok(()), conflict(2, 0, 1), Ok(())]);
        assert_eq!([1, 2, 3].map(|n| event_ids(store, n).len()), [1, 1, 1]);
    }

    fn batches_of_one_run_in_one_commit_are_checked_one_after_the_other(store: &dyn Store) {
        commit(store, &[events(1, 0, 2), events(1, 2, 1), Batch::new(key(1), RUN, EventId(3)), events(1, 3, 1)]);
        let results = store.commit(&[events(1, 4, 2), events(1, 4, 1), events(1, 6, 1)]).unwrap();
        assert_eq!(results, [Ok(()), conflict(1, 4, 6), Ok(())]);
        assert_eq!(event_ids(store, 1), [1, 2, 3, 4, 5, 6, 7]);
    }

    fn a_batch_with_a_gap_or_with_rows_of_another_instance_is_malformed(store: &dyn Store) {
        let gap = Batch { events: vec![(EventId(2), Vec::new())], ..Batch::new(key(1), RUN, EventId::NONE) };
        let mut twice = events(1, 0, 2);
        twice.events[1].0 = EventId(1);
        let foreign_timer = Batch { put_timers: vec![timer(1, 2, 1)], ..events(1, 0, 1) };
        let foreign_drop = Batch { drop_timers: vec![timer(1, 2, 1)], ..events(1, 0, 1) };
        for batch in [gap, twice, foreign_timer, foreign_drop] {
            let results = store.commit(&[batch]).unwrap();
            assert!(matches!(results[..], [Err(CommitError::Malformed { .. })]), "{results:?}");
        }
        assert!(event_ids(store, 1).is_empty());
    }

    fn runs_of_an_instance_have_histories_of_their_own(store: &dyn Store) {
        commit(store, &[events(1, 0, 2)]);
        let second = Batch { run: RunNumber(2), ..events(1, 0, 1) };
        commit(store, &[second]);
        assert_eq!(event_ids(store, 1), [1, 2]);
        assert_eq!(store.events(key(1), RunNumber(2), EventId(1), 9).unwrap().len(), 1);
    }

    fn a_row_is_replaced_whole(store: &dyn Store) {
        let first = row(1, Running, 5);
        commit(store, &[with_row(1, &first, None)]);
        assert_eq!(store.instance(key(1)).unwrap(), Some(first.clone()));
        let problem = crate::Problem {
            code: "workflow.diverged".to_owned(),
            message: "it went elsewhere; deploy the old code".to_owned(),
            divergence: Some(rehydrate_core::Divergence {
                event: EventId(4),
                expected: "TimerStarted".to_owned(),
                got: "StatusSet".to_owned(),
            }),
        };
        let second = InstanceRow { state: Paused, custom_status: None, problem: Some(problem), ..first.clone() };
        commit(store, &[with_row(1, &second, Some(&first))]);
        assert_eq!(store.instance(key(1)).unwrap(), Some(second));
        assert_eq!(store.instance(key(2)).unwrap(), None);
    }

    fn a_list_is_newest_first_and_by_key_among_equals(store: &dyn Store) {
        for (n, created) in [(4, 10), (1, 30), (3, 20), (2, 20), (5, -10), (6, i64::MAX), (7, i64::MIN)] {
            let state = if n == 3 { Failed } else { Running };
            commit(store, &[with_row(n, &row(n, state, created), None)]);
        }
        assert_eq!(listed(store, &ListQuery::default()), ["6", "1", "2", "3", "4", "5", "7"]);
        assert_eq!(listed(store, &states(&[Running])), ["6", "1", "2", "4", "5", "7"]);
        assert_eq!(listed(store, &states(&[Failed, Running, Failed])), ["6", "1", "2", "3", "4", "5", "7"]);
        assert!(listed(store, &states(&[Completed])).is_empty());
    }

    fn a_list_meets_every_condition(store: &dyn Store) {
        for n in 1..=20 {
            commit(store, &[with_row(n, &row(n, Running, i64::from(n)), None)]);
        }
        let between = |from: Option<i64>, to: Option<i64>| ListQuery {
            created_from: from.map(Timestamp),
            created_to: to.map(Timestamp),
            ..ListQuery::default()
        };
        assert_eq!(listed(store, &between(Some(4), Some(6))), ["6", "5", "4"]);
        assert_eq!(listed(store, &between(Some(19), None)), ["20", "19"]);
        assert_eq!(listed(store, &between(None, Some(2))), ["2", "1"]);
        assert!(listed(store, &between(Some(6), Some(4))).is_empty());
        let prefix = ListQuery { id_prefix: Some("instance-1".to_owned()), ..ListQuery::default() };
        assert_eq!(listed(store, &prefix), ["19", "18", "17", "16", "15", "14", "13", "12", "11", "10", "1"]);
        let odd = ListQuery { workflow: Some("odd".to_owned()), ..prefix };
        assert_eq!(listed(store, &odd), ["19", "17", "15", "13", "11", "1"]);
        assert!(listed(store, &ListQuery { workflow: Some("neither".to_owned()), ..odd }).is_empty());
    }

    fn pages_join_into_the_whole_list_even_if_rows_change_in_between(store: &dyn Store) {
        let rows: Vec<InstanceRow> = (1..=9).map(|n| row(n, Running, i64::from(n) / 2)).collect();
        for (n, row) in (1..).zip(&rows) {
            commit(store, &[with_row(n, row, None)]);
        }
        let mut query = ListQuery { limit: 2, ..ListQuery::default() };
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let page = store.list(&query).unwrap();
            assert!(page.rows.len() <= 2);
            seen.extend(page.rows.into_iter().map(|row| row.id));
            pages += 1;
            if pages == 1 {
                // The last one on the list changes its state, and with it its entry in the index.
                commit(store, &[with_row(1, &InstanceRow { state: Completed, ..rows[0].clone() }, Some(&rows[0]))]);
            }
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
        assert_eq!(seen, ["8", "9", "6", "7", "4", "5", "2", "3", "1"].map(|n| format!("instance-{n}")));
        assert_eq!(pages, 5);
    }

    fn a_page_that_found_nothing_within_its_scan_carries_a_cursor(store: &dyn Store) {
        for n in 1..=5 {
            commit(store, &[with_row(n, &row(n, Running, i64::from(n)), None)]);
        }
        let id_prefix = Some("instance-1".to_owned());
        let mut query = ListQuery { id_prefix, scan_max: 2, ..ListQuery::default() };
        for at in [4, 2] {
            let page = store.list(&query).unwrap();
            assert_eq!(page.next, Some(Cursor { created: Timestamp(at), key: key(u8::try_from(at).unwrap()) }));
            assert_eq!(page.rows, []);
            query.after = page.next;
        }
        let page = store.list(&query).unwrap();
        assert_eq!((page.rows.len(), page.next), (1, None));
    }

    fn an_instance_moves_in_the_index_with_its_state_and_its_creation(store: &dyn Store) {
        let (old, new) = (row(1, Running, 5), row(1, Completed, 5));
        commit(store, &[with_row(1, &old, None)]);
        commit(store, &[with_row(1, &new, Some(&old))]);
        assert!(listed(store, &states(&[Running])).is_empty());
        assert_eq!(listed(store, &states(&[Completed])), ["1"]);
        let started_again = InstanceRow { run: RunNumber(2), ..row(1, Running, 50) };
        commit(store, &[with_row(1, &started_again, Some(&new))]);
        assert!(listed(store, &states(&[Completed])).is_empty());
        assert_eq!(listed(store, &ListQuery { created_from: Some(Timestamp(50)), ..ListQuery::default() }), ["1"]);
        assert_eq!(listed(store, &ListQuery::default()), ["1"]);
    }

    fn an_instance_whose_previous_entry_was_not_named_is_still_listed_once(store: &dyn Store) {
        commit(store, &[with_row(1, &row(1, Running, 5), None)]);
        commit(store, &[with_row(1, &row(1, Completed, 5), None)]);
        assert!(listed(store, &states(&[Running])).is_empty());
        assert_eq!(listed(store, &ListQuery::default()), ["1"]);
    }

    fn timers_are_due_in_order_and_in_pages(store: &dyn Store) {
        let rows = [timer(-5, 1, 9), timer(10, 1, 3), timer(10, 2, 1), timer(20, 1, 1)];
        let put = |instance: u8, put_timers: Vec<TimerRow>| {
            Batch { put_timers, ..Batch::new(key(instance), RUN, EventId::NONE) }
        };
        commit(store, &[put(2, vec![rows[2]]), put(1, vec![rows[3], rows[1], rows[0]])]);
        assert_eq!(store.due_timers(Timestamp(-6), None, 9).unwrap(), []);
        assert_eq!(store.due_timers(Timestamp(10), None, 9).unwrap(), rows[..3]);
        assert_eq!(store.due_timers(Timestamp(10), None, 2).unwrap(), rows[..2]);
        assert_eq!(store.due_timers(Timestamp(10), Some(&rows[1]), 9).unwrap(), rows[2..3]);
        assert_eq!(store.due_timers(Timestamp::MAX, Some(&rows[3]), 9).unwrap(), []);
        assert_eq!(store.due_timers(Timestamp(10), Some(&rows[3]), 9).unwrap(), []);
        assert_eq!(store.next_due(None).unwrap(), Some(Timestamp(-5)));
        assert_eq!(store.next_due(Some(&rows[2])).unwrap(), Some(Timestamp(20)));
        assert_eq!(store.next_due(Some(&rows[3])).unwrap(), None);
    }

    fn a_timer_is_dropped_by_its_whole_row_and_drops_come_before_puts(store: &dyn Store) {
        let other = TimerRow { purpose: TimerPurpose::Retry, ..timer(10, 1, 1) };
        let put = vec![timer(10, 1, 1), other, timer(Timestamp::MAX.0, 1, 2)];
        commit(store, &[Batch { put_timers: put, ..Batch::new(key(1), RUN, EventId::NONE) }]);
        let drop_timers = vec![timer(10, 1, 1), timer(11, 1, 1), other];
        commit(store, &[Batch { drop_timers, put_timers: vec![other], ..Batch::new(key(1), RUN, EventId::NONE) }]);
        let left = store.due_timers(Timestamp::MAX, None, 9).unwrap();
        assert_eq!(left, [other, timer(Timestamp::MAX.0, 1, 2)]);
    }

    fn what_is_under_way_is_scanned_in_pages_and_there_is_one_row_for_a_run(store: &dyn Store) {
        let put = |instance: u8, activities: bool, guest: bool| {
            let under_way = Some(UnderWay { activities, guest });
            Batch { under_way, ..Batch::new(key(instance), RUN, EventId::NONE) }
        };
        commit(store, &[put(2, false, true), put(1, true, true), put(3, true, false)]);
        commit(store, &[put(1, true, false), Batch::new(key(2), RUN, EventId::NONE)]);
        let all = [task(1, ACTIVITIES), task(2, UnderWay { activities: false, guest: true }), task(3, ACTIVITIES)];
        assert_eq!(store.tasks(None, 9).unwrap(), all);
        assert_eq!(store.tasks(None, 2).unwrap(), all[..2]);
        assert_eq!(store.tasks(Some(&all[1]), 2).unwrap(), all[2..]);
        let second_run = Batch { run: RunNumber(2), ..put(1, true, false) };
        commit(store, &[second_run, put(2, false, false), put(9, false, false)]);
        let of_second_run = TaskRow { run: RunNumber(2), ..all[0] };
        assert_eq!(store.tasks(None, 9).unwrap(), [all[0], of_second_run, all[2]]);
    }

    fn the_last_event_of_a_run_is_its_own(store: &dyn Store) {
        commit(store, &[events(1, 0, 3), Batch { run: RunNumber(2), ..events(1, 0, 1) }, events(2, 0, 5)]);
        let last = |run| store.last_event(key(1), run).unwrap();
        assert_eq!(last(RUN), Some((EventId(3), event_bytes(1, 3))));
        assert_eq!(last(RunNumber(2)), Some((EventId(1), event_bytes(1, 1))));
        assert_eq!(last(RunNumber(3)), None);
    }

    fn a_log_keeps_its_newest_lines_under_their_numbers(store: &dyn Store) {
        let append = |from: i64, count: i64| {
            let log = (from..from + count).map(line).collect();
            commit(store, &[Batch { log, ..Batch::new(key(1), RUN, EventId::NONE) }]);
        };
        append(1, 4);
        append(5, 6);
        let whole = store.log(key(1), RUN, 0, 99).unwrap();
        assert_eq!(whole, (1..=10).map(|n| (n, line(i64::try_from(n).unwrap()))).collect::<Vec<_>>());
        assert_eq!(store.log(key(1), RUN, 9, 99).unwrap(), whole[8..]);
        assert_eq!(store.log(key(1), RUN, 2, 3).unwrap(), whole[1..4]);
        assert_eq!(store.log(key(1), RUN, 11, 99).unwrap(), []);
        for n in 11..=200 {
            append(n, 1);
            let kept = store.log(key(1), RUN, 0, 99).unwrap();
            let (last, count) = (u64::try_from(n).unwrap(), u64::try_from(kept.len()).unwrap());
            assert!((7..=10).contains(&count), "{count} lines are kept");
            let numbers: Vec<u64> = kept.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, (last - count + 1..=last).collect::<Vec<_>>());
        }
        assert_eq!(store.log(key(1), RunNumber(2), 0, 99).unwrap(), []);
    }

    fn one_commit_with_more_lines_than_are_kept_leaves_the_newest(store: &dyn Store) {
        let append = |from: i64, to: i64| {
            let log = (from..=to).map(line).collect();
            Batch { log, ..Batch::new(key(1), RUN, EventId::NONE) }
        };
        commit(store, &[append(1, 3)]);
        commit(store, &[append(4, 6), append(7, 40), append(41, 41)]);
        let kept: Vec<u64> = store.log(key(1), RUN, 0, 99).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(kept, (34..=41).collect::<Vec<_>>());
        let too_long = LogLine { text: "x".repeat(LOG_BYTES_KEPT), ..line(42) };
        commit(store, &[Batch { log: vec![too_long], ..Batch::new(key(1), RUN, EventId::NONE) }]);
        assert_eq!(store.log(key(1), RUN, 0, 99).unwrap(), []);
        commit(store, &[append(43, 43)]);
        assert_eq!(store.log(key(1), RUN, 0, 99).unwrap(), [(43, line(43))]);
    }

    fn an_idempotency_key_is_taken_once_even_within_one_commit(store: &dyn Store) {
        let with_key = |instance: u8| Batch { dedup: Some(dedup("k", instance, 5)), ..events(instance, 0, 1) };
        let refused = Err(CommitError::Duplicate(Box::new(dedup("k", 1, 5))));
        assert_eq!(store.commit(&[with_key(1), with_key(2)]).unwrap(), [Ok(()), refused.clone()]);
        assert_eq!(store.commit(&[with_key(3)]).unwrap(), [refused]);
        assert_eq!(store.dedup("start", "k").unwrap(), Some(dedup("k", 1, 5)));
        assert_eq!(store.dedup("star", "tk").unwrap(), None);
        assert_eq!([1, 2, 3].map(|n| event_ids(store, n).len()), [1, 0, 0]);
    }

    fn old_idempotency_keys_are_dropped_oldest_first(store: &dyn Store) {
        for n in 1..=5 {
            let name = n.to_string();
            commit(store, &[Batch { dedup: Some(dedup(&name, n, i64::from(n))), ..events(n, 0, 1) }]);
        }
        let left = || -> Vec<u8> {
            (1..=5).filter(|n: &u8| store.dedup("start", &n.to_string()).unwrap().is_some()).collect()
        };
        assert_eq!(store.drop_dedup_before(Timestamp(4), 2).unwrap(), 2);
        assert_eq!(left(), [3, 4, 5]);
        assert_eq!(store.drop_dedup_before(Timestamp(4), 2).unwrap(), 1);
        assert_eq!(store.drop_dedup_before(Timestamp(4), 2).unwrap(), 0);
        assert_eq!(left(), [4, 5]);
        commit(store, &[Batch { dedup: Some(dedup("1", 9, 9)), ..events(9, 0, 1) }]);
        assert_eq!(store.dedup("start", "1").unwrap(), Some(dedup("1", 9, 9)));
    }

    fn a_component_is_kept_under_its_digest(store: &dyn Store) {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        assert_eq!(store.blob(Digest([1; 32])).unwrap(), None);
        store.put_blob(Digest([1; 32]), &bytes).unwrap();
        store.put_blob(Digest([1; 32]), &bytes).unwrap();
        assert_eq!(store.blob(Digest([1; 32])).unwrap(), Some(bytes));
        assert_eq!(store.blob(Digest([2; 32])).unwrap(), None);
    }

    fn a_name_and_version_stand_for_one_digest_for_ever(store: &dyn Store) {
        assert_eq!(store.put_deployment(&deployment("pay", "2", 1)).unwrap(), PutDeployment::Created);
        assert_eq!(store.put_deployment(&deployment("pay", "1", 2)).unwrap(), PutDeployment::Created);
        assert_eq!(store.put_deployment(&deployment("pay", "2", 1)).unwrap(), PutDeployment::Same);
        let other = store.put_deployment(&deployment("pay", "2", 9)).unwrap();
        assert_eq!(other, PutDeployment::Different(Digest([1; 32])));
        assert_eq!(store.put_deployment(&deployment("a", "1", 1)).unwrap(), PutDeployment::Created);
        let expected = [("pay", "2", 1, 1), ("pay", "1", 2, 2), ("a", "1", 1, 3)];
        let expected = expected.map(|(name, version, digest, order)| DeploymentRow {
            order,
            ..deployment(name, version, digest)
        });
        assert_eq!(store.deployments().unwrap(), expected);
    }

    fn a_schedule_is_replaced_as_a_whole_and_gone_when_it_was_dropped(store: &dyn Store) {
        assert_eq!(store.schedule("a").unwrap(), None);
        store.put_schedule(&schedule("a")).unwrap();
        assert_eq!(store.schedule("a").unwrap(), Some(schedule("a")));
        let other = ScheduleRow { paused: false, waiting: None, running: Vec::new(), ..schedule("a") };
        store.put_schedule(&other).unwrap();
        assert_eq!(store.schedule("a").unwrap(), Some(other));
        store.advance_schedule(&schedule("a")).unwrap();
        assert_eq!(store.schedule("a").unwrap(), Some(schedule("a")));
        store.drop_schedule("a").unwrap();
        store.drop_schedule("a").unwrap();
        assert_eq!(store.schedule("a").unwrap(), None);
        assert_eq!(store.schedules(None, 9).unwrap(), []);
    }

    fn schedules_are_read_in_pages_in_the_order_of_their_names(store: &dyn Store) {
        for name in ["b", "a", "ab", "z", "B"] {
            store.put_schedule(&schedule(name)).unwrap();
        }
        let names = |after: Option<&str>, limit| -> Vec<String> {
            store.schedules(after, limit).unwrap().into_iter().map(|row| row.name).collect()
        };
        assert_eq!(names(None, 9), ["B", "a", "ab", "b", "z"]);
        assert_eq!(names(None, 2), ["B", "a"]);
        assert_eq!(names(Some("a"), 2), ["ab", "b"]);
        assert_eq!(names(Some("aa"), 9), ["ab", "b", "z"]);
        assert_eq!(names(Some("z"), 9), [""; 0]);
    }

    fn an_empty_commit_does_nothing(store: &dyn Store) {
        assert_eq!(store.commit(&[]).unwrap(), []);
    }
}
