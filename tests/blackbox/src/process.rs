//! A server as a child process: started, waited for, stopped, killed.
//!
//! Between the test and the server stands a shell that does nothing but wait on a pipe from the test and kill
//! the server when it closes. So no server outlives the tests, however they end, and one server can be
//! shared by all tests of a binary although nothing is dropped when that exits.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Starts "$@" in the background, says its id, and kills it when stdin ends. A server that ends by itself is
/// told by `ended CODE`.
const KEEPER: &str = r#"
"$@" </dev/null &
server=$!
echo "pid $server"
(read -r _; kill -KILL $server) <&0 2>/dev/null &
wait $server
echo "ended $?"
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
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stderr = File::options().create(true).append(true).open(log).expect("the log file opens");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(program).args(arguments);
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

    fn line_within(&self, prefix: &str, limit: Duration) -> Result<String, String> {
        let deadline = Instant::now() + limit;
        let lines = self.lines.lock().expect("no reader of lines panics");
        loop {
            let line = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.map_err(|_| "took too long".to_owned())?;
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok(rest.trim().to_owned());
            }
            if line.starts_with("ended ") {
                return Err(line);
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

    /// kill -9, and returns when the server is gone.
    pub fn kill(self) {
        // The keeper has not waited for it while it says nothing, so the id can't be another process's.
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = self.line_within("ended ", READY_LIMIT);
    }

    /// Asks the server to end, and gives its exit code when it has.
    pub fn stop(self) -> i32 {
        let _ = kill_process(self.pid, Signal::TERM);
        let ended = self.line_within("ended ", READY_LIMIT);
        let code = ended.unwrap_or_else(|problem| panic!("{} {problem} while stopping; {}", self.name, self.log_end()));
        code.parse().expect("the keeper gives a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
