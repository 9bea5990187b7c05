//! Schedules: durable objects that start instances at the times of a cron expression.
//!
//! One loop sleeps until the first schedule is to be looked at, takes it, and makes what [`policy`] decides. What a
//! due time leads to is known by an instance's id, which is the schedule's name and the due time: whether it is made
//! before or after a crash, or both, it is the same instance. First the instance is started, then the row says so.
//!
//! A schedule is changed by one at a time: by the loop, or by whoever puts, pauses or triggers it.

mod agenda;
mod fire;
mod policy;
mod requests;
mod timing;

pub use requests::{PutSchedule, ScheduleDetail};

use crate::clock;
use crate::error::RuntimeError;
use crate::runtime::Runtime;
use agenda::Agenda;
use rehydrate_core::{Nanos, Timestamp};
use rehydrate_store::Store;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

/// Schedules looked at at once.
const AT_ONCE_MAX: usize = 64;

/// Locks that all schedules share, each by its name.
const LOCKS: usize = 256;

/// Rows read at once at the start.
const PAGE: usize = 64;

/// The longest sleep: a system clock that was set forward is noticed after that long.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// How long a schedule is left alone that could not be looked at.
const REST: Nanos = Nanos::from_secs(10);

/// What is kept in memory of all schedules.
pub struct Schedules {
    agenda: Mutex<Agenda>,
    wake: Notify,
    hasher: RandomState,
    locks: [tokio::sync::Mutex<()>; LOCKS],
    /// Who waits for instances to end, by schedule.
    waits: Mutex<HashMap<String, AbortHandle>>,
}

impl Schedules {
    /// Reads which schedules there are. All are looked at as soon as the loop runs.
    pub fn open(store: &dyn Store) -> Result<Schedules, RuntimeError> {
        let mut agenda = Agenda::default();
        let now = clock::now();
        let mut after: Option<String> = None;
        loop {
            let rows = store.schedules(after.as_deref(), PAGE)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.name.clone());
            for row in &rows {
                agenda.add(&row.name);
                agenda.set(&row.name, Some(now));
            }
        }
        Ok(Schedules {
            agenda: Mutex::new(agenda),
            wake: Notify::new(),
            hasher: RandomState::new(),
            locks: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            waits: Mutex::default(),
        })
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the right to change a schedule.
    async fn lock(&self, name: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let hash = usize::try_from(self.hasher.hash_one(name)).unwrap_or_default();
        self.locks[hash % LOCKS].lock().await
    }

    /// Something changed: looks at a schedule now.
    fn look_now(&self, name: &str) {
        self.look(name, Some(clock::now()));
    }

    /// Looks at a schedule then. The loop is woken, as it may be asleep for longer.
    fn look(&self, name: &str, at: Option<Timestamp>) {
        self.agenda().set(name, at);
        self.wake.notify_one();
    }

    fn waits(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for nothing any more.
    pub fn stop(&self) {
        self.waits().drain().for_each(|(_, wait)| wait.abort());
    }
}

/// Runs until the host ends.
pub async fn run(runtime: Runtime) {
    let schedules = runtime.schedules().clone();
    let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
    // Looks under way end with the loop.
    let mut looks = JoinSet::new();
    loop {
        while let Ok(place) = places.clone().acquire_owned().await {
            let Some(name) = schedules.agenda().take(clock::now()) else { break };
            let runtime = runtime.clone();
            looks.spawn(async move {
                fire::look_at(&runtime, &name).await;
                drop(place);
            });
        }
        while looks.try_join_next().is_some() {}
        let first = schedules.agenda().first();
        let sleep = first.map_or(SLEEP_MAX, |at| clock::until(at).min(SLEEP_MAX));
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = schedules.wake.notified() => {}
        }
    }
}
