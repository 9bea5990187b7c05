//! Installs the published clients of Durable Functions that the programs in `tests/clients` drive: into the build
//! directory, never into the checkout, and again only when what is pinned there has changed.

use crate::prerequisites;
use crate::process::{output, succeeds};
use crate::say;
use crate::workspace::Workspace;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The longest that one client may take to install.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);

/// What pins the packages that are installed, kept beside them.
const INSTALLED: &str = "installed";

/// Installs all clients.
pub fn install(workspace: &Workspace, may_install: bool) -> anyhow::Result<()> {
    prerequisites::node(may_install)?;
    prerequisites::python(may_install)?;
    for name in ["npm-v2", "npm-v3"] {
        let client = Client::new(workspace, name, "package-lock.json");
        client.ensure("node_modules", || npm(&client))?;
    }
    let client = Client::new(workspace, "python", "requirements.txt");
    client.ensure("venv", || python(&client))
}

/// A client: where its program is, and where its packages go.
struct Client {
    name: &'static str,
    source: PathBuf,
    target: PathBuf,
    pins: PathBuf,
}

impl Client {
    fn new(workspace: &Workspace, name: &'static str, pins: &str) -> Client {
        let source = workspace.root.join("tests").join("clients").join(name);
        let pins = source.join(pins);
        Client { name, source, target: workspace.target.join("clients").join(name), pins }
    }

    /// Installs the packages unless the same ones are there; `directory` is what they are in.
    fn ensure(&self, directory: &str, install: impl FnOnce() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let pins = read(&self.pins)?;
        let installed = self.target.join(INSTALLED);
        if self.target.join(directory).is_dir() && std::fs::read(&installed).is_ok_and(|known| known == pins) {
            return Ok(());
        }
        say(&format!("installing the Durable Functions client {}", self.name));
        if self.target.exists() {
            std::fs::remove_dir_all(&self.target).with_context(|| format!("can't empty {}", self.target.display()))?;
        }
        std::fs::create_dir_all(&self.target).with_context(|| format!("can't make {}", self.target.display()))?;
        if !install()? {
            bail!(
                "the packages of the Durable Functions client {} can't be installed; what was printed above says why",
                self.name
            );
        }
        std::fs::write(&installed, pins).with_context(|| format!("can't write {}", installed.display()))
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("can't read {}", file.display()))
}

/// What the lock file names, which npm checks against the digests in it.
fn npm(client: &Client) -> anyhow::Result<bool> {
    for file in ["package.json", "package-lock.json"] {
        let (from, to) = (client.source.join(file), client.target.join(file));
        std::fs::copy(&from, &to).with_context(|| format!("can't copy {} to {}", from.display(), to.display()))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    succeeds(npm.current_dir(&client.target), INSTALL_LIMIT)
}

fn python(client: &Client) -> anyhow::Result<bool> {
    let environment = client.target.join("venv");
    if !succeeds(Command::new("python3").args(["-m", "venv"]).arg(&environment), INSTALL_LIMIT)? {
        return Ok(false);
    }
    let mut pip = Command::new(environment.join("bin").join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
    succeeds(pip.arg(&client.pins), INSTALL_LIMIT)
}

/// The major version that a program such as `node` tells: `v20.1.0` is 20.
pub fn major_version(program: &str) -> Option<u32> {
    major(&output(program, &["--version"])?)
}

fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_version_is_read_with_and_without_its_letter() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major("11.19.1"), Some(11));
        assert_eq!(major("none"), None);
    }

    #[test]
    fn packages_are_installed_once_and_again_when_others_are_pinned() {
        let root = std::env::temp_dir().join(format!("rehydrate-tasks-clients-{}", std::process::id()));
        let workspace = Workspace { root: root.clone(), target: root.join("target") };
        let client = Client::new(&workspace, "npm-v2", "package-lock.json");
        std::fs::create_dir_all(&client.source).unwrap();
        let installs = std::cell::Cell::new(0);
        let ensure = |pins: &str, works: bool| {
            std::fs::write(&client.pins, pins).unwrap();
            let install = || {
                installs.set(installs.get() + 1);
                std::fs::create_dir(client.target.join("node_modules"))?;
                Ok(works)
            };
            client.ensure("node_modules", install).is_ok()
        };
        assert!(!ensure("a", false), "a failed installation is an error,");
        assert!(ensure("a", true) && ensure("a", true), "and not taken for one");
        assert_eq!(installs.get(), 2);
        assert!(ensure("b", true));
        assert_eq!(installs.get(), 3);
        std::fs::remove_dir_all(root).unwrap();
    }
}
