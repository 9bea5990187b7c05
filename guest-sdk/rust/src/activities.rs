//! The guest side of activities: what one may ask about its attempt, and how `run` finds the right one.
//! An activity is ordinary code: it may do I/O, and it may run more than once.

use crate::failure::Failure;
use crate::host::Level;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;

/// The attempt under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The instance that scheduled the activity.
    pub instance_id: String,
    /// The run within the instance, from 1.
    pub run: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The same for every delivery of one attempt, different for every attempt.
    pub idempotency_key: String,
}

/// An activity's view of its host.
#[derive(Clone)]
pub struct ActivityContext {
    attempt: Attempt,
}

impl ActivityContext {
    /// For the unit tests of an activity; in a component the SDK makes it.
    pub fn for_attempt(attempt: Attempt) -> ActivityContext {
        ActivityContext { attempt }
    }

    /// The attempt under way.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Says that the attempt is alive. False: it was cancelled or has timed out and should end.
    #[must_use = "false means that the attempt should end"]
    pub fn heartbeat(&self) -> bool {
        door::heartbeat(None)
    }

    /// As [`heartbeat`](ActivityContext::heartbeat), with details. Fails only for a value that JSON can not
    /// hold.
    pub fn heartbeat_with(&self, details: &(impl Serialize + ?Sized)) -> Result<bool, Failure> {
        let details = serde_json::to_string(details).map_err(|error| Failure::encode("the details", &error))?;
        Ok(door::heartbeat(Some(&details)))
    }

    /// Writes a line to the instance's log.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        door::log(level, message.as_ref());
    }
}

impl fmt::Debug for ActivityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActivityContext").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// One activity, as `#[rehydrate::activity]` describes it and `rehydrate::activities!` offers it.
#[doc(hidden)]
pub trait Activity {
    const NAME: &'static str;
    fn run(input: &str) -> Result<String, Failure>;
}

/// Fails, at compile time, for two activities of one name.
#[doc(hidden)]
pub const fn all_differ(names: &[&str]) -> bool {
    let mut first = 0;
    while first < names.len() {
        let mut second = first + 1;
        while second < names.len() {
            if same(names[first].as_bytes(), names[second].as_bytes()) {
                return false;
            }
            second += 1;
        }
        first += 1;
    }
    true
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The body of an exported activity: reads the input, runs it, writes the output.
#[doc(hidden)]
pub fn run_activity<I, O, E, F>(input: &str, body: impl FnOnce(ActivityContext, I) -> F) -> Result<String, Failure>
where
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Failure>,
    F: Future<Output = Result<O, E>>,
{
    let input = serde_json::from_str(input).map_err(|error| Failure::decode("the activity's input", &error))?;
    let body = body(ActivityContext { attempt: door::attempt() }, input);
    let output = block_on(body)?.map_err(Into::into)?;
    serde_json::to_string(&output).map_err(|error| Failure::encode("the activity's output", &error))
}

/// Writes a line at level `error`.
#[cfg(target_family = "wasm")]
pub(crate) fn log_error(line: &str) {
    door::log(Level::Error, line);
}

/// With feature `http` the whole of `wstd` works inside an activity, its timers and HTTP included.
#[cfg(all(feature = "http", target_family = "wasm"))]
fn block_on<F: Future>(body: F) -> Result<F::Output, Failure> {
    Ok(wstd::runtime::block_on(body))
}

/// Without it there is nothing that could wake an activity, so its future must never wait.
#[cfg(not(all(feature = "http", target_family = "wasm")))]
fn block_on<F: Future>(body: F) -> Result<F::Output, Failure> {
    use futures::FutureExt;
    body.now_or_never().ok_or_else(|| {
        Failure::application(
            "sdk.deadlock",
            "the activity awaits something that nothing can bring; \
             the SDK's feature `http` gives activities an executor",
        )
    })
}

/// The imports of world `activity`.
#[cfg(target_family = "wasm")]
mod door {
    use super::Attempt;
    use crate::bindings::activity::rehydrate::workflow::activity_context;
    use crate::host::Level;
    use crate::wire;

    pub(super) fn attempt() -> Attempt {
        let attempt = activity_context::get_attempt();
        Attempt {
            instance_id: attempt.instance_id,
            run: attempt.run,
            attempt: attempt.attempt,
            idempotency_key: attempt.idempotency_key,
        }
    }

    pub(super) fn heartbeat(details: Option<&str>) -> bool {
        activity_context::heartbeat(details)
    }

    pub(super) fn log(level: Level, message: &str) {
        activity_context::log(wire::level(level), message);
    }
}

/// In a native build, which is a unit test: the first attempt of a fixed instance, never cancelled.
#[cfg(not(target_family = "wasm"))]
mod door {
    use super::Attempt;
    use crate::host::Level;

    pub(super) fn attempt() -> Attempt {
        Attempt { instance_id: "test".to_owned(), run: 1, attempt: 1, idempotency_key: "test-1-1-1".to_owned() }
    }

    pub(super) fn heartbeat(_details: Option<&str>) -> bool {
        true
    }

    pub(super) fn log(level: Level, message: &str) {
        eprintln!("{level:?}: {message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_activities_of_one_name_are_noticed() {
        assert!(all_differ(&["charge", "refund", "charg", ""]));
        assert!(!all_differ(&["charge", "refund", "charge"]));
    }

    #[test]
    fn an_activity_reads_its_input_and_writes_its_output() {
        let double = |ctx: ActivityContext, n: u32| async move { Ok::<_, Failure>(n * 2 + ctx.attempt().attempt) };
        assert_eq!(run_activity("20", double), Ok("41".to_owned()));
        assert_eq!(run_activity("\"x\"", double).unwrap_err().code, "sdk.decode");
    }

    #[test]
    fn an_activity_that_waits_for_nothing_fails_clearly() {
        let never = |_: ActivityContext, (): ()| std::future::pending::<Result<(), Failure>>();
        assert_eq!(run_activity("null", never).unwrap_err().code, "sdk.deadlock");
    }
}
