//! Damage to the write-ahead log: whatever is cut or flipped, a store that opens has everything that was
//! acknowledged. One that has not, refuses to open.

use super::*;
use std::fs;
use std::path::PathBuf;

const COMMITS: u64 = 40;

/// A data directory of `COMMITS` commits, cleanly closed, all of it in one write-ahead log.
fn written(directory: &Path) -> PathBuf {
    let store = rocks(directory);
    for n in 0..COMMITS {
        let batch = Batch { put_timers: vec![timer(1, 1, n)], log: vec![line(1)], ..events(1, n, 1) };
        commit(&store, &[batch]);
    }
    drop(store);
    let logs = fs::read_dir(directory.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let mut logs: Vec<PathBuf> = logs.filter(|path| fs::metadata(path).unwrap().len() > 0).collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs.remove(0)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Opens a copy of the directory whose log was changed: complete, or refused. Says which.
fn is_refused_or_whole(original: &Path, log: &Path, change: impl Fn(&mut Vec<u8>), without_mark: bool) -> Opened {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("data");
    copy(original, &path);
    let log = path.join("db").join(log.file_name().unwrap());
    let mut bytes = fs::read(&log).unwrap();
    change(&mut bytes);
    fs::write(&log, bytes).unwrap();
    if without_mark {
        fs::remove_file(path.join(crate::mark::MARK_FILE)).unwrap();
    }
    match RocksStore::open(&path, options()) {
        Err(_) => Opened::Refused,
        Ok(store) if event_ids(&store, 1) == (1..=COMMITS).collect::<Vec<_>>() => Opened::Whole,
        Ok(_) => Opened::WithLoss,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opened {
    Refused,
    Whole,
    WithLoss,
}

#[test]
fn a_cut_log_is_never_opened_with_less_than_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let log = written(directory.path());
    let length = usize::try_from(fs::metadata(&log).unwrap().len()).unwrap();
    assert_eq!(is_refused_or_whole(directory.path(), &log, |_| (), false), Opened::Whole);
    for cut in (1..=length).step_by(length / 25) {
        let opened = is_refused_or_whole(directory.path(), &log, |bytes| bytes.truncate(length - cut), false);
        assert_eq!(opened, Opened::Refused, "{cut} bytes cut off of {length}");
    }
}

#[test]
fn the_mark_is_what_finds_a_cut_log() {
    // The control of the test above: without the mark the database opens a cut log and says nothing.
    let directory = tempfile::tempdir().unwrap();
    let log = written(directory.path());
    let half = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    assert_eq!(is_refused_or_whole(directory.path(), &log, half, true), Opened::WithLoss);
}

#[test]
fn a_flipped_bit_in_the_log_is_never_opened_with_less_than_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let log = written(directory.path());
    let length = usize::try_from(fs::metadata(&log).unwrap().len()).unwrap();
    let mut refused = 0;
    // A step that shares no factor with the size of a record meets every part of one.
    for at in (0..length).step_by((length / 60) | 1).chain([length - 1]) {
        let bit = 1 << (at % 8);
        let opened = is_refused_or_whole(directory.path(), &log, |bytes| bytes[at] ^= bit, false);
        assert_ne!(opened, Opened::WithLoss, "bit {} of byte {at} flipped", at % 8);
        refused += usize::from(opened == Opened::Refused);
    }
    assert!(refused > 50, "only {refused} flips were seen");
}

#[test]
fn a_log_that_is_gone_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let log = written(directory.path());
    fs::remove_file(&log).unwrap();
    assert!(RocksStore::open(directory.path(), options()).is_err());
}
