//! The first of several: to succeed, or to end at all. The others are dropped, and so cancelled.

use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use std::future::Future;

impl Context {
    /// The output of the first of these that succeeds; the others are then dropped, which cancels them. First
    /// means: in the order of the history. Activities among them are scheduled at once.
    ///
    /// Errors, if none succeeds: code `first-ok.none-succeeded`, with the details `{"failures": [failure, ...]}` in
    /// the order in which they were given, and of their kind if they all have the same one (so `cancelled` stays
    /// `cancelled`), otherwise `application`. Code `first-ok.empty` for none at all.
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # async fn flow(ctx: Context) -> Result<f64, Failure> {
    /// ctx.first_ok(["eu", "us"].map(|region| ctx.activity("quote", region))).await
    /// # }
    /// ```
    pub async fn first_ok<T, F>(&self, of: impl IntoIterator<Item = F>) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut open: FuturesUnordered<_> = numbered(of).collect();
        let mut failures = Vec::with_capacity(open.len());
        while let Some((place, outcome)) = open.next().await {
            match outcome {
                Ok(output) => return Ok(output),
                Err(failure) => failures.push((place, failure)),
            }
        }
        failures.sort_by_key(|(place, _)| *place);
        Err(none_succeeded(failures.into_iter().map(|(_, failure)| failure).collect()))
    }

    /// What the first of these to end gives, be it a failure; the others are dropped, which cancels them. First
    /// means: in the order of the history. For futures of different types there is `select!` of the `futures` crate.
    ///
    /// Errors: its own; code `race.empty` for none at all.
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # async fn flow(ctx: Context) -> Result<bool, Failure> {
    /// ctx.race(["approve", "decline"].map(|name| ctx.signal::<bool>(name))).await
    /// # }
    /// ```
    pub async fn race<T, F>(&self, of: impl IntoIterator<Item = F>) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut open: FuturesUnordered<F> = of.into_iter().collect();
        let first = open.next().await;
        first.unwrap_or_else(|| Err(Failure::rejected("race.empty", "there is nothing that could be the first to end")))
    }
}

fn numbered<F: Future>(
    of: impl IntoIterator<Item = F>,
) -> impl Iterator<Item = impl Future<Output = (usize, F::Output)>> {
    of.into_iter().enumerate().map(|(place, future)| async move { (place, future.await) })
}

fn none_succeeded(failures: Vec<Failure>) -> Failure {
    let Some(first) = failures.first() else {
        return Failure::rejected("first-ok.empty", "there is nothing that could be the first to succeed");
    };
    let same = failures.iter().all(|failure| failure.kind == first.kind);
    let kind = if same { first.kind } else { FailureKind::Application };
    let message = format!("none of {} succeeded; the first failed with {first}", failures.len());
    Failure::new(kind, "first-ok.none-succeeded", message).with_details(json!({ "failures": failures }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, TestHost};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    /// A host with the activity `try`: its input is the seconds it takes, and it fails if they are odd.
    fn host() -> TestHost {
        let host = TestHost::new();
        host.activity("try", |call| match u32::try_from(call.input.as_u64().unwrap()).unwrap() {
            n if n % 2 == 0 => Reply::ok(SECOND * n, &n),
            n => Reply::fail(SECOND * n, Failure::application("odd", n.to_string())),
        });
        host
    }

    fn first_ok(host: &TestHost, lengths: &[u32]) -> Result<u32, Failure> {
        let flow = |ctx: Context, ()| async move {
            let output = ctx.first_ok(lengths.iter().map(|length| ctx.activity("try", length))).await?;
            // Shows that nothing else is left: the test host moves time from event to event.
            ctx.sleep(SECOND / 2).await?;
            Ok::<u32, Failure>(output)
        };
        host.run(flow, ())
    }

    fn race(host: &TestHost, lengths: &[u32]) -> Result<u32, Failure> {
        let flow =
            |ctx: Context, ()| async move { ctx.race(lengths.iter().map(|length| ctx.activity("try", length))).await };
        host.run(flow, ())
    }

    #[test]
    fn the_first_success_wins_over_earlier_failures_and_later_successes() {
        let host = host();
        let start = host.now();
        assert_eq!(first_ok(&host, &[6, 1, 4, 3]).unwrap(), 4);
        assert_eq!(host.calls().len(), 4);
        assert!(host.calls().iter().all(|call| call.at == start), "all are scheduled at once");
        assert_eq!(host.now(), start + SECOND * 4 + SECOND / 2);
    }

    #[test]
    fn if_none_succeeds_every_failure_is_told_in_the_order_given() {
        let failure = first_ok(&host(), &[5, 1, 3]).unwrap_err();
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Application, "first-ok.none-succeeded"));
        let details = failure.details.unwrap();
        let messages: Vec<_> =
            details["failures"].as_array().unwrap().iter().map(|one| one["message"].clone()).collect();
        assert_eq!(messages, ["5", "1", "3"]);
    }

    #[test]
    fn a_request_to_cancel_ends_a_first_ok_as_cancelled() {
        let host = host();
        host.cancel(SECOND, "stop");
        assert_eq!(first_ok(&host, &[2, 4]).unwrap_err().kind, FailureKind::Cancelled);
    }

    #[test]
    fn the_first_to_end_wins_a_race_be_it_a_failure() {
        let host = host();
        let start = host.now();
        assert_eq!(race(&host, &[6, 2, 3]).unwrap(), 2);
        assert_eq!(race(&host, &[6, 4, 3]).unwrap_err().message, "3");
        assert_eq!(host.now(), start + SECOND * 5);
    }

    #[test]
    fn of_nothing_none_is_the_first() {
        assert_eq!(first_ok(&host(), &[]).unwrap_err().code, "first-ok.empty");
        assert_eq!(race(&host(), &[]).unwrap_err().code, "race.empty");
    }

    #[test]
    fn a_signal_that_lost_a_race_is_kept_for_the_next_wait() {
        let host = TestHost::new();
        host.signal(SECOND, "a", &1);
        host.signal(SECOND, "b", &2);
        let flow = |ctx: Context, ()| async move {
            let first: u32 = ctx.race(["a", "b"].map(|name| ctx.signal(name))).await?;
            let second: u32 = ctx.signal("b").await?;
            Ok::<_, Failure>((first, second))
        };
        assert_eq!(host.run(flow, ()).unwrap(), (1, 2));
    }
}
