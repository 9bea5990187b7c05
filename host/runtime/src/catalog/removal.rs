//! Removing a deployment, and keeping it as long as somebody is about to be pinned to it.
//!
//! Between finding a deployment and the commit that pins an instance to it, nothing in the store says that it is
//! needed. So whoever finds one takes a pin with it. A removal looks for pinned instances, and goes through only if
//! nobody held or took a pin meanwhile; else it looks again.

use super::{Catalog, blocking};
use crate::error::{ErrorKind, RuntimeError};
use rehydrate_core::Digest;
use rehydrate_store::{ComponentKind, DeploymentRow, InstanceStateTag, ListQuery, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often, and how far apart, a removal looks again because instances are being started.
const TRIES_MAX: usize = 400;
const REST: Duration = Duration::from_millis(5);

/// Rows looked at with one look into the store.
const PIECE: usize = 10_000;

/// Pins on one component.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Held {
    /// Held now.
    now: usize,
    /// Taken since the host started.
    taken: u64,
}

/// All pins.
#[derive(Default)]
pub struct Pins(Mutex<HashMap<Digest, Held>>);

impl Pins {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a component from being removed until it is dropped. It goes with the post that pins an instance: whoever
/// asked may be gone before that is taken.
pub struct ComponentPin {
    pins: Arc<Pins>,
    digest: Digest,
}

impl std::fmt::Debug for ComponentPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ComponentPin").field(&self.digest).finish()
    }
}

impl Drop for ComponentPin {
    fn drop(&mut self) {
        if let Some(held) = self.pins.lock().get_mut(&self.digest) {
            held.now = held.now.saturating_sub(1);
        }
    }
}

/// Open instances that are pinned to a component.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Pinned {
    /// By the deployment in question.
    here: usize,
    /// By another deployment of the same bytes.
    elsewhere: usize,
}

impl Catalog {
    /// The deployment of a workflow, that version or the newest, which stays at least as long as the pin.
    pub fn pinned_workflow(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(DeploymentRow, ComponentPin), RuntimeError> {
        // Under the lock of the pins, as a removal's last step is.
        let mut pins = self.pins.lock();
        let row = self.workflow(name, version)?;
        let held = pins.entry(row.digest).or_default();
        held.now += 1;
        held.taken += 1;
        let digest = row.digest;
        Ok((row, ComponentPin { pins: self.pins.clone(), digest }))
    }

    /// Removes a deployment, durably, and the component's bytes with it if nothing else needs them.
    ///
    /// Errors: `component.not-found`; `component.in-use` while an open instance is pinned to it; `component.busy` if
    /// instances were started with it all the time.
    pub async fn remove(&self, name: &str, version: &str) -> Result<DeploymentRow, RuntimeError> {
        let _alone = self.changing.lock().await;
        let row = self.deployment(name, version)?;
        for _ in 0..TRIES_MAX {
            let before = self.pins.lock().get(&row.digest).copied().unwrap_or_default();
            if before.now == 0 {
                let (store, of) = (self.store.clone(), row.clone());
                let pinned = blocking(move || pinned(&*store, &of)).await??;
                if pinned.here > 0 {
                    return Err(in_use(&row, pinned.here));
                }
                if self.unbind(&row, before) {
                    self.drop_bytes(&row, pinned.elsewhere == 0).await?;
                    return Ok(row);
                }
            }
            tokio::time::sleep(REST).await;
        }
        let message = format!("instances of {name}@{version} are being started all the time; try again in a moment");
        Err(RuntimeError::new(ErrorKind::Conflict, "component.busy", message))
    }

    /// A deployment that must be there.
    pub fn deployment(&self, name: &str, version: &str) -> Result<DeploymentRow, RuntimeError> {
        self.find(name, version).ok_or_else(|| {
            let message = format!("{name}@{version} is not deployed; see what is with `rehydrate component list`");
            RuntimeError::new(ErrorKind::NotFound, "component.not-found", message)
        })
    }

    /// From now on nobody finds it, unless a pin was taken since it was looked for instances.
    fn unbind(&self, row: &DeploymentRow, before: Held) -> bool {
        let mut pins = self.pins.lock();
        if pins.get(&row.digest).copied().unwrap_or_default() != before {
            return false;
        }
        pins.remove(&row.digest);
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.retain(|other| other.name != row.name || other.version != row.version);
        true
    }

    async fn drop_bytes(&self, row: &DeploymentRow, unneeded: bool) -> Result<(), RuntimeError> {
        let unneeded = unneeded && self.rows().iter().all(|other| other.digest != row.digest);
        let (store, of) = (self.store.clone(), row.clone());
        let drop_blob = unneeded.then_some(row.digest);
        blocking(move || store.remove_deployment(&of.name, &of.version, drop_blob)).await??;
        if unneeded {
            self.loaded.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.digest);
            self.forget_compiled(row.digest).await;
        }
        Ok(())
    }

    /// Drops the compiled code of a component that is not deployed.
    pub(super) async fn forget_compiled(&self, digest: Digest) {
        let engine = self.engine.clone();
        if let Ok(Err(error)) = blocking(move || engine.forget(digest)).await {
            tracing::warn!(%digest, %error, "the compiled code of a component could not be removed; it only takes room");
        }
    }
}

/// The open instances that are pinned to a deployment's component.
fn pinned(store: &dyn Store, row: &DeploymentRow) -> Result<Pinned, RuntimeError> {
    let mut pinned = Pinned::default();
    if row.kind == ComponentKind::Activity {
        return Ok(pinned);
    }
    let mut query = ListQuery {
        states: InstanceStateTag::ALL.into_iter().filter(|state| !state.is_closed()).collect(),
        digest: Some(row.digest),
        limit: PIECE,
        scan_max: PIECE,
        ..ListQuery::default()
    };
    loop {
        let page = store.list(&query)?;
        let here = page.rows.iter().filter(|one| one.workflow == row.name && one.version == row.version).count();
        pinned.here += here;
        pinned.elsewhere += page.rows.len() - here;
        query.after = page.next;
        if query.after.is_none() {
            return Ok(pinned);
        }
    }
}

fn in_use(row: &DeploymentRow, count: usize) -> RuntimeError {
    let DeploymentRow { name, version, .. } = row;
    let message = format!(
        "{count} open instances are pinned to {name}@{version}: list them with `rehydrate instance list --workflow {name} \
         --version {version} --state running,paused`, and migrate or terminate them, or wait for their end"
    );
    RuntimeError::new(ErrorKind::Conflict, "component.in-use", message)
}
