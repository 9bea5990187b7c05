//! The engine: one configuration for all guests, compiling, and the cache of compiled code.

use crate::activity::{self, ActivityHost};
use crate::bindings;
use crate::component::{ActivityComponent, Component, EntityComponent, Shape, WorkflowComponent, shape};
use crate::contract::WorkflowHost;
use crate::entity::{self, EntityState};
use crate::warm::IDLE_MAX;
use crate::wasi;
use rehydrate_core::{Digest, Limits};
use sha2::{Digest as _, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// One tick of the epoch: the slice of time a guest runs before others get a turn.
pub const EPOCH_TICK: Duration = Duration::from_millis(10);

/// The stack of a guest, in bytes; the host's own frames get as much again.
const STACK_BYTES: usize = 512 << 10;

/// Memory maps a pooled guest takes, measured; the kernel's limit on them is a hard wall.
const MAPS_PER_GUEST: u32 = 6;

/// Bytes of touched memory, and of tables, that a free slot of the pool keeps: what a small guest uses.
const KEPT_MEMORY_BYTES: usize = 256 << 10;
const KEPT_TABLE_BYTES: usize = 16 << 10;

/// Larger ones are given back to the kernel so many at a time.
const DECOMMITTED_AT_ONCE: usize = 32;

/// What the engine is built for.
#[derive(Clone, Debug)]
pub struct GuestSettings {
    /// Guests alive at once, workflows and activities together.
    pub guests_max: u32,
    /// Limits of one guest.
    pub limits: Limits,
    /// Where compiled code is kept.
    pub cache_dir: PathBuf,
}

/// Why the engine can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// wasmtime refused its configuration.
    #[error("the wasm engine can't be set up: {0:#}; lower `resident-instances` or `limits.memory-bytes`")]
    Engine(wasmtime::Error),
    /// The cache directory can't be made.
    #[error("the directory {path} for compiled components can't be made: {error}; check its parent's rights")]
    Cache {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The kernel allows too few memory maps.
    #[error(
        "{guests} guests need {need} memory maps but vm.max_map_count is {found}; lower `resident-instances` or raise it with `sysctl vm.max_map_count={need}`"
    )]
    Maps {
        /// Guests asked for.
        guests: u32,
        /// Maps they need.
        need: u32,
        /// Maps there may be.
        found: u32,
    },
}

/// What every file of WebAssembly begins with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// Why a component can't be deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Not a component.
    #[error("{0}")]
    NotAComponent(String),
    /// It imports what can't be had.
    #[error("the component imports {}, which a {kind} can't have here; {next}", .imports.join(", "))]
    Imports {
        /// `workflow`, `entity` or `activity component`.
        kind: &'static str,
        /// The imports, by name.
        imports: Vec<String>,
        /// What to do instead.
        next: &'static str,
    },
    /// It exports neither world.
    #[error(
        "the component is no workflow, no entity and offers no activities: {0}; build it for world `workflow`, `entity` or `activity` of rehydrate:workflow@0.1.0"
    )]
    World(String),
    /// It could not be run to ask for its names.
    #[error("the component could not be asked which activities it offers: {0}")]
    Names(String),
    /// A fault of the host.
    #[error("the compiled component can't be kept: {0}; check the data directory's rights and free space")]
    Cache(#[from] std::io::Error),
}

/// Compiles and links components.
pub struct GuestEngine {
    engine: Engine,
    workflows: Linker<WorkflowHost>,
    activities: Linker<activity::ActivityState>,
    entities: Linker<EntityState>,
    cache_dir: PathBuf,
    is_pooled: bool,
}

/// One pool for all guests: a slot is taken and given back without a system call.
fn pool(settings: &GuestSettings) -> InstanceAllocationStrategy {
    let guests = settings.guests_max;
    let mut pool = PoolingAllocationConfig::new();
    // A wasip2 guest has one memory and a handful of core instances and tables (shims and the adapter).
    pool.total_component_instances(guests)
        .total_core_instances(guests.saturating_mul(6))
        .total_memories(guests.saturating_mul(2))
        .total_tables(guests.saturating_mul(6))
        .total_stacks(guests)
        .max_core_instances_per_component(64)
        .max_memories_per_component(64)
        .max_tables_per_component(64)
        .max_memory_size(settings.limits.memory_bytes)
        .table_elements(settings.limits.table_elements)
        .max_unused_warm_slots(0)
        // A slot that is given back keeps the pages it touched, set back to their first contents: to give them to
        // the kernel and fault them in again would interrupt every processor, for each activity that is run.
        .linear_memory_keep_resident(KEPT_MEMORY_BYTES)
        .table_keep_resident(KEPT_TABLE_BYTES)
        .pagemap_scan(Enabled::Auto)
        .decommit_batch_size(DECOMMITTED_AT_ONCE);
    InstanceAllocationStrategy::Pooling(pool)
}

fn config(settings: &GuestSettings, strategy: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        // Determinism: NaNs have one form, relaxed SIMD one result, and there is one thread.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(STACK_BYTES * 2)
        .memory_reservation(u64::try_from(settings.limits.memory_bytes).unwrap_or(u64::MAX).max(1 << 32))
        .allocation_strategy(strategy);
    config
}

impl GuestEngine {
    /// Sets the engine up. A thread of its own counts the epoch for as long as the engine lives.
    pub fn new(settings: &GuestSettings) -> Result<GuestEngine, SetupError> {
        // Activities that wait for their next attempt come on top.
        let idle = u32::try_from(IDLE_MAX).unwrap_or(u32::MAX);
        let settings = &GuestSettings { guests_max: settings.guests_max.saturating_add(idle), ..settings.clone() };
        check_maps(settings.guests_max)?;
        let path = settings.cache_dir.clone();
        std::fs::create_dir_all(&path).map_err(|error| SetupError::Cache { path, error })?;
        // Where addresses are scarce (a limit of the system, a tool that watches the process) there is no room for a
        // pool of the largest guests; each is then given its memory when it comes.
        let pooled = Engine::new(&config(settings, pool(settings)));
        let is_pooled = pooled.is_ok();
        let engine = pooled
            .or_else(|_| Engine::new(&config(settings, InstanceAllocationStrategy::OnDemand)))
            .map_err(SetupError::Engine)?;
        let workflows = workflow_linker(&engine).map_err(SetupError::Engine)?;
        let activities = activity::linker(&engine).map_err(SetupError::Engine)?;
        let entities = entity::linker(&engine).map_err(SetupError::Engine)?;
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(EPOCH_TICK);
                }
            })
            .map_err(|error| SetupError::Engine(error.into()))?;
        Ok(GuestEngine { engine, workflows, activities, entities, cache_dir: settings.cache_dir.clone(), is_pooled })
    }

    /// Whether guests come from a pool; without one, starting a guest takes several times as long.
    pub fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// The SHA-256 of a component's bytes.
    pub fn digest(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Compiles a component, or takes it from the cache, checks and links it. Slow: seconds for a large
    /// component that is not cached; call it off the async threads.
    pub fn load(&self, bytes: &[u8]) -> Result<(Component, Shape), DeployError> {
        let digest = GuestEngine::digest(bytes);
        let compiled = match self.cached(digest) {
            Some(compiled) => compiled,
            None => self.compile(bytes, digest)?,
        };
        let shape = shape(&compiled);
        check_shape(&shape)?;
        let wrong_world = |error: wasmtime::Error| DeployError::World(format!("{error:#}"));
        let component = if shape.exports_names {
            let pre = self.activities.instantiate_pre(&compiled).map_err(wrong_world)?;
            let pre = bindings::activity::ActivityPre::new(pre).map_err(wrong_world)?;
            Component::Activity(ActivityComponent::new(digest, pre))
        } else if shape.exports_handle {
            let pre = self.entities.instantiate_pre(&compiled).map_err(wrong_world)?;
            let pre = bindings::entity::EntityPre::new(pre).map_err(wrong_world)?;
            Component::Entity(EntityComponent::new(digest, pre))
        } else {
            let pre = self.workflows.instantiate_pre(&compiled).map_err(wrong_world)?;
            let pre = bindings::workflow::WorkflowPre::new(pre).map_err(wrong_world)?;
            Component::Workflow(WorkflowComponent::new(digest, pre))
        };
        Ok((component, shape))
    }

    /// Asks a component which activities it offers.
    pub async fn activity_names(
        &self,
        component: &ActivityComponent,
        host: &ActivityHost,
    ) -> Result<Vec<String>, DeployError> {
        activity::names(component, host).await.map_err(DeployError::Names)
    }

    fn compile(&self, bytes: &[u8], digest: Digest) -> Result<wasmtime::component::Component, DeployError> {
        if Engine::detect_precompiled(bytes).is_some() {
            let text = "the upload is precompiled code, which is never run; upload the .wasm component";
            return Err(DeployError::NotAComponent(text.to_owned()));
        }
        let compiled = wasmtime::component::Component::new(&self.engine, bytes).map_err(|error| {
            let why = match bytes.starts_with(WASM_MAGIC) {
                true => format!("{error:#}"),
                false => "its first bytes are not those of WebAssembly".to_owned(),
            };
            DeployError::NotAComponent(format!(
                "the upload is not a WebAssembly component: {why}; build with `--target wasm32-wasip2`, or make a \
                 component of the module with `wasm-tools component new`"
            ))
        })?;
        let code = compiled.serialize().map_err(|error| DeployError::NotAComponent(format!("{error:#}")))?;
        self.write_cache(digest, &code)?;
        Ok(compiled)
    }

    /// The file of a component's compiled code: its digest and what the code depends on.
    fn cache_file(&self, digest: Digest) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        self.cache_dir.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }

    /// Drops the compiled code of a component from the cache, also what other versions of the engine made of it.
    pub fn forget(&self, digest: Digest) -> std::io::Result<()> {
        let prefix = format!("{digest}-");
        for entry in std::fs::read_dir(&self.cache_dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Compiled code from the cache, if it is whole: a file starts with the SHA-256 of the rest.
    #[expect(unsafe_code, reason = "compiled code is trusted only if this host wrote it and it is unchanged")]
    fn cached(&self, digest: Digest) -> Option<wasmtime::component::Component> {
        let file = std::fs::read(self.cache_file(digest)).ok()?;
        let (sum, code) = file.split_at_checked(32)?;
        if Sha256::digest(code).as_slice() != sum {
            return None;
        }
        // SAFETY: the file lies in the host's own directory, was written by `write_cache` of a compatible
        // engine (its name says so) and its sum is right; uploads never get here.
        unsafe { wasmtime::component::Component::deserialize(&self.engine, code) }.ok()
    }

    fn write_cache(&self, digest: Digest, code: &[u8]) -> Result<(), DeployError> {
        let path = self.cache_file(digest);
        let draft = draft_path(&path);
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.sync_all()?;
        Ok(std::fs::rename(&draft, &path)?)
    }
}

fn draft_path(path: &Path) -> PathBuf {
    path.with_extension(format!("draft-{}", std::process::id()))
}

fn workflow_linker(engine: &Engine) -> wasmtime::Result<Linker<WorkflowHost>> {
    use bindings::workflow::rehydrate::workflow as contract;
    use wasmtime::component::HasSelf;
    type Host = HasSelf<WorkflowHost>;
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    contract::types::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::operations::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::activities::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::timers::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::callbacks::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::signals::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::children::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::instances::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::entities::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    contract::control::add_to_linker::<_, Host>(&mut linker, |host| host)?;
    Ok(linker)
}

fn check_shape(shape: &Shape) -> Result<(), DeployError> {
    if !shape.exports_run && !shape.exports_handle {
        return Err(DeployError::World("it exports neither `run` nor `handle`".to_owned()));
    }
    let imports = shape.refused();
    if imports.is_empty() {
        return Ok(());
    }
    let (kind, next) = if shape.exports_names {
        ("activity component", "use wasi:http/outgoing-handler for the network")
    } else if shape.exports_handle {
        ("entity", "start a workflow that does it in an activity")
    } else {
        ("workflow", "do it in an activity, such as the built-in `http`")
    };
    Err(DeployError::Imports { kind, imports, next })
}

fn check_maps(guests: u32) -> Result<(), SetupError> {
    let Ok(text) = std::fs::read_to_string("/proc/sys/vm/max_map_count") else { return Ok(()) };
    let found: u32 = text.trim().parse().unwrap_or(u32::MAX);
    let need = guests.saturating_mul(MAPS_PER_GUEST);
    if need <= found { Ok(()) } else { Err(SetupError::Maps { guests, need, found }) }
}
