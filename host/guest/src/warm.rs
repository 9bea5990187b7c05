//! Instances of activity components that wait for their next attempt.
//!
//! An activity is ordinary code whose effects lie outside, so an attempt may find its component as the one before
//! left it, as in a process of any worker: to make a new instance costs several times what a small activity
//! does. A workflow, whose replay must begin from nothing, never gets a used one. An instance that trapped, was
//! interrupted, or has grown is not used again.

use crate::activity::{ActivityLog, ActivityRequest, ActivityState, store};
use crate::bindings::activity::Activity;
use crate::component::ActivityComponent;
use crate::{ActivityHost, convert};
use rehydrate_core::{Json, Outcome};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;

/// Instances that wait, of all components together, and of one.
pub(crate) const IDLE_MAX: usize = 256;
const IDLE_OF_ONE_MAX: usize = 32;

/// Attempts that one instance runs at most, so that what it leaks stays small.
const USES_MAX: u32 = 10_000;

/// Bytes of memory, and handles, beyond which an instance is not kept.
const KEPT_MEMORY_BYTES: usize = 8 << 20;
const KEPT_HANDLES: usize = 64;

/// The places for waiting instances that all components share.
#[derive(Clone)]
pub(crate) struct IdlePlaces(Arc<Semaphore>);

impl Default for IdlePlaces {
    fn default() -> Self {
        IdlePlaces(Arc::new(Semaphore::new(IDLE_MAX)))
    }
}

/// An instance of an activity component.
pub(crate) struct Instance {
    store: Store<ActivityState>,
    bindings: Activity,
    uses: u32,
}

impl Instance {
    /// The one of the component's that waits the shortest, or a new one, for this attempt.
    pub(crate) async fn take(
        component: &ActivityComponent,
        host: &ActivityHost,
        request: ActivityRequest,
        log: &ActivityLog,
    ) -> wasmtime::Result<Box<Instance>> {
        if let Some(mut instance) = component.idle().pop() {
            instance.store.data_mut().begin(request, log);
            return Ok(instance);
        }
        let mut store = store(component, host);
        // An instance may ask who it runs for as soon as it is made.
        store.data_mut().begin(request, log);
        // Boxed, as it is rare: the future of an attempt is to stay small.
        let bindings = Box::pin(component.instantiate(&mut store)).await?;
        Ok(Box::new(Instance { store, bindings, uses: 0 }))
    }

    /// Runs the attempt that it was taken for.
    pub(crate) async fn call(&mut self, name: &str, input: &Json) -> wasmtime::Result<Outcome> {
        self.uses += 1;
        // The clock of epochs went on while it waited.
        self.store.set_epoch_deadline(1);
        let outcome = self.bindings.call_run(&mut self.store, name, input).await?;
        Ok(outcome.map_err(convert::failure_from_guest))
    }
}

/// The waiting instances of one component.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Vec<(Box<Instance>, OwnedSemaphorePermit)>>);

impl Idle {
    fn pop(&self) -> Option<Box<Instance>> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        waiting.map(|(instance, _place)| instance)
    }

    /// Keeps an instance that has returned, if it is fit for another attempt and there is a place.
    pub(crate) fn give_back(&self, mut instance: Box<Instance>, places: &IdlePlaces) {
        let (memory_bytes, handles) = instance.store.data_mut().end();
        if instance.uses >= USES_MAX || memory_bytes > KEPT_MEMORY_BYTES || handles > KEPT_HANDLES {
            return;
        }
        let Ok(place) = places.0.clone().try_acquire_owned() else { return };
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < IDLE_OF_ONE_MAX {
            waiting.push((instance, place));
        }
    }
}
