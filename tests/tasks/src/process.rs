//! Child processes, all of which end with this one: on success, on an error and on a signal.
//!
//! Every child is in one registry. It is emptied at the end of `main`, and by the thread that waits for
//! SIGINT, SIGTERM and SIGHUP. Every child leads a process group of its own, so that what it has started
//! itself (rustc below cargo) ends with it; nothing but these groups is ever signalled.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Registry {
    children: BTreeMap<u32, Child>,
    directories: Vec<PathBuf>,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

fn registry() -> MutexGuard<'static, Option<Registry>> {
    // It is only a list of what to end: usable whatever a panicking thread did.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes SIGINT, SIGTERM and SIGHUP end all children before this process.
pub fn end_children_on_signals() -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("can't handle signals")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("\nstopped; ending what was started");
            end_all();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Ends all children and removes all temporary directories.
pub fn end_all() {
    let mut registry = registry();
    let Some(all) = registry.take() else { return };
    for (_, mut child) in all.children {
        end(&mut child);
    }
    for directory in all.directories {
        let _ = std::fs::remove_dir_all(directory);
    }
}

/// Ends a child and everything in its group.
fn end(child: &mut Child) {
    // The child has not been waited for, so its id, and with it the group's, can't be another's. It may have
    // ended by itself a moment ago; then there is nothing to do.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

/// Makes an empty directory that is removed at the end.
pub fn temporary_directory() -> anyhow::Result<PathBuf> {
    for _ in 0..100 {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = format!("rehydrate-demo-{}-{:x}", std::process::id(), since.as_nanos());
        let path = std::env::temp_dir().join(name);
        // Fails if it exists: a directory that someone else made is never taken over, nor removed.
        if std::fs::create_dir(&path).is_ok() {
            registry().get_or_insert_default().directories.push(path.clone());
            return Ok(path);
        }
    }
    bail!("can't make a directory in {}; set TMPDIR to a place where one can", std::env::temp_dir().display())
}

/// A child in the registry.
struct Handle(u32);

impl Handle {
    fn spawn(command: &mut Command, what: &str) -> anyhow::Result<Handle> {
        // The lock is held over the spawn: a signal in between must find the child.
        let mut registry = registry();
        let child = command.process_group(0).spawn().with_context(|| format!("can't start {what}"))?;
        let id = child.id();
        registry.get_or_insert_default().children.insert(id, child);
        Ok(Handle(id))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Child) -> T) -> Option<T> {
        registry().as_mut().and_then(|registry| registry.children.get_mut(&self.0)).map(f)
    }

    /// The child's status once it has ended; it leaves the registry then.
    fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(status) = self.with(Child::try_wait) else { bail!("the process was ended by a signal") };
        let status = status.context("can't wait for a process")?;
        if status.is_some() {
            self.forget();
        }
        Ok(status)
    }

    fn forget(&self) {
        if let Some(registry) = registry().as_mut() {
            registry.children.remove(&self.0);
        }
    }

    fn wait(&self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if begun.elapsed() >= limit {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&self) {
        self.with(end);
        self.forget();
    }
}

/// Runs a command to its end, with this process's own output; false if it failed.
pub fn succeeds(command: &mut Command, limit: Duration) -> anyhow::Result<bool> {
    let what = format!("{command:?}");
    let handle = Handle::spawn(command.stdin(Stdio::null()), &what)?;
    match handle.wait(limit)? {
        Some(status) => Ok(status.success()),
        None => {
            handle.kill();
            bail!("{what} took longer than {limit:?} and was stopped")
        }
    }
}

/// What a command prints; none if it is not there or fails.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// A server that was started here.
pub struct Server {
    name: &'static str,
    handle: Handle,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Server {
    /// Starts a server; what it writes to stderr goes to `log`.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> anyhow::Result<Server> {
        let file = File::options().create(true).append(true).open(log).context("can't open a log file")?;
        let handle = Handle::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file), name)?;
        let stdout = handle.with(|child| child.stdout.take()).flatten().context("the process has no output")?;
        let (sender, lines) = channel();
        // Reads to the end, heard or not, so that the server never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(Server { name, handle, lines, log: log.to_owned() })
    }

    /// The rest of the next line that starts with `prefix`.
    pub fn line(&self, prefix: &str, limit: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} was not ready within {limit:?}; its log ends:\n{}", self.name, self.log_end())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} ended before it was ready; its log ends:\n{}", self.name, self.log_end())
                }
            }
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.handle.0
    }

    /// The last lines of what it wrote to stderr.
    pub fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// kill -9.
    pub fn kill(self) {
        self.handle.kill();
    }

    /// Asks it to end, and insists after ten seconds.
    pub fn stop(self) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let asked = self.handle.with(|child| kill_process(Pid::from_child(child), Signal::TERM));
        if matches!(asked, Some(Ok(()))) && self.handle.wait(PATIENCE)?.is_some() {
            return Ok(());
        }
        let log = self.log_end();
        self.handle.kill();
        bail!("{} did not end within {PATIENCE:?} when asked to; its log ends:\n{log}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("rehydrate-tasks-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_command_that_takes_too_long_is_stopped_and_named() {
        let error = succeeds(&mut shell("sleep 600"), Duration::from_millis(100)).unwrap_err().to_string();
        assert!(error.contains("sleep 600") && error.contains("100ms"), "{error}");
        assert!(succeeds(&mut shell("exit 0"), READY).unwrap());
        assert!(!succeeds(&mut shell("exit 3"), READY).unwrap());
    }

    const READY: Duration = Duration::from_secs(30);

    #[test]
    fn a_server_is_awaited_by_a_line_and_ends_when_asked() {
        let log = log("awaited");
        let server = Server::start("a server", &mut shell("echo loading; echo 'ready: here'; exec sleep 600"), &log);
        let server = server.unwrap();
        assert_eq!(server.line("ready: ", READY).unwrap(), "here");
        server.stop().unwrap();
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_server_that_ends_too_early_is_reported_with_its_log() {
        let log = log("too-early");
        let server = Server::start("a server", &mut shell("echo 'no data directory' >&2"), &log).unwrap();
        let error = server.line("ready: ", READY).unwrap_err().to_string();
        std::fs::remove_file(&log).unwrap();
        assert!(error.contains("a server ended before it was ready") && error.contains("no data directory"), "{error}");
    }
}
