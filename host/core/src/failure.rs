//! Structured failures: one record for operations, activities, callbacks and whole instances.

use crate::time::Nanos;
use serde::{Deserialize, Serialize};
use std::fmt;

/// UTF-8 JSON text. It is checked where it enters the host; core only carries it.
pub type Json = String;

/// How an operation ended.
pub type Outcome = Result<Json, Failure>;

/// Why something failed; the same cases as the WIT `failure-kind`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The code that ran said so.
    Application,
    /// A time limit ran out.
    TimedOut,
    /// Cancelled.
    Cancelled,
    /// The instance was terminated.
    Terminated,
    /// The thing named does not exist.
    NotFound,
    /// The host refused the request.
    Rejected,
}

impl FailureKind {
    /// The word used in WIT, HTTP and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Application => "application",
            FailureKind::TimedOut => "timed-out",
            FailureKind::Cancelled => "cancelled",
            FailureKind::Terminated => "terminated",
            FailureKind::NotFound => "not-found",
            FailureKind::Rejected => "rejected",
        }
    }
}

/// A structured failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The broad reason.
    pub kind: FailureKind,
    /// A short, stable, machine-readable code.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// More, as JSON text.
    pub details: Option<Json>,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// The earliest next attempt, counted from the end of this one.
    pub retry_after: Option<Nanos>,
}

impl Failure {
    /// A failure with no details that is not worth another attempt.
    pub fn new(kind: FailureKind, code: &str, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            code: code.to_owned(),
            message: message.into(),
            details: None,
            retryable: false,
            retry_after: None,
        }
    }

    /// The same failure, worth another attempt.
    #[must_use]
    pub fn retryable(self) -> Failure {
        Failure { retryable: true, ..self }
    }

    /// What an operation settles with when it is cancelled.
    pub fn cancelled(reason: &str) -> Failure {
        Failure::new(FailureKind::Cancelled, "cancelled", reason)
    }

    /// What became of an instance that was terminated.
    pub fn terminated(reason: &str) -> Failure {
        Failure::new(FailureKind::Terminated, "terminated", reason)
    }

    /// Bytes that this failure adds to an event.
    pub fn len_bytes(&self) -> usize {
        self.code.len() + self.message.len() + self.details.as_ref().map_or(0, String::len)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.kind.as_str(), self.message)
    }
}
