//! Fan-out and fan-in: many activities at once, and one sum when the last of them has ended.
//!
//! Where one fails the others still count: what comes back tells of each.

use rehydrate::{Context, Failure, RetryPolicy};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Pages that are taken: each has its place in the output, which has a limit.
const PAGES_MAX: usize = 1000;
/// The longest all attempts for one page may take together; one lame page must not hold up all others for ever.
const PAGE_MAX: Duration = Duration::from_secs(60);

/// What the activity `page.measure` gives.
#[derive(Deserialize)]
struct Size {
    words: u64,
}

/// The output.
#[derive(Serialize, PartialEq, Debug)]
pub struct Output {
    /// The words of all pages that could be had.
    pub words: u64,
    /// Each page, in the order of the input.
    pub pages: Vec<Page>,
}

/// What became of one page.
#[derive(Serialize, PartialEq, Debug)]
pub struct Page {
    /// Its address.
    pub url: String,
    /// Its words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<u64>,
    /// Why it could not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The workflow: addresses of pages in, their words out.
#[rehydrate::workflow]
async fn fan_out_fan_in(ctx: Context, urls: Vec<String>) -> Result<Output, Failure> {
    if urls.len() > PAGES_MAX {
        let message = format!("there are {} pages, at most {PAGES_MAX} are taken; start several instances", urls.len());
        return Err(Failure::rejected("input.too-many-pages", message));
    }
    let measure = |url| {
        let call = ctx.activity::<Size>("page.measure", url);
        call.schedule_to_close(PAGE_MAX).retry(RetryPolicy::attempts(3))
    };
    // All are scheduled in one commit, and the workflow wakes once, when the last has ended.
    let sizes = ctx.all(urls.iter().map(measure)).await;
    if let Some(reason) = ctx.cancel_requested() {
        return Err(Failure::cancelled(reason));
    }
    let pages: Vec<Page> = urls.into_iter().zip(sizes).map(|(url, size)| page(url, size)).collect();
    Ok(Output { words: pages.iter().filter_map(|page| page.words).sum(), pages })
}

fn page(url: String, size: Result<Size, Failure>) -> Page {
    match size {
        Ok(size) => Page { url, words: Some(size.words), failure: None },
        Err(failure) => Page { url, words: None, failure: Some(failure) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehydrate::testing::{Reply, TestHost};
    use serde_json::json;

    const SECOND: Duration = Duration::from_secs(1);

    /// A page's address is how many words it has; that many seconds it takes.
    fn host() -> TestHost {
        let host = TestHost::new();
        host.activity("page.measure", |call| match call.input.as_str().unwrap().parse::<u32>() {
            Ok(words) => Reply::ok(SECOND * words, &json!({ "words": words, "bytes": 0 })),
            Err(error) => Reply::fail(SECOND, Failure::application("no-page", error.to_string())),
        });
        host
    }

    fn run(host: &TestHost, urls: &[&str]) -> Result<Output, Failure> {
        host.run(fan_out_fan_in, urls.iter().map(|url| (*url).to_owned()).collect())
    }

    #[test]
    fn all_pages_are_measured_at_once_and_summed_up() {
        let host = host();
        let start = host.now();
        let output = run(&host, &["3", "1", "2"]).unwrap();
        assert_eq!(output.words, 6);
        assert_eq!(output.pages.iter().map(|page| page.words).collect::<Vec<_>>(), [Some(3), Some(1), Some(2)]);
        assert_eq!(host.now(), start + SECOND * 3);
    }

    #[test]
    fn a_page_that_can_not_be_had_is_told_and_the_others_count() {
        let output = run(&host(), &["3", "x", "2"]).unwrap();
        assert_eq!((output.words, output.pages[1].words), (5, None));
        assert_eq!(output.pages[1].failure.as_ref().unwrap().code, "no-page");
    }

    #[test]
    fn no_pages_have_no_words() {
        assert_eq!(run(&host(), &[]).unwrap(), Output { words: 0, pages: vec![] });
    }

    #[test]
    fn too_many_pages_are_refused_before_anything_is_done() {
        let host = host();
        assert_eq!(run(&host, &["1"; PAGES_MAX + 1]).unwrap_err().code, "input.too-many-pages");
        assert!(host.calls().is_empty());
    }

    #[test]
    fn a_request_to_cancel_ends_it_as_cancelled() {
        let host = host();
        host.cancel(SECOND, "stop");
        assert_eq!(run(&host, &["3", "5"]).unwrap_err(), Failure::cancelled("stop"));
    }
}
