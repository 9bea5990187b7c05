//! Whether the host takes new work: not while it shuts down, and not while its disk is nearly full.

use crate::api::Readiness;
use crate::error::{ErrorKind, RuntimeError};
use rehydrate_store::{Store, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the free space of the disk is taken to be what it was. What the host can write meanwhile is a small
/// part of what is kept free.
const FREE_AGE_MAX: Duration = Duration::from_millis(50);

/// Guards new work.
pub struct Admission {
    store: Arc<dyn Store>,
    free_bytes_min: u64,
    draining: AtomicBool,
    free: Mutex<Option<(Instant, u64)>>,
}

impl Admission {
    /// With this much of the data disk to be kept free.
    pub fn new(store: Arc<dyn Store>, free_bytes_min: u64) -> Admission {
        Admission { store, free_bytes_min, draining: AtomicBool::new(false), free: Mutex::default() }
    }

    /// Takes no new work from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether the host is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Refuses work that begins something new.
    pub fn admit(&self) -> Result<(), RuntimeError> {
        self.admit_above(self.free_bytes_min)
    }

    /// Refuses work that ends something: it may use most of what is kept free, as it is what helps.
    pub fn admit_completion(&self) -> Result<(), RuntimeError> {
        self.admit_above(self.free_bytes_min / 4)
    }

    fn admit_above(&self, min: u64) -> Result<(), RuntimeError> {
        match self.refusal(min) {
            None => Ok(()),
            Some((code, message)) => Err(RuntimeError::new(ErrorKind::Unavailable, code, message)),
        }
    }

    fn refusal(&self, min: u64) -> Option<(&'static str, String)> {
        if self.is_draining() {
            return Some(("host.draining", "the host is shutting down; try again once it is back".to_owned()));
        }
        match self.free_bytes() {
            Ok(Some(free)) if free < min => {
                let message = format!(
                    "the data disk has {free} bytes free, fewer than the {min} that `runtime.free-mb-min` keeps free; free some space"
                );
                Some(("host.disk-full", message))
            }
            Ok(_) => None,
            Err(error) => {
                Some(("host.disk-unknown", format!("the free space of the data disk can't be read: {error}")))
            }
        }
    }

    /// Free bytes of the data disk, looked up now or a moment ago: it takes longer than many a request.
    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = free.filter(|(at, _)| at.elapsed() < FREE_AGE_MAX) {
            return Ok(Some(bytes));
        }
        let bytes = self.store.free_bytes()?;
        *free = bytes.map(|bytes| (Instant::now(), bytes));
        Ok(bytes)
    }

    /// For the readiness probe.
    pub fn readiness(&self) -> Readiness {
        let reason = self.refusal(self.free_bytes_min).map(|(_, message)| message);
        Readiness { ready: reason.is_none(), reason }
    }
}
