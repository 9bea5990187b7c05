//! The command line's grammar and its help. `help.txt` beside this crate is the golden copy of the latter.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Durable workflows as WebAssembly components: one binary, nothing lost, nothing doubled.
#[derive(Debug, Parser)]
#[command(name = "rehydrate", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub struct Args {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 well; 1 an error; 2 wrong usage; 3 the instance that was waited for or \
    followed did not complete, or its replay did not match; a component does not match all the histories it was \
    checked against.";

/// How a host is reached and how its answers are shown.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Talking to a host")]
pub struct ClientArgs {
    /// The admin URL of the host
    #[arg(long, global = true, env = "REHYDRATE_URL", hide_env_values = true, default_value = "http://127.0.0.1:7070")]
    pub url: String,
    /// A file with the admin token; the variable REHYDRATE_TOKEN may hold the token itself
    #[arg(long, global = true, value_name = "FILE", env = "REHYDRATE_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// The host's own JSON, for programs
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a host
    Serve(ServeArgs),
    /// Build a workflow, run it on a host of its own and follow it
    Dev(DevArgs),
    /// Deploy a component under a name and version
    Deploy(DeployArgs),
    /// Deployed components
    #[command(subcommand)]
    Component(ComponentCommand),
    /// Instances of workflows
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Entities: what they keep, and their operations
    #[command(subcommand)]
    Entity(EntityCommand),
    /// Instances started at the times of a cron expression
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Complete or reject a callback, as an external system would
    #[command(subcommand)]
    Callback(CallbackCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What a host can be told; each goes before the environment, that before the file, that before the default.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct HostArgs {
    /// The configuration file, in TOML
    #[arg(long, value_name = "FILE", env = "REHYDRATE_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", env = "REHYDRATE_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
    /// Where the admin API listens; port 0 takes a free one [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS", env = "REHYDRATE_ADMIN_LISTEN", hide_env_values = true)]
    pub admin_listen: Option<SocketAddr>,
    /// Where callbacks are taken; port 0 takes a free one [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDRESS", env = "REHYDRATE_PUBLIC_LISTEN", hide_env_values = true)]
    pub public_listen: Option<SocketAddr>,
    /// The base of callback URLs, as external systems reach it [default: the public listener's address]
    #[arg(long, value_name = "URL", env = "REHYDRATE_PUBLIC_URL", hide_env_values = true)]
    pub public_url: Option<String>,
    /// A file with the admin token; the variable REHYDRATE_ADMIN_TOKEN may hold the token itself
    #[arg(long, value_name = "FILE", env = "REHYDRATE_ADMIN_TOKEN_FILE", hide_env_values = true)]
    pub admin_token_file: Option<PathBuf>,
    /// A name under which the admin API is reached, beside addresses and localhost; may be repeated
    #[arg(long = "admin-host", value_name = "NAME")]
    pub admin_hosts: Vec<String>,
    /// A host that activities may call, in addition to those of the configuration; may be repeated
    #[arg(long, value_name = "HOST", env = "REHYDRATE_ALLOW_OUTBOUND", hide_env_values = true, value_delimiter = ',')]
    pub allow_outbound: Vec<String>,
    /// How many waiting instances stay in memory [default: 2000]
    #[arg(long, value_name = "COUNT", env = "REHYDRATE_RESIDENT_INSTANCES", hide_env_values = true)]
    pub resident_instances: Option<usize>,
    /// How many MiB they may need, and the host use, before the oldest of them are dropped [default: 512]
    #[arg(long, value_name = "MIB", env = "REHYDRATE_RESIDENT_MB", hide_env_values = true)]
    pub resident_mb: Option<usize>,
    /// How many activity attempts run at once [default: 256]
    #[arg(long, value_name = "COUNT", env = "REHYDRATE_ACTIVITY_CONCURRENCY", hide_env_values = true)]
    pub activity_concurrency: Option<usize>,
    /// What is logged to stderr: error, warn, info, debug, trace, or directives such as `rehydrate_runtime=debug`
    /// [default: info]
    #[arg(long, value_name = "LEVEL", env = "REHYDRATE_LOG", hide_env_values = true)]
    pub log_level: Option<String>,
    /// How it is logged [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", env = "REHYDRATE_LOG_FORMAT", hide_env_values = true)]
    pub log_format: Option<LogFormat>,
}

/// How the host logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    #[command(flatten)]
    pub host: HostArgs,
}

#[derive(Debug, ClapArgs)]
pub struct DevArgs {
    /// A cargo package to build for wasm32-wasip2, or a component (.wasm)
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// The deployment's name [default: the package's or file's]
    #[arg(long)]
    pub name: Option<String>,
    /// Start an instance with this input: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    pub input: Option<String>,
    /// The instance's id
    #[arg(long, requires = "input")]
    pub id: Option<String>,
    #[command(flatten)]
    pub host: HostArgs,
}

#[derive(Debug, ClapArgs)]
pub struct DeployArgs {
    /// NAME@VERSION; they stand for these bytes for ever
    #[arg(value_name = "NAME@VERSION")]
    pub deployment: String,
    /// The component (.wasm)
    pub file: PathBuf,
    /// Deploy nothing: replay the component against the histories of all open instances of NAME and of the newest that
    /// have ended, and say which it does not match
    #[arg(long)]
    pub check: bool,
    /// How many of those that have ended a check takes
    #[arg(long, value_name = "COUNT", default_value_t = 100, requires = "check")]
    pub ended: usize,
    /// Check it, deploy it, and move all open instances of NAME to it; does nothing if one of them does not match
    #[arg(long, conflicts_with = "check")]
    pub migrate: bool,
}

#[derive(Debug, Subcommand)]
pub enum ComponentCommand {
    /// List deployed components
    List,
    /// Show a component, with the number of instances that are pinned to it
    Show {
        /// The component
        #[arg(value_name = "NAME@VERSION")]
        deployment: String,
    },
    /// Remove a component; refused while an open instance is pinned to it
    Remove {
        /// The component
        #[arg(value_name = "NAME@VERSION")]
        deployment: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum InstanceCommand {
    /// Start an instance
    Start(StartArgs),
    /// List instances, newest first
    List(ListArgs),
    /// Show an instance: what it waits for, and every attempt of its activities
    Describe {
        /// The instance
        id: String,
    },
    /// Print an instance's history
    History(HistoryArgs),
    /// Print an instance's history as it grows, until it ends
    Follow(FollowArgs),
    /// Print an instance's log
    Log {
        /// The instance
        id: String,
        /// The run [default: the last]
        #[arg(long)]
        run: Option<u32>,
    },
    /// Send a signal
    Signal(SignalArgs),
    /// Ask an instance to cancel; it may clean up before it ends
    Cancel(ReasonArgs),
    /// End an instance at once
    Terminate(ReasonArgs),
    /// Suspend an instance: what comes in is recorded, and the workflow does not run until it is resumed
    Suspend(ReasonArgs),
    /// Let a suspended instance run again, or a paused one try again
    Resume(ReasonArgs),
    /// Let a failed instance go on from before the failure: what failed runs again
    Rewind(ReasonArgs),
    /// Drop instances that have ended for good, with all their runs: one, or all that meet the conditions
    Purge(PurgeArgs),
    /// Start the workflow of an instance again, with the same input
    Restart(RestartArgs),
    /// Go on with another version of the workflow; it pauses where that does not match its history
    Migrate {
        /// The instance
        id: String,
        /// The version
        version: String,
    },
    /// Run the workflow again against its history, writing nothing, and compare
    Replay {
        /// The instance
        id: String,
        /// The version to replay with [default: its own]
        #[arg(long = "with", value_name = "VERSION")]
        version: Option<String>,
        /// The run [default: the last]
        #[arg(long)]
        run: Option<u32>,
    },
}

#[derive(Debug, ClapArgs)]
pub struct StartArgs {
    /// The workflow; without a version the newest
    #[arg(value_name = "NAME[@VERSION]")]
    pub workflow: String,
    /// The instance's id [default: one is made]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub id: Option<String>,
    /// The input: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "null")]
    pub input: String,
    /// Makes the start safe to repeat
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// If an instance of this id has ended
    #[arg(long, value_enum, default_value_t = Reuse::Allow)]
    pub reuse_policy: Reuse,
    /// If an instance of this id has not ended
    #[arg(long, value_enum, default_value_t = Conflict::Refuse)]
    pub conflict_policy: Conflict,
    /// Wait until it ends, and print its output
    #[arg(long)]
    pub wait: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Reuse {
    /// Begin a new run
    Allow,
    /// Begin a new run only if the last one did not complete
    AllowIfFailed,
    /// Refuse
    Refuse,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Conflict {
    /// Refuse
    Refuse,
    /// Take the running one
    UseExisting,
    /// Terminate the running one and begin a new run
    Terminate,
}

#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Only these states: running, paused, suspended, completed, failed, cancelled, terminated
    #[arg(long, value_delimiter = ',', value_name = "STATE")]
    pub state: Vec<String>,
    /// Only this workflow
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Only this version of it
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Only ids that begin with this
    #[arg(long, value_name = "TEXT")]
    pub id_prefix: Option<String>,
    /// Only those created then or later, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub created_from: Option<String>,
    /// Only those created then or earlier
    #[arg(long, value_name = "TIME")]
    pub created_to: Option<String>,
    /// How many
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    pub limit: usize,
    /// Where the list before ended
    #[arg(long)]
    pub cursor: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = true)]
pub struct PurgeArgs {
    /// The instance
    #[arg(conflicts_with_all = ["state", "workflow", "version", "id_prefix", "created_from", "before"])]
    pub id: Option<String>,
    /// All in these states: completed, failed, cancelled, terminated [default: all of these]
    #[arg(long, value_delimiter = ',', value_name = "STATE")]
    pub state: Vec<String>,
    /// All of this workflow
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// All that were pinned to this version of it
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// All whose ids begin with this
    #[arg(long, value_name = "TEXT")]
    pub id_prefix: Option<String>,
    /// All created then or later, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub created_from: Option<String>,
    /// All created then or earlier
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct RestartArgs {
    /// The instance
    pub id: String,
    /// Start under an id of its own: this one, or one that is made [default: the same, which must have ended]
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub new_id: Option<String>,
    /// The version [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct HistoryArgs {
    /// The instance
    pub id: String,
    /// The run [default: the last]
    #[arg(long)]
    pub run: Option<u32>,
    /// The first event
    #[arg(long, default_value_t = 1, value_name = "EVENT")]
    pub from: u64,
    /// How many events [default: all]
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct FollowArgs {
    /// The instance
    pub id: String,
    /// The run [default: the last]
    #[arg(long)]
    pub run: Option<u32>,
    /// The first event
    #[arg(long, default_value_t = 1, value_name = "EVENT")]
    pub from: u64,
}

#[derive(Debug, ClapArgs)]
pub struct SignalArgs {
    /// The instance
    pub id: String,
    /// The signal's name
    pub name: String,
    /// The payload: JSON, @FILE, or - for stdin
    #[arg(value_name = "JSON", default_value = "null")]
    pub payload: String,
    /// Makes the signal safe to repeat
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct ReasonArgs {
    /// The instance
    pub id: String,
    /// Why
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum EntityCommand {
    /// List entities that keep something, in order of their ids `@name@key`
    List {
        /// Only entities of this name
        #[arg(long)]
        name: Option<String>,
        /// How many
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
        /// Where the list before ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show what an entity keeps
    Describe {
        /// Its name
        name: String,
        /// Its key
        key: String,
    },
    /// Have an entity perform an operation, and print what it gives
    Call(OperationArgs),
    /// Have an entity perform an operation, without its answer
    Signal(OperationArgs),
}

#[derive(Debug, ClapArgs)]
pub struct OperationArgs {
    /// The entity's name
    pub name: String,
    /// Its key
    pub key: String,
    /// The operation
    pub operation: String,
    /// The input: JSON, @FILE, or - for stdin
    #[arg(value_name = "JSON", default_value = "null")]
    pub input: String,
}

#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Put a schedule, in place of the one of that name
    Put(PutScheduleArgs),
    /// List schedules
    List,
    /// Show a schedule: its next times, what runs, what went wrong
    Show {
        /// The schedule
        name: String,
    },
    /// Nothing is due until it is resumed; what runs goes on
    Pause {
        /// The schedule
        name: String,
        /// Why
        #[arg(long)]
        note: Option<String>,
    },
    /// Go on; what was due meanwhile is not made
    Resume {
        /// The schedule
        name: String,
        /// Why
        #[arg(long)]
        note: Option<String>,
    },
    /// Start an instance now, beside what runs
    Trigger {
        /// The schedule
        name: String,
    },
    /// Delete a schedule; what it started goes on
    Delete {
        /// The schedule
        name: String,
    },
}

#[derive(Debug, ClapArgs)]
pub struct PutScheduleArgs {
    /// The schedule; an instance's id is this and the due time in UTC, such as nightly-2026-01-31T02:00:00Z
    pub name: String,
    /// The workflow to start; without a version the newest at the due time
    #[arg(value_name = "WORKFLOW[@VERSION]")]
    pub workflow: String,
    /// When: 5 fields (minute, hour, day of month, month, day of week), or 6 with seconds in front; @hourly, @daily,
    /// @weekly, @monthly, @yearly; or an interval such as `every 90s`
    #[arg(long, value_name = "EXPRESSION")]
    pub cron: String,
    /// The time zone in which the expression is read, such as Europe/Stockholm
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub time_zone: String,
    /// The input of every instance: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "null")]
    pub input: String,
    /// If it is due while an instance of it has not ended
    #[arg(long, value_enum, default_value_t = Overlap::Skip)]
    pub overlap: Overlap,
    /// What is made of the due times that passed while the host did not run
    #[arg(long, value_enum, default_value_t = CatchUp::All)]
    pub catch_up: CatchUp,
    /// How late that may be
    #[arg(long, value_name = "LENGTH", default_value = "60s", value_parser = length)]
    pub catch_up_window: Duration,
    /// Delay each time by a part of this, such as 30s, so that not all schedules are due at once
    #[arg(long, value_name = "LENGTH", default_value = "0s", value_parser = length)]
    pub jitter: Duration,
    /// Nothing is due before this, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// Nothing is due after this
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// It is over after so many instances
    #[arg(long, value_name = "COUNT")]
    pub remaining_runs: Option<u64>,
    /// Put it paused
    #[arg(long)]
    pub paused: bool,
    /// A note for people
    #[arg(long)]
    pub note: Option<String>,
}

/// A length of time such as `90s` or `1h 30m`.
fn length(text: &str) -> Result<Duration, String> {
    let length: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}; give one such as 90s"))?;
    Duration::try_from(length).map_err(|_| "it is negative; give one such as 90s".to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Overlap {
    /// Leave it out
    Skip,
    /// Start another beside it
    Allow,
    /// Let one wait until it has ended
    BufferOne,
    /// Ask it to cancel, and let the newest wait until it has ended
    CancelOther,
    /// Terminate it and start another
    TerminateOther,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CatchUp {
    /// Each that is not too late
    All,
    /// Only the latest
    Latest,
    /// None that is more than 5 seconds late
    None,
}

#[derive(Debug, Subcommand)]
pub enum CallbackCommand {
    /// Complete a callback
    Complete {
        /// The callback's URL
        url: String,
        /// The value: JSON, @FILE, or - for stdin
        #[arg(value_name = "JSON")]
        value: String,
    },
    /// Reject a callback
    Reject {
        /// The callback's URL
        url: String,
        /// A short, stable code
        #[arg(long)]
        code: String,
        /// One sentence for a person
        #[arg(long)]
        message: String,
        /// Another attempt may succeed
        #[arg(long)]
        retryable: bool,
        /// More: JSON, @FILE, or - for stdin
        #[arg(long, value_name = "JSON")]
        details: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn help_of(command: &clap::Command, path: &str, out: &mut String) {
        let mut shown = command.clone().bin_name(path).term_width(100);
        out.push_str(&format!("$ {path} --help\n{}\n", shown.render_long_help()));
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            help_of(sub, &format!("{path} {}", sub.get_name()), out);
        }
    }

    #[test]
    fn the_help_is_its_golden_copy() {
        let mut command = Args::command();
        command.build();
        let mut out = String::new();
        help_of(&command, "rehydrate", &mut out);
        expect_test::expect_file!["../help.txt"].assert_eq(&out);
    }

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for line in ["rehydrate --url http://h:1 instance list", "rehydrate instance list --url http://h:1"] {
            assert_eq!(Args::parse_from(line.split(' ')).client.url, "http://h:1");
        }
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        let error = Args::try_parse_from(["rehydrate", "instance", "strat"]).expect_err("wrong");
        assert_eq!(error.exit_code(), 2);
    }
}
