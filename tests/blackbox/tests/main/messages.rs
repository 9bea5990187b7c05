//! Signals, and requests to cancel or terminate.

use crate::start::fresh_id;
use rehydrate_blackbox::client::answer;
use rehydrate_blackbox::host::{GUESTS, HostSettings};
use rehydrate_blackbox::{Answer, Client, Host, history};
use reqwest::Method;
use serde_json::{Value, json};

async fn keyed_signal(client: &Client, id: &str, payload: u32, key: &str) -> Answer {
    let request = client.admin(Method::POST, &format!("/v1/instances/{id}/signals/go"));
    answer(request.header("idempotency-key", key).json(&payload)).await
}

fn takes(count: u64) -> Value {
    json!({ "do": "signal", "name": "go", "count": count })
}

#[tokio::test]
async fn signals_are_taken_in_the_order_in_which_they_came_each_once() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &takes(20)).await;
    let expected: Vec<u32> = (0..20).collect();
    for n in &expected {
        client.signal(&id, "go", &json!(n)).await.expect(202);
    }
    assert_eq!(client.over(&id).await["output"], json!(expected));
}

#[tokio::test]
async fn signals_that_nobody_waits_for_yet_are_kept() {
    let client = Host::shared().await.client();
    let input = json!({ "do": "sleep", "ms": 600_000 });
    let id = client.started(GUESTS, &input).await;
    client.waiting(&id, "timer").await;
    for n in 0..3 {
        client.signal(&id, "later", &json!(n)).await.expect(202);
    }
    assert_eq!(client.status(&id).await["buffered_signals"], 3);
    client.post(&format!("/v1/instances/{id}/terminate"), &json!({})).await.expect(202);
}

#[tokio::test]
async fn signals_of_another_name_do_not_wake_a_wait() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &takes(1)).await;
    client.signal(&id, "stop", &json!(1)).await.expect(202);
    client.signal(&id, "go", &json!(2)).await.expect(202);
    assert_eq!(client.over(&id).await["output"], json!([2]));
}

#[tokio::test]
async fn a_signal_with_the_same_key_counts_once() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &takes(2)).await;
    let key = fresh_id("message");
    assert_eq!(keyed_signal(&client, &id, 1, &key).await.expect(202).body["status"], "accepted");
    assert_eq!(keyed_signal(&client, &id, 1, &key).await.expect(202).body["status"], "duplicate");
    client.waiting(&id, "signal").await;
    keyed_signal(&client, &id, 2, &fresh_id("message")).await.expect(202);
    assert_eq!(client.over(&id).await["output"], json!([1, 2]));
    assert_eq!(history::count(&client.history(&id).await, "SignalReceived"), 2);
}

#[tokio::test]
async fn a_wait_that_was_given_up_swallows_no_signal() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "signal_or_timeout", "name": "go", "ms": 50 })).await;
    let elapsed = |status: &Value| status["custom_status"]["elapsed"].is_string();
    client.status_when(&id, "has given up its first wait", elapsed).await;
    client.signal(&id, "go", &json!("for the second")).await.expect(202);
    assert_eq!(client.over(&id).await["output"][1], "for the second");
}

#[tokio::test]
async fn a_signal_is_refused_when_it_can_not_arrive() {
    let client = Host::shared().await.client();
    assert_eq!(client.signal("nobody", "go", &json!(1)).await.status, 404);
    let id = client.started(GUESTS, &json!({ "do": "echo", "value": 1 })).await;
    client.over(&id).await;
    assert_eq!(client.signal(&id, "go", &json!(1)).await.status, 410);
    let id = client.started(GUESTS, &takes(1)).await;
    let path = format!("/v1/instances/{id}/signals/go");
    for body in ["", "{", "'x'"] {
        assert_eq!(answer(client.admin(Method::POST, &path).body(body)).await.status, 400, "{body:?}");
    }
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    assert_eq!(answer(client.admin(Method::POST, &path).body(large)).await.status, 413);
    assert_eq!(history::count(&client.history(&id).await, "SignalReceived"), 0);
    client.signal(&id, "go", &json!(null)).await.expect(202);
    assert_eq!(client.over(&id).await["output"], json!([null]));
}

#[tokio::test]
async fn a_cancelled_instance_may_clean_up_and_ends_as_cancelled() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "cancel_cleanup", "activity": "echo", "ms": 50 })).await;
    client.waiting(&id, "signal").await;
    let path = format!("/v1/instances/{id}/cancel");
    let reason = json!({ "reason": "no longer needed" });
    assert_eq!(client.post(&path, &reason).await.expect(202).body["status"], "accepted");
    let status = client.over(&id).await;
    assert_eq!(status["state"], "cancelled", "{status:#}");
    assert_eq!(status["custom_status"], json!({ "cleaned": "no longer needed" }));
    assert_eq!(status["failure"]["kind"], "cancelled");
    assert_eq!(client.post(&path, &reason).await.status, 410);
    let names = history::names(&client.history(&id).await);
    let after = names.iter().skip_while(|name| *name != "CancelRequested").cloned().collect::<Vec<_>>();
    let expected = [
        "CancelRequested",
        "ActivityScheduled",
        "ActivityCompleted",
        "TimerStarted",
        "TimerFired",
        "StatusSet",
        "InstanceCancelled",
    ];
    assert_eq!(after, expected);
}

#[tokio::test]
async fn a_second_request_to_cancel_adds_nothing() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "cancel_cleanup", "activity": null, "ms": 2000 })).await;
    client.waiting(&id, "signal").await;
    let path = format!("/v1/instances/{id}/cancel");
    client.post(&path, &json!({ "reason": "first" })).await.expect(202);
    let second = client.post(&path, &json!({ "reason": "second" })).await.expect(202);
    assert_eq!(second.body["status"], "duplicate");
    assert_eq!(client.over(&id).await["custom_status"], json!({ "cleaned": "first" }));
}

#[tokio::test]
async fn a_terminated_instance_ends_at_once_and_takes_nothing_more() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &takes(1)).await;
    client.waiting(&id, "signal").await;
    client.post(&format!("/v1/instances/{id}/terminate"), &json!({ "reason": "wrong input" })).await.expect(202);
    let status = client.status(&id).await;
    assert_eq!(status["state"], "terminated", "{status:#}");
    assert_eq!((&status["failure"]["kind"], &status["waiting_for"]), (&json!("terminated"), &json!([])));
    for what in ["cancel", "terminate", "signals/go"] {
        assert_eq!(client.post(&format!("/v1/instances/{id}/{what}"), &json!({})).await.status, 410, "{what}");
    }
}

#[tokio::test]
async fn a_custom_status_can_be_read_while_the_instance_waits() {
    let client = Host::shared().await.client();
    let value = json!({ "progress": [1, 2.5, "ü"], "deep": { "a": null } });
    let id = client.started(GUESTS, &json!({ "do": "status", "value": value })).await;
    let status = client.waiting(&id, "signal").await;
    assert_eq!(status["custom_status"], value);
    assert_eq!(client.get(&format!("/v1/instances/{id}/custom-status")).await.expect(200).body, value);
    assert_eq!(client.get("/v1/instances/nobody/custom-status").await.status, 404);
    client.signal(&id, "go", &json!("gone")).await.expect(202);
    assert_eq!(client.over(&id).await["output"], "gone");
}

#[tokio::test]
async fn signals_between_refused_starts_wake_an_evicted_instance_at_once() {
    // One guest stays in memory and there are three, so most posts load their instance anew; a repeated signal
    // does not need the guest, and what comes behind it and a refused start in one mailbox does.
    let config = Some("[runtime]\nresident-instances = 1\n".to_owned());
    let host = Host::with_guests(HostSettings { config, ..HostSettings::default() }).await;
    let client = host.client();
    let rounds = 60_u64;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = client.started(GUESTS, &takes(rounds + 1)).await;
        keyed_signal(&client, &id, 1, "again").await.expect(202);
        ids.push(id);
    }
    let post = |id: &String, n: u64| {
        let (client, id) = (client.clone(), id.clone());
        async move {
            let (payload, input) = (json!(n), takes(1));
            let (_, started, signalled) = tokio::join!(
                keyed_signal(&client, &id, 1, "again"),
                client.start(GUESTS, &id, &input),
                client.signal(&id, "go", &payload),
            );
            assert_eq!(signalled.status, 202, "{signalled:?}");
            assert!(matches!(started.status, 409 | 202), "{started:?}");
        }
    };
    let posts = (0..rounds).flat_map(|n| ids.iter().map(move |id| (id, n)));
    futures::future::join_all(posts.map(|(id, n)| post(id, n))).await;
    for id in &ids {
        // A start that comes after the end begins a run, which the repeated signal, new to it, may end again.
        let taken = |status: &Value| status["run"].as_u64() >= Some(2) || status["state"] == "completed";
        client.status_when(id, "all signals were taken", taken).await;
    }
    assert!(!host.log_end().contains("could not run a guest"), "{}", host.log_end());
}
