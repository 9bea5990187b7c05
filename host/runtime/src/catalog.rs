//! What is deployed: names and versions, compiled components, and which component offers which activity.

mod candidate;
mod removal;

pub use candidate::Candidate;
pub use removal::ComponentPin;

use crate::error::{ErrorKind, RuntimeError};
use crate::{clock, identity};
use bytes::Bytes;
use rehydrate_core::{Digest, Nanos};
use rehydrate_guest::{
    ActivityComponent, ActivityHost, Component, DeployError, EntityComponent, GuestEngine, WorkflowComponent,
};
use rehydrate_store::{ComponentKind, DeploymentRow, PutDeployment, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{OnceCell, Semaphore};

/// The activity that the host itself offers.
pub const HTTP_ACTIVITY: &str = "http";

/// Components compiled at once: compiling takes memory that no limit of ours bounds.
const COMPILING_MAX: usize = 1;

/// Activities one component may offer, and the bytes of a name.
const ACTIVITIES_MAX: usize = 256;
const ACTIVITY_NAME_BYTES_MAX: usize = 256;

type Loaded = Arc<OnceCell<Component>>;

/// What is deployed.
pub struct Catalog {
    store: Arc<dyn Store>,
    engine: Arc<GuestEngine>,
    activities: ActivityHost,
    rows: RwLock<Vec<DeploymentRow>>,
    loaded: Mutex<HashMap<Digest, Loaded>>,
    compiling: Arc<Semaphore>,
    pins: Arc<removal::Pins>,
    /// One change of what is deployed at a time: bytes that one is about to name, another may be about to drop.
    changing: tokio::sync::Mutex<()>,
    component_bytes: usize,
    compile_timeout: Nanos,
}

impl Catalog {
    /// Reads what is deployed.
    pub fn open(
        store: Arc<dyn Store>,
        engine: Arc<GuestEngine>,
        activities: ActivityHost,
        component_bytes: usize,
        compile_timeout: Nanos,
    ) -> Result<Catalog, RuntimeError> {
        let rows = RwLock::new(store.deployments()?);
        let loaded = Mutex::default();
        let compiling = Arc::new(Semaphore::new(COMPILING_MAX));
        let (pins, changing) = Default::default();
        Ok(Catalog {
            store,
            engine,
            activities,
            rows,
            loaded,
            compiling,
            pins,
            changing,
            component_bytes,
            compile_timeout,
        })
    }

    fn rows(&self) -> Vec<DeploymentRow> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All deployments, oldest first.
    pub fn deployments(&self) -> Vec<DeploymentRow> {
        self.rows()
    }

    /// What runs Wasm activities.
    pub fn activity_host(&self) -> &ActivityHost {
        &self.activities
    }

    /// Deploys a component under a name and version. The same bytes again change nothing; other bytes
    /// under the same name and version are refused.
    pub async fn deploy(&self, name: &str, version: &str, bytes: Bytes) -> Result<(DeploymentRow, bool), RuntimeError> {
        self.check(name, version, &bytes)?;
        let digest = GuestEngine::digest(&bytes);
        if let Some(row) = self.find(name, version) {
            return if row.digest == digest { Ok((row, false)) } else { Err(different(&row)) };
        }
        let (component, imports) = self.compile(bytes.to_vec()).await?;
        let kind = match component {
            Component::Workflow(_) => ComponentKind::Workflow,
            Component::Activity(_) => ComponentKind::Activity,
            Component::Entity(_) => ComponentKind::Entity,
        };
        let activities = match &component {
            Component::Activity(activity) => self.names(activity).await?,
            Component::Workflow(_) | Component::Entity(_) => Vec::new(),
        };
        let row = DeploymentRow {
            name: name.to_owned(),
            version: version.to_owned(),
            digest,
            kind,
            activities,
            imports,
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            created: clock::now(),
            order: 0,
        };
        let stored = self.keep(row, bytes).await?;
        self.slot(digest).set(component).ok();
        Ok(stored)
    }

    /// Whether these may be a deployment's name, version and bytes.
    fn check(&self, name: &str, version: &str, bytes: &Bytes) -> Result<(), RuntimeError> {
        identity::check_name("name", name)?;
        identity::check_name("version", version)?;
        let (found, limit) = (bytes.len(), self.component_bytes);
        if found <= limit {
            return Ok(());
        }
        let message = format!(
            "the component has {found} bytes; the limit is {limit}: build it smaller, or raise `runtime.component-mb` in \
             the configuration"
        );
        Err(RuntimeError::new(ErrorKind::TooLarge, "deployment.too-large", message))
    }

    async fn keep(&self, row: DeploymentRow, bytes: Bytes) -> Result<(DeploymentRow, bool), RuntimeError> {
        let _alone = self.changing.lock().await;
        let store = self.store.clone();
        let (put, rows) = blocking(move || {
            store.put_blob(row.digest, &bytes)?;
            let put = store.put_deployment(&row)?;
            let rows = store.deployments()?;
            Ok::<_, RuntimeError>(((put, row), rows))
        })
        .await??;
        let (put, wanted) = put;
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = rows;
        let row = self.find(&wanted.name, &wanted.version).unwrap_or(wanted);
        match put {
            PutDeployment::Created => Ok((row, true)),
            PutDeployment::Same => Ok((row, false)),
            PutDeployment::Different(_) => Err(different(&row)),
        }
    }

    async fn compile(&self, bytes: Vec<u8>) -> Result<(Component, Vec<String>), RuntimeError> {
        let permit = self.compiling.clone().acquire_owned().await.map_err(|_| internal("the compiler has stopped"))?;
        let engine = self.engine.clone();
        // A compilation that is given up on still runs, so it is the one to give its place back.
        let work = blocking(move || {
            let loaded = engine.load(&bytes).map(|(component, shape)| (component, shape.interfaces));
            drop(permit);
            loaded
        });
        let limit = self.compile_timeout;
        match tokio::time::timeout(limit.into(), work).await {
            Ok(loaded) => loaded?.map_err(deploy_error),
            Err(_) => {
                let message = format!(
                    "the component took longer than {limit} to compile; make it smaller, or raise `runtime.compile-timeout-ms`"
                );
                Err(RuntimeError::new(ErrorKind::Refused, "deployment.compile-timeout", message))
            }
        }
    }

    async fn names(&self, component: &ActivityComponent) -> Result<Vec<String>, RuntimeError> {
        let names = self.engine.activity_names(component, &self.activities).await.map_err(deploy_error)?;
        let refused = |message: String| RuntimeError::new(ErrorKind::Refused, "deployment.activity-names", message);
        if names.is_empty() || names.len() > ACTIVITIES_MAX {
            let found = names.len();
            return Err(refused(format!("the component offers {found} activities; offer 1 to {ACTIVITIES_MAX}")));
        }
        for name in &names {
            if name == HTTP_ACTIVITY {
                return Err(refused("the activity name `http` is the host's own; choose another".to_owned()));
            }
            if name.is_empty() || name.len() > ACTIVITY_NAME_BYTES_MAX {
                let shown: String = name.chars().take(40).collect();
                return Err(refused(format!(
                    "the activity name `{shown}` has not 1 to {ACTIVITY_NAME_BYTES_MAX} bytes"
                )));
            }
        }
        Ok(names)
    }

    fn find(&self, name: &str, version: &str) -> Option<DeploymentRow> {
        self.rows().into_iter().find(|row| row.name == name && row.version == version)
    }

    /// The deployment of a workflow: that version, or the newest.
    pub fn workflow(&self, name: &str, version: Option<&str>) -> Result<DeploymentRow, RuntimeError> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let mut named = rows.iter().filter(|row| row.name == name && row.kind == ComponentKind::Workflow);
        let found = match version {
            Some(version) => named.find(|row| row.version == version),
            None => named.max_by_key(|row| row.order),
        };
        found.cloned().ok_or_else(|| {
            let version = version.map_or(String::new(), |version| format!("@{version}"));
            let message = format!(
                "no workflow `{name}{version}` is deployed; deploy it with `rehydrate deploy {name}@VERSION FILE`, or see \
                 what is there with `rehydrate component list`"
            );
            RuntimeError::new(ErrorKind::NotFound, "workflow.not-found", message)
        })
    }

    /// The newest component that offers an activity.
    pub async fn activity(&self, name: &str) -> Result<Option<ActivityComponent>, RuntimeError> {
        let offers = |row: &&DeploymentRow| row.activities.iter().any(|offered| offered == name);
        let digest = {
            let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
            rows.iter().filter(offers).max_by_key(|row| row.order).map(|row| row.digest)
        };
        let Some(digest) = digest else { return Ok(None) };
        match self.component(digest).await? {
            Component::Activity(activity) => Ok(Some(activity)),
            Component::Workflow(_) | Component::Entity(_) => Ok(None),
        }
    }

    /// The newest entity component of that name.
    pub async fn entity(&self, name: &str) -> Result<Option<EntityComponent>, RuntimeError> {
        let is_it = |row: &&DeploymentRow| row.kind == ComponentKind::Entity && row.name == name;
        let digest = {
            let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
            rows.iter().filter(is_it).max_by_key(|row| row.order).map(|row| row.digest)
        };
        let Some(digest) = digest else { return Ok(None) };
        match self.component(digest).await? {
            Component::Entity(entity) => Ok(Some(entity)),
            Component::Workflow(_) | Component::Activity(_) => Ok(None),
        }
    }

    /// The workflow component of that digest, if it need not be compiled or read first.
    pub fn loaded_workflow(&self, digest: Digest) -> Option<WorkflowComponent> {
        match self.slot(digest).get() {
            Some(Component::Workflow(workflow)) => Some(workflow.clone()),
            _ => None,
        }
    }

    /// The workflow component of that digest.
    pub async fn workflow_component(&self, digest: Digest) -> Result<WorkflowComponent, RuntimeError> {
        match self.component(digest).await? {
            Component::Workflow(workflow) => Ok(workflow),
            Component::Activity(_) | Component::Entity(_) => {
                Err(internal("an instance is pinned to a component that is no workflow"))
            }
        }
    }

    fn slot(&self, digest: Digest) -> Loaded {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.entry(digest).or_default().clone()
    }

    async fn component(&self, digest: Digest) -> Result<Component, RuntimeError> {
        let slot = self.slot(digest);
        if let Some(component) = slot.get() {
            return Ok(component.clone());
        }
        let load = || async {
            let store = self.store.clone();
            let bytes = blocking(move || store.blob(digest)).await??;
            let bytes = bytes.ok_or_else(|| removed(digest))?;
            self.compile(bytes).await.map(|(component, _)| component)
        };
        // Boxed, as it is rare: the futures of those who ask are to stay small.
        Box::pin(slot.get_or_try_init(load)).await.cloned()
    }
}

/// Runs something that blocks off the async threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| internal(&format!("a task of the host failed: {error}")))
}

/// An error that is our own fault.
pub fn internal(message: &str) -> RuntimeError {
    RuntimeError::new(ErrorKind::Internal, "host.internal", format!("{message}; see the host's log and report it"))
}

fn removed(digest: Digest) -> RuntimeError {
    let message = format!(
        "the component with digest {digest} was removed; deploy these bytes again, or name another version of the workflow"
    );
    RuntimeError::new(ErrorKind::NotFound, "component.removed", message)
}

fn different(row: &DeploymentRow) -> RuntimeError {
    let message = format!(
        "{}@{} is already deployed with other bytes (digest {}); a version never changes, deploy under a new one",
        row.name, row.version, row.digest
    );
    RuntimeError::new(ErrorKind::Conflict, "deployment.exists", message)
}

fn deploy_error(error: DeployError) -> RuntimeError {
    let code = match &error {
        DeployError::NotAComponent(_) => "deployment.not-a-component",
        DeployError::Imports { .. } => "deployment.imports",
        DeployError::World(_) => "deployment.world",
        DeployError::Names(_) => "deployment.activity-names",
        DeployError::Cache(_) => return internal(&error.to_string()),
    };
    RuntimeError::new(ErrorKind::Refused, code, error.to_string())
}
