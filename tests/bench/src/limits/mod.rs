//! The raw limits of the machine: what its parts can do without the host around them.

pub mod activity;
pub mod http;
pub mod parts;
pub mod replay;
pub mod store;

use anyhow::Context as _;
use rehydrate_core::Limits;
use rehydrate_guest::{Component, GuestEngine, GuestSettings};
use std::path::Path;

/// Compiles a component with an engine of its own; what was compiled is kept in `directory`.
fn load(file: &Path, directory: &Path, limits: &Limits) -> anyhow::Result<Component> {
    let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let settings = GuestSettings { guests_max: 4, limits: limits.clone(), cache_dir: directory.join("compiled") };
    let engine = GuestEngine::new(&settings).context("the engine starts")?;
    let (component, _) = engine.load(&bytes).with_context(|| format!("{} can't be loaded", file.display()))?;
    Ok(component)
}
