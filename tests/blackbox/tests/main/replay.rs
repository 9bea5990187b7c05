//! Replaying: the same history gives the same result, and another component says where it differs.

use crate::start::fresh_id;
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::programs::component;
use rehydrate_blackbox::{Client, Host};
use serde_json::{Value, json};

async fn deploy_changed(client: &Client) {
    let status = client.deploy(GUESTS, "2-changed", &component("test_guests_changed")).await.status;
    assert!(status == 201 || status == 200, "{status}");
}

/// Started under the version before the change, whatever is deployed meanwhile.
async fn started(client: &Client, what: &str, input: &Value) -> String {
    let id = fresh_id(what);
    let request = json!({ "workflow": GUESTS, "version": "1", "id": id, "input": input });
    client.post("/v1/instances", &request).await.expect(202);
    id
}

#[tokio::test]
async fn a_finished_instance_replays_to_the_same_result_without_a_write() {
    let host = Host::shared().await;
    let client = host.client();
    let inputs = [
        json!({ "do": "sequence", "name": "echo", "count": 5 }),
        json!({ "do": "fan_out", "name": "echo", "count": 20 }),
        json!({ "do": "fan_out", "name": "echo", "count": 20, "single": true }),
        json!({ "do": "timers", "count": 5, "ms": 10 }),
        json!({ "do": "activity_or_timeout", "name": "sleep", "input": { "ms": 5000 }, "ms": 20 }),
    ];
    for input in inputs {
        let id = started(&client, "replayed", &input).await;
        let status = client.over(&id).await;
        assert_eq!(status["state"], "completed", "{status:#}");
        let before = (client.recorded_status(&id).await, client.history(&id).await);
        let report = client.post(&format!("/v1/instances/{id}/replay"), &json!({})).await.expect(200).body;
        assert_eq!((&report["verdict"], &report["output"]), (&json!("matches"), &status["output"]), "{report:#}");
        assert_eq!(report["events"], before.1.len());
        let after = (client.recorded_status(&id).await, client.history(&id).await);
        assert_eq!(after, before, "nothing was written");
    }
}

#[tokio::test]
async fn a_failed_instance_replays_to_the_same_failure() {
    let client = Host::shared().await.client();
    let failure =
        json!({ "kind": "application", "code": "no", "message": "not today", "details": [1], "retryable": false });
    let id = started(&client, "failed", &json!({ "do": "fail", "failure": failure })).await;
    let status = client.over(&id).await;
    let report = client.post(&format!("/v1/instances/{id}/replay"), &json!({})).await.expect(200).body;
    assert_eq!((&report["verdict"], &report["failure"]), (&json!("matches"), &status["failure"]), "{report:#}");
}

#[tokio::test]
async fn a_waiting_instance_replays_up_to_its_wait() {
    let client = Host::shared().await.client();
    let id = started(&client, "waiting", &json!({ "do": "status", "value": 1 })).await;
    client.waiting(&id, "signal").await;
    let report = client.post(&format!("/v1/instances/{id}/replay"), &json!({})).await.expect(200).body;
    assert_eq!((&report["verdict"], &report["output"]), (&json!("matches"), &json!(null)), "{report:#}");
}

#[tokio::test]
async fn the_command_line_replays_an_instance() {
    let host = Host::shared().await;
    let client = host.client();
    let id = started(&client, "cli", &json!({ "do": "sequence", "name": "echo", "count": 3 })).await;
    let status = client.over(&id).await;
    let done = host.cli(&["instance", "replay", &id, "--output", "json"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&report["verdict"], &report["output"]), (&json!("matches"), &status["output"]), "{report:#}");
}

#[tokio::test]
async fn a_changed_component_says_at_which_event_it_differs() {
    let client = Host::shared().await.client();
    deploy_changed(&client).await;
    let id = started(&client, "changed", &json!({ "do": "sequence", "name": "echo", "count": 2 })).await;
    client.over(&id).await;
    let request = json!({ "version": "2-changed" });
    let report = client.post(&format!("/v1/instances/{id}/replay"), &request).await.expect(200).body;
    assert_eq!(report["verdict"], "diverges", "{report:#}");
    let divergence = &report["divergence"];
    assert_eq!(divergence["event"], 2, "{report:#}");
    assert!(
        divergence["expected"].as_str().is_some_and(|text| text.contains("ActivityScheduled `echo`")),
        "{report:#}"
    );
    assert!(divergence["got"].as_str().is_some_and(|text| text.contains("TimerStarted")), "{report:#}");
}

#[tokio::test]
async fn an_instance_moved_to_a_changed_component_pauses_with_the_diff_and_goes_on_when_moved_back() {
    let client = Host::shared().await.client();
    deploy_changed(&client).await;
    let id = started(&client, "moved", &json!({ "do": "sleep", "ms": 600_000 })).await;
    client.waiting(&id, "timer").await;
    let before = client.history(&id).await;
    let migrate = async |version: &str| {
        client.post(&format!("/v1/instances/{id}/migrate"), &json!({ "version": version })).await.expect(202);
    };
    migrate("2-changed").await;
    // Whether the guest runs again at once or only at the next event is up to the host: wake it.
    client.signal(&id, "unheard", &json!(1)).await.expect(202);
    let status = client.status_when(&id, "is paused", |status| status["state"] == "paused").await;
    let divergence = &status["problem"]["divergence"];
    assert_eq!(divergence["event"], 2, "{status:#}");
    assert!(divergence["expected"].as_str().is_some_and(|text| text.contains("TimerStarted")), "{status:#}");
    let after = client.history(&id).await;
    assert_eq!(after[..before.len()], before, "what was recorded is not touched");
    migrate("1").await;
    let running = |status: &Value| status["state"] == "running" && status["problem"].is_null();
    client.status_when(&id, "goes on", running).await;
    client.post(&format!("/v1/instances/{id}/terminate"), &json!({})).await.expect(202);
}

#[tokio::test]
async fn a_running_instance_keeps_its_version_when_a_newer_one_is_deployed() {
    let client = Host::shared().await.client();
    let id = started(&client, "pinned", &json!({ "do": "signal", "name": "go", "count": 1 })).await;
    let digest = client.waiting(&id, "signal").await["digest"].clone();
    deploy_changed(&client).await;
    client.signal(&id, "go", &json!(1)).await.expect(202);
    let status = client.over(&id).await;
    assert_eq!((&status["version"], &status["digest"], &status["state"]), (&json!("1"), &digest, &json!("completed")));
}

#[tokio::test]
async fn an_instance_that_the_host_stopped_replays_to_the_same_stop() {
    let client = Host::shared().await.client();
    let panic = json!({ "do": "misbehave", "how": "panic", "message": "no way on" });
    let recursion = json!({ "do": "misbehave", "how": "recurse" });
    for input in [panic, recursion] {
        let id = started(&client, "stopped", &input).await;
        let status = client.over(&id).await;
        assert_eq!(status["state"], "failed", "{status:#}");
        let report = client.post(&format!("/v1/instances/{id}/replay"), &json!({})).await.expect(200).body;
        assert_eq!((&report["verdict"], &report["failure"]), (&json!("matches"), &status["failure"]), "{report:#}");
    }
}
