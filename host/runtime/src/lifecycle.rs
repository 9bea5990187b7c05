//! What can be asked of an instance from outside besides messages: to suspend, to resume, to rewind.

use crate::Runtime;
use crate::actor::{Post, answered};
use crate::error::RuntimeError;
use crate::runtime::shortened;
use rehydrate_core::{Answer, Input};
use tokio::sync::oneshot;

impl Runtime {
    /// Suspends an instance: what comes in is recorded, activities go on, and the workflow does not run until it is
    /// resumed.
    pub async fn suspend(&self, id: &str, reason: String) -> Result<Answer, RuntimeError> {
        self.ask(id, Input::Suspend { reason: shortened(reason) }).await
    }

    /// Lets a suspended instance run again, and a paused one try again.
    pub async fn resume(&self, id: &str, reason: String) -> Result<(), RuntimeError> {
        let (key, _) = self.row(id)?;
        let (reply, answer) = oneshot::channel();
        self.instances.post(key, Post::Resume { reason: Some(shortened(reason)), reply });
        answered(answer).await
    }

    /// Lets an instance that has failed go on from before the first failure in it: what failed runs again, in a new
    /// run. Refused if it has not ended, has not failed, or nothing but the workflow itself failed.
    pub async fn rewind(&self, id: &str, reason: String) -> Result<(), RuntimeError> {
        self.instances.admission.admit()?;
        let (key, _) = self.row(id)?;
        let (reply, answer) = oneshot::channel();
        self.instances.post(key, Post::Rewind { reason: shortened(reason), reply });
        answered(answer).await
    }
}
