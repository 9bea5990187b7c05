//! The way to the commit thread from async code: a bounded number of requests under way, an answer each.

use crate::error::{ErrorKind, RuntimeError};
use rehydrate_store::{Batch, CommitError, CommitHere, Committer, CommitterOptions, CommitterStats, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Requests that may be under way: as many as the commit thread's queue takes, so that handing one over
/// does not block.
const UNDER_WAY_MAX: usize = 4096;

/// Commits on an async thread between which it does nothing else.
const BLOCKED_IN_A_ROW_MAX: u32 = 32;

/// A commit that takes longer lets others take turns meanwhile.
const SLOW: Duration = Duration::from_millis(4);

/// Commits batches.
pub struct Commits {
    committer: Committer,
    under_way: Semaphore,
    /// Commits made where the batch was.
    here: AtomicU32,
}

/// The commit thread has stopped: the outcome is unknown, nothing may be told to anybody.
fn stopped() -> RuntimeError {
    let message = "the host is shutting down, or its store has failed; try again once it is back";
    RuntimeError::new(ErrorKind::Unavailable, "store.stopped", message)
}

impl Commits {
    /// Starts the commit thread. `on_fatal` is called when the store fails: the process should end.
    pub fn start(store: Arc<dyn Store>, on_fatal: Arc<dyn Fn(String) + Send + Sync>) -> std::io::Result<Commits> {
        let on_fatal = Box::new(move |error: &rehydrate_store::StoreError| on_fatal(error.to_string()));
        // The requests under way are bounded here; the queue must take them without blocking a thread.
        let options = CommitterOptions { queue_bytes_max: usize::MAX, ..CommitterOptions::new(on_fatal) };
        let committer = Committer::start(store, options)?;
        Ok(Commits { committer, under_way: Semaphore::new(UNDER_WAY_MAX), here: AtomicU32::new(0) })
    }

    /// Commits one batch; returns once it is durable, or refused. `alone`: nobody else has anything to do, so this
    /// thread may be blocked for the length of a sync.
    pub async fn commit(&self, batch: Box<Batch>, alone: bool) -> Result<Result<(), CommitError>, RuntimeError> {
        match if alone { self.committer.commit_here(&batch) } else { CommitHere::Busy } {
            CommitHere::Busy => {}
            CommitHere::Failed => return Err(stopped()),
            CommitHere::Committed(result) => {
                // Whether somebody has come meanwhile, or waits for this very thread, is seen at the latest after some
                // syncs, and at once when the disk is slow.
                let many = self.here.fetch_add(1, Ordering::Relaxed).is_multiple_of(BLOCKED_IN_A_ROW_MAX);
                if many || self.is_slow() {
                    tokio::task::yield_now().await;
                }
                return Ok(result);
            }
        }
        let _permit = self.under_way.acquire().await.map_err(|_| stopped())?;
        let (tell, told) = oneshot::channel();
        let acknowledge = Box::new(move |result| drop(tell.send(result)));
        if self.committer.submit(batch, acknowledge).is_err() {
            return Err(stopped());
        }
        told.await.map_err(|_| stopped())
    }

    /// Whether the disk lets one wait.
    pub fn is_slow(&self) -> bool {
        self.committer.stats().last > SLOW
    }

    /// What the commit thread has done.
    pub fn stats(&self) -> CommitterStats {
        self.committer.stats()
    }

    /// Commits what is in the queue and stops.
    pub fn stop(&self) {
        self.committer.stop();
    }
}
