//! An operation that takes longer than a client wants to wait: it goes through pages one at a time, with a pause after
//! each, and says how far it is.
//!
//! The pattern is not in here but in the host's HTTP API, which every workflow has: a start that may wait, `Location`,
//! the status, and the result. All that a workflow adds is a custom status worth looking at.

use rehydrate::{Context, Failure, RetryPolicy};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// The input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The addresses of the pages.
    pub urls: Vec<String>,
    /// The pause between two pages, in seconds; may have a fraction. Default: 1.
    #[serde(default = "one")]
    pub pause_seconds: f64,
}

fn one() -> f64 {
    1.0
}

/// What the activity `page.measure` gives.
#[derive(Deserialize)]
struct Size {
    words: u64,
    bytes: u64,
}

/// The output.
#[derive(Serialize, PartialEq, Debug)]
pub struct Output {
    /// The pages.
    pub pages: usize,
    /// Their words.
    pub words: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The workflow.
#[rehydrate::workflow]
async fn async_http(ctx: Context, input: Input) -> Result<Output, Failure> {
    let pause = Duration::try_from_secs_f64(input.pause_seconds).map_err(|error| {
        Failure::rejected("input.pause", format!("pause_seconds is {}: {error}", input.pause_seconds))
    })?;
    let mut output = Output { pages: 0, words: 0, bytes: 0 };
    for url in &input.urls {
        if output.pages > 0 {
            ctx.sleep(pause).await?;
        }
        ctx.set_status(&json!({ "done": output.pages, "of": input.urls.len(), "now": url }))?;
        let size: Size = ctx.activity("page.measure", url).retry(RetryPolicy::attempts(3)).await?;
        output.pages += 1;
        output.words += size.words;
        output.bytes += size.bytes;
    }
    ctx.set_status(&json!({ "done": output.pages, "of": input.urls.len() }))?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehydrate::testing::{Reply, TestHost};

    const SECOND: Duration = Duration::from_secs(1);

    fn host() -> TestHost {
        let host = TestHost::new();
        host.activity("page.measure", |_| Reply::ok(SECOND, &json!({ "words": 2, "bytes": 10 })));
        host
    }

    fn run(host: &TestHost, pause_seconds: f64) -> Result<Output, Failure> {
        let urls = ["a", "b", "c"].map(str::to_owned).into();
        host.run(async_http, Input { urls, pause_seconds })
    }

    #[test]
    fn pages_are_measured_one_at_a_time_with_pauses_between_them() {
        let host = host();
        let start = host.now();
        assert_eq!(run(&host, 10.5).unwrap(), Output { pages: 3, words: 6, bytes: 30 });
        assert_eq!(host.now(), start + SECOND * 24);
    }

    #[test]
    fn its_status_says_how_far_it_is() {
        let host = host();
        run(&host, 1.0).unwrap();
        let done: Vec<_> = host.statuses().iter().map(|(_, status)| status["done"].clone()).collect();
        assert_eq!(done, [0, 1, 2, 3]);
        assert_eq!(host.statuses()[1].1, json!({ "done": 1, "of": 3, "now": "b" }));
    }

    #[test]
    fn a_pause_that_is_none_is_refused() {
        for pause in [-1.0, f64::NAN, 1e300] {
            assert_eq!(run(&host(), pause).unwrap_err().code, "input.pause");
        }
    }
}
