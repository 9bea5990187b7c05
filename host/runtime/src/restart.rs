//! Starting again what an instance did: the same workflow with the same input.

use crate::api::{ConflictPolicy, RestartAs, RestartId, ReusePolicy, StartReply, StartRequest};
use crate::catalog::internal;
use crate::error::RuntimeError;
use crate::load;
use crate::runtime::Runtime;
use rehydrate_core::{EventBody, EventId};

impl Runtime {
    /// Starts the workflow of an instance again, with the input of its last run: with the newest version unless one is
    /// named.
    ///
    /// Errors: `instance.not-found`; under the same id `instance.running` if it has not ended; under a chosen one
    /// `instance.exists` or `instance.running` if that is taken; `workflow.not-found` if nothing is deployed that could
    /// run it.
    pub async fn restart(&self, id: &str, restart: RestartAs) -> Result<StartReply, RuntimeError> {
        let (key, row) = self.row(id)?;
        let first = load::event(&*self.instances.store, key, row.run, EventId(1))?;
        let Some(EventBody::InstanceStarted { input, .. }) = first.map(|event| event.body) else {
            // It was purged since its row was read, or its history is damaged.
            self.row(id)?;
            return Err(internal("the history does not begin with InstanceStarted"));
        };
        let (id, reuse) = match restart.id {
            RestartId::Same => (Some(row.id), ReusePolicy::Allow),
            RestartId::New => (None, ReusePolicy::Refuse),
            RestartId::Chosen(id) => (Some(id), ReusePolicy::Refuse),
        };
        self.start(StartRequest {
            workflow: row.workflow,
            version: restart.version,
            id,
            input,
            reuse,
            conflict: ConflictPolicy::Refuse,
            idempotency_key: None,
        })
        .await
    }
}
