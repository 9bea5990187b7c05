//! Telling whoever watches an instance that something was committed to it.

use rehydrate_core::InstanceKey;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Who watches what.
#[derive(Default)]
pub struct Watchers {
    by_key: Mutex<HashMap<InstanceKey, watch::Sender<u64>>>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceKey, watch::Sender<u64>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch.
    pub fn watch(&self, key: InstanceKey) -> Changes {
        let mut by_key = self.lock();
        by_key.retain(|_, sender| sender.receiver_count() > 0);
        let sender = by_key.entry(key).or_insert_with(|| watch::channel(0).0);
        Changes { receiver: sender.subscribe() }
    }

    /// Something was committed.
    pub fn notify(&self, key: InstanceKey) {
        let mut by_key = self.lock();
        let Some(sender) = by_key.get(&key) else { return };
        if sender.receiver_count() == 0 {
            by_key.remove(&key);
            return;
        }
        sender.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// The commits to one instance, seen from when it began to be watched.
#[derive(Debug)]
pub struct Changes {
    receiver: watch::Receiver<u64>,
}

impl Changes {
    /// Completes once something was committed since the last call, or since the watch began.
    pub async fn next(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
