//! Every limit of an instance, with its name, its default and the error that names it.

use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// What one instance may use. Enforced only on new work, never in replay: a history that was recorded
/// under larger limits stays readable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Bytes of one payload: an input, an output, a signal, a callback body, a custom status.
    pub payload_bytes: usize,
    /// Bytes of one name: of an activity, a signal, a callback, a change id.
    pub name_bytes: usize,
    /// Events in one run's history.
    pub history_events: u64,
    /// Operations under way at once in one instance.
    pub open_operations: usize,
    /// Workflows that stand above a child.
    pub child_depth: usize,
    /// Entities that one lock may hold.
    pub locked_entities: usize,
    /// Signals that wait to be taken.
    pub buffered_signals: usize,
    /// Commands a guest may issue between two waits.
    pub commands_per_turn: usize,
    /// Bytes that the commands of one turn may add to the history.
    pub turn_bytes: usize,
    /// Host calls of any kind a guest may make between two waits.
    pub host_calls_per_turn: u64,
    /// Bytes a guest may write to its log in one turn.
    pub log_bytes_per_turn: usize,
    /// Bytes of an instance's log that are kept.
    pub log_bytes_kept: usize,
    /// CPU time of one turn, in milliseconds.
    pub cpu_per_turn_ms: u64,
    /// Bytes of linear memory of one guest.
    pub memory_bytes: usize,
    /// Elements of one table of a guest.
    pub table_elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            payload_bytes: 1 << 20,
            name_bytes: 256,
            history_events: 1_000_000,
            open_operations: 20_000,
            child_depth: 100,
            locked_entities: 100,
            buffered_signals: 10_000,
            commands_per_turn: 20_000,
            turn_bytes: 16 << 20,
            host_calls_per_turn: 10_000_000,
            log_bytes_per_turn: 256 << 10,
            log_bytes_kept: 1 << 20,
            cpu_per_turn_ms: 5_000,
            memory_bytes: 256 << 20,
            table_elements: 100_000,
        }
    }
}

/// A limit that was reached: its name as in [`Limits`] and in the configuration file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error(
    "limit `{name}` reached: {what} ({found}, at most {limit}); \
     raise `limits.{name}` in the configuration or make the workflow smaller"
)]
pub struct LimitExceeded {
    /// The limit's name, such as `payload-bytes`.
    pub name: String,
    /// What was too much.
    pub what: String,
    /// How much there was.
    pub found: u64,
    /// How much there may be.
    pub limit: u64,
}

impl LimitExceeded {
    /// The stable failure code, `limit.` and the limit's name.
    pub fn code(&self) -> String {
        format!("limit.{}", self.name)
    }
}

/// Checks `found <= limit`. `what` is put into words only if it is not.
pub fn check(name: &str, what: impl Display, found: usize, limit: usize) -> Result<(), LimitExceeded> {
    if found <= limit {
        return Ok(());
    }
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Err(LimitExceeded { name: name.to_owned(), what: what.to_string(), found: wide(found), limit: wide(limit) })
}

impl Limits {
    /// Checks the size of a payload; `what` says whose.
    pub fn check_payload(&self, what: impl Display, bytes: usize) -> Result<(), LimitExceeded> {
        check("payload-bytes", format_args!("{what} is too large in bytes"), bytes, self.payload_bytes)
    }

    /// Checks the length of a name; `what` says whose.
    pub fn check_name(&self, what: impl Display, bytes: usize) -> Result<(), LimitExceeded> {
        check("name-bytes", format_args!("{what} is too long in bytes"), bytes, self.name_bytes)
    }
}
