//! Purging instances: one by its id, or all that a query names, piece by piece.

use crate::actor::{Instances, Post, PurgePlan, answered};
use crate::catalog::{blocking, internal};
use crate::error::{ErrorKind, RuntimeError};
use crate::identity;
use crate::runtime::Runtime;
use rehydrate_store::{InstanceRow, InstanceStateTag, ListQuery};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

/// Instances looked at for one piece, and those purged at once: they share their syncs.
const PIECE: usize = 1_000;
const AT_ONCE: usize = 64;

impl Runtime {
    /// Drops an instance that has ended, with all its runs and their logs, durably. Its id is then as if it had
    /// never been used: a new start gives run 1. What still names it answers that it is gone: callbacks of its runs,
    /// and the idempotency keys of its starts, which start nothing again.
    ///
    /// Errors: `instance.not-found`; `instance.running` if it has not ended.
    pub async fn purge(&self, id: &str) -> Result<(), RuntimeError> {
        let (key, _) = self.row(id)?;
        let (reply, answer) = oneshot::channel();
        self.instances.post(key, Post::Purge(PurgePlan::Instance, reply));
        answered(answer).await.map_err(|error| named(error, id))
    }

    /// Purges all instances that meet the conditions of a query and have ended, in pieces; says how many. Those that
    /// are started again meanwhile stay. If the caller gives up, what was purged by then is purged, and the same call
    /// goes on with the rest. `limit`, `scan_max` and `after` of the query count for nothing.
    ///
    /// Errors: `purge.no-filter` if the query has no condition; `purge.open-state` if it names a state that is none of
    /// an end.
    pub async fn purge_where(&self, query: ListQuery) -> Result<usize, RuntimeError> {
        let mut query = of_ended(query)?;
        let mut purged = 0;
        loop {
            let store = self.instances.store.clone();
            let of_piece = query.clone();
            let page = blocking(move || store.list(&of_piece)).await??;
            let mut under_way = JoinSet::new();
            for row in page.rows {
                if under_way.len() >= AT_ONCE {
                    purged += done(under_way.join_next().await)?;
                }
                let instances = self.instances.clone();
                under_way.spawn(async move { purge_row(&instances, &row).await });
            }
            while let Some(result) = under_way.join_next().await {
                purged += done(Some(result))?;
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(purged);
            }
        }
    }
}

/// Purges an instance if it is still at the end that the row tells; false if it is not.
pub async fn purge_row(instances: &Arc<Instances>, row: &InstanceRow) -> Result<bool, RuntimeError> {
    let (reply, answer) = oneshot::channel();
    let plan = PurgePlan::Seen(row.run, row.created);
    instances.post(identity::instance_key(&row.id), Post::Purge(plan, reply));
    match answered(answer).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Conflict) => Ok(false),
        Err(error) => Err(error),
    }
}

fn done(result: Option<Result<Result<bool, RuntimeError>, JoinError>>) -> Result<usize, RuntimeError> {
    match result {
        Some(Ok(purged)) => purged.map(usize::from),
        Some(Err(error)) => Err(internal(&format!("a purge failed: {error}"))),
        None => Ok(0),
    }
}

/// The query, for those that have ended only, in pieces.
fn of_ended(query: ListQuery) -> Result<ListQuery, RuntimeError> {
    let invalid = |code, message: &str| Err(RuntimeError::new(ErrorKind::Invalid, code, message));
    let has_condition = !query.states.is_empty()
        || query.workflow.is_some()
        || query.version.is_some()
        || query.digest.is_some()
        || query.id_prefix.is_some()
        || query.created_from.is_some()
        || query.created_to.is_some();
    if !has_condition {
        return invalid(
            "purge.no-filter",
            "a purge without any condition would drop every instance that has ended; name states, a workflow, a version, \
             times or how ids begin",
        );
    }
    if query.states.iter().any(|state| !state.is_closed()) {
        return invalid(
            "purge.open-state",
            "only instances that have ended can be purged; name completed, failed, cancelled or terminated",
        );
    }
    let ended = InstanceStateTag::ALL.into_iter().filter(|state| state.is_closed());
    let states = if query.states.is_empty() { ended.collect() } else { query.states };
    Ok(ListQuery { states, limit: PIECE, scan_max: PIECE * 10, after: None, ..query })
}

/// The same error, naming the instance: its actor knows its key only.
fn named(error: RuntimeError, id: &str) -> RuntimeError {
    if error.kind == ErrorKind::NotFound { RuntimeError::no_instance(id) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_needs_a_condition_and_never_names_what_is_open() {
        let code = |query: ListQuery| of_ended(query).map(|query| query.states.len()).map_err(|error| error.code);
        assert_eq!(code(ListQuery::default()), Err("purge.no-filter"));
        let states = vec![InstanceStateTag::Failed, InstanceStateTag::Running];
        assert_eq!(code(ListQuery { states, ..ListQuery::default() }), Err("purge.open-state"));
        assert_eq!(code(ListQuery { workflow: Some("w".to_owned()), ..ListQuery::default() }), Ok(4));
        assert_eq!(code(ListQuery { states: vec![InstanceStateTag::Failed], ..ListQuery::default() }), Ok(1));
    }
}
