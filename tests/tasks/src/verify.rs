//! `cargo verify`: all tests. `cargo lint`: formatting and clippy.

use crate::clients;
use crate::compile::{guests, programs, run_cargo, samples};
use crate::instructions;
use crate::prerequisites::{self, Environment};
use crate::say;
use crate::workspace::Workspace;
use std::time::Instant;

/// Builds everything and runs every test; the black-box tests twice, the second time with room for one
/// resident instance only.
pub fn run(install: bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    let environment = prerequisites::check(install)?;
    let workspace = Workspace::find()?;
    clients::install(&workspace, install)?;
    programs(&workspace, &environment)?;
    samples(&workspace, &environment)?;
    guests(&workspace, &environment)?;
    say("running all tests");
    run_cargo(&workspace, &environment, &["test", "--release", "--workspace"])?;
    say("running the black-box tests again, with a resident cache of 1");
    let resident = environment.with("REHYDRATE_TEST_RESIDENTS", "1");
    // Over the whole workspace, as before: another selection has other features and builds half of it again.
    run_cargo(&workspace, &resident, &["test", "--release", "--workspace", "--test", "main"])?;
    instructions::check(&workspace, &environment, install, false)?;
    say(&format!("all tests passed, in {} s with the build", begun.elapsed().as_secs()));
    Ok(())
}

/// Counts the instructions of a step and keeps the figures, for later runs to compare with.
pub fn keep_instructions(install: bool) -> anyhow::Result<()> {
    let environment = prerequisites::check(install)?;
    instructions::check(&Workspace::find()?, &environment, install, true)
}

/// Checks formatting and runs clippy over everything, warnings being errors.
pub fn lint(install: bool) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    say("checking the formatting");
    run_cargo(&workspace, &Environment::default(), &["fmt", "--all", "--check"])?;
    let environment = prerequisites::check(install)?;
    say("running clippy");
    let clippy = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_cargo(&workspace, &environment, &clippy)
}
