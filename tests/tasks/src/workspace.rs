//! Where things are: the checkout, cargo, the build directory.

use anyhow::{Context, bail};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout and its build directory.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The directory of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target directory; `CARGO_TARGET_DIR` and the like are respected.
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub fn find() -> anyhow::Result<Workspace> {
        let manifest =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let asked = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&manifest)
            .output()
            .context("can't run cargo")?;
        if !asked.status.success() {
            bail!("`cargo metadata` failed:\n{}", String::from_utf8_lossy(&asked.stderr));
        }
        let metadata: Value = serde_json::from_slice(&asked.stdout).context("`cargo metadata` gave no JSON")?;
        let path = |field: &str| {
            let text = metadata[field].as_str().with_context(|| format!("`cargo metadata` has no `{field}`"))?;
            anyhow::Ok(PathBuf::from(text))
        };
        Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// A program built for this machine.
    pub fn program(&self, name: &str) -> PathBuf {
        self.target.join("release").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// A component built for the guest target, by its file name without `.wasm`.
    pub fn component(&self, name: &str) -> PathBuf {
        self.target.join(crate::prerequisites::GUEST_TARGET).join("release").join(format!("{name}.wasm"))
    }

    /// Whether RocksDB has been compiled into this build directory before.
    pub fn is_warm(&self) -> bool {
        has_entry(&self.target.join("release").join("deps"), "liblibrocksdb_sys-")
    }
}

fn has_entry(dir: &Path, prefix: &str) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
}

/// The cargo that runs this program, so that a toolchain chosen with `cargo +name` stays chosen.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
