//! `cargo bench-host`: builds the host, the benchmark program and its guests, and becomes that program.

use crate::compile::{bench, programs};
use crate::prerequisites;
use crate::workspace::Workspace;
use anyhow::Context;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Does not return if all goes well: a signal then goes straight to the program, which ends what it started.
pub fn run(install: bool, arguments: &[&str]) -> anyhow::Result<()> {
    let environment = prerequisites::check(install)?;
    let workspace = Workspace::find()?;
    programs(&workspace, &environment)?;
    bench(&workspace, &environment)?;
    let program = workspace.program("bench-host");
    let error = Command::new(&program).args(own(arguments)).exec();
    Err(error).with_context(|| format!("can't run {}", program.display()))
}

/// The program's arguments: cargo hands on the `--` that separates them from its own.
fn own<'a>(arguments: &'a [&'a str]) -> &'a [&'a str] {
    match arguments {
        ["--", rest @ ..] => rest,
        all => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leading_separator_is_not_an_argument_of_the_program() {
        assert_eq!(own(&["--", "--work", "W1"]), ["--work", "W1"]);
        assert_eq!(own(&["--work", "W1"]), ["--work", "W1"]);
        assert_eq!(own(&["--", "--", "a"]), ["--", "a"]);
        assert!(own(&["--"]).is_empty() && own(&[]).is_empty());
    }
}
