//! The timer loop: one task that sleeps until the first row is due and hands due rows to their instances.
//!
//! Nothing is kept in memory for a timer that is not due; a hundred thousand of them cost a look at the
//! first. A row that was handed over stays in the store until its instance's turn drops it, so none is
//! lost; those under way are remembered, and those dropped while the loop reads, so none is handed over twice.

use crate::actor::Instances;
use crate::clock;
use rehydrate_core::{EventId, InstanceKey, RunNumber, TimerPurpose, Timestamp};
use rehydrate_store::{Store, TimerRow};
use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Rows under way at most: the rest waits in the store.
const UNDER_WAY_MAX: usize = 4096;

/// Rows read at once.
const PAGE: usize = 512;

/// The longest sleep: a system clock that was set forward is noticed after that long.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What other tasks tell the loop.
pub struct TimerSignals {
    wake: Notify,
    /// When the loop wakes by itself, or what it must look back to.
    wakes_at: AtomicI64,
    /// The earliest row that was put since the loop last looked.
    earliest_put: AtomicI64,
    handed_over: Mutex<HandedOver>,
}

#[derive(Default)]
struct HandedOver {
    /// Rows that their instances have not taken care of yet.
    under_way: HashSet<TimerRow>,
    /// Rows that were dropped since the loop began to read: it may have read them before. None while it does not read.
    dropped: Option<HashSet<TimerRow>>,
}

impl Default for TimerSignals {
    fn default() -> Self {
        TimerSignals {
            wake: Notify::new(),
            wakes_at: AtomicI64::new(i64::MAX),
            earliest_put: AtomicI64::new(i64::MIN),
            handed_over: Mutex::default(),
        }
    }
}

impl TimerSignals {
    fn handed_over(&self) -> MutexGuard<'_, HandedOver> {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A row due then was committed.
    pub fn put(&self, due: Timestamp) {
        self.earliest_put.fetch_min(due.0, Ordering::SeqCst);
        if due.0 <= self.wakes_at.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// A row was taken care of. It may still be there, if it was early: then it is looked at again.
    pub fn done(&self, row: &TimerRow, dropped: bool) {
        let was_full = {
            let mut handed_over = self.handed_over();
            let was_full = handed_over.under_way.len() >= UNDER_WAY_MAX;
            handed_over.under_way.remove(row);
            if dropped && let Some(since) = &mut handed_over.dropped {
                since.insert(*row);
            }
            was_full
        };
        if !dropped {
            self.earliest_put.fetch_min(row.due.0, Ordering::SeqCst);
        }
        if was_full || !dropped {
            self.wake.notify_one();
        }
    }

    /// Rows are read from now on, or no more.
    fn reads(&self, reads: bool) {
        self.handed_over().dropped = reads.then(HashSet::new);
    }

    /// Whether a row that was read is to be handed over: it is not under way and still there.
    fn begin(&self, row: TimerRow) -> bool {
        let mut handed_over = self.handed_over();
        let is_gone = handed_over.dropped.as_ref().is_some_and(|dropped| dropped.contains(&row));
        !is_gone && handed_over.under_way.insert(row)
    }

    fn room(&self) -> usize {
        UNDER_WAY_MAX.saturating_sub(self.handed_over().under_way.len())
    }

    fn earliest_under_way(&self) -> Option<Timestamp> {
        self.handed_over().under_way.iter().map(|row| row.due).min()
    }
}

/// The last row that could be due just before `floor`: where a scan begins.
fn before(floor: Timestamp) -> TimerRow {
    TimerRow {
        due: Timestamp(floor.0.saturating_sub(1)),
        key: InstanceKey([0xff; 16]),
        run: RunNumber(u32::MAX),
        op: EventId(u64::MAX),
        purpose: TimerPurpose::CallbackExpiry,
    }
}

/// Runs until the host ends.
pub async fn run(store: Arc<dyn Store>, instances: Arc<Instances>, signals: Arc<TimerSignals>) {
    // Nothing before this point is left in the store, save what is under way.
    let mut floor = Timestamp(i64::MIN);
    loop {
        signals.wakes_at.store(i64::MAX, Ordering::SeqCst);
        let put = Timestamp(signals.earliest_put.swap(i64::MAX, Ordering::SeqCst));
        floor = floor.min(put);
        let pass = tokio::task::block_in_place(|| hand_over(&*store, &instances, &signals, floor));
        signals.reads(false);
        let sleep = match pass {
            Ok(pass) => {
                floor = signals.earliest_under_way().map_or(pass.scanned, |due| due.min(pass.scanned));
                signals.wakes_at.store(pass.next.0, Ordering::SeqCst);
                clock::until(pass.next).min(SLEEP_MAX)
            }
            Err(error) => {
                tracing::error!(%error, "the timer loop could not read the store");
                Duration::from_secs(1)
            }
        };
        // A row put while the scan ran may have missed `wakes_at`.
        if signals.earliest_put.load(Ordering::SeqCst) < signals.wakes_at.load(Ordering::SeqCst) {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = signals.wake.notified() => {}
        }
    }
}

struct Pass {
    /// Everything due up to here was handed over.
    scanned: Timestamp,
    /// When the next row is due.
    next: Timestamp,
}

fn hand_over(
    store: &dyn Store,
    instances: &Arc<Instances>,
    signals: &TimerSignals,
    floor: Timestamp,
) -> Result<Pass, rehydrate_store::StoreError> {
    let now = clock::now();
    let mut after = before(floor);
    loop {
        let room = signals.room();
        if room == 0 {
            // `done` wakes the loop as soon as there is room again.
            return Ok(Pass { scanned: after.due, next: Timestamp::MAX });
        }
        signals.reads(true);
        let rows = store.due_timers(now, Some(&after), PAGE)?;
        let Some(last) = rows.last().copied() else { break };
        for row in &rows {
            if signals.begin(*row) {
                instances.timer_due(*row);
            }
        }
        after = last;
    }
    let next = store.next_due(Some(&after))?.unwrap_or(Timestamp::MAX);
    Ok(Pass { scanned: now.min(next), next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_handed_over_once_even_if_it_was_read_just_before_it_was_dropped() {
        let signals = TimerSignals::default();
        let (row, early) = (before(Timestamp(5)), before(Timestamp(7)));
        signals.reads(true);
        assert!(signals.begin(row) && signals.begin(early));
        assert!(!signals.begin(row), "it is under way");
        signals.done(&row, true);
        signals.done(&early, false);
        assert!(!signals.begin(row), "it is gone, whatever was read before");
        assert!(signals.begin(early), "it is still there");
        signals.reads(true);
        assert!(signals.begin(row), "what is read from now on is there");
    }
}
