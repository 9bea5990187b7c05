//! The host that is measured: the real program as a child process, on a data directory of its own.

use crate::api;
use crate::client::Conn;
use crate::proc;
use anyhow::{Context as _, bail};
use rehydrate_blackbox::process::Server;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// The name under which the workflow is deployed.
pub const WORKFLOW: &str = "bench";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The host's program.
    pub host: PathBuf,
    /// The workflow's component.
    pub workflow: PathBuf,
    /// The activity's component.
    pub activities: PathBuf,
    /// Where directories are made.
    pub data: PathBuf,
}

/// What the names of our directories begin with; the process's id follows.
const PREFIX: &str = "bench-";

impl Places {
    /// Beside this program, in the build directory, unless told otherwise.
    pub fn find(host: Option<PathBuf>, data: Option<PathBuf>) -> anyhow::Result<Places> {
        let this = std::env::current_exe().context("a running program has a path")?;
        let release = this.parent().context("this program lies in a directory")?;
        let target = release.parent().context("this program lies in a build directory")?;
        let guests = target.join("wasm32-wasip2").join("release");
        let places = Places {
            host: host.unwrap_or_else(|| release.join(format!("rehydrate{}", std::env::consts::EXE_SUFFIX))),
            workflow: guests.join("bench_workflows.wasm"),
            activities: guests.join("bench_activities.wasm"),
            data: data.unwrap_or_else(|| target.join("bench-data")),
        };
        for file in [&places.host, &places.workflow, &places.activities] {
            if !file.is_file() {
                bail!("{} is not there; run this by `cargo bench-host`, which builds it", file.display());
            }
        }
        std::fs::create_dir_all(&places.data)
            .with_context(|| format!("{} can't be made; choose another by --data-dir", places.data.display()))?;
        places.remove_leftovers();
        Ok(places)
    }

    /// A new directory, removed when it is dropped.
    pub fn directory(&self) -> anyhow::Result<TempDir> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let made = TempDir::with_prefix_in(prefix, &self.data);
        made.with_context(|| format!("no directory can be made in {}", self.data.display()))
    }

    /// Removes the directories of runs that were killed before they could do it themselves.
    fn remove_leftovers(&self) {
        for entry in std::fs::read_dir(&self.data).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                // One that can't be removed is only in the way of the disk.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// When a process began and when it was ready.
#[derive(Clone, Copy, Debug)]
pub struct StartUp {
    /// Just before the shell around it became the program.
    pub begun: Instant,
    /// The same by the clock on the wall, which the times of events are by.
    pub begun_at: SystemTime,
    /// From there until it said that it takes requests.
    pub took: Duration,
}

/// A host. It ends, and its data is removed, when this is dropped.
#[derive(Debug)]
pub struct BenchHost {
    server: Option<Server>,
    directory: TempDir,
    program: PathBuf,
    arguments: Vec<String>,
    admin: SocketAddr,
    public: SocketAddr,
    start_up: StartUp,
}

impl BenchHost {
    /// Starts a host with the workflow and the activity deployed, and arguments of its own.
    pub async fn start(places: &Places, arguments: &[&str]) -> anyhow::Result<BenchHost> {
        let directory = places.directory()?;
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let program = places.host.clone();
        let (server, admin, public, start_up) = launch(&program, &arguments, directory.path())?;
        let host = BenchHost { server: Some(server), directory, program, arguments, admin, public, start_up };
        let mut conn = host.admin().await?;
        api::deploy(&mut conn, WORKFLOW, &places.workflow).await?;
        api::deploy(&mut conn, "activities", &places.activities).await?;
        Ok(host)
    }

    /// A new connection to the admin listener.
    pub async fn admin(&self) -> anyhow::Result<Conn> {
        Conn::open(self.admin).await
    }

    /// That many new connections to the admin listener.
    pub async fn admins(&self, count: usize) -> anyhow::Result<Vec<Conn>> {
        Conn::open_many(self.admin, count).await
    }

    /// A new connection to the public listener.
    pub async fn public(&self) -> anyhow::Result<Conn> {
        Conn::open(self.public).await
    }

    /// That many new connections to the public listener.
    pub async fn publics(&self, count: usize) -> anyhow::Result<Vec<Conn>> {
        Conn::open_many(self.public, count).await
    }

    /// The process, while it runs.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.server.as_ref().map(Server::pid).context("the host does not run")
    }

    /// How the running process started.
    pub fn start_up(&self) -> StartUp {
        self.start_up
    }

    /// Its memory.
    pub fn memory(&self) -> anyhow::Result<proc::Memory> {
        proc::memory(self.pid()?)
    }

    /// Bytes of its store's files.
    pub fn store_bytes(&self) -> anyhow::Result<u64> {
        proc::files_bytes(&self.directory.path().join("data").join("store"))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Asks it to end, which must go well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let server = self.server.take().context("the host does not run")?;
        match server.stop() {
            0 => Ok(()),
            code => bail!("the host was asked to end and exited with {code}"),
        }
    }

    /// Starts it again on the same data, on new ports.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let (server, admin, public, start_up) = launch(&self.program, &self.arguments, self.directory.path())?;
        (self.server, self.admin, self.public, self.start_up) = (Some(server), admin, public, start_up);
        Ok(())
    }
}

fn launch(
    program: &Path,
    arguments: &[String],
    directory: &Path,
) -> anyhow::Result<(Server, SocketAddr, SocketAddr, StartUp)> {
    let data = directory.join("data").display().to_string();
    let fixed = ["serve", "--data-dir", &data, "--admin-listen", "127.0.0.1:0", "--public-listen", "127.0.0.1:0"];
    let all = fixed.into_iter().chain(arguments.iter().map(String::as_str));
    let server = Server::start(program, all, &directory.join("log"));
    // It returns when the shell has said its id, which is the last thing it does before it becomes the program.
    let (begun, begun_at) = (Instant::now(), SystemTime::now());
    let admin = address(&server.line("admin: "))?;
    let took = begun.elapsed();
    let public = address(&server.line("public: "))?;
    Ok((server, admin, public, StartUp { begun, begun_at, took }))
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
    address.with_context(|| format!("the host says that it listens on `{url}`, which is no address"))
}
