//! Callbacks as their callers see them: which status, and what was recorded.

use rehydrate_blackbox::client::answer;
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::sink::Reply;
use rehydrate_blackbox::{Client, Host, HostSettings, Sink, history};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// An instance that waits for a callback, and its URL.
struct Waiting {
    client: Client,
    id: String,
    url: String,
}

impl Waiting {
    async fn new() -> Waiting {
        Waiting::expiring(None).await
    }

    async fn expiring(expires_ms: Option<u64>) -> Waiting {
        let sink = Sink::start().await;
        let waiting = Waiting::registering(Host::shared().await, &sink, expires_ms).await;
        let registered = |status: &Value| status["waiting_for"][0]["kind"] != "activity";
        waiting.client.status_when(&waiting.id, "has handed out its URL", registered).await;
        waiting
    }

    /// As soon as the URL is handed out, which may be before the instance waits.
    async fn registering(host: &Host, sink: &Sink, expires_ms: Option<u64>) -> Waiting {
        let client = host.client();
        let input = json!({
            "do": "callback", "name": "approval", "expires_ms": expires_ms, "register_url": format!("{}/r", sink.url()),
        });
        let id = client.started(GUESTS, &input).await;
        let received = sink.received_when("a callback URL", |_| true).await;
        let url = received.body["url"].as_str().expect("the guest posts its URL").to_owned();
        Waiting { client, id, url }
    }

    async fn post(&self, body: &str) -> u16 {
        self.client.callback(&self.url, body.to_owned()).await.status
    }

    async fn settled(&self) -> usize {
        history::count(&self.client.history(&self.id).await, "CallbackSettled")
    }
}

#[tokio::test]
async fn a_callback_completes_its_wait_with_the_body_as_it_was_posted() {
    let waiting = Waiting::new().await;
    let answer = waiting.client.callback(&waiting.url, r#"{ "b": [1, null], "a": "ü" }"#).await.expect(202);
    assert_eq!(answer.body["status"], "accepted");
    let status = waiting.client.over(&waiting.id).await;
    assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &json!({ "b": [1, null], "a": "ü" })));
}

#[tokio::test]
async fn the_url_lies_under_the_public_address() {
    let waiting = Waiting::new().await;
    let base = format!("{}/callbacks/", Host::shared().await.public_url());
    assert!(waiting.url.starts_with(&base), "{} does not begin with {base}", waiting.url);
}

#[tokio::test]
async fn an_equal_body_is_accepted_again_and_a_different_one_is_not() {
    let waiting = Waiting::new().await;
    assert_eq!(waiting.post("[1]").await, 202);
    let again = waiting.client.callback(&waiting.url, "[1]").await.expect(202);
    assert_eq!(again.body["status"], "duplicate");
    waiting.client.over(&waiting.id).await;
    // The same after the instance has ended: a caller that never got its answer may ask again.
    assert_eq!(waiting.post("[1]").await, 202);
    let conflict = waiting.client.callback(&waiting.url, "[2]").await.expect(409);
    assert_eq!(conflict.code(), "callback.conflict");
    assert_eq!(waiting.settled().await, 1);
    let status = waiting.client.status(&waiting.id).await;
    assert_eq!(status["output"], json!([1]));
}

#[tokio::test]
async fn of_many_callers_at_once_exactly_one_is_heard() {
    let waiting = Waiting::new().await;
    let posts = (0..20).map(|n| {
        let (client, url) = (waiting.client.clone(), waiting.url.clone());
        tokio::spawn(async move { client.callback(&url, n.to_string()).await.status })
    });
    let statuses: Vec<u16> =
        futures::future::join_all(posts).await.into_iter().map(|post| post.expect("it ran")).collect();
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(202), count(409)), (1, 19), "{statuses:?}");
    assert_eq!(waiting.settled().await, 1);
}

#[tokio::test]
async fn a_callback_that_comes_before_the_wait_is_kept() {
    let sink = Sink::answering(|_| Reply::json(200, &json!({})).after(Duration::from_secs(1))).await;
    let waiting = Waiting::registering(Host::shared().await, &sink, None).await;
    assert_eq!(waiting.post("\"early\"").await, 202);
    let status = waiting.client.status(&waiting.id).await;
    assert_eq!(status["state"], "running", "it still hands out its URL: {status:#}");
    let status = waiting.client.over(&waiting.id).await;
    assert_eq!(status["output"], "early", "{status:#}");
}

#[tokio::test]
async fn a_rejection_fails_the_wait_with_what_the_caller_says() {
    let waiting = Waiting::new().await;
    let url = format!("{}/reject", waiting.url);
    let body = json!({ "code": "denied", "message": "not by me", "retryable": true, "details": { "by": "ann" } });
    waiting.client.callback(&url, body.to_string()).await.expect(202);
    let status = waiting.client.over(&waiting.id).await;
    let failure = &status["failure"];
    assert_eq!(status["state"], "failed", "{status:#}");
    assert_eq!((&failure["kind"], &failure["code"]), (&json!("application"), &json!("denied")));
    assert_eq!((&failure["message"], &failure["details"]), (&json!("not by me"), &json!({ "by": "ann" })));
    // Completing it with those very bytes is something else.
    assert_eq!(waiting.post(&body.to_string()).await, 409);
}

#[tokio::test]
async fn a_rejection_of_another_form_is_400_and_records_nothing() {
    let waiting = Waiting::new().await;
    let url = format!("{}/reject", waiting.url);
    for body in ["{}", "[]", r#"{"code":"c"}"#, r#"{"code":"","message":"m"}"#, r#"{"code":"c","message":"m","x":1}"#] {
        let answer = waiting.client.callback(&url, body).await;
        assert_eq!((answer.status, waiting.settled().await), (400, 0), "{body}");
    }
    assert_eq!(waiting.post("1").await, 202);
}

#[tokio::test]
async fn an_expired_callback_fails_the_wait_and_answers_410() {
    let waiting = Waiting::expiring(Some(1500)).await;
    let status = waiting.client.over(&waiting.id).await;
    assert_eq!((&status["state"], &status["failure"]["kind"]), (&json!("failed"), &json!("timed-out")), "{status:#}");
    assert_eq!(waiting.post("1").await, 410);
    assert_eq!(waiting.settled().await, 0);
}

#[tokio::test]
async fn a_callback_of_a_cancelled_or_terminated_instance_answers_410() {
    for how in ["cancel", "terminate"] {
        let waiting = Waiting::new().await;
        waiting.client.post(&format!("/v1/instances/{}/{how}", waiting.id), &json!({})).await.expect(202);
        waiting.client.over(&waiting.id).await;
        assert_eq!((waiting.post("1").await, waiting.settled().await), (410, 0), "{how}");
    }
}

#[tokio::test]
async fn what_is_not_json_is_400_and_records_nothing() {
    let waiting = Waiting::new().await;
    for body in [&b""[..], b" ", b"{", b"{} {}", b"{'a': 1}", b"\xff", b"nul", b"[1,]"] {
        let answer = waiting.client.callback(&waiting.url, body.to_vec()).await;
        assert_eq!((answer.status, waiting.settled().await), (400, 0), "{:?}", String::from_utf8_lossy(body));
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    assert_eq!(waiting.post("null").await, 202);
    assert_eq!(waiting.client.over(&waiting.id).await["output"], Value::Null);
}

#[tokio::test]
async fn what_is_too_large_is_413_and_records_nothing() {
    let waiting = Waiting::new().await;
    let limit = 1 << 20;
    let body = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert_eq!(waiting.post(&body(limit + 1)).await, 413);
    assert_eq!(waiting.settled().await, 0);
    assert_eq!(waiting.post(&body(limit)).await, 202);
    let status = waiting.client.over(&waiting.id).await;
    assert_eq!(status["state"], "completed", "a body at the limit is a payload like any other");
}

#[tokio::test]
async fn a_forged_url_is_404_and_reads_like_any_unknown_path() {
    let waiting = Waiting::new().await;
    let (base, token) = waiting.url.rsplit_once('/').expect("the token is the last part");
    let unknown = waiting.client.callback(&format!("{base}/nothing"), "1").await;
    assert_eq!(unknown.status, 404);
    for place in 0..token.len() {
        let mut forged = token.as_bytes().to_vec();
        forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).expect("ASCII");
        let answer = waiting.client.callback(&format!("{base}/{forged}"), "1").await;
        assert_eq!((answer.status, &answer.text), (404, &unknown.text), "character {place}");
    }
    for forged in [format!("{token}A"), token[..token.len() - 1].to_owned(), token.to_uppercase(), String::new()] {
        assert_eq!(waiting.client.callback(&format!("{base}/{forged}"), "1").await.text, unknown.text, "{forged}");
    }
    // No hint either to whoever sends rubbish to a URL that is none.
    assert_eq!(waiting.client.callback(&format!("{base}/nothing"), "{").await.text, unknown.text);
    assert_eq!((waiting.settled().await, waiting.post("1").await), (0, 202));
}

#[tokio::test]
async fn looking_at_a_callback_url_settles_nothing() {
    let waiting = Waiting::new().await;
    let path = waiting.url.strip_prefix(&Host::shared().await.public_url()).expect("it is a public URL").to_owned();
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = answer(waiting.client.public(method.clone(), &path)).await;
        assert_eq!(answer.status, 404, "{method}");
    }
    assert_eq!((waiting.settled().await, waiting.post("1").await), (0, 202));
}

#[tokio::test]
async fn a_token_of_another_host_means_nothing_here() {
    let waiting = Waiting::new().await;
    let other = Host::start(HostSettings::default());
    let (_, token) = waiting.url.rsplit_once('/').expect("the token is the last part");
    let url = format!("{}/callbacks/{token}", other.public_url());
    assert_eq!(other.client().callback(&url, "1").await.status, 404);
}
