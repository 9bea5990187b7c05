//! Stopping, killing and starting the host again; durable timers.

use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::{Host, HostSettings, JobService, Sink, eventually, history};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn timer(history: &[Value], name: &str, field: &str) -> String {
    let event = history.iter().find(|event| history::name(event) == name).expect("a timer event");
    event[field].as_str().expect("a time").to_owned()
}

#[tokio::test]
async fn a_durable_timer_fires_not_before_its_time_also_across_a_restart() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let begun = Instant::now();
    let id = client.started(GUESTS, &json!({ "do": "sleep", "ms": 3000 })).await;
    client.waiting(&id, "timer").await;
    host.kill();
    host.restart();
    let status = client.over(&id).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    let history = client.history(&id).await;
    assert_eq!(history::check(&history), Ok(()));
    assert!(timer(&history, "TimerFired", "time") >= timer(&history, "TimerStarted", "deadline"), "{status:#}");
}

#[tokio::test]
async fn timers_that_came_due_while_the_host_was_down_fire_at_once() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let id = client.started(GUESTS, &json!({ "do": "timers", "count": 50, "ms": 500 })).await;
    client.waiting(&id, "timer").await;
    host.kill();
    let down = Instant::now();
    eventually("the timers are due", async || match down.elapsed() {
        long if long > Duration::from_millis(700) => Ok(()),
        long => Err(format!("{long:?}")),
    })
    .await;
    host.restart();
    assert_eq!(client.over(&id).await["output"], 50);
    assert_eq!(history::count(&client.history(&id).await, "TimerFired"), 50);
}

#[tokio::test]
async fn a_host_asked_to_stop_ends_with_0_and_goes_on_where_it_was() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let waits = client.started(GUESTS, &json!({ "do": "signal", "name": "go", "count": 2 })).await;
    let works = client.started(GUESTS, &json!({ "do": "activity", "name": "sleep", "input": { "ms": 300 } })).await;
    client.signal(&waits, "go", &json!(1)).await.expect(202);
    assert_eq!(host.stop(), 0);
    host.restart();
    client.signal(&waits, "go", &json!(2)).await.expect(202);
    assert_eq!(client.over(&waits).await["output"], json!([1, 2]));
    assert_eq!(client.over(&works).await["output"], 300);
    for id in [&waits, &works] {
        assert_eq!(history::check(&client.history(id).await), Ok(()));
    }
}

#[tokio::test]
async fn an_activity_that_was_interrupted_by_a_kill_is_run_again_under_the_same_attempt() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let sink =
        Sink::answering(|_| rehydrate_blackbox::sink::Reply::json(200, &json!(1)).after(Duration::from_secs(2))).await;
    let input = json!({
        "do": "activity", "name": "http", "input": { "method": "POST", "url": sink.url(), "json": 1 },
        "options": { "start_to_close_ms": 60_000 },
    });
    let id = client.started(GUESTS, &input).await;
    sink.received_when("the first delivery", |_| true).await;
    host.kill();
    host.restart();
    assert_eq!(client.over(&id).await["state"], "completed");
    let keys: Vec<_> = sink.received().iter().map(|one| one.headers["idempotency-key"].clone()).collect();
    assert!(keys.len() >= 2 && keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
    assert_eq!(history::count(&client.history(&id).await, "ActivityCompleted"), 1);
}

#[tokio::test]
async fn the_founding_scenario_survives_a_kill_while_it_waits_for_the_second_attempt() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let service = JobService::start();
    let job = json!({ "name": "report", "run_seconds": 2.0, "behaviours": ["never", "success"] });
    let input = json!({ "job": job, "timeout_seconds": 3.0, "retry_limit": 1, "service_url": service.url() });
    let id = client.started(rehydrate_blackbox::host::SAMPLE, &input).await;
    let state = |status: &Value, n: usize| status["custom_status"]["attempts"][n]["state"].clone();
    client.status_when(&id, "waits in its second attempt", |status| state(status, 1) == "waiting-for-callback").await;
    host.kill();
    eventually("the webhook found nobody", async || {
        let ledger = service.ledger().await;
        let lost = ledger.iter().any(|entry| entry["kind"] == "webhook" && entry["status"].is_null());
        if lost { Ok(()) } else { Err(format!("{ledger:?}")) }
    })
    .await;
    host.restart();
    let status = client.over(&id).await;
    assert_eq!(status["state"], "completed", "{status:#}");
    assert_eq!([state(&status, 0), state(&status, 1)], ["timed-out", "callback-success"]);
    assert_eq!(history::check(&client.history(&id).await), Ok(()));
}

#[tokio::test]
async fn many_pending_timers_fire_each_once() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "timers", "count": 2000, "ms": 100 })).await;
    assert_eq!(client.over(&id).await["output"], 2000);
    let history = client.history(&id).await;
    let ops: std::collections::BTreeSet<u64> = history
        .iter()
        .filter(|event| history::name(event) == "TimerFired")
        .filter_map(|event| event["op"].as_u64())
        .collect();
    assert_eq!((ops.len(), history::count(&history, "TimerFired")), (2000, 2000));
}

#[tokio::test]
async fn a_second_host_on_the_same_data_is_refused() {
    let host = Host::start(HostSettings::default());
    let data = host.data().display().to_string();
    let listen = ["--admin-listen", "127.0.0.1:0", "--public-listen", "127.0.0.1:0"];
    let done = host.cli(&[&["serve", "--data-dir", &data][..], &listen[..]].concat()).await;
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("another host uses the data directory"), "it says why: {said}");
    assert_eq!(host.client().get("/v1/health").await.status, 200, "the first one goes on");
}
