//! A monitor: asks an endpoint again and again, at growing intervals, until its answer is as expected or the time is up.
//!
//! Between two checks the workflow costs nothing: it may be out of memory, and the host may be down.

use rehydrate::{Context, Failure, HttpRequest, Level};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The longest value that is shown as it is, in bytes: it comes from outside, and the status is limited.
const SHOWN_BYTES_MAX: usize = 1000;
/// The longest one check may take.
const CHECK_MAX: Duration = Duration::from_secs(20);

/// The input. Lengths are in seconds and may have a fraction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What to ask, with GET.
    pub url: String,
    /// Where in its JSON answer to look: a JSON pointer (RFC 6901) such as `/state/life_cycle_state`.
    pub pointer: String,
    /// What is to be there.
    pub expected: Value,
    /// The interval after the first check; it doubles each time.
    pub first_interval_seconds: f64,
    /// The longest interval.
    pub longest_interval_seconds: f64,
    /// How long to go on, counted from the start. The last check is made then.
    pub deadline_seconds: f64,
}

/// The output.
#[derive(Serialize, PartialEq, Debug)]
pub struct Output {
    /// How many checks it took.
    pub checks: u32,
}

/// The workflow.
#[rehydrate::workflow]
async fn monitor(ctx: Context, input: Input) -> Result<Output, Failure> {
    let deadline = ctx.now() + length("deadline_seconds", input.deadline_seconds)?;
    let longest = length("longest_interval_seconds", input.longest_interval_seconds)?;
    let mut interval = length("first_interval_seconds", input.first_interval_seconds)?;
    if interval.is_zero() {
        return Err(Failure::rejected("monitor.input", "first_interval_seconds is 0; it must be more"));
    }
    for checks in 1.. {
        let seen = check(&ctx, &input).await?;
        if seen.as_ref() == Some(&input.expected) {
            return Ok(Output { checks });
        }
        let now = ctx.now();
        if now >= deadline {
            let message = format!("{} was not as expected in {checks} checks", input.url);
            return Err(Failure::timed_out(message).with_details(json!({ "checks": checks, "seen": shown(seen) })));
        }
        let next = deadline.min(now + interval.min(longest));
        ctx.set_status(&json!({ "checks": checks, "seen": shown(seen), "next_check": next }))?;
        ctx.sleep_until(next).await?;
        interval = interval.saturating_mul(2);
    }
    Err(Failure::rejected("monitor.checks", "the number of checks has no end"))
}

/// What was there, if it is not too much.
fn shown(seen: Option<Value>) -> Value {
    let seen = seen.unwrap_or_default();
    let bytes = seen.to_string().len();
    if bytes <= SHOWN_BYTES_MAX { seen } else { json!(format!("a value of {bytes} bytes")) }
}

fn length(name: &str, seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| Failure::rejected("monitor.input", format!("{name} is {seconds}: {error}")))
}

/// What is there now. An endpoint that can not be asked is not as expected yet; only a request to cancel is an error.
async fn check(ctx: &Context, input: &Input) -> Result<Option<Value>, Failure> {
    match ctx.http(HttpRequest::get(&input.url)).start_to_close(CHECK_MAX).await {
        Ok(answer) => Ok(answer.json.and_then(|json| json.pointer(&input.pointer).cloned())),
        Err(failure) if failure.is_cancelled() => Err(failure),
        Err(failure) => {
            ctx.log(Level::Warn, format!("{} could not be checked: {failure}", input.url));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehydrate::FailureKind;
    use rehydrate::testing::{Reply, TestHost};

    const SECOND: Duration = Duration::from_secs(1);

    /// An endpoint that says `RUNNING` until the check with that number, and is down at the second.
    fn host(done_at: u32) -> TestHost {
        let host = TestHost::new();
        let mut checks = 0;
        host.activity("http", move |_| {
            checks += 1;
            let state = if checks >= done_at { "DONE" } else { "RUNNING" };
            match checks {
                2 => Reply::fail(Duration::ZERO, Failure::application("http.status-503", "down")),
                _ => Reply::ok(Duration::ZERO, &json!({ "status": 200, "json": { "state": { "life": state } } })),
            }
        });
        host
    }

    fn run(host: &TestHost, deadline_seconds: f64) -> Result<Output, Failure> {
        let input = Input {
            url: "http://job.test/".to_owned(),
            pointer: "/state/life".to_owned(),
            expected: json!("DONE"),
            first_interval_seconds: 1.0,
            longest_interval_seconds: 5.0,
            deadline_seconds,
        };
        host.run(monitor, input)
    }

    fn times(host: &TestHost) -> Vec<u64> {
        let start = TestHost::new().now();
        host.calls().iter().map(|call| call.at.since(start).as_secs()).collect()
    }

    #[test]
    fn intervals_double_up_to_the_longest_and_an_endpoint_that_is_down_is_asked_again() {
        let host = host(6);
        assert_eq!(run(&host, 3600.0).unwrap(), Output { checks: 6 });
        assert_eq!(times(&host), [0, 1, 3, 7, 12, 17]);
        assert_eq!(host.log().len(), 1);
        let (_, status) = &host.statuses()[0];
        assert_eq!((&status["checks"], &status["seen"]), (&json!(1), &json!("RUNNING")));
    }

    #[test]
    fn what_is_as_expected_at_once_takes_one_check() {
        assert_eq!(run(&host(1), 0.0).unwrap(), Output { checks: 1 });
    }

    #[test]
    fn the_last_check_is_made_at_the_deadline() {
        let host = host(100);
        let failure = run(&host, 10.0).unwrap_err();
        assert_eq!(
            (failure.kind, failure.details.unwrap()),
            (FailureKind::TimedOut, json!({ "checks": 5, "seen": "RUNNING" }))
        );
        assert_eq!(times(&host), [0, 1, 3, 7, 10]);
    }

    #[test]
    fn a_request_to_cancel_ends_it() {
        let host = host(100);
        host.cancel(SECOND * 2, "stop");
        assert_eq!(run(&host, 3600.0).unwrap_err(), Failure::cancelled("stop"));
    }

    #[test]
    fn a_large_value_is_not_shown_as_it_is() {
        assert_eq!(shown(Some(json!("x".repeat(998)))), json!("x".repeat(998)));
        assert_eq!(shown(Some(json!("x".repeat(999)))), "a value of 1001 bytes");
    }

    #[test]
    fn lengths_that_are_none_are_refused() {
        for wrong in [-1.0, f64::INFINITY] {
            assert_eq!(run(&host(1), wrong).unwrap_err().code, "monitor.input");
        }
    }
}
