//! A server as a child process: started, waited for, stopped, killed.
//!
//! Between the test and the server stands a shell, the keeper, which does nothing but wait on a pipe from the
//! test, and kill the server and wait for it when that closes. So no server outlives the tests, however they
//! end, and one server can be shared by all tests of a binary although nothing is dropped when that exits.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

/// Starts "$@" in the background, which says its id before it becomes the server (so that no line of the server
/// can come first), and keeps it until stdin ends. Its own end can be seen by the end
/// of stdout, which the keeper gives up; the keeper's exit code is the server's.
const KEEPER: &str = r#"
sh -c 'echo "pid $$"; exec "$@"' server "$@" </dev/null &
server=$!
exec >/dev/null
while read -r _; do :; done
kill -KILL $server 2>/dev/null
wait $server
"#;

const READY_LIMIT: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct Server {
    name: String,
    keeper: Child,
    pid: Pid,
    lines: Mutex<Receiver<String>>,
    log: PathBuf,
}

impl Server {
    /// Starts `program`; what it writes to stderr is appended to `log`.
    pub fn start<S: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = S>, log: &Path) -> Server {
        Server::start_in(&[], program, arguments, log)
    }

    /// The same with more variables in its environment.
    pub fn start_in<S: AsRef<OsStr>>(
        environment: &[(String, String)],
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Server {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stderr = File::options().create(true).append(true).open(log).expect("the log file opens");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(program).args(arguments).envs(environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut keeper = command.spawn().expect("sh starts");
        let stdout = keeper.stdout.take().expect("stdout is a pipe");
        let (sender, lines) = channel();
        // Reads to the end, heard or not, so that the server never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let first = lines.recv_timeout(READY_LIMIT).expect("the keeper says the process id");
        let pid = first.strip_prefix("pid ").and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        let pid = pid.expect("the keeper's first line is the process id");
        Server { name, keeper, pid, lines: Mutex::new(lines), log: log.to_owned() }
    }

    /// The rest of the next line that starts with `prefix`.
    pub fn line(&self, prefix: &str) -> String {
        self.line_within(prefix, READY_LIMIT).unwrap_or_else(|problem| {
            panic!("{} {problem} before it said `{prefix}`; its log ends:\n{}", self.name, self.log_end())
        })
    }

    fn line_within(&self, prefix: &str, limit: Duration) -> Result<String, &'static str> {
        let deadline = Instant::now() + limit;
        let lines = self.lines.lock().expect("no reader of lines panics");
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err("took too long"),
                Err(RecvTimeoutError::Disconnected) => return Err("ended"),
            }
        }
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The last lines of what the server wrote to stderr.
    pub fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Whether the server has ended by itself. Forgets the lines that it has said.
    pub fn has_ended(&self) -> bool {
        let lines = self.lines.lock().expect("no reader of lines panics");
        lines.try_iter().for_each(drop);
        matches!(lines.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Gives the exit code of a server that has ended by itself; kills it if it has not.
    pub fn exit_code(mut self) -> Option<i32> {
        self.end_keeper()
    }

    /// kill -9, and returns when the server is gone.
    pub fn kill(self) {
        drop(self);
    }

    /// Asks the server to end, and gives its exit code when it has.
    pub fn stop(mut self) -> i32 {
        // The keeper has not waited for it yet, so the id can't be another process's.
        let asked = kill_process(self.pid, Signal::TERM);
        let ended = self.line_within("\0", READY_LIMIT);
        assert_eq!(ended, Err("ended"), "{} was asked to end ({asked:?}); {}", self.name, self.log_end());
        self.end_keeper().expect("the keeper ends by itself")
    }

    fn end_keeper(&mut self) -> Option<i32> {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end_keeper();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Server, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(Path::new("/bin/sh"), ["-c", script], &directory.path().join("log"));
        (server, directory)
    }

    fn is_alive(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[test]
    fn a_server_is_gone_when_it_was_killed_or_dropped() {
        for dropped in [false, true] {
            let (server, _directory) = shell("echo ready: 7; exec sleep 600");
            let pid = server.pid();
            assert_eq!(server.line("ready:"), "7");
            assert!(is_alive(pid));
            if dropped {
                drop(server)
            } else {
                server.kill()
            }
            assert!(!is_alive(pid));
        }
    }

    #[test]
    fn a_server_asked_to_end_gives_its_exit_code() {
        let (server, _directory) = shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done");
        server.line("ready");
        assert_eq!(server.stop(), 3);
    }

    #[test]
    fn a_server_that_ends_too_early_is_noticed_at_once() {
        let (server, _directory) = shell("echo no data directory >&2");
        assert_eq!(server.line_within("ready", READY_LIMIT), Err("ended"));
        assert!(server.has_ended());
        assert_eq!(server.log_end(), "no data directory");
    }
}
