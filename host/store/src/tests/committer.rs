//! The commit thread: groups, order, acknowledgement after the write, a bounded queue, stopping, failing.

use super::*;
use crate::{
    CommitError, CommitHere, Committer, CommitterOptions, Cursor, EntityPage, EntityQuery, EntityRow, InstanceStateTag,
    ListPage, ListQuery, MemoryStore, PutDeployment, StoreError, SubmitError,
};
use rehydrate_core::{Json, Message, MessageId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A store whose commits wait at a gate, and may fail or panic there.
struct Gated {
    inner: MemoryStore,
    open: Mutex<bool>,
    opened: Condvar,
    entered: Mutex<Sender<usize>>,
    fails: AtomicBool,
    panics: AtomicBool,
}

impl Gated {
    fn new(open: bool) -> (Arc<Gated>, Receiver<usize>) {
        let (entered, entries) = channel();
        let gated = Gated {
            inner: MemoryStore::new(),
            open: Mutex::new(open),
            opened: Condvar::new(),
            entered: Mutex::new(entered),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        };
        (Arc::new(gated), entries)
    }

    fn close_gate(&self) {
        *self.open.lock().unwrap() = false;
    }

    fn open_gate(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Store for Gated {
    fn commit(&self, batches: &[Batch]) -> Result<Vec<Result<(), CommitError>>, StoreError> {
        self.entered.lock().unwrap().send(batches.len()).unwrap();
        let (open, _) = self.opened.wait_timeout_while(self.open.lock().unwrap(), PATIENCE, |open| !*open).unwrap();
        assert!(*open, "the gate was never opened");
        drop(open);
        assert!(!self.panics.load(Ordering::SeqCst), "this panic is part of the test");
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Write { what: "a commit".to_owned(), reason: "Input/output error".to_owned() });
        }
        self.inner.commit(batches)
    }
    fn instance(&self, key: InstanceKey) -> Result<Option<InstanceRow>, StoreError> {
        self.inner.instance(key)
    }
    fn outbox(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<Message>, StoreError> {
        self.inner.outbox(after, limit)
    }
    fn was_received(&self, id: MessageId) -> Result<bool, StoreError> {
        self.inner.was_received(id)
    }
    fn drop_messages(&self, ids: &[MessageId]) -> Result<(), StoreError> {
        self.inner.drop_messages(ids)
    }
    fn entity(&self, id: &str) -> Result<Option<EntityRow>, StoreError> {
        self.inner.entity(id)
    }
    fn entity_values(&self, id: &str) -> Result<BTreeMap<String, Json>, StoreError> {
        self.inner.entity_values(id)
    }
    fn entities(&self, query: &EntityQuery) -> Result<EntityPage, StoreError> {
        self.inner.entities(query)
    }
    fn event(&self, key: InstanceKey, run: RunNumber, id: EventId) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.event(key, run, id)
    }
    fn events(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: EventId,
        limit: usize,
    ) -> Result<Vec<(EventId, Vec<u8>)>, StoreError> {
        self.inner.events(key, run, from, limit)
    }
    fn last_event(&self, key: InstanceKey, run: RunNumber) -> Result<Option<(EventId, Vec<u8>)>, StoreError> {
        self.inner.last_event(key, run)
    }

    fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.inner.list(query)
    }
    fn due_timers(&self, now: Timestamp, after: Option<&TimerRow>, limit: usize) -> Result<Vec<TimerRow>, StoreError> {
        self.inner.due_timers(now, after, limit)
    }
    fn next_due(&self, after: Option<&TimerRow>) -> Result<Option<Timestamp>, StoreError> {
        self.inner.next_due(after)
    }
    fn tasks(&self, after: Option<&TaskRow>, limit: usize) -> Result<Vec<TaskRow>, StoreError> {
        self.inner.tasks(after, limit)
    }
    fn log(
        &self,
        key: InstanceKey,
        run: RunNumber,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogLine)>, StoreError> {
        self.inner.log(key, run, from, limit)
    }
    fn dedup(&self, scope: &str, key: &str) -> Result<Option<DedupRow>, StoreError> {
        self.inner.dedup(scope, key)
    }
    fn drop_dedup_before(&self, at: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.inner.drop_dedup_before(at, limit)
    }
    fn put_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.put_blob(digest, bytes)
    }
    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.blob(digest)
    }
    fn put_deployment(&self, row: &DeploymentRow) -> Result<PutDeployment, StoreError> {
        self.inner.put_deployment(row)
    }
    fn remove_deployment(&self, name: &str, version: &str, drop_blob: Option<Digest>) -> Result<bool, StoreError> {
        self.inner.remove_deployment(name, version, drop_blob)
    }
    fn deployments(&self) -> Result<Vec<DeploymentRow>, StoreError> {
        self.inner.deployments()
    }
    fn put_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        self.inner.put_schedule(row)
    }
    fn advance_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        self.inner.advance_schedule(row)
    }
    fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        self.inner.schedule(name)
    }
    fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Vec<ScheduleRow>, StoreError> {
        self.inner.schedules(after, limit)
    }
    fn drop_schedule(&self, name: &str) -> Result<(), StoreError> {
        self.inner.drop_schedule(name)
    }
    fn bytes_written(&self) -> u64 {
        self.inner.bytes_written()
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes()
    }
}

/// Options that tell about a fatal error through a channel.
fn telling() -> (CommitterOptions, Receiver<StoreError>) {
    let (tell, told) = channel();
    (CommitterOptions::new(Box::new(move |error| tell.send(error.clone()).unwrap())), told)
}

fn acknowledge<T: Send + 'static>(to: &Sender<(T, Result<(), CommitError>)>, what: T) -> crate::Acknowledge {
    let to = to.clone();
    Box::new(move |result| to.send((what, result)).unwrap())
}

#[test]
fn what_is_acknowledged_is_in_the_store_and_batches_of_one_run_keep_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(rocks(directory.path()));
    let (options, _told) = telling();
    let committer = Committer::start(store.clone(), options).unwrap();
    let (to, results) = channel();
    for id in 0..200 {
        for instance in 1..=4 {
            let store = Arc::clone(&store);
            let to = to.clone();
            let seen = move |result: Result<(), CommitError>| {
                let stored = store.event(key(instance), RUN, EventId(id + 1)).unwrap();
                to.send((result, stored == Some(event_bytes(instance, id + 1)))).unwrap();
            };
            committer.submit(events(instance, id, 1), Box::new(seen)).unwrap();
        }
    }
    committer.stop();
    drop(to);
    let results: Vec<_> = results.iter().collect();
    assert_eq!(results, vec![(Ok(()), true); 800]);
    let stats = committer.stats();
    assert_eq!(stats.batches, 800);
    assert!(stats.commits <= 800 && stats.commits >= 1, "{stats:?}");
    assert!(stats.bytes > 800);
    drop(committer);
    for instance in 1..=4 {
        assert_eq!(event_ids(&*store, instance), (1..=200).collect::<Vec<_>>());
    }
}

#[test]
fn what_gathers_during_a_sync_is_written_with_the_next_one() {
    let (store, entries) = Gated::new(false);
    let (options, _told) = telling();
    let committer = Committer::start(store.clone(), options).unwrap();
    let (to, results) = channel();
    committer.submit(events(1, 0, 1), acknowledge(&to, 0)).unwrap();
    assert_eq!(entries.recv_timeout(PATIENCE), Ok(1));
    for n in 1..=50 {
        committer.submit(events(1, n, 1), acknowledge(&to, n)).unwrap();
    }
    assert!(results.try_recv().is_err(), "nothing is acknowledged before its write has returned");
    store.open_gate();
    assert_eq!(entries.recv_timeout(PATIENCE), Ok(50));
    let order: Vec<u64> = (0..=50).map(|_| results.recv_timeout(PATIENCE).unwrap().0).collect();
    assert_eq!(order, (0..=50).collect::<Vec<_>>());
    committer.stop();
    assert_eq!((committer.stats().commits, committer.stats().batches), (2, 51));
}

#[test]
fn a_batch_that_would_be_alone_is_committed_where_it_is_and_any_other_waits_its_turn() {
    let (store, entries) = Gated::new(true);
    let (options, _told) = telling();
    let committer = Arc::new(Committer::start(store.clone(), options).unwrap());
    let done = CommitHere::Committed(Ok(()));
    assert_eq!(committer.commit_here(&events(1, 0, 1)), done);
    let again = committer.commit_here(&events(1, 0, 1));
    assert!(matches!(again, CommitHere::Committed(Err(CommitError::Conflict { .. }))), "{again:?}");
    store.close_gate();
    let here = {
        let committer = Arc::clone(&committer);
        std::thread::spawn(move || committer.commit_here(&events(1, 1, 1)))
    };
    assert_eq!((0..3).map(|_| entries.recv_timeout(PATIENCE).unwrap()).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(committer.commit_here(&events(2, 0, 1)), CommitHere::Busy, "one commit at a time");
    let (to, results) = channel();
    for n in 0..2 {
        committer.submit(events(2, n, 1), acknowledge(&to, n)).unwrap();
    }
    store.open_gate();
    assert_eq!(here.join().unwrap(), done);
    assert_eq!((0..2).map(|_| results.recv_timeout(PATIENCE).unwrap()).collect::<Vec<_>>(), [(0, Ok(())), (1, Ok(()))]);
    assert_eq!(committer.commit_here(&events(3, 0, 1)), CommitHere::Busy, "others came together just now");
    committer.stop();
    assert_eq!((committer.stats().commits, committer.stats().batches), (4, 5));
    assert_eq!(committer.commit_here(&events(3, 0, 1)), CommitHere::Busy, "it was stopped");
}

#[test]
fn a_write_that_fails_where_the_batch_is_ends_the_committer_as_well() {
    let (store, _entries) = Gated::new(true);
    let (options, told) = telling();
    let committer = Committer::start(store.clone(), options).unwrap();
    store.fails.store(true, Ordering::SeqCst);
    assert_eq!(committer.commit_here(&events(1, 0, 1)), CommitHere::Failed);
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(StoreError::Write { .. })));
    assert!(matches!(committer.submit(events(1, 0, 1), Box::new(|_| ())), Err(SubmitError::Stopped(_))));
    committer.stop();
}

#[test]
fn a_group_is_limited_in_number_and_in_bytes() {
    let (store, entries) = Gated::new(false);
    let (options, _told) = telling();
    let large = Batch { events: vec![(EventId(1), vec![0; 5000])], ..Batch::new(key(9), RUN, EventId::NONE) };
    let options = CommitterOptions { group_max: 3, group_bytes_max: 4000, ..options };
    let committer = Committer::start(store.clone(), options).unwrap();
    for n in 0..6 {
        committer.submit(events(1, n, 1), Box::new(|_| ())).unwrap();
        if n == 0 {
            assert_eq!(entries.recv_timeout(PATIENCE), Ok(1));
        }
    }
    committer.submit(large, Box::new(|_| ())).unwrap();
    store.open_gate();
    committer.stop();
    assert_eq!(entries.try_iter().collect::<Vec<_>>(), [3, 2, 1]);
}

#[test]
fn a_full_queue_gives_a_request_back_or_makes_it_wait() {
    let (store, entries) = Gated::new(false);
    let (options, _told) = telling();
    let committer = Arc::new(Committer::start(store.clone(), CommitterOptions { queue_max: 2, ..options }).unwrap());
    let (to, results) = channel();
    committer.submit(events(1, 0, 1), acknowledge(&to, 1)).unwrap();
    assert_eq!(entries.recv_timeout(PATIENCE), Ok(1));
    for instance in 2..=3 {
        committer.try_submit(events(instance, 0, 1), acknowledge(&to, instance)).unwrap();
    }
    let refused = committer.try_submit(events(4, 0, 1), acknowledge(&to, 4)).unwrap_err();
    let SubmitError::Full(request) = refused else { panic!("{refused}") };
    let waiting = {
        let committer = Arc::clone(&committer);
        std::thread::spawn(move || committer.submit(request.batch, request.acknowledge).is_ok())
    };
    store.open_gate();
    assert!(waiting.join().unwrap());
    committer.stop();
    let mut done: Vec<u8> = results.try_iter().map(|(instance, result)| (result.unwrap(), instance).1).collect();
    done.sort_unstable();
    assert_eq!(done, [1, 2, 3, 4]);
}

#[test]
fn a_queue_full_of_bytes_takes_no_more_but_an_empty_one_takes_anything() {
    let (store, entries) = Gated::new(false);
    let (options, _told) = telling();
    let committer = Committer::start(store.clone(), CommitterOptions { queue_bytes_max: 10, ..options }).unwrap();
    committer.try_submit(events(1, 0, 9), Box::new(|_| ())).unwrap();
    assert_eq!(entries.recv_timeout(PATIENCE), Ok(1));
    committer.try_submit(events(2, 0, 9), Box::new(|_| ())).unwrap();
    assert!(matches!(committer.try_submit(events(3, 0, 1), Box::new(|_| ())), Err(SubmitError::Full(_))));
    store.open_gate();
}

#[test]
fn a_refused_batch_is_told_so_and_the_others_are_written() {
    let (store, _entries) = Gated::new(true);
    let (options, _told) = telling();
    let committer = Committer::start(store.clone(), options).unwrap();
    let (to, results) = channel();
    committer.submit(events(1, 0, 1), acknowledge(&to, 1)).unwrap();
    committer.submit(events(1, 0, 1), acknowledge(&to, 2)).unwrap();
    committer.submit(events(1, 1, 1), acknowledge(&to, 3)).unwrap();
    committer.stop();
    let results: Vec<_> = results.try_iter().collect();
    assert_eq!((results[0].1.is_ok(), results[2].1.is_ok()), (true, true));
    assert!(matches!(results[1].1, Err(CommitError::Conflict { .. })));
    let stopped = committer.submit(events(1, 2, 1), Box::new(|_| ()));
    assert!(matches!(stopped, Err(SubmitError::Stopped(_))));
}

/// After a failure nothing is acknowledged, neither what was being written nor what waits, and the handler is
/// told once.
fn nothing_is_acknowledged_after(fault: impl Fn(&Gated), expected: impl Fn(&StoreError) -> bool) {
    let (store, entries) = Gated::new(false);
    let (options, told) = telling();
    let committer = Committer::start(store.clone(), options).unwrap();
    let (to, results) = channel();
    committer.submit(events(1, 0, 1), acknowledge(&to, 1)).unwrap();
    assert_eq!(entries.recv_timeout(PATIENCE), Ok(1));
    committer.submit(events(2, 0, 1), acknowledge(&to, 2)).unwrap();
    drop(to);
    fault(&store);
    store.open_gate();
    let error = told.recv_timeout(PATIENCE).unwrap();
    assert!(expected(&error), "{error}");
    // Every acknowledger was dropped uncalled: the channel is closed and was never used.
    assert_eq!(results.recv_timeout(PATIENCE).unwrap_err(), std::sync::mpsc::RecvTimeoutError::Disconnected);
    assert!(matches!(committer.submit(events(3, 0, 1), Box::new(|_| ())), Err(SubmitError::Stopped(_))));
    committer.stop();
    assert!(told.try_recv().is_err());
    assert_eq!(committer.stats().commits, 0);
}

#[test]
fn a_failed_write_is_never_acknowledged_and_ends_the_committer() {
    let fail = |store: &Gated| store.fails.store(true, Ordering::SeqCst);
    nothing_is_acknowledged_after(fail, |error| matches!(error, StoreError::Write { .. }));
}

#[test]
fn a_panic_in_the_store_is_as_fatal_as_a_failed_write() {
    let panic = |store: &Gated| store.panics.store(true, Ordering::SeqCst);
    nothing_is_acknowledged_after(panic, |error| *error == StoreError::Panicked);
}

#[test]
fn readers_see_whole_commits_while_the_committer_works() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(rocks(directory.path()));
    let (options, _told) = telling();
    let committer = Committer::start(store.clone(), options).unwrap();
    let mut previous = row(1, InstanceStateTag::Running, 0);
    for n in 0..300_u64 {
        let state = InstanceStateTag::ALL[usize::try_from(n % 6).unwrap()];
        let next = InstanceRow { last_event: EventId(n + 1), ..row(1, state, i64::try_from(n).unwrap()) };
        let keys = (n > 0).then(|| previous.index_keys());
        let batch = Batch { row: Some(next.clone()), previous: keys, ..events(1, n, 1) };
        committer.submit(batch, Box::new(|result| result.unwrap())).unwrap();
        previous = next;
        let page = store.list(&ListQuery::default()).unwrap();
        assert!(page.rows.len() <= 1, "the instance is listed once: {page:?}");
        if let Some(row) = store.instance(key(1)).unwrap() {
            assert_eq!(row.last_event.0, u64::try_from(row.created.0).unwrap() + 1);
            assert!(store.event(key(1), RUN, row.last_event).unwrap().is_some());
            assert_eq!(page.next, None::<Cursor>);
        }
    }
    committer.stop();
    assert_eq!(event_ids(&*store, 1).len(), 300);
}
