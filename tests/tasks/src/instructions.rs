//! A guard against getting slower: how many instructions a step takes, counted by callgrind, against the figures
//! kept in `tests/bench/instructions.json`.
//!
//! Times on a busy machine say little; instructions are nearly the same everywhere. Each piece of work is run with
//! two numbers of steps, so that what it costs to start cancels out.

use crate::prerequisites::{self, Environment};
use crate::process::{succeeds, temporary_directory};
use crate::say;
use crate::workspace::Workspace;
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The pieces of work that the bench program knows, and what a step of each is.
const PIECES: [(&str, &str); 2] =
    [("replay", "a step, made once and replayed ten times"), ("turn", "a step with its turn and its activity")];

/// Numbers of steps.
const FEW: u64 = 100;
const MANY: u64 = 600;

/// By how much a step may take more than it did. Other processors use other variants of some library functions.
const MORE_PERCENT_MAX: u64 = 10;

/// The longest that one count may take.
const LIMIT: Duration = Duration::from_secs(900);

const FIGURES: &str = "tests/bench/instructions.json";

/// Counts, and compares with what is kept; `keep`: keeps what was counted instead. Where there is no valgrind to be
/// had this is said and nothing is compared, except in CI.
pub fn check(workspace: &Workspace, environment: &Environment, install: bool, keep: bool) -> anyhow::Result<()> {
    if let Err(error) = prerequisites::valgrind(install) {
        if std::env::var_os("CI").is_some() {
            return Err(error);
        }
        say(&format!("not counting instructions: {error:#}"));
        return Ok(());
    }
    say("counting the instructions of a step with callgrind");
    crate::compile::bench(workspace, environment)?;
    let mut counted = Map::new();
    for (piece, what) in PIECES {
        let each = (count(workspace, piece, MANY)? - count(workspace, piece, FEW)?) / (MANY - FEW);
        say(&format!("{what}: {each} instructions"));
        counted.insert(piece.to_owned(), json!(each));
    }
    let path = workspace.root.join(FIGURES);
    if keep {
        let text = serde_json::to_string_pretty(&Value::Object(counted))? + "\n";
        return std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()));
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let kept: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let slower: Vec<String> =
        PIECES.iter().filter_map(|(piece, what)| slower(what, &kept[piece], &counted[*piece])).collect();
    if slower.is_empty() {
        return Ok(());
    }
    bail!(
        "{}; find out why, or keep the new figures with `cargo run --release -p rehydrate-tasks -- instructions`",
        slower.join("; ")
    )
}

/// What to say of a piece that takes too many instructions, or has no figure yet.
fn slower(what: &str, kept: &Value, counted: &Value) -> Option<String> {
    let (Some(kept), Some(counted)) = (kept.as_u64(), counted.as_u64()) else {
        return Some(format!("{what} has no figure in {FIGURES}"));
    };
    let allowed = kept + kept * MORE_PERCENT_MAX / 100;
    (counted > allowed).then(|| format!("{what} takes {counted} instructions, it took {kept}"))
}

/// Instructions of one run.
fn count(workspace: &Workspace, piece: &str, steps: u64) -> anyhow::Result<u64> {
    let directory = temporary_directory()?;
    let out = directory.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(workspace.program("bench-host")).args(["instructions", piece, &steps.to_string()]);
    let counted = succeeds(&mut valgrind, LIMIT)?;
    let total = read_total(&out);
    let _ = std::fs::remove_dir_all(&directory);
    if !counted {
        bail!("`bench-host instructions {piece} {steps}` failed under callgrind; what it printed above says why");
    }
    total
}

fn read_total(out: &Path) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(out).with_context(|| format!("can't read {}", out.display()))?;
    total(&text).with_context(|| format!("{} has no total", out.display()))
}

/// The sum at the end of what callgrind writes: `totals: 123`, or `summary: 123`.
fn total(text: &str) -> Option<u64> {
    let mut numbers =
        text.lines().filter_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    numbers.next_back()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_in_what_callgrind_writes() {
        assert_eq!(total("version: 1\nsummary: 12\nfn=(1)\n1 12\ntotals: 345\n"), Some(345));
        assert_eq!(total("summary: 12\n"), Some(12));
        assert_eq!(total("version: 1\n"), None);
    }

    #[test]
    fn a_tenth_more_is_tolerated_and_not_more() {
        let slower = |counted: u64| slower("a step", &json!(1000), &json!(counted));
        assert_eq!((slower(500), slower(1100)), (None, None));
        assert!(slower(1101).is_some_and(|text| text.contains("takes 1101 instructions, it took 1000")));
        assert!(super::slower("a step", &Value::Null, &json!(1)).is_some());
    }
}
