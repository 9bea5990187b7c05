//! Kill -9: a child process commits as fast as it can and says what was acknowledged; it is killed at some
//! point, and everything it said must be there, whole and without a gap.

use super::*;
use crate::{Committer, CommitterOptions, ListQuery, RocksStore, StoreError, StoreOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const CHILD: &str = "REHYDRATE_STORE_CRASH_CHILD";
const ASKS_FOR_TOO_MUCH: &str = "REHYDRATE_STORE_CRASH_ASKS_FOR_TOO_MUCH";
const ABORTS_AFTER: &str = "REHYDRATE_STORE_CRASH_ABORTS_AFTER";
const INSTANCES: u8 = 8;
const ROUNDS: usize = 20;
const ENDED_BY_FAILURE: i32 = 3;

/// The child's whole life, if this process is one. Started by the test below.
#[test]
fn a_child_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let abort_after_writes = std::env::var(ABORTS_AFTER).ok().map(|writes| writes.parse().unwrap());
    let options = StoreOptions { abort_after_writes, ..options() };
    let store = Arc::new(RocksStore::open(Path::new(&path), options).unwrap());
    let mut last = (1..=INSTANCES).map(|n| u64::try_from(event_ids(&*store, n).len()).unwrap()).collect::<Vec<_>>();
    let end = |error: &StoreError| {
        eprintln!("{error}");
        std::process::exit(ENDED_BY_FAILURE);
    };
    let committer = Committer::start(store, CommitterOptions::new(Box::new(end))).unwrap();
    let out = Arc::new(std::sync::Mutex::new(std::io::stdout()));
    let mut rounds = 0;
    loop {
        rounds += 1;
        if rounds == 50 && std::env::var_os(ASKS_FOR_TOO_MUCH).is_some() {
            let too_much = vec![(EventId(1), vec![0; 80 << 20])];
            let batch = Batch { events: too_much, ..Batch::new(key(99), RUN, EventId::NONE) };
            committer.submit(batch, Box::new(|result| panic!("it can't be on disk: {result:?}"))).unwrap();
        }
        for instance in 1..=INSTANCES {
            let at = &mut last[usize::from(instance) - 1];
            let batch = crash_batch(instance, *at);
            *at = batch.last_event().0;
            let (id, out) = (*at, Arc::clone(&out));
            let say = move |result: Result<(), crate::CommitError>| {
                result.unwrap();
                writeln!(out.lock().unwrap(), "ACK {instance} {id}").unwrap();
            };
            if committer.submit(batch, Box::new(say)).is_err() {
                // The commit thread is about to end this process and to say how.
                std::thread::park();
            }
        }
    }
}

/// Two events, a row that names the last of them, a timer that goes with it and replaces the one before, what is
/// under way, and a line.
fn crash_batch(instance: u8, last: u64) -> Batch {
    let id = last + 2;
    let newest = InstanceRow { last_event: EventId(id), ..row(instance, InstanceStateTag::Running, 5) };
    Batch {
        previous: (last > 0).then(|| newest.index_keys()),
        row: Some(newest),
        put_timers: vec![timer(i64::try_from(id).unwrap(), instance, id)],
        drop_timers: vec![timer(i64::try_from(last).unwrap(), instance, last)],
        under_way: Some(UnderWay { activities: true, guest: id.is_multiple_of(4) }),
        log: vec![line(1)],
        ..events(instance, last, 2)
    }
}

/// The child, to be started under a shell command that ends with executing its arguments.
fn child(path: &Path, shell: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", &format!("{shell}exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tests::crash::a_child_commits_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Follows a child to its end, and kills it after some acknowledgements; says the last acknowledged event of
/// each instance and how many acknowledgements there were.
fn follow(child: &mut Child, kill_after: usize) -> (Vec<u64>, usize) {
    let mut last = vec![0; usize::from(INSTANCES)];
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // What was said before the kill still comes out of the pipe afterwards, and counts. The very last
        // line may be torn: its number is then too small, never too large.
        let line = line.unwrap();
        let Some((_, said)) = line.split_once("ACK ") else { continue };
        let Some((instance, id)) = said.split_once(' ') else { continue };
        let (Ok(instance), Ok(id)) = (instance.parse::<usize>(), id.parse::<u64>()) else { continue };
        last[instance - 1] = id.max(last[instance - 1]);
        seen += 1;
        if seen == kill_after {
            child.kill().unwrap();
        }
    }
    (last, seen)
}

fn assert_whole(store: &dyn Store, acknowledged: &[u64]) {
    let mut timers = Vec::new();
    let mut tasks = Vec::new();
    for (instance, acknowledged) in (1..).zip(acknowledged) {
        let ids = event_ids(store, instance);
        let last = ids.last().copied().unwrap_or(0);
        assert_eq!(ids, (1..=last).collect::<Vec<_>>());
        assert!(last >= *acknowledged, "instance {instance}: {acknowledged} was acknowledged, {last} is the last");
        assert!(last % 2 == 0, "a batch is there in part");
        if last == 0 {
            continue;
        }
        assert_eq!(store.instance(key(instance)).unwrap().unwrap().last_event, EventId(last));
        timers.push(timer(i64::try_from(last).unwrap(), instance, last));
        tasks.push(task(instance, UnderWay { activities: true, guest: last.is_multiple_of(4) }));
        let (number, _) = store.log(key(instance), RUN, 0, 99).unwrap().pop().unwrap();
        assert_eq!(number, last / 2);
    }
    timers.sort_unstable();
    assert_eq!(store.due_timers(Timestamp::MAX, None, 99).unwrap(), timers);
    assert_eq!(store.tasks(None, 99).unwrap(), tasks);
    assert_eq!(store.list(&ListQuery::default()).unwrap().rows.len(), timers.len());
}

#[test]
fn everything_acknowledged_survives_kill_9_whole_and_without_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let kill_after = 1 + round * 97;
        let mut child = child(directory.path(), "");
        let (acknowledged, seen) = follow(&mut child, kill_after);
        let ended = child.wait_with_output().unwrap();
        assert!(seen >= kill_after, "the child ended by itself: {}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(ended.status.code(), None, "it was killed");
        assert_whole(&rocks(directory.path()), &acknowledged);
    }
}

#[test]
fn everything_acknowledged_survives_a_disk_that_takes_no_more() {
    let directory = tempfile::tempdir().unwrap();
    // No file may grow beyond 32 MiB, and the child writes more than that at once in the middle of its work.
    let limit = format!("trap '' XFSZ; ulimit -f 65536; {ASKS_FOR_TOO_MUCH}=1; export {ASKS_FOR_TOO_MUCH}; ");
    let mut child = child(directory.path(), &limit);
    let (acknowledged, seen) = follow(&mut child, usize::MAX);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(ENDED_BY_FAILURE), "{said}");
    assert!(said.contains("the store could not write a commit"), "{said}");
    assert!(seen > 100, "it got through {seen} batches before the disk failed");
    let store = rocks(directory.path());
    assert_whole(&store, &acknowledged);
    assert_eq!(store.events(key(99), RUN, EventId(1), 9).unwrap(), [], "what could not be written is not there");
}

#[test]
fn a_store_that_is_to_abort_after_a_write_keeps_it_and_acknowledges_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = child(directory.path(), &format!("{ABORTS_AFTER}=1; export {ABORTS_AFTER}; "));
    let (_, seen) = follow(&mut child, usize::MAX);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.signal(), Some(6), "it aborted: {}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(seen, 0, "nothing was acknowledged");
    let store = rocks(directory.path());
    // The write may be a group of several batches.
    assert!(event_ids(&store, 1).starts_with(&[1, 2]), "what was written is there");
    assert_whole(&store, &[0; INSTANCES as usize]);
}
