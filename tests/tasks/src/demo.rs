//! `cargo demo`: the founding scenario with real processes, and nothing left behind.
//!
//! A job service never calls back for the first attempt; the workflow gives up on it after its timeout,
//! cancels it and submits a second one. While that is waited for the host is killed with SIGKILL. The job
//! service calls, finds nobody, tries again; the host comes back on the same data, takes the callback, and
//! the workflow completes. Any other outcome is an error.

use crate::compile::{demo_sample, programs};
use crate::process::{Server, temporary_directory};
use crate::workspace::Workspace;
use crate::{prerequisites, say};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const INSTANCE: &str = "demo";
const TIMEOUT_SECONDS: u64 = 5;
/// Longer than the few milliseconds it takes to see the second attempt wait and kill the host.
const RUN_SECONDS: u64 = 3;
const READY_LIMIT: Duration = Duration::from_secs(60);
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// Runs the demo from nothing.
pub fn run(install: bool) -> anyhow::Result<()> {
    let environment = prerequisites::check(install)?;
    let workspace = Workspace::find()?;
    programs(&workspace, &environment)?;
    demo_sample(&workspace, &environment)?;
    let stage = Stage::new(workspace)?;
    let (service, service_url) = stage.start_job_service()?;
    let host = stage.start_host()?;
    stage.start_instance(&service_url)?;
    let mut watch = Watch::new(&stage);
    watch.until("the second attempt waits for its callback", |status| {
        attempt_states(status) == ["timed-out", "waiting-for-callback"]
    })?;
    say(&format!("kill -9 of the host (process {}), in the middle of the wait", host.id()));
    host.kill();
    wait_for_a_lost_webhook(&service_url)?;
    say("the job is done, its webhook found nobody; the job service keeps trying");
    say("starting the host again, on the same data");
    let host = stage.start_host()?;
    let status = watch.until("the instance is over", is_over)?;
    print_timeline(&status);
    check(&status)?;
    host.stop()?;
    service.stop()?;
    say("done: completed on the second attempt, across a kill -9; host and job service are stopped, data removed");
    Ok(())
}

/// Where the demo plays.
struct Stage {
    workspace: Workspace,
    directory: PathBuf,
    admin: u16,
    public: u16,
}

impl Stage {
    fn new(workspace: Workspace) -> anyhow::Result<Stage> {
        let [admin, public] = free_ports()?;
        Ok(Stage { workspace, directory: temporary_directory()?, admin, public })
    }

    fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    fn start_job_service(&self) -> anyhow::Result<(Server, String)> {
        let mut command = Command::new(self.workspace.program("job-service"));
        command.args(["--listen", "127.0.0.1:0"]);
        say("starting the job service");
        let server = Server::start("the job service", &mut command, &self.directory.join("job-service.log"))?;
        let url = server.line("job-service listening on ", READY_LIMIT)?;
        Ok((server, url))
    }

    fn start_host(&self) -> anyhow::Result<Server> {
        let listen = [self.admin, self.public].map(|port| format!("127.0.0.1:{port}"));
        let mut command = self.rehydrate();
        command.arg("serve").arg("--data-dir").arg(self.directory.join("data"));
        command.args(["--admin-listen", &listen[0], "--public-listen", &listen[1]]);
        command.args(["--allow-outbound", "127.0.0.1"]);
        show(&command);
        let host = Server::start("the host", &mut command, &self.directory.join("host.log"))?;
        host.line("admin: ", READY_LIMIT)?;
        host.line("public: ", READY_LIMIT)?;
        Ok(host)
    }

    fn rehydrate(&self) -> Command {
        Command::new(self.workspace.program("rehydrate"))
    }

    /// Runs a command of the client and gives what it printed.
    fn client(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.rehydrate();
        command.args(arguments).args(["--url", &self.admin_url()]).stdin(Stdio::null());
        let done = command.output().context("can't run rehydrate")?;
        if !done.status.success() {
            bail!("`rehydrate {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn shown_client(&self, arguments: &[&str]) -> anyhow::Result<()> {
        show(self.rehydrate().args(arguments));
        let printed = self.client(arguments)?;
        printed.lines().for_each(|line| println!("    {line}"));
        Ok(())
    }

    fn start_instance(&self, service_url: &str) -> anyhow::Result<()> {
        let component = self.workspace.component("job_with_callback");
        let component = component.to_str().context("the build directory's path is not UTF-8")?;
        self.shown_client(&["deploy", "job-with-callback@1", component])?;
        let input = json!({
            "job": { "name": "nightly-report", "run_seconds": RUN_SECONDS, "behaviours": ["never", "success"] },
            "service_url": service_url,
            "timeout_seconds": TIMEOUT_SECONDS,
            "retry_limit": 2,
        });
        self.shown_client(&["instance", "start", "job-with-callback", "--id", INSTANCE, "--input", &input.to_string()])
    }

    fn status(&self) -> anyhow::Result<Value> {
        let printed = self.client(&["instance", "describe", INSTANCE, "--output", "json"])?;
        serde_json::from_str(&printed).context("`rehydrate instance describe` printed no JSON")
    }
}

/// Prints a command as one would type it.
fn show(command: &Command) {
    println!("$ rehydrate {}", as_typed(command));
}

fn as_typed(command: &Command) -> String {
    let words = command.get_args().map(|word| {
        let word = word.to_string_lossy();
        let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@=,".contains(c));
        if plain { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Two ports that are free now, and still will be when the host is started again: they lie below the range
/// from which the system takes ports for outgoing connections.
fn free_ports() -> anyhow::Result<[u16; 2]> {
    let mut free = (18_000..30_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    match (free.next(), free.next()) {
        (Some(admin), Some(public)) => Ok([admin, public]),
        _ => bail!("no two ports between 18000 and 30000 are free on 127.0.0.1"),
    }
}

/// Prints what changes in the attempts, as it changes.
struct Watch<'a> {
    stage: &'a Stage,
    begun: Instant,
    seen: Vec<String>,
}

impl<'a> Watch<'a> {
    fn new(stage: &'a Stage) -> Watch<'a> {
        Watch { stage, begun: Instant::now(), seen: Vec::new() }
    }

    /// Watches until `done` holds of the status.
    fn until(&mut self, what: &str, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let status = self.stage.status()?;
            self.print_changes(&status);
            if done(&status) {
                return Ok(status);
            }
            ensure!(!is_over(&status), "the instance ended before {what}:\n{status:#}");
            ensure!(Instant::now() < deadline, "waited {STEP_LIMIT:?} in vain until {what}:\n{status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn print_changes(&mut self, status: &Value) {
        let states = attempt_states(status);
        for (index, state) in states.iter().enumerate() {
            if self.seen.get(index) != Some(state) {
                println!("    {:5.1} s  attempt {}: {state}", self.begun.elapsed().as_secs_f64(), index + 1);
            }
        }
        self.seen = states;
    }
}

fn is_over(status: &Value) -> bool {
    matches!(status["state"].as_str(), Some("completed" | "failed" | "cancelled" | "terminated"))
}

fn attempts(status: &Value) -> &[Value] {
    status["custom_status"]["attempts"].as_array().map_or(&[], Vec::as_slice)
}

fn attempt_states(status: &Value) -> Vec<String> {
    attempts(status).iter().map(|attempt| text(&attempt["state"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { "-".to_owned() } else { value.to_string() }, str::to_owned)
}

fn print_timeline(status: &Value) {
    println!();
    println!(
        "    {:<8} {:<22} {:<30} {:<30} {:<30} message",
        "attempt", "state", "started", "state set", "timeout due"
    );
    for attempt in attempts(status) {
        let [number, state, started, set, due, message] =
            ["attempt", "state", "started", "state_set", "timeout_due", "message"].map(|field| text(&attempt[field]));
        println!("    {number:<8} {state:<22} {started:<30} {set:<30} {due:<30} {message}");
    }
    println!("    instance {INSTANCE}: {}, output {}", text(&status["state"]), status["output"]);
    println!();
}

fn check(status: &Value) -> anyhow::Result<()> {
    let states = attempt_states(status);
    let expected = ["timed-out", "callback-success"];
    if status["state"] == "completed" && states == expected {
        return Ok(());
    }
    bail!("the instance should be completed with the attempts {expected:?}; its status is\n{status:#}")
}

/// Waits until the job service has tried to call back and found nobody.
fn wait_for_a_lost_webhook(service_url: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + STEP_LIMIT;
    loop {
        let ledger = http_get(service_url, "/api/ledger")?;
        let entries = ledger["entries"].as_array().map_or(&[][..], Vec::as_slice);
        if entries.iter().any(|entry| entry["kind"] == "webhook" && entry["status"].is_null()) {
            return Ok(());
        }
        let delivered = entries.iter().any(|entry| entry["kind"] == "webhook");
        ensure!(!delivered, "the webhook came before the host was killed:\n{ledger:#}");
        ensure!(Instant::now() < deadline, "the job service sent no webhook within {STEP_LIMIT:?}:\n{ledger:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A GET of JSON from a server on this machine: all that is needed of HTTP here.
fn http_get(base: &str, path: &str) -> anyhow::Result<Value> {
    let address = base.strip_prefix("http://").context("the job service printed no http URL")?;
    let mut connection = TcpStream::connect(address).context("can't reach the job service")?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).context("the job service did not answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the job service gave no HTTP answer")?;
    ensure!(
        head.split(' ').nth(1) == Some("200"),
        "the job service answered {}",
        head.lines().next().unwrap_or("nothing")
    );
    serde_json::from_str(body).context("the job service gave no JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_so_that_it_can_be_typed() {
        let mut command = Command::new("rehydrate");
        command.args(["instance", "start", "--input", r#"{"name":"it's"}"#, ""]);
        assert_eq!(as_typed(&command), r#"instance start --input '{"name":"it'\''s"}' ''"#);
    }

    #[test]
    fn only_the_expected_attempts_pass() {
        let status = |state: &str, attempts: &[&str]| {
            let attempts: Vec<Value> = attempts.iter().map(|state| json!({ "state": state })).collect();
            json!({ "state": state, "custom_status": { "attempts": attempts } })
        };
        assert!(check(&status("completed", &["timed-out", "callback-success"])).is_ok());
        assert!(check(&status("completed", &["callback-success"])).is_err());
        assert!(check(&status("failed", &["timed-out", "callback-success"])).is_err());
        assert!(check(&json!({})).is_err());
    }
}
