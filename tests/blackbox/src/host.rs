//! One `rehydrate serve` on a data directory of its own.

use crate::client::Client;
use crate::process::Server;
use crate::programs::{component, program};
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// How a host is started, beside what every host of these tests is told.
#[derive(Clone, Debug, Default)]
pub struct HostSettings {
    /// More arguments of `rehydrate serve`.
    pub arguments: Vec<String>,
    /// More variables of its environment.
    pub environment: Vec<(String, String)>,
    /// The text of a configuration file.
    pub config: Option<String>,
    /// Leaves the outbound policy as it is for every user: nothing on this machine is allowed.
    pub closed: bool,
}

/// A host. It ends, and its data is removed, when this is dropped.
#[derive(Debug)]
pub struct Host {
    server: Option<Server>,
    directory: TempDir,
    settings: HostSettings,
    admin: u16,
    public: u16,
}

/// The name under which [`Host::with_guests`] deploys the guests of the tests.
pub const GUESTS: &str = "guests";
/// The name under which [`Host::with_guests`] deploys the entities of the tests.
pub const ENTITIES: &str = "entities";
/// The name under which [`Host::with_guests`] deploys the sample.
pub const SAMPLE: &str = "job-with-callback";

impl Host {
    /// Starts a host with nothing deployed, and waits until it is ready.
    pub fn start(settings: HostSettings) -> Host {
        let mut host = Host::prepared(settings);
        host.launch();
        host
    }

    /// Starts a host on a copy of the data of another, which must not run.
    pub fn start_on_copy_of(other: &Host, settings: HostSettings) -> Host {
        assert!(other.server.is_none(), "stop the host first");
        let mut host = Host::prepared(settings);
        copy_all(&other.data(), &host.data()).expect("the data can be copied");
        host.launch();
        host
    }

    fn prepared(settings: HostSettings) -> Host {
        let directory = TempDir::with_prefix("rehydrate-test-").expect("a temporary directory can be made");
        Host { server: None, directory, settings, admin: free_port(), public: free_port() }
    }

    /// Starts a host and deploys the guests of the tests, their activities and entities, and the sample.
    pub async fn with_guests(settings: HostSettings) -> Host {
        let host = Host::start(settings);
        let client = host.client();
        let guests = [
            (GUESTS, "test_guests"),
            ("activities", "test_activities"),
            (ENTITIES, "test_entities"),
            (SAMPLE, "job_with_callback"),
        ];
        for (name, file) in guests {
            let answer = client.deploy(name, "1", &component(file)).await;
            assert_eq!(answer.status, 201, "deploying {file}: {answer:?}");
        }
        host
    }

    /// The one host that all tests share that neither stop it nor need other settings.
    pub async fn shared() -> &'static Host {
        static SHARED: OnceCell<Host> = OnceCell::const_new();
        SHARED.get_or_init(|| Host::with_guests(HostSettings::default())).await
    }

    fn launch(&mut self) {
        let mut arguments = vec!["serve".to_owned(), "--data-dir".to_owned(), self.data().display().to_string()];
        arguments.extend(["--admin-listen".to_owned(), format!("127.0.0.1:{}", self.admin)]);
        arguments.extend(["--public-listen".to_owned(), format!("127.0.0.1:{}", self.public)]);
        if !self.settings.closed {
            arguments.extend(["--allow-outbound".to_owned(), "127.0.0.1".to_owned()]);
        }
        if let Ok(residents) = std::env::var("REHYDRATE_TEST_RESIDENTS") {
            arguments.extend(["--resident-instances".to_owned(), residents]);
        }
        if let Some(config) = &self.settings.config {
            let file = self.directory.path().join("rehydrate.toml");
            std::fs::write(&file, config).expect("the configuration can be written");
            arguments.extend(["--config".to_owned(), file.display().to_string()]);
        }
        arguments.extend(self.settings.arguments.iter().cloned());
        let log = self.directory.path().join("log");
        let server = Server::start_in(&self.settings.environment, &program("rehydrate"), arguments, &log);
        assert_eq!(server.line("admin: "), format!("http://127.0.0.1:{}", self.admin));
        assert_eq!(server.line("public: "), format!("http://127.0.0.1:{}", self.public));
        self.server = Some(server);
    }

    /// The data directory.
    pub fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    /// A directory beside the data, for the test's own files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The base URL of the admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    /// The base URL of the public listener.
    pub fn public_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.public)
    }

    /// A new client of this host, for the runtime of the test that asks.
    pub fn client(&self) -> Client {
        Client::new(&self.admin_url(), &self.public_url())
    }

    /// What the host wrote to its log of late.
    pub fn log_end(&self) -> String {
        self.server.as_ref().map(Server::log_end).unwrap_or_default()
    }

    /// The host's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Whether the host has ended by itself, with what exit code; it may then be started again.
    pub fn ended(&mut self) -> Option<i32> {
        let server = self.server.take_if(|server| server.has_ended())?;
        Some(server.exit_code().expect("the shell that keeps a server has an exit code"))
    }

    /// Asks the host to end; its exit code.
    pub fn stop(&mut self) -> i32 {
        self.server.take().expect("the host runs").stop()
    }

    /// Starts the host again on the same data and the same ports.
    pub fn restart(&mut self) {
        assert!(self.server.is_none(), "stop or kill the host first");
        self.launch();
    }

    /// Starts the host again with other settings.
    pub fn restart_with(&mut self, settings: HostSettings) {
        self.settings = settings;
        self.restart();
    }

    /// Runs the command line against this host.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(program("rehydrate"));
        command.args(arguments).env("REHYDRATE_URL", self.admin_url()).kill_on_drop(true);
        command.output().await.expect("the command runs")
    }
}

/// Copies a directory with all that is below it.
fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// A port that is free now. Taken from below the range from which the system takes ports for outgoing
/// connections, so that it is still free when a host is started on it again.
fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = std::process::id() % u32::from(COUNT);
    let offset = u16::try_from(offset).expect("less than COUNT");
    for _ in 0..COUNT {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset) % COUNT;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("none of {COUNT} ports is free");
}
