//! Activities: components and the built-in `http`, retries, time limits, and where they may connect to.

use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::sink::{Received, Reply};
use rehydrate_blackbox::{Client, Host, HostSettings, Sink, history};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Runs one activity; gives its instance's last status.
async fn run(client: &Client, name: &str, input: Value, options: Value) -> Value {
    let input = json!({ "do": "activity", "name": name, "input": input, "options": options });
    let id = client.started(GUESTS, &input).await;
    client.over(&id).await
}

/// The states of the attempts of the only activity.
fn attempts(status: &Value) -> Vec<&str> {
    let attempts = status["activities"][0]["attempts"].as_array();
    attempts.into_iter().flatten().filter_map(|attempt| attempt["state"].as_str()).collect()
}

fn failure(code: &str, retryable: bool) -> Value {
    json!({ "kind": "application", "code": code, "message": "as told", "details": null, "retryable": retryable })
}

/// A server that refuses the first requests with that status.
async fn refusing(times: u32, status: u16, retry_after: Option<&'static str>) -> Sink {
    let count = AtomicU32::new(0);
    Sink::answering(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        n if n < times => {
            let reply = Reply::json(status, &json!({ "sorry": true }));
            if let Some(value) = retry_after { reply.header("retry-after", value) } else { reply }
        }
        _ => Reply::json(200, &json!({ "ok": true })),
    })
    .await
}

#[tokio::test]
async fn an_activity_component_gives_its_output_and_knows_its_attempt() {
    let client = Host::shared().await.client();
    assert_eq!(run(&client, "echo", json!({ "a": [1, "ü"] }), json!({})).await["output"], json!({ "a": [1, "ü"] }));
    let status = run(&client, "attempt", json!(null), json!({})).await;
    assert_eq!((&status["output"]["attempt"], &status["output"]["run"]), (&json!(1), &json!(1)), "{status:#}");
    assert_eq!(status["output"]["instance_id"], status["id"]);
}

#[tokio::test]
async fn a_fan_out_gives_all_results_in_order() {
    let client = Host::shared().await.client();
    let expected: Vec<u32> = (0..50).collect();
    for single in [false, true] {
        let input = json!({ "do": "fan_out", "name": "echo", "count": 50, "single": single });
        let id = client.started(GUESTS, &input).await;
        assert_eq!(client.over(&id).await["output"], json!(expected), "single: {single}");
    }
}

#[tokio::test]
async fn a_failing_activity_is_retried_until_it_succeeds_and_every_attempt_is_shown() {
    let client = Host::shared().await.client();
    let options = json!({ "retry": { "initial_ms": 20, "attempts": 5 } });
    let input = json!({ "failure": failure("busy", true), "succeed_at": 3 });
    let status = run(&client, "fail", input, options).await;
    assert_eq!(status["output"], 3, "{status:#}");
    assert_eq!(attempts(&status), ["failed", "failed", "completed"]);
    let first = &status["activities"][0]["attempts"][0];
    assert_eq!(first["failure"]["code"], "busy");
    assert!(first["started"].is_string() && first["ended"].is_string(), "{first}");
    let history = client.history(status["id"].as_str().expect("an id")).await;
    assert_eq!(history::count(&history, "ActivityAttemptFailed"), 2);
}

#[tokio::test]
async fn retries_end_when_the_attempts_are_used_up_or_the_failure_is_final() {
    let client = Host::shared().await.client();
    let retry = json!({ "initial_ms": 10, "attempts": 3, "non_retryable": ["card-declined"] });
    let options = json!({ "retry": retry });
    for (code, retryable, expected) in [("busy", true, 3), ("card-declined", true, 1), ("busy", false, 1)] {
        let status = run(&client, "fail", json!({ "failure": failure(code, retryable) }), options.clone()).await;
        assert_eq!((&status["state"], &status["failure"]["code"]), (&json!("failed"), &json!(code)), "{status:#}");
        assert_eq!(attempts(&status).len(), expected, "{code} {retryable}");
    }
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_timed_out_and_the_next_may_follow() {
    let client = Host::shared().await.client();
    let options = json!({ "start_to_close_ms": 200, "retry": { "initial_ms": 10, "attempts": 2 } });
    let status = run(&client, "sleep", json!({ "ms": 60_000 }), options).await;
    assert_eq!((&status["state"], &status["failure"]["kind"]), (&json!("failed"), &json!("timed-out")), "{status:#}");
    assert_eq!(attempts(&status), ["timed-out", "timed-out"]);
}

#[tokio::test]
async fn an_activity_as_a_whole_is_limited_by_schedule_to_close() {
    let client = Host::shared().await.client();
    let options = json!({ "schedule_to_close_ms": 400, "retry": { "initial_ms": 50, "attempts": 1000 } });
    let status = run(&client, "fail", json!({ "failure": failure("busy", true) }), options).await;
    assert_eq!(status["state"], "failed", "{status:#}");
    assert!(attempts(&status).len() < 10, "{status:#}");
    let options = json!({ "schedule_to_close_ms": 300 });
    let status = run(&client, "sleep", json!({ "ms": 60_000 }), options).await;
    assert_eq!(status["failure"]["code"], "timeout.schedule-to-close", "{status:#}");
}

#[tokio::test]
async fn an_attempt_that_falls_silent_is_given_up_and_one_that_beats_is_not() {
    let client = Host::shared().await.client();
    let silent = run(&client, "sleep", json!({ "ms": 60_000 }), json!({ "heartbeat_ms": 300 })).await;
    assert_eq!((&silent["state"], &silent["failure"]["kind"]), (&json!("failed"), &json!("timed-out")), "{silent:#}");
    let options = json!({ "heartbeat_ms": 1000, "start_to_close_ms": 2500 });
    let beating = run(&client, "heartbeat", json!({ "ms": 50 }), options).await;
    let code = beating["failure"]["code"].as_str().unwrap_or_default();
    assert!(code.contains("start-to-close"), "it lived on its heartbeats until another limit: {beating:#}");
}

#[tokio::test]
async fn the_loser_of_a_race_is_cancelled() {
    let client = Host::shared().await.client();
    let input = json!({ "do": "activity_or_timeout", "name": "sleep", "input": { "ms": 60_000 }, "ms": 100 });
    let id = client.started(GUESTS, &input).await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &json!(null)), "{status:#}");
    assert_eq!(status["activities"][0]["state"], "cancelled", "{status:#}");
}

#[tokio::test]
async fn an_activity_that_nobody_offers_fails_by_name() {
    let client = Host::shared().await.client();
    let status = run(&client, "no-such-activity", json!(1), json!({})).await;
    assert_eq!(status["failure"]["kind"], "not-found", "{status:#}");
    assert!(status["failure"]["message"].as_str().is_some_and(|text| text.contains("no-such-activity")), "{status:#}");
}

#[tokio::test]
async fn the_http_activity_sends_what_it_is_told_and_gives_the_answer() {
    let client = Host::shared().await.client();
    let sink = Sink::answering(|_| Reply::json(201, &json!({ "id": 7 })).header("x-kind", "new")).await;
    let url = format!("{}/orders?n=1", sink.url());
    let input = json!({ "method": "PUT", "url": url, "headers": { "x-a": "b" }, "json": { "sku": 1 } });
    let output = run(&client, "http", input, json!({})).await["output"].clone();
    assert_eq!((&output["status"], &output["json"]), (&json!(201), &json!({ "id": 7 })), "{output:#}");
    assert_eq!(output["headers"]["x-kind"], "new");
    let Received { method, path, headers, body, .. } = &sink.received()[0];
    assert_eq!((method.as_str(), path.as_str(), body), ("PUT", "/orders?n=1", &json!({ "sku": 1 })));
    assert_eq!(
        (&headers["x-a"], &headers["content-type"]),
        (&"b".parse().unwrap(), &"application/json".parse().unwrap())
    );
    assert!(headers.contains_key("idempotency-key"));
}

#[tokio::test]
async fn the_http_activity_fails_with_the_status_unless_that_is_success() {
    let client = Host::shared().await.client();
    let sink = Sink::answering(|_| Reply::json(404, &json!({ "no": true }))).await;
    let status = run(&client, "http", json!({ "url": sink.url() }), json!({})).await;
    assert_eq!(
        (&status["failure"]["code"], &status["failure"]["retryable"]),
        (&json!("http.status-404"), &json!(false))
    );
    let status = run(&client, "http", json!({ "url": sink.url(), "success": ["2xx", 404] }), json!({})).await;
    assert_eq!((&status["state"], &status["output"]["status"]), (&json!("completed"), &json!(404)), "{status:#}");
}

#[tokio::test]
async fn retry_after_lengthens_the_wait_for_the_next_attempt() {
    let client = Host::shared().await.client();
    let sink = refusing(1, 503, Some("2")).await;
    let options = json!({ "retry": { "initial_ms": 10, "attempts": 3 } });
    let begun = std::time::Instant::now();
    let status = run(&client, "http", json!({ "url": sink.url() }), options).await;
    assert_eq!(attempts(&status), ["failed", "completed"], "{status:#}");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn every_attempt_has_an_idempotency_key_of_its_own() {
    let client = Host::shared().await.client();
    let sink = refusing(2, 500, None).await;
    let options = json!({ "retry": { "initial_ms": 10, "attempts": 3 } });
    assert_eq!(run(&client, "http", json!({ "url": sink.url() }), options).await["state"], "completed");
    let keys: std::collections::BTreeSet<Vec<u8>> =
        sink.received().iter().map(|one| one.headers["idempotency-key"].as_bytes().to_vec()).collect();
    assert_eq!(keys.len(), 3);
}

#[tokio::test]
async fn an_activity_component_fetches_over_the_same_policy() {
    let client = Host::shared().await.client();
    let sink = Sink::answering(|_| Reply::json(200, &json!([1, 2]))).await;
    let status = run(&client, "http_get", json!({ "url": format!("{}/x", sink.url()) }), json!({})).await;
    assert_eq!((&status["output"]["status"], &status["output"]["json"]), (&json!(200), &json!([1, 2])), "{status:#}");
    let status = run(&client, "http_get", json!({ "url": "http://169.254.169.254/latest" }), json!({})).await;
    assert_eq!(status["state"], "failed", "{status:#}");
}

#[tokio::test]
async fn nothing_on_this_machine_or_network_is_reached_unless_it_is_allowed_by_name() {
    let host = Host::with_guests(HostSettings { closed: true, ..HostSettings::default() }).await;
    let client = host.client();
    let sink = Sink::start().await;
    let port = sink.url().rsplit(':').next().expect("a port").to_owned();
    for address in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
    ] {
        let url = format!("http://{address}:{port}/");
        for name in ["http", "http_get"] {
            let status = run(&client, name, json!({ "url": url }), json!({ "start_to_close_ms": 20_000 })).await;
            assert_eq!(status["state"], "failed", "{name} {url}: {status:#}");
            // The component sees the refusal as an error of wasi:http and passes its text on.
            let refused = status["failure"].to_string().contains("outbound.refused");
            assert!(refused, "{name} {url}: {status:#}");
        }
    }
    assert!(sink.received().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_redirect_is_checked_again() {
    let client = Host::shared().await.client();
    let sink =
        Sink::answering(|_| Reply::json(302, &json!(null)).header("location", "http://169.254.169.254/latest")).await;
    let status = run(&client, "http", json!({ "url": sink.url() }), json!({})).await;
    assert_eq!((&status["state"], &status["failure"]["kind"]), (&json!("failed"), &json!("rejected")), "{status:#}");
}

#[tokio::test]
async fn an_instance_of_a_component_is_used_again_but_not_after_a_trap_or_an_interruption() {
    // A host of its own: on a shared one other tests would take the instance in between.
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let tally = async |then: &str, options: Value| run(&client, "tally", json!(then), options).await;
    let count = async || tally("return", json!({})).await["output"].clone();
    assert_eq!((count().await, count().await), (json!(1), json!(2)));
    let panicked = tally("panic", json!({})).await;
    assert!(panicked["failure"].to_string().contains("attempt 3 was told to"), "{panicked:#}");
    assert_eq!((count().await, count().await), (json!(1), json!(2)));
    let interrupted = tally("sleep", json!({ "start_to_close_ms": 100 })).await;
    assert_eq!(interrupted["failure"]["code"], "timeout.start-to-close", "{interrupted:#}");
    assert_eq!(count().await, json!(1));
}
