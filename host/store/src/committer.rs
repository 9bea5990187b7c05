//! The commit thread: one thread that makes the batches of all instances durable, many with one sync.
//!
//! While one group is being synced the next one gathers in a bounded queue, so the cost of a sync is shared
//! by everything that waited for it. An acknowledgement is given only after the sync. Once the store has
//! failed no acknowledgement is given any more: what was asked for may or may not be on disk.
//!
//! While there is so little to do that groups have one batch, the thread would only be a detour: whoever has the
//! batch may then commit it where it is ([`Committer::commit_here`]). One commit is under way at a time.
//!
//! It must never reorder batches, drop one that it accepted while the store works, or answer "written" early.

use crate::Store;
use crate::error::{CommitError, StoreError};
use crate::rows::Batch;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Called once, on the commit thread, when the outcome of a batch is known: it must be quick and not block.
/// It is dropped uncalled if the store fails.
pub type Acknowledge = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

/// Called on the committing thread when the store has failed: the process should end.
pub type OnFatal = Box<dyn Fn(&StoreError) + Send + Sync>;

/// A batch to commit, and whom to tell.
pub struct Request {
    /// The batch.
    pub batch: Box<Batch>,
    /// Whom to tell.
    pub acknowledge: Acknowledge,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("batch", &self.batch).finish_non_exhaustive()
    }
}

/// Why a request was not accepted; it is handed back.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full; only without waiting.
    #[error("the commit queue is full; wait and try again")]
    Full(Box<Request>),
    /// The committer was stopped, or the store failed.
    #[error("the committer has stopped; restart the host")]
    Stopped(Box<Request>),
}

/// What became of a batch that was to be committed where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommitHere {
    /// It is durable, or was refused.
    Committed(Result<(), CommitError>),
    /// Others commit, or the committer was stopped; nothing was done. The batch is to be submitted.
    Busy,
    /// The store has failed.
    Failed,
}

/// How the committer works.
pub struct CommitterOptions {
    /// Requests in the queue, at most.
    pub queue_max: usize,
    /// Bytes in the queue, at most; one request is always taken into an empty queue.
    pub queue_bytes_max: usize,
    /// Requests in one synced write, at most.
    pub group_max: usize,
    /// Bytes in one synced write, at most; a larger request goes alone.
    pub group_bytes_max: usize,
    /// Called when the store has failed.
    pub on_fatal: OnFatal,
}

impl CommitterOptions {
    /// The defaults: 4,096 requests or 64 MiB in the queue, 1,024 or 16 MiB in one write.
    pub fn new(on_fatal: OnFatal) -> CommitterOptions {
        CommitterOptions {
            queue_max: 4096,
            queue_bytes_max: 64 << 20,
            group_max: 1024,
            group_bytes_max: 16 << 20,
            on_fatal,
        }
    }
}

/// What the committer has done since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CommitterStats {
    /// Synced writes.
    pub commits: u64,
    /// Batches in them, also those that were refused.
    pub batches: u64,
    /// Bytes of those batches, roughly.
    pub bytes: u64,
    /// How long the last write took.
    pub last: Duration,
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
    last_nanos: AtomicU64,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    bytes: usize,
    closed: bool,
    /// A commit is under way.
    busy: bool,
    /// Batches in the last commit.
    last_group: usize,
}

impl Queue {
    /// Whether a batch that comes now would be alone in its group, as the one before it was.
    fn is_quiet(&self) -> bool {
        !self.closed && !self.busy && self.requests.is_empty() && self.last_group <= 1
    }
}

struct Shared {
    store: Arc<dyn Store>,
    options: Limits,
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
    counters: Counters,
    on_fatal: OnFatal,
}

struct Limits {
    queue_max: usize,
    queue_bytes_max: usize,
    group_max: usize,
    group_bytes_max: usize,
}

/// A handle to the commit thread. Dropping it stops the thread like [`Committer::stop`].
pub struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread. Fails only if the system has no thread to give.
    pub fn start(store: Arc<dyn Store>, options: CommitterOptions) -> std::io::Result<Committer> {
        let limits = Limits {
            queue_max: options.queue_max.max(1),
            queue_bytes_max: options.queue_bytes_max,
            group_max: options.group_max.max(1),
            group_bytes_max: options.group_bytes_max,
        };
        let shared = Arc::new(Shared {
            store,
            options: limits,
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            counters: Counters::default(),
            on_fatal: options.on_fatal,
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(move || for_thread.run())?;
        Ok(Committer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Puts a batch into the queue and returns; waits only while the queue is full.
    pub fn submit(&self, batch: impl Into<Box<Batch>>, acknowledge: Acknowledge) -> Result<(), SubmitError> {
        self.shared.enqueue(Request { batch: batch.into(), acknowledge }, true)
    }

    /// Puts a batch into the queue if there is room.
    pub fn try_submit(&self, batch: impl Into<Box<Batch>>, acknowledge: Acknowledge) -> Result<(), SubmitError> {
        self.shared.enqueue(Request { batch: batch.into(), acknowledge }, false)
    }

    /// Commits a batch on this thread, which it blocks meanwhile, if nothing else is to be committed.
    pub fn commit_here(&self, batch: &Batch) -> CommitHere {
        {
            let mut queue = self.shared.lock();
            if !queue.is_quiet() {
                return CommitHere::Busy;
            }
            queue.busy = true;
        }
        let committed = self.shared.commit(std::slice::from_ref(batch), batch.len_bytes());
        committed.ok().and_then(|mut results| results.pop()).map_or(CommitHere::Failed, CommitHere::Committed)
    }

    /// Takes no more requests, commits and acknowledges those in the queue, and returns when that is done.
    /// Must not be called by an acknowledger.
    pub fn stop(&self) {
        self.shared.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was already reported by `on_fatal`.
            let _ = thread.join();
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> CommitterStats {
        let Counters { commits, batches, bytes, last_nanos } = &self.shared.counters;
        CommitterStats {
            commits: commits.load(Ordering::Relaxed),
            batches: batches.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
            last: Duration::from_nanos(last_nanos.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    // No code that can panic runs under this lock, so a poisoned one is still whole.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    fn enqueue(&self, request: Request, wait: bool) -> Result<(), SubmitError> {
        let bytes = request.batch.len_bytes();
        let mut queue = self.lock();
        while !queue.closed && self.is_full(&queue, bytes) {
            if !wait {
                return Err(SubmitError::Full(Box::new(request)));
            }
            queue = self.emptied.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return Err(SubmitError::Stopped(Box::new(request)));
        }
        queue.bytes = queue.bytes.saturating_add(bytes);
        queue.requests.push_back(request);
        self.filled.notify_one();
        Ok(())
    }

    fn is_full(&self, queue: &Queue, bytes: usize) -> bool {
        let over = queue.bytes.saturating_add(bytes) > self.options.queue_bytes_max;
        queue.requests.len() >= self.options.queue_max || (over && !queue.requests.is_empty())
    }

    fn run(&self) {
        while let Some((batches, acknowledgers, bytes)) = self.next_group() {
            let Ok(results) = self.commit(&batches, bytes) else { return };
            for (acknowledge, result) in acknowledgers.into_iter().zip(results) {
                acknowledge(result);
            }
        }
    }

    /// One commit; the queue says already that it is under way. After an error nothing is committed any more.
    fn commit(&self, batches: &[Batch], bytes: usize) -> Result<Vec<Result<(), CommitError>>, StoreError> {
        let began = Instant::now();
        let committed =
            catch_unwind(AssertUnwindSafe(|| self.store.commit(batches))).unwrap_or(Err(StoreError::Panicked));
        match &committed {
            Ok(_) => {
                let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
                let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.counters.last_nanos.store(nanos, Ordering::Relaxed);
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.counters.batches.fetch_add(wide(batches.len()), Ordering::Relaxed);
                self.counters.bytes.fetch_add(wide(bytes), Ordering::Relaxed);
                let mut queue = self.lock();
                queue.busy = false;
                queue.last_group = batches.len();
                if !queue.requests.is_empty() || queue.closed {
                    self.filled.notify_one();
                }
            }
            Err(error) => self.fail(error),
        }
        committed
    }

    fn fail(&self, error: &StoreError) {
        let unanswered = {
            let mut queue = self.lock();
            queue.busy = false;
            queue.closed = true;
            std::mem::take(&mut queue.requests)
        };
        self.close();
        // Acknowledgers are dropped uncalled, so that whoever waits for them learns it.
        drop(unanswered);
        (self.on_fatal)(error);
    }

    /// The next requests to write together; none when the queue is closed and empty.
    fn next_group(&self) -> Option<(Vec<Batch>, Vec<Acknowledge>, usize)> {
        let mut queue = self.lock();
        while queue.requests.is_empty() || queue.busy {
            if queue.closed && !queue.busy {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut batches, mut acknowledgers, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(request) = queue.requests.front() {
            let more = request.batch.len_bytes();
            let over = bytes.saturating_add(more) > self.options.group_bytes_max;
            if batches.len() >= self.options.group_max || (over && !batches.is_empty()) {
                break;
            }
            let Some(request) = queue.requests.pop_front() else { break };
            bytes = bytes.saturating_add(more);
            queue.bytes = queue.bytes.saturating_sub(more);
            batches.push(*request.batch);
            acknowledgers.push(request.acknowledge);
        }
        queue.busy = true;
        self.emptied.notify_all();
        Some((batches, acknowledgers, bytes))
    }
}
