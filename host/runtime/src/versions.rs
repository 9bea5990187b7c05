//! Who runs what: a deployment with the instances that are pinned to it.

use crate::catalog::blocking;
use crate::error::RuntimeError;
use crate::runtime::Runtime;
use rehydrate_store::{DeploymentRow, InstanceStateTag, ListQuery, Store};
use std::collections::BTreeMap;

/// Rows looked at with one look into the store.
const PIECE: usize = 10_000;

/// Ended instances looked at, newest first; there may be any number of them.
const ENDED_MAX: usize = 100_000;

/// A deployment with its instances.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeploymentDetail {
    /// The deployment.
    pub deployment: DeploymentRow,
    /// How many instances are pinned to it, by state; states without any are left out.
    pub instances: BTreeMap<InstanceStateTag, u64>,
    /// Whether all that have ended were counted. Open ones always are.
    pub counted_all: bool,
}

impl Runtime {
    /// A deployment, with the number of instances that are pinned to it by state: the open ones exactly, those that
    /// have ended among the newest 100,000.
    ///
    /// Errors: `component.not-found`.
    pub async fn deployment(&self, name: &str, version: &str) -> Result<DeploymentDetail, RuntimeError> {
        let deployment = self.instances.catalog.deployment(name, version)?;
        let (store, of) = (self.instances.store.clone(), deployment.clone());
        blocking(move || {
            let (mut instances, _) = count(&*store, &of, |state| !state.is_closed(), usize::MAX)?;
            let (ended, counted_all) = count(&*store, &of, InstanceStateTag::is_closed, ENDED_MAX)?;
            instances.extend(ended);
            Ok(DeploymentDetail { deployment: of, instances, counted_all })
        })
        .await?
    }

    /// Removes a deployment: nothing is started with it any more, and the component's bytes go too if no other
    /// deployment has the same. Instances of it that have ended can still be described. Activities of a component that
    /// is removed are not found any more.
    ///
    /// Errors: `component.not-found`; `component.in-use` while an open instance is pinned to it; `component.busy`.
    pub async fn remove_deployment(&self, name: &str, version: &str) -> Result<DeploymentRow, RuntimeError> {
        self.instances.catalog.remove(name, version).await
    }
}

type Counts = BTreeMap<InstanceStateTag, u64>;

/// How many instances of a deployment are in each of these states, and whether all rows were looked at.
fn count(
    store: &dyn Store,
    of: &DeploymentRow,
    wanted: impl Fn(InstanceStateTag) -> bool,
    looked_max: usize,
) -> Result<(Counts, bool), RuntimeError> {
    let mut query = ListQuery {
        states: InstanceStateTag::ALL.into_iter().filter(|state| wanted(*state)).collect(),
        workflow: Some(of.name.clone()),
        version: Some(of.version.clone()),
        limit: PIECE,
        scan_max: PIECE,
        ..ListQuery::default()
    };
    let (mut counts, mut looked) = (Counts::new(), 0_usize);
    loop {
        let page = store.list(&query)?;
        page.rows.iter().for_each(|row| *counts.entry(row.state).or_default() += 1);
        looked = looked.saturating_add(PIECE);
        query.after = page.next;
        if query.after.is_none() {
            return Ok((counts, true));
        }
        if looked >= looked_max {
            return Ok((counts, false));
        }
    }
}
