//! Components: what they are, what they import, and which of that can't run here.

use crate::activity::ActivityState;
use crate::bindings::{activity, entity, workflow};
use crate::contract::WorkflowHost;
use crate::entity::EntityState;
use crate::warm::Idle;
use rehydrate_core::Digest;
use std::sync::Arc;
use wasmtime::component::types::ComponentItem;
use wasmtime::{Engine, Store};

/// A compiled component of either kind.
#[derive(Clone)]
pub enum Component {
    /// A workflow.
    Workflow(WorkflowComponent),
    /// A component that offers activities.
    Activity(ActivityComponent),
    /// An entity.
    Entity(EntityComponent),
}

/// A compiled workflow, linked and checked.
#[derive(Clone)]
pub struct WorkflowComponent {
    digest: Digest,
    pre: workflow::WorkflowPre<WorkflowHost>,
}

/// A compiled activity component, linked and checked.
#[derive(Clone)]
pub struct ActivityComponent {
    digest: Digest,
    pre: activity::ActivityPre<ActivityState>,
    idle: Arc<Idle>,
}

/// A compiled entity, linked and checked.
#[derive(Clone)]
pub struct EntityComponent {
    digest: Digest,
    pre: entity::EntityPre<EntityState>,
}

impl EntityComponent {
    pub(crate) fn new(digest: Digest, pre: entity::EntityPre<EntityState>) -> EntityComponent {
        EntityComponent { digest, pre }
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<EntityState>) -> wasmtime::Result<entity::Entity> {
        self.pre.instantiate_async(store).await
    }
}

impl WorkflowComponent {
    pub(crate) fn new(digest: Digest, pre: workflow::WorkflowPre<WorkflowHost>) -> WorkflowComponent {
        WorkflowComponent { digest, pre }
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<WorkflowHost>) -> wasmtime::Result<workflow::Workflow> {
        self.pre.instantiate_async(store).await
    }
}

impl ActivityComponent {
    pub(crate) fn new(digest: Digest, pre: activity::ActivityPre<ActivityState>) -> ActivityComponent {
        ActivityComponent { digest, pre, idle: Arc::default() }
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    pub(crate) fn idle(&self) -> &Idle {
        &self.idle
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<ActivityState>) -> wasmtime::Result<activity::Activity> {
        self.pre.instantiate_async(store).await
    }
}

/// What a component's type says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Imported interfaces with their versions.
    pub interfaces: Vec<String>,
    /// Imported functions, `interface#function`.
    pub functions: Vec<String>,
    /// It exports `run`.
    pub exports_run: bool,
    /// It exports `names`, which makes it a component of activities.
    pub exports_names: bool,
    /// It exports `handle`, which makes it an entity.
    pub exports_handle: bool,
}

/// Reads a component's type.
pub fn shape(component: &wasmtime::component::Component) -> Shape {
    let engine = component.engine();
    let kind = component.component_type();
    let mut shape = Shape {
        interfaces: Vec::new(),
        functions: Vec::new(),
        exports_run: false,
        exports_names: false,
        exports_handle: false,
    };
    for (name, item) in kind.imports(engine) {
        shape.interfaces.push(name.to_owned());
        if let ComponentItem::ComponentInstance(instance) = item.ty {
            let functions = instance
                .exports(engine)
                .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                .map(|(function, _)| format!("{name}#{function}"));
            shape.functions.extend(functions);
        }
    }
    for (name, _) in kind.exports(engine) {
        shape.exports_run |= name == "run";
        shape.exports_names |= name == "names";
        shape.exports_handle |= name == "handle";
    }
    shape
}

/// What a workflow may import.
const WORKFLOW_IMPORTS: [&str; 6] =
    ["rehydrate:workflow/", "wasi:io/", "wasi:clocks/", "wasi:cli/", "wasi:random/", "wasi:filesystem/"];

/// What an activity may import besides.
const ACTIVITY_IMPORTS: [&str; 1] = ["wasi:http/"];

/// The functions of wasi:filesystem that every program of the Rust standard library imports whether it
/// uses files or not. All others mean that the guest really goes for files.
const FILESYSTEM_TOLERATED: [&str; 14] = [
    "[method]descriptor.write-via-stream",
    "[method]descriptor.append-via-stream",
    "[method]descriptor.read-via-stream",
    "[method]descriptor.get-type",
    "[method]descriptor.get-flags",
    "[method]descriptor.stat",
    "[method]descriptor.metadata-hash",
    "[method]descriptor.is-same-object",
    "[method]directory-entry-stream.read-directory-entry",
    "[method]descriptor.sync",
    "[method]descriptor.sync-data",
    "[resource-drop]descriptor",
    "filesystem-error-code",
    "get-directories",
];

impl Shape {
    /// The imports that can't be had here, by name.
    pub fn refused(&self) -> Vec<String> {
        let activity = self.exports_names;
        let allowed = |name: &str| {
            let starts = |prefix: &&str| name.starts_with(*prefix);
            WORKFLOW_IMPORTS.iter().any(starts) || (activity && ACTIVITY_IMPORTS.iter().any(starts))
        };
        let interfaces = self.interfaces.iter().filter(|name| !allowed(name.as_str())).cloned();
        let opens_files = |name: &&String| {
            let Some((interface, function)) = name.split_once('#') else { return false };
            interface.starts_with("wasi:filesystem/") && !FILESYSTEM_TOLERATED.contains(&function)
        };
        let files = self.functions.iter().filter(|name| !activity && opens_files(name)).cloned();
        interfaces.chain(files).collect()
    }
}
