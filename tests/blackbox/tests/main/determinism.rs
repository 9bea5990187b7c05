//! Everything a guest can observe is the same when it is replayed.

use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::{Client, Host, HostSettings};
use serde_json::{Value, json};

async fn replayed(client: &Client, id: &str) -> Value {
    client.post(&format!("/v1/instances/{id}/replay"), &json!({})).await.expect(200).body
}

#[tokio::test]
async fn randomness_hash_maps_and_clocks_are_the_same_in_a_replay() {
    let client = Host::shared().await.client();
    let mut outputs = Vec::new();
    for _ in 0..3 {
        let id = client.started(GUESTS, &json!({ "do": "random", "ms": 30 })).await;
        let status = client.over(&id).await;
        assert_eq!(status["state"], "completed", "{status:#}");
        let report = replayed(&client, &id).await;
        assert_eq!((&report["verdict"], &report["output"]), (&json!("matches"), &status["output"]), "{report:#}");
        outputs.push(status["output"].clone());
    }
    for field in ["uuids", "random", "order"] {
        assert!(outputs[0][field] != outputs[1][field] && outputs[1][field] != outputs[2][field], "{field} is random");
    }
}

#[tokio::test]
async fn a_sleep_of_the_standard_library_is_a_durable_timer() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let id = client.started(GUESTS, &json!({ "do": "random", "ms": 1500 })).await;
    client.waiting(&id, "timer").await;
    host.kill();
    host.restart();
    let output = client.over(&id).await["output"].clone();
    let nanos = |field: &str| output[field].as_u64().unwrap_or_default();
    assert!(nanos("system_after_ns") - nanos("system_before_ns") >= 1_500_000_000, "{output:#}");
    assert!(nanos("monotonic_elapsed_ns") >= 1_500_000_000, "{output:#}");
    assert!(nanos("system_before_ns") > 1_700_000_000_000_000_000, "the clock shows the time of today: {output:#}");
    assert_eq!((&output["environment"], &output["order"].as_array().map(Vec::len)), (&json!(0), &Some(100)));
    assert_eq!(replayed(&client, &id).await["output"], output);
}

#[tokio::test]
async fn what_a_guest_prints_goes_to_its_log_once() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "random", "ms": 10 })).await;
    client.over(&id).await;
    replayed(&client, &id).await;
    let log = client.get(&format!("/v1/instances/{id}/log")).await.expect(200).body;
    let lines: Vec<&str> =
        log["lines"].as_array().into_iter().flatten().filter_map(|line| line["text"].as_str()).collect();
    assert_eq!(lines, ["slept 10 ms", "and says so on stderr"], "{log:#}");
}

#[tokio::test]
async fn time_stands_still_between_waits() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "sleep", "ms": 40 })).await;
    let output = client.over(&id).await["output"].clone();
    let history = client.history(&id).await;
    assert_eq!(instant(&output["before"]), instant(&history[0]["time"]), "the time of the start");
    let fired = history.iter().find(|event| event["type"] == "TimerFired").expect("it slept");
    assert_eq!(instant(&output["after"]), instant(&fired["time"]), "the time of the event that ended the wait");
}

/// A time without the zeros at the end of its fraction, which some writers leave out.
fn instant(time: &serde_json::Value) -> String {
    let text = time.as_str().expect("a time is a string").trim_end_matches('Z');
    text.trim_end_matches('0').to_owned()
}
