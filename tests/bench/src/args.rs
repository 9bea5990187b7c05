//! What the program can be told.

use crate::instructions::Piece;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Measures a host of Rehydrate beside the raw limits of the machine it runs on.
#[derive(Debug, Parser)]
#[command(name = "bench-host", max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of measuring.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to measure.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What can be done instead of measuring.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw the figures of one run, or of two to compare them
    Plot {
        /// Files written by `--json`
        #[arg(required = true, num_args = 1..=2)]
        files: Vec<PathBuf>,
        /// Where the plots go
        #[arg(long, value_name = "DIR")]
        svg: PathBuf,
    },
    /// Run a fixed piece of work once, for a program that counts instructions
    #[command(hide = true)]
    Instructions {
        /// What to run
        #[arg(value_enum)]
        piece: Piece,
        /// Of how many steps
        steps: u64,
    },
    /// Serve HTTP and nothing behind it, until stdin ends
    #[command(hide = true)]
    BareHttpServer,
}

/// How to measure.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// Only this work; may be repeated
    #[arg(long = "work", value_enum, ignore_case = true, value_name = "WORK")]
    pub works: Vec<Work>,
    /// Append each figure to this file, as a line of JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Small counts and short times: to see that it works, not to compare
    #[arg(long)]
    pub quick: bool,
    /// How many timers, parked workflows, steps or activities there are, instead of the work's own counts; with one
    /// of W3 to W6; may be repeated
    #[arg(long = "count", value_name = "COUNT")]
    pub counts: Vec<u64>,
    /// Draw this run's figures into this directory
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
    /// The host to measure [default: `rehydrate` beside this program]
    #[arg(long, value_name = "FILE")]
    pub host_bin: Option<PathBuf>,
    /// Where hosts and stores get their directories, which are removed in the end [default: `bench-data` in the
    /// build directory]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// A kind of work to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Work {
    /// Ten activities in a row
    #[value(name = "W1")]
    Sequential,
    /// Wait for a callback
    #[value(name = "W2")]
    Callback,
    /// Sleep for seconds
    #[value(name = "W3")]
    Timers,
    /// Wait for a callback, very many at once, and a kill -9
    #[value(name = "W4")]
    Parked,
    /// One workflow of very many steps, and a kill -9
    #[value(name = "W5")]
    LongHistory,
    /// One workflow with very many activities at once
    #[value(name = "W6")]
    FanOut,
    /// A host with nothing to do
    #[value(name = "W7")]
    Idle,
}

impl Work {
    /// What it is, in a line.
    pub fn title(self) -> &'static str {
        match self {
            Work::Sequential => "W1: ten activities in a row",
            Work::Callback => "W2: a callback",
            Work::Timers => "W3: timers",
            Work::Parked => "W4: parked workflows, and a kill -9",
            Work::LongHistory => "W5: a long history, and a kill -9",
            Work::FanOut => "W6: many activities at once",
            Work::Idle => "W7: a host with nothing to do",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn works_are_chosen_by_their_number_in_either_case() {
        for (work, number) in Work::value_variants().iter().zip(1..) {
            for name in [format!("w{number}"), format!("W{number}")] {
                assert_eq!(Args::parse_from(["bench-host", "--work", &name]).run.works, [*work]);
            }
            assert!(work.title().starts_with(&format!("W{number}: ")));
        }
    }
}
