//! The commands. Each is a client of the API, except those that run a host.

mod callback;
mod component;
mod entity;
mod instance;
mod messages;
mod schedule;
mod upkeep;

pub use component::deploy_bytes;
pub use instance::{follow, start_request};

use crate::args::{Args, ClientArgs, Command, Output};
use crate::client::{Answer, Client};
use crate::output::{self, Ended};
use crate::{dev, serve};
use anyhow::{Context as _, bail};
use clap::CommandFactory as _;
use serde_json::value::RawValue;
use std::io::Read as _;

/// Where a client command sends its requests and how it prints.
pub struct Context {
    /// The host.
    pub client: Client,
    /// How to print.
    pub output: Output,
}

impl Context {
    fn new(args: &ClientArgs) -> anyhow::Result<Context> {
        Ok(Context { client: Client::new(args)?, output: args.output })
    }

    /// Prints an answer: as it came, or as `table` makes it.
    pub fn print(&self, answer: &Answer, table: impl FnOnce(&Answer) -> anyhow::Result<String>) -> anyhow::Result<()> {
        match self.output {
            Output::Json => output::line(&answer.text)?,
            Output::Table => output::line(&table(answer)?)?,
        }
        Ok(())
    }
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<Ended> {
    let Args { client, command } = args;
    match command {
        Command::Serve(args) => serve::run(&args).await,
        Command::Dev(args) => dev::run(&args).await,
        Command::Deploy(args) => component::deploy(&Context::new(&client)?, &args).await,
        Command::Component(command) => component::run(&Context::new(&client)?, &command).await,
        Command::Instance(command) => instance::run(&Context::new(&client)?, command).await,
        Command::Entity(command) => entity::run(&Context::new(&client)?, command).await,
        Command::Schedule(command) => schedule::run(&Context::new(&client)?, command).await,
        Command::Callback(command) => callback::run(client.output, command).await,
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Ended> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "rehydrate", &mut script);
    output::line(&String::from_utf8_lossy(&script))?;
    Ok(Ended::Well)
}

/// A JSON argument: the text itself, `@FILE`, or `-` for stdin.
pub fn json_argument(text: &str) -> anyhow::Result<Box<RawValue>> {
    let json = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("{file} can't be read; check its path"))?,
        None if text == "-" => {
            let mut json = String::new();
            std::io::stdin().read_to_string(&mut json).context("stdin can't be read")?;
            json
        }
        None => text.to_owned(),
    };
    let hint = "a string needs its quotes: '\"text\"'; a file is given as @FILE";
    RawValue::from_string(json.trim().to_owned())
        .with_context(|| format!("`{}` is not JSON; {hint}", output::brief(text, 60)))
}

/// `NAME@VERSION` in two.
pub fn name_and_version(text: &str) -> anyhow::Result<(&str, &str)> {
    match text.rsplit_once('@') {
        Some((name, version)) if !name.is_empty() && !version.is_empty() => Ok((name, version)),
        _ => bail!("`{text}` is not NAME@VERSION; give one such as job@1.0.0"),
    }
}

/// `NAME[@VERSION]` in two.
pub fn workflow_and_version(text: &str) -> (String, Option<String>) {
    match text.rsplit_once('@') {
        Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
        None => (text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_argument_is_text_or_a_file_and_is_checked() {
        assert_eq!(json_argument(r#" {"z":1,"a":1e999} "#).expect("json").get(), r#"{"z":1,"a":1e999}"#);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "[1]\n").expect("written");
        assert_eq!(json_argument(&format!("@{}", file.path().display())).expect("json").get(), "[1]");
        for wrong in ["text", "", "{", "@no-such-file"] {
            assert!(json_argument(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_deployment_is_split_at_its_last_at() {
        assert_eq!(name_and_version("job@1.0.0").expect("both"), ("job", "1.0.0"));
        assert_eq!(name_and_version("a@b@1").expect("both"), ("a@b", "1"));
        for wrong in ["job", "@1", "job@", ""] {
            assert!(name_and_version(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_shell_has_its_completions() {
        for shell in <clap_complete::Shell as clap::ValueEnum>::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "rehydrate", &mut script);
            assert!(String::from_utf8_lossy(&script).contains("rehydrate"), "{shell}");
        }
    }
}
