//! Structured failures, as operations give them and as workflows and activities return them.
//!
//! Nothing is turned into a failure behind the guest's back: an ordinary error becomes one only where the
//! guest gives it a code, with [`OrFail`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

const CONTINUED: &str = "sdk.continued-as-new";

/// Why something failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The code that ran said so: an activity, a callback's caller, the workflow itself.
    #[default]
    Application,
    /// A time limit ran out.
    TimedOut,
    /// The operation was cancelled, by the guest or because the instance was asked to cancel.
    Cancelled,
    /// The instance was terminated.
    Terminated,
    /// The thing named does not exist.
    NotFound,
    /// The host, or the decoding of a value, refused: a limit, a policy, an argument out of range.
    Rejected,
}

impl FailureKind {
    /// The word used in WIT, in HTTP and on the command line.
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
///
/// ```
/// use rehydrate::Failure;
/// use std::time::Duration;
///
/// let failure = Failure::application("card-declined", "the bank said no")
///     .with_details(serde_json::json!({ "bank": "ACME" }))
///     .retryable_after(Duration::from_secs(30));
/// assert_eq!(failure.to_string(), "card-declined: the bank said no");
/// assert!(failure.retryable);
/// ```
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// The broad reason.
    pub kind: FailureKind,
    /// A short, stable, machine-readable code such as `card-declined`.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// More, in a shape of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Whether another attempt may succeed; read by the host's retry policy.
    pub retryable: bool,
    /// The earliest next attempt, counted from the end of this one. JSON: `retry_after_ms`, milliseconds.
    #[serde(rename = "retry_after_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure with no details that is not worth another attempt.
    pub fn new(kind: FailureKind, code: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure { kind, code: code.into(), message: message.into(), ..Failure::default() }
    }

    /// A failure of the guest's own making.
    pub fn application(code: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Application, code, message)
    }

    /// The failure of a workflow that stopped because it was asked to.
    pub fn cancelled(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Cancelled, "cancelled", message)
    }

    /// The failure of something that took too long.
    pub fn timed_out(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::TimedOut, "timed-out", message)
    }

    /// The failure of something that was asked for wrongly.
    pub fn rejected(code: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Rejected, code, message)
    }

    /// What a body returns after it asked to go on in a new run: code `sdk.continued-as-new`. The host does not use it.
    pub(crate) fn continued_as_new() -> Failure {
        Failure::application(CONTINUED, "the workflow goes on in a new run")
    }

    /// A value that could not be read as the type the guest expects: code `sdk.decode`.
    pub(crate) fn decode(what: &str, error: &serde_json::Error) -> Failure {
        Failure::rejected("sdk.decode", format!("{what} does not have the expected shape: {error}"))
    }

    /// A value that could not be written as JSON: code `sdk.encode`.
    pub(crate) fn encode(what: &str, error: &serde_json::Error) -> Failure {
        Failure::rejected("sdk.encode", format!("{what} can not be written as JSON: {error}"))
    }

    /// The same failure with details.
    #[must_use]
    pub fn with_details(self, details: impl Into<Value>) -> Failure {
        Failure { details: Some(details.into()), ..self }
    }

    /// The same failure, worth another attempt.
    #[must_use]
    pub fn retryable(self) -> Failure {
        Failure { retryable: true, ..self }
    }

    /// The same failure, worth another attempt, but not before `after` has passed.
    #[must_use]
    pub fn retryable_after(self, after: Duration) -> Failure {
        Failure { retryable: true, retry_after: Some(after), ..self }
    }

    /// Whether the operation was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.kind == FailureKind::Cancelled
    }

    /// Whether this is no failure but what [`Context::continue_as_new`](crate::Context::continue_as_new) gives: code
    /// that cleans up after failures lets it pass.
    pub fn is_continue_as_new(&self) -> bool {
        self.code == CONTINUED
    }

    /// Whether a time limit ran out.
    pub fn is_timed_out(&self) -> bool {
        self.kind == FailureKind::TimedOut
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::decode("a JSON value", &error)
    }
}

/// Gives an ordinary error a code, so that `?` can return it as a [`Failure`].
///
/// ```
/// use rehydrate::{Failure, OrFail};
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     Ok(text.parse::<u32>().or_fail("amount-invalid")?)
/// }
/// assert_eq!(parse("x").unwrap_err().code, "amount-invalid");
/// ```
pub trait OrFail<T> {
    /// An error becomes a failure of kind `application` that is not worth another attempt.
    fn or_fail(self, code: &str) -> Result<T, Failure>;

    /// An error becomes a failure of kind `application` that is worth another attempt.
    fn or_retry(self, code: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::application(code, error.to_string()))
    }

    fn or_retry(self, code: &str) -> Result<T, Failure> {
        self.or_fail(code).map_err(Failure::retryable)
    }
}

/// `Option<Duration>` as whole milliseconds.
pub(crate) mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(length) => to.serialize_some(&u64::try_from(length.as_millis()).unwrap_or(u64::MAX)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_round_trips_through_json() {
        let failure = Failure::application("x", "it broke")
            .with_details(json!({"a": [1]}))
            .retryable_after(Duration::from_millis(1500));
        let text = serde_json::to_string(&failure).unwrap();
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
        assert!(text.contains(r#""kind":"application""#) && text.contains(r#""retry_after_ms":1500"#), "{text}");
    }

    #[test]
    fn what_a_failure_leaves_out_has_defaults() {
        let failure: Failure = serde_json::from_value(json!({"kind": "timed-out", "code": "late"})).unwrap();
        assert_eq!(failure, Failure::new(FailureKind::TimedOut, "late", ""));
    }

    #[test]
    fn an_ordinary_error_gets_a_code() {
        let failure = "x".parse::<u8>().or_retry("bad-number").unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("bad-number", true));
        assert!(!"x".parse::<u8>().or_fail("bad-number").unwrap_err().retryable);
    }

    #[test]
    fn every_kind_is_written_with_the_word_of_the_contract() {
        use FailureKind::*;
        for kind in [Application, TimedOut, Cancelled, Terminated, NotFound, Rejected] {
            assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.as_str()));
        }
    }
}
