//! A component that might be deployed: compiled and checked like one that is, but not kept.

use super::{Catalog, Component};
use crate::error::{ErrorKind, RuntimeError};
use bytes::Bytes;
use rehydrate_core::Digest;
use rehydrate_guest::{GuestEngine, WorkflowComponent};

/// A workflow that might be deployed.
pub struct Candidate {
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// It, compiled.
    pub workflow: WorkflowComponent,
}

impl Catalog {
    /// Compiles what might be deployed under that name and version. Its compiled code is in the cache until
    /// [`Catalog::forget`].
    pub async fn candidate(&self, name: &str, version: &str, bytes: Bytes) -> Result<Candidate, RuntimeError> {
        self.check(name, version, &bytes)?;
        let digest = GuestEngine::digest(&bytes);
        if let Some(row) = self.find(name, version)
            && row.digest != digest
        {
            return Err(super::different(&row));
        }
        let (component, _) = self.compile(bytes.to_vec()).await?;
        match component {
            Component::Workflow(workflow) => Ok(Candidate { digest, workflow }),
            Component::Activity(_) | Component::Entity(_) => {
                let message =
                    "the component is no workflow, so there are no histories to check; deploy it without a check";
                Err(RuntimeError::new(ErrorKind::Refused, "deployment.no-workflow", message))
            }
        }
    }

    /// The candidate was not deployed, or was under whatever name: in the first case nothing of it stays.
    pub async fn forget(&self, candidate: &Candidate) {
        if self.rows().iter().all(|row| row.digest != candidate.digest) {
            self.forget_compiled(candidate.digest).await;
        }
    }
}
