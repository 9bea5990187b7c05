//! Function chaining: activities one after another, each with the output of the one before.
//!
//! A crash between two of them repeats none that has ended: their outputs are in the history.

use rehydrate::{ActivityCall, Context, Failure, RetryPolicy};
use serde::Serialize;
use serde_json::Value;

/// The workflow: a page's address in, a sentence about its words out.
#[rehydrate::workflow]
async fn chaining(ctx: Context, url: String) -> Result<String, Failure> {
    let text: String = link(&ctx, "page.fetch", &url).await?;
    let words: Value = link(&ctx, "page.count-words", &text).await?;
    link(&ctx, "page.report", &words).await
}

/// One link of the chain. The host tries it again; the workflow only sees how it ended.
fn link<T>(ctx: &Context, activity: &str, input: &impl Serialize) -> ActivityCall<T> {
    ctx.activity(activity, input).retry(RetryPolicy::attempts(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehydrate::testing::{Reply, TestHost};
    use serde_json::json;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(fetched: Reply) -> (TestHost, Result<String, Failure>) {
        let host = TestHost::new();
        let mut fetched = Some(fetched);
        host.activity("page.fetch", move |_| fetched.take().expect("one fetch"));
        host.activity("page.count-words", |_| Reply::ok(SECOND, &json!({ "total": 1 })));
        host.activity("page.report", |_| Reply::ok(SECOND, "one word"));
        let outcome = host.run(chaining, "http://page.test/".to_owned());
        (host, outcome)
    }

    #[test]
    fn each_activity_gets_the_output_of_the_one_before() {
        let (host, outcome) = run(Reply::ok(SECOND, "teapot"));
        assert_eq!(outcome.unwrap(), "one word");
        let calls: Vec<(String, Value)> = host.calls().into_iter().map(|call| (call.name, call.input)).collect();
        let expected = [
            ("page.fetch", json!("http://page.test/")),
            ("page.count-words", json!("teapot")),
            ("page.report", json!({ "total": 1 })),
        ];
        assert_eq!(calls, expected.map(|(name, input)| (name.to_owned(), input)));
    }

    #[test]
    fn a_link_that_fails_ends_the_chain() {
        let (host, outcome) = run(Reply::fail(SECOND, Failure::application("http.status-404", "no page")));
        assert_eq!(outcome.unwrap_err().code, "http.status-404");
        assert_eq!(host.calls().len(), 1);
    }
}
