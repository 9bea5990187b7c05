//! Telling whoever watches an instance that something was committed to it, or how it has ended.
//!
//! An instance that nobody watches has no entry: the entry goes with its last watcher.

use crate::api::InstanceResult;
use rehydrate_core::{InstanceKey, RunNumber};
use rehydrate_store::KeyMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

#[derive(Default)]
struct Watched {
    commits: watch::Sender<u64>,
    ends: watch::Sender<Option<Arc<InstanceResult>>>,
}

impl Watched {
    fn watchers(&self) -> usize {
        self.commits.receiver_count() + self.ends.receiver_count()
    }
}

/// Who watches what.
#[derive(Clone, Default)]
pub struct Watchers(Arc<Mutex<KeyMap<InstanceKey, Watched>>>);

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, KeyMap<InstanceKey, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch for commits.
    pub fn watch(&self, key: InstanceKey) -> Changes {
        let receiver = self.lock().entry(key).or_default().commits.subscribe();
        Changes { receiver: Some(receiver), entry: Entry { key, watchers: self.clone() } }
    }

    /// Begins to watch for the end of a run: who waits for that is not woken by every commit before, and is told
    /// the result.
    pub fn watch_end(&self, key: InstanceKey) -> End {
        let receiver = self.lock().entry(key).or_default().ends.subscribe();
        End { receiver: Some(receiver), entry: Entry { key, watchers: self.clone() } }
    }

    /// Something was committed.
    pub fn notify(&self, key: InstanceKey) {
        if let Some(watched) = self.lock().get(&key) {
            watched.commits.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// A run has ended; how, is asked only if somebody waits for it.
    pub fn notify_end(&self, key: InstanceKey, result: impl FnOnce() -> Option<InstanceResult>) {
        if let Some(watched) = self.lock().get(&key).filter(|watched| watched.ends.receiver_count() > 0) {
            watched.ends.send_replace(result().map(Arc::new));
        }
    }
}

/// One watcher's part in the entry of an instance.
struct Entry {
    key: InstanceKey,
    watchers: Watchers,
}

impl Entry {
    /// The watcher is gone.
    fn leave(&self) {
        let mut watchers = self.watchers.lock();
        if watchers.get(&self.key).is_some_and(|watched| watched.watchers() == 0) {
            watchers.remove(&self.key);
        }
    }
}

/// The commits to one instance, seen from when it began to be watched.
pub struct Changes {
    receiver: Option<watch::Receiver<u64>>,
    entry: Entry,
}

impl Changes {
    /// Completes once something was committed since the last call, or since the watch began.
    pub async fn next(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.receiver = None;
        self.entry.leave();
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("key", &self.entry.key).finish_non_exhaustive()
    }
}

/// The end of a run, seen from when it began to be watched.
pub struct End {
    receiver: Option<watch::Receiver<Option<Arc<InstanceResult>>>>,
    entry: Entry,
}

impl End {
    /// Completes with the result once that run, or one after it, has ended since the watch began.
    pub async fn result(&mut self, from: RunNumber) -> Arc<InstanceResult> {
        let is_meant = |ended: &Option<Arc<InstanceResult>>| ended.as_ref().is_some_and(|result| result.run >= from);
        if let Some(receiver) = &mut self.receiver
            && let Ok(ended) = receiver.wait_for(is_meant).await
            && let Some(result) = ended.as_ref()
        {
            return result.clone();
        }
        std::future::pending().await
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.receiver = None;
        self.entry.leave();
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("key", &self.entry.key).finish_non_exhaustive()
    }
}

/// A run whose end is watched, for [`crate::Runtime::result_of`].
#[derive(Debug)]
pub struct WatchedRun {
    pub(crate) id: String,
    pub(crate) end: End,
    /// The run that began after the watch; none: whichever is there, which may have ended before.
    pub(crate) begun: Option<RunNumber>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use rehydrate_store::InstanceStateTag;

    const KEY: InstanceKey = InstanceKey([1; 16]);

    fn result() -> Option<InstanceResult> {
        let (id, run, state) = ("a".to_owned(), RunNumber::FIRST, InstanceStateTag::Completed);
        Some(InstanceResult { id, run, state, outcome: Some(Ok("1".to_owned())) })
    }

    #[test]
    fn who_waits_for_the_end_is_not_woken_by_a_commit_and_is_told_the_result() {
        let watchers = Watchers::default();
        let (mut commits, mut end) = (watchers.watch(KEY), watchers.watch_end(KEY));
        watchers.notify(KEY);
        assert!(commits.next().now_or_never().is_some() && end.result(RunNumber::FIRST).now_or_never().is_none());
        watchers.notify_end(KEY, result);
        assert_eq!(end.result(RunNumber::FIRST).now_or_never().as_deref(), result().as_ref());
    }

    #[test]
    fn who_waits_for_the_end_of_a_run_is_not_told_of_the_one_before() {
        let watchers = Watchers::default();
        let mut end = watchers.watch_end(KEY);
        watchers.notify_end(KEY, result);
        assert!(end.result(RunNumber(2)).now_or_never().is_none());
        let second = || result().map(|result| InstanceResult { run: RunNumber(2), ..result });
        watchers.notify_end(KEY, second);
        assert_eq!(end.result(RunNumber(2)).now_or_never().as_deref(), second().as_ref());
    }

    #[test]
    fn nothing_is_kept_for_an_instance_that_nobody_watches_any_more() {
        let watchers = Watchers::default();
        let (first, second) = (watchers.watch(KEY), watchers.watch_end(KEY));
        drop(second);
        watchers.notify_end(KEY, || panic!("nobody waits for it"));
        assert_eq!(watchers.lock().len(), 1);
        drop(first);
        assert!(watchers.lock().is_empty());
        watchers.notify(KEY);
    }
}
