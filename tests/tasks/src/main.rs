//! The project's tasks: `cargo demo`, `cargo verify`, `cargo lint` and `cargo bench-host`.
//!
//! It is compiled before anything else and depends on next to nothing, so that it can look at the machine,
//! and say in one line what is missing, before the long build begins. Everything about a running host it does
//! through the command `rehydrate`, as a user would.

mod bench;
mod clients;
mod compile;
mod demo;
mod instructions;
mod prerequisites;
mod process;
mod verify;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo demo      one job from start to end: timeout, retry, callback, and a kill -9 in between
       cargo verify    all tests
       cargo lint      formatting and clippy
       cargo bench-host -- ...
                       measure the host; `cargo bench-host -- --help` says how

  --no-install         say what is missing on this machine instead of installing it";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let before = arguments.len();
    arguments.retain(|argument| argument != "--no-install");
    let install = arguments.len() == before;
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["demo"] => process::end_children_on_signals().and_then(|()| demo::run(install)),
        ["verify"] => process::end_children_on_signals().and_then(|()| verify::run(install)),
        ["bench", ref rest @ ..] => process::end_children_on_signals().and_then(|()| bench::run(install, rest)),
        ["instructions"] => process::end_children_on_signals().and_then(|()| verify::keep_instructions(install)),
        ["lint"] => process::end_children_on_signals().and_then(|()| verify::lint(install)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    // Also when all went well: nothing that was started here may outlive it.
    process::end_all();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One line about what is being done now.
fn say(line: &str) {
    println!("==> {line}");
}
