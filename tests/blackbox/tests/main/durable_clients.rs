//! The published clients of Durable Functions, driven by the programs in `tests/clients`.

use rehydrate_blackbox::programs::{client_packages, client_source};
use rehydrate_blackbox::{Host, HostSettings};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// Longer than all checks of one program together may take on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(600);

const CODE: &str = "a key of the admin listener / 0123";

/// Where a host serves the API.
fn base(host: &Host) -> String {
    format!("{}/runtime/webhooks/durabletask", host.admin_url())
}

/// Runs a program, whose last line is what failed, if something did.
async fn run(host: &Host, command: &mut Command) {
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output()).await;
    let output = output.expect("the program ends in time").expect("the program runs");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}:\n{out}\n{err}\nthe host's log ends:\n{}", output.status, host.log_end());
    let passed = out.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(passed > 15, "only {passed} checks passed:\n{out}");
    println!("{out}");
}

fn node(version: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", client_packages(&format!("{version}/node_modules")));
    command.arg(client_source(&format!("{version}/client.js"))).args(arguments);
    command
}

/// A host of the program's own, as it lists and purges; without a key and with one.
async fn run_node(version: &str) {
    let mut host = Host::with_guests(HostSettings::default()).await;
    run(&host, &mut node(version, &[&base(&host)])).await;
    host.stop();
    host.restart_with(with_token(host.directory()));
    run(&host, &mut node(version, &[&base(&host), CODE])).await;
}

fn with_token(directory: &Path) -> HostSettings {
    let file = directory.join("token");
    std::fs::write(&file, CODE).expect("the token can be written");
    let arguments = vec!["--admin-token-file".to_owned(), file.display().to_string()];
    HostSettings { arguments, ..HostSettings::default() }
}

#[tokio::test]
async fn the_npm_client_2_works_against_this_host() {
    run_node("npm-v2").await;
}

#[tokio::test]
async fn the_npm_client_3_works_against_this_host() {
    run_node("npm-v3").await;
}

#[tokio::test]
async fn the_python_client_works_against_this_host() {
    let host = Host::with_guests(HostSettings::default()).await;
    let python = client_packages("python/venv/bin/python");
    let mut command = Command::new(python);
    command.args([OsStr::new("-B"), client_source("python/client.py").as_os_str(), OsStr::new(&base(&host))]);
    run(&host, &mut command).await;
}
