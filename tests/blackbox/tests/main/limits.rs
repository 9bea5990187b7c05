//! Guests that loop, eat, recurse, flood or return too much: each is stopped with a clear failure, while another
//! instance goes on undisturbed.

use rehydrate_blackbox::client::is_over;
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::{Client, Host, HostSettings};
use serde_json::{Value, json};

/// Runs a misbehaving guest while a well-behaved one works, and checks that the one is stopped with `code` and
/// a message that has `words`, and that the other is not disturbed.
async fn stopped(how: Value, code: &str, words: &[&str]) {
    let host = Host::shared().await;
    let client = host.client();
    let good = client.started(GUESTS, &json!({ "do": "sequence", "name": "echo", "count": 10 })).await;
    let mut input = how.clone();
    input["do"] = json!("misbehave");
    let bad = client.started(GUESTS, &input).await;
    let status = client.over(&bad).await;
    assert_eq!(status["state"], "failed", "{how}: {status:#}");
    let failure = &status["failure"];
    assert_eq!(failure["code"], code, "{how}: {failure:#}");
    let message = failure["message"].as_str().unwrap_or_default();
    assert!(words.iter().all(|word| message.contains(word)), "{how}: {message:?} should have {words:?}");
    assert_eq!(client.over(&good).await["output"], json!((0..10).collect::<Vec<u32>>()), "beside {how}");
}

#[tokio::test]
async fn a_guest_that_loops_for_ever_is_stopped() {
    stopped(json!({ "how": "loop_forever" }), "limit.cpu-per-turn-ms", &["cpu-per-turn-ms"]).await;
}

#[tokio::test]
async fn a_guest_that_eats_memory_is_stopped() {
    stopped(json!({ "how": "eat_memory" }), "limit.memory-bytes", &["memory-bytes"]).await;
}

#[tokio::test]
async fn a_guest_that_recurses_for_ever_is_stopped() {
    stopped(json!({ "how": "recurse" }), "limit.stack", &["stack"]).await;
}

#[tokio::test]
async fn a_guest_that_floods_its_log_is_stopped() {
    stopped(json!({ "how": "flood_log" }), "limit.log-bytes-per-turn", &["log-bytes-per-turn"]).await;
    stopped(json!({ "how": "flood_stdout" }), "limit.log-bytes-per-turn", &["log-bytes-per-turn"]).await;
}

#[tokio::test]
async fn a_guest_that_floods_the_host_is_stopped() {
    stopped(json!({ "how": "flood_calls" }), "limit.host-calls-per-turn", &["host-calls-per-turn"]).await;
    stopped(json!({ "how": "flood_commands" }), "limit.commands-per-turn", &["commands-per-turn"]).await;
    let client = Host::shared().await.client();
    let bad = client.started(GUESTS, &json!({ "do": "misbehave", "how": "flood_operations" })).await;
    let failure = &client.over(&bad).await["failure"];
    let code = failure["code"].as_str().unwrap_or_default();
    assert!(["limit.open-operations", "limit.commands-per-turn"].contains(&code), "{failure:#}");
}

#[tokio::test]
async fn a_guest_that_returns_too_much_is_stopped() {
    stopped(json!({ "how": "big_output", "bytes": 2 << 20 }), "limit.payload-bytes", &["payload-bytes"]).await;
}

#[tokio::test]
async fn a_panic_is_a_failure_with_its_message() {
    let how = json!({ "how": "panic", "message": "the sky fell" });
    stopped(how, "guest.panicked", &["the sky fell"]).await;
}

#[tokio::test]
async fn a_guest_that_breaks_the_contract_is_stopped() {
    stopped(json!({ "how": "invalid_status" }), "guest.misuse", &["JSON"]).await;
    stopped(json!({ "how": "wait_for_nothing" }), "guest.misuse", &["wait"]).await;
}

#[tokio::test]
async fn a_guest_whose_input_is_no_json_is_told_so() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "misbehave", "how": "invalid_input" })).await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["failure"]["kind"]), (&json!("failed"), &json!("rejected")), "{status:#}");
}

#[tokio::test]
async fn others_go_on_while_more_guests_loop_than_there_are_cores() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let count = std::thread::available_parallelism().map_or(4, |cores| cores.get() + 1);
    let mut loopers = Vec::new();
    for _ in 0..count {
        loopers.push(client.started(GUESTS, &json!({ "do": "misbehave", "how": "loop_forever" })).await);
    }
    let good = client.started(GUESTS, &json!({ "do": "timers", "count": 3, "ms": 1 })).await;
    assert_eq!(client.over(&good).await["output"], 3);
    let running = still_running(&client, &loopers).await;
    assert!(running > 0, "the good one came through before the last looper was stopped");
    for looper in &loopers {
        assert_eq!(client.over(looper).await["failure"]["code"], "limit.cpu-per-turn-ms");
    }
    assert_eq!(host.stop(), 0);
}

async fn still_running(client: &Client, ids: &[String]) -> usize {
    let mut running = 0;
    for id in ids {
        running += usize::from(!is_over(&client.status(id).await["state"]));
    }
    running
}

#[tokio::test]
async fn an_activity_that_misbehaves_fails_its_attempt_only() {
    let client = Host::shared().await.client();
    let options = json!({ "start_to_close_ms": 1500 });
    for (name, input) in [("loop_forever", json!(null)), ("eat_memory", json!(null)), ("panic", json!("ouch"))] {
        let input = json!({ "do": "activity", "name": name, "input": input, "options": options });
        let id = client.started(GUESTS, &input).await;
        let status = client.over(&id).await;
        assert_eq!(status["state"], "failed", "{name}: {status:#}");
        assert!(status["failure"]["code"].as_str().is_some_and(|code| !code.is_empty()), "{name}: {status:#}");
    }
    let good = client.started(GUESTS, &json!({ "do": "sequence", "name": "echo", "count": 1 })).await;
    assert_eq!(client.over(&good).await["output"], json!([0]));
}

#[tokio::test]
async fn a_limit_can_be_set_in_the_configuration_and_is_named_when_it_is_reached() {
    let config = "[limits]\npayload-bytes = 2000\n".to_owned();
    let host = Host::with_guests(HostSettings { config: Some(config), ..HostSettings::default() }).await;
    let client = host.client();
    let id = client.started(GUESTS, &json!({ "do": "misbehave", "how": "big_output", "bytes": 3000 })).await;
    let status = client.over(&id).await;
    assert_eq!(status["failure"]["code"], "limit.payload-bytes", "{status:#}");
    assert!(status["failure"]["message"].as_str().is_some_and(|text| text.contains("2000")), "{status:#}");
    let large = json!({ "do": "echo", "value": "x".repeat(3000) });
    assert_eq!(client.start(GUESTS, "large", &large).await.status, 413);
}
