//! The mark: how far the database is known to be durable, kept outside of it.
//!
//! A write-ahead log that is cut at the border of a record looks complete to the database, so a loss there
//! is silent. The mark says which commit was acknowledged; a database that ends before it has lost commits
//! and is not opened. The mark follows the commits at intervals, on a thread of its own: its sync is not part
//! of any commit, and what it can't see is at most the commits since the last one.
//!
//! It must never be ahead of the database: only a commit whose sync has returned is marked.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The mark's file, within the data directory.
pub(crate) const MARK_FILE: &str = "mark";
const NEW_FILE: &str = "mark.new";
const MAGIC: &[u8; 8] = b"RHYDMRK1";
const BYTES: usize = 24;

/// Reads the mark: none if there is no such file; an error in words if it is not a mark.
pub(crate) fn read(directory: &Path) -> Result<Option<u64>, String> {
    let bytes = match std::fs::read(directory.join(MARK_FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| "it has the wrong length".to_owned())?;
    let (magic, numbers) = bytes.split_at(MAGIC.len());
    let (sequence, inverse) = numbers.split_at(8);
    if magic != MAGIC || sequence.iter().zip(inverse).any(|(a, b)| *a != !*b) {
        return Err("its bytes don't check out".to_owned());
    }
    Ok(sequence.try_into().ok().map(u64::from_be_bytes))
}

/// Writes the mark durably: a new file, synced, takes the place of the old one.
pub(crate) fn write(directory: &Path, sequence: u64) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&(!sequence).to_be_bytes());
    let new = directory.join(NEW_FILE);
    let mut file = File::create(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join(MARK_FILE))?;
    File::open(directory)?.sync_all()
}

/// How often the mark is written while commits come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MarkPace {
    /// After so many commits.
    pub(crate) commits: u64,
    /// After so long.
    pub(crate) interval: Duration,
}

/// The thread that keeps the mark.
pub(crate) struct Marker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    directory: PathBuf,
    pace: MarkPace,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    durable: u64,
    marked: u64,
    stop: bool,
    failure: Option<String>,
}

impl Marker {
    /// Starts the thread; the mark already says `marked`.
    pub(crate) fn start(directory: &Path, marked: u64, pace: MarkPace) -> std::io::Result<Marker> {
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            pace,
            state: Mutex::new(State { durable: marked, marked, stop: false, failure: None }),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("store-mark".to_owned()).spawn(move || for_thread.run())?;
        Ok(Marker { shared, thread: Some(thread) })
    }

    /// Tells that everything through `sequence` is durable. Says why, if the mark could not be written lately.
    pub(crate) fn durable(&self, sequence: u64) -> Result<(), String> {
        let mut state = self.shared.lock();
        let waits = state.durable == state.marked;
        state.durable = sequence;
        if waits || state.durable - state.marked >= self.shared.pace.commits {
            self.shared.changed.notify_one();
        }
        state.failure.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Marker {
    /// Writes the last mark: after a clean close nothing at all can be lost unseen.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(sequence) = self.next_mark() {
            let written = write(&self.directory, sequence);
            let mut state = self.lock();
            match written {
                Ok(()) => state.marked = sequence,
                Err(e) => {
                    // The next commit reports it; trying again could only hide it.
                    state.failure = Some(format!("the file `{MARK_FILE}` can't be written: {e}"));
                    return;
                }
            }
        }
    }

    /// Waits until a mark is due and says which; none when everything is marked and the store closes.
    fn next_mark(&self) -> Option<u64> {
        let mut state = self.lock();
        while state.durable == state.marked {
            if state.stop {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let due = Instant::now() + self.pace.interval;
        while !state.stop && state.durable - state.marked < self.pace.commits {
            let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(state.durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_any_flipped_bit_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()), Ok(None));
        write(directory.path(), 123_456_789).unwrap();
        assert_eq!(read(directory.path()), Ok(Some(123_456_789)));
        let path = directory.path().join(MARK_FILE);
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            assert!(read(directory.path()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn closing_marks_the_last_commit_without_waiting_for_the_interval() {
        let directory = tempfile::tempdir().unwrap();
        let pace = MarkPace { commits: u64::MAX, interval: Duration::from_secs(3600) };
        let marker = Marker::start(directory.path(), 0, pace).unwrap();
        for sequence in 1..=5 {
            marker.durable(sequence).unwrap();
        }
        drop(marker);
        assert_eq!(read(directory.path()), Ok(Some(5)));
    }

    #[test]
    fn the_mark_is_written_after_the_given_number_of_commits() {
        let directory = tempfile::tempdir().unwrap();
        let pace = MarkPace { commits: 3, interval: Duration::from_secs(3600) };
        let marker = Marker::start(directory.path(), 0, pace).unwrap();
        for sequence in 1..=3 {
            marker.durable(sequence).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while read(directory.path()) != Ok(Some(3)) {
            assert!(Instant::now() < deadline, "no mark was written");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_mark_that_can_not_be_written_is_reported_to_the_next_commit() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let marker = Marker::start(&gone, 0, MarkPace { commits: 1, interval: Duration::ZERO }).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut sequence = 0;
        loop {
            sequence += 1;
            match marker.durable(sequence) {
                Ok(()) => assert!(Instant::now() < deadline, "the failure was not reported"),
                Err(reason) => return assert!(reason.contains("mark"), "{reason}"),
            }
        }
    }
}
