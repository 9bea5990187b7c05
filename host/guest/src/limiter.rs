//! Memory and tables of one guest, summed over all its core instances.

use rehydrate_core::{LimitExceeded, limits::check};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wasmtime::ResourceLimiter;

/// The most core instances, memories and tables that one component may have.
const CORE_ITEMS_MAX: usize = 64;

/// Counts what a guest takes and stops it at its limits: growing past one traps with the limit's name,
/// instead of leaving the guest to find out by itself.
#[derive(Debug)]
pub struct Limiter {
    memory_bytes_max: usize,
    table_elements_max: usize,
    memory_bytes: Arc<AtomicUsize>,
}

impl Limiter {
    /// With these limits; `memory_bytes` is where the sum can be read from outside.
    pub fn new(memory_bytes_max: usize, table_elements_max: usize, memory_bytes: Arc<AtomicUsize>) -> Limiter {
        Limiter { memory_bytes_max, table_elements_max, memory_bytes }
    }

    fn exceeded(error: LimitExceeded) -> wasmtime::Error {
        wasmtime::Error::new(rehydrate_core::Stop::Limit(error))
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let others = self.memory_bytes.load(Ordering::Relaxed);
        let total = others.saturating_add(desired.saturating_sub(current));
        check("memory-bytes", "the guest asked for too much memory in bytes", total, self.memory_bytes_max)
            .map_err(Limiter::exceeded)?;
        self.memory_bytes.store(total, Ordering::Relaxed);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        check("table-elements", "a table of the guest is too large in elements", desired, self.table_elements_max)
            .map_err(Limiter::exceeded)?;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn tables(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn memories(&self) -> usize {
        CORE_ITEMS_MAX
    }
}
