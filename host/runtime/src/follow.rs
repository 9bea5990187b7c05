//! Telling whoever watches an instance that something was committed to it, or that it has ended.
//!
//! An instance that nobody watches has no entry: the entry goes with its last watcher.

use rehydrate_core::InstanceKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How often something happened that is watched for.
type Count = watch::Sender<u64>;

#[derive(Default)]
struct Watched {
    commits: Count,
    ends: Count,
}

impl Watched {
    fn watchers(&self) -> usize {
        self.commits.receiver_count() + self.ends.receiver_count()
    }
}

/// Who watches what.
#[derive(Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<InstanceKey, Watched>>>);

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceKey, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch for commits.
    pub fn watch(&self, key: InstanceKey) -> Changes {
        self.begin(key, |watched| &watched.commits)
    }

    /// Begins to watch for the end of a run: who waits for that is not woken by every commit before.
    pub fn watch_end(&self, key: InstanceKey) -> Changes {
        self.begin(key, |watched| &watched.ends)
    }

    fn begin(&self, key: InstanceKey, of: impl FnOnce(&Watched) -> &Count) -> Changes {
        let receiver = of(self.lock().entry(key).or_default()).subscribe();
        Changes { receiver: Some(receiver), key, watchers: self.clone() }
    }

    /// Something was committed; `ended`: it closed the run.
    pub fn notify(&self, key: InstanceKey, ended: bool) {
        let watchers = self.lock();
        let Some(watched) = watchers.get(&key) else { return };
        watched.commits.send_modify(|count| *count = count.wrapping_add(1));
        if ended {
            watched.ends.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// The commits to one instance, or its ends, seen from when it began to be watched.
pub struct Changes {
    receiver: Option<watch::Receiver<u64>>,
    key: InstanceKey,
    watchers: Watchers,
}

impl Changes {
    /// Completes once it has happened since the last call, or since the watch began.
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
        let mut watchers = self.watchers.lock();
        self.receiver = None;
        if watchers.get(&self.key).is_some_and(|watched| watched.watchers() == 0) {
            watchers.remove(&self.key);
        }
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const KEY: InstanceKey = InstanceKey([1; 16]);

    #[test]
    fn who_waits_for_the_end_is_not_woken_by_a_commit() {
        let watchers = Watchers::default();
        let (mut commits, mut ends) = (watchers.watch(KEY), watchers.watch_end(KEY));
        watchers.notify(KEY, false);
        assert!(commits.next().now_or_never().is_some() && ends.next().now_or_never().is_none());
        watchers.notify(KEY, true);
        assert!(commits.next().now_or_never().is_some() && ends.next().now_or_never().is_some());
    }

    #[test]
    fn nothing_is_kept_for_an_instance_that_nobody_watches_any_more() {
        let watchers = Watchers::default();
        let (first, second) = (watchers.watch(KEY), watchers.watch_end(KEY));
        drop(first);
        assert_eq!(watchers.lock().len(), 1);
        drop(second);
        assert!(watchers.lock().is_empty());
        watchers.notify(KEY, true);
    }
}
