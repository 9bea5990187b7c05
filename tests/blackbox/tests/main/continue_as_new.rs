//! Continue-as-new: one instance, many runs, and nothing lost or doubled between them.
//!
//! `REHYDRATE_TEST_CONTINUATIONS` sets the number of runs in a row of the test that watches the memory.

use crate::start::fresh_id;
use futures::future::join_all;
use rehydrate_blackbox::client::answer;
use rehydrate_blackbox::host::{GUESTS, HostSettings};
use rehydrate_blackbox::programs::component;
use rehydrate_blackbox::{Answer, Client, Host, Sink, eventually, history};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn continues(left: u64) -> Value {
    json!({ "do": "continue", "left": left })
}

fn taking(left: u64) -> Value {
    json!({ "do": "continue", "left": left, "take": "go" })
}

async fn keyed(client: &Client, id: &str, payload: &Value, key: &str) -> Answer {
    let request = client.admin(Method::POST, &format!("/v1/instances/{id}/signals/go"));
    answer(request.header("idempotency-key", key).json(payload)).await
}

#[tokio::test]
async fn a_workflow_goes_on_in_a_new_run_of_the_same_instance() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &continues(3)).await;
    let status = client.over(&id).await;
    assert_eq!(status["output"], json!({ "run": 4, "taken": [] }), "{status:#}");
    assert_eq!((&status["run"], &status["custom_status"]), (&json!(4), &json!({ "left": 0, "run": 4 })));
    for run in 1..=4 {
        let of_run = client.history_of(&id, run).await;
        assert_eq!(history::check(&of_run), Ok(()), "run {run}: {of_run:#?}");
        assert_eq!(of_run[0]["input"]["left"], 4 - run, "run {run}");
        let end = if run == 4 { "InstanceCompleted" } else { "InstanceContinued" };
        assert_eq!(of_run.last().map(history::name), Some(end), "run {run}");
    }
    let path = format!("/v1/instances/{id}/history?run=5");
    assert_eq!(client.get(&path).await.status, 404);
    let replayed = client.post(&format!("/v1/instances/{id}/replay"), &json!({ "run": 2 })).await.expect(200);
    assert_eq!(replayed.body["verdict"], "matches", "{replayed:?}");
}

#[tokio::test]
async fn whoever_waits_for_the_result_waits_for_the_last_run() {
    let client = Host::shared().await.client();
    let request = json!({ "workflow": GUESTS, "input": continues(20) });
    let answer = client.post("/v1/instances?wait_seconds=60", &request).await.expect(200);
    assert_eq!(answer.body["output"], json!({ "run": 21, "taken": [] }), "{answer:?}");
    let id = client.started(GUESTS, &taking(3)).await;
    let path = format!("/v1/instances/{id}/result?wait_seconds=60");
    let result = client.get(&path);
    let signals = async {
        for n in 0..4 {
            client.signal(&id, "go", &json!(n)).await.expect(202);
        }
    };
    let (result, ()) = tokio::join!(result, signals);
    assert_eq!(result.expect(200).body["output"], json!({ "run": 4, "taken": [0, 1, 2, 3] }));
}

#[tokio::test]
async fn signals_that_nobody_took_are_carried_in_order_each_once() {
    const RUNS: u64 = 10;
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &taking(RUNS - 1)).await;
    let keys: Vec<String> = (0..RUNS).map(|_| fresh_id("message")).collect();
    for n in 0..RUNS {
        // With a key of its own, and at once the same again, and one from long ago.
        let key = &keys[usize::try_from(n).unwrap()];
        let first = keyed(&client, &id, &json!(n), key).await.expect(202);
        assert_eq!(first.body["status"], "accepted", "signal {n}");
        let again = keyed(&client, &id, &json!(n), key).await.expect(202);
        assert_eq!(again.body["status"], "duplicate", "signal {n} again");
        let oldest = keyed(&client, &id, &json!(0), &keys[0]).await.expect(202);
        assert_eq!(oldest.body["status"], "duplicate", "the first signal again, after {n}");
    }
    let status = client.over(&id).await;
    assert_eq!(status["output"], json!({ "run": RUNS, "taken": (0..RUNS).collect::<Vec<_>>() }), "{status:#}");
    let late = keyed(&client, &id, &json!(0), &keys[0]).await.expect(202);
    assert_eq!(late.body["status"], "duplicate", "its keys are known after its end");
}

#[tokio::test]
async fn signals_of_other_names_are_carried_past_runs_that_do_not_take_them() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &taking(3)).await;
    for n in 0..3 {
        client.signal(&id, "other", &json!(n)).await.expect(202);
    }
    for n in 0..3 {
        client.signal(&id, "go", &json!(n)).await.expect(202);
    }
    let status = client.status_when(&id, "is in its last run", |status| status["run"] == 4).await;
    assert_eq!(status["buffered_signals"], 3, "{status:#}");
    let carried: Vec<Value> = client.history(&id).await.into_iter().take(4).collect();
    let payloads: Vec<&Value> = carried[1..].iter().map(|event| &event["payload"]).collect();
    assert_eq!(payloads, [0, 1, 2], "{carried:#?}");
    client.tell(&id, "terminate").await.expect(202);
}

#[tokio::test]
async fn in_a_storm_of_signals_over_200_runs_each_is_taken_once_and_in_order() {
    const SENDERS: u64 = 3;
    const EACH: u64 = 67;
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &taking(SENDERS * EACH - 1)).await;
    let send = |sender: u64| {
        let (client, id) = (&client, &id);
        async move {
            for n in 0..EACH {
                client.signal(id, "go", &json!([sender, n])).await.expect(202);
            }
        }
    };
    join_all((0..SENDERS).map(send)).await;
    let status = client.over(&id).await;
    assert_eq!(status["output"]["run"], SENDERS * EACH, "{status:#}");
    let taken = status["output"]["taken"].as_array().expect("what was taken");
    for sender in 0..SENDERS {
        let of_sender: Vec<u64> = taken.iter().filter(|it| it[0] == sender).filter_map(|it| it[1].as_u64()).collect();
        assert_eq!(of_sender, (0..EACH).collect::<Vec<_>>(), "sender {sender}: {taken:?}");
    }
}

#[tokio::test]
async fn signals_reach_a_workflow_that_continues_without_waiting() {
    // It takes none: each is carried through all the runs that come after it, and none is told that it ended.
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &continues(300)).await;
    let mut accepted = 0_u64;
    for n in 0..100 {
        let answer = client.signal(&id, "unheard", &json!(n)).await;
        match answer.status {
            202 => accepted += 1,
            410 => break,
            _ => panic!("{answer:?}"),
        }
    }
    let status = client.over(&id).await;
    assert_eq!(status["run"], 301, "a signal was told of an end that was none: {status:#}");
    assert_eq!(status["buffered_signals"].as_u64(), Some(accepted), "{status:#}");
}

#[tokio::test]
async fn a_workflow_that_continues_for_ever_can_still_be_reached() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    for (how, state) in [("terminate", "terminated"), ("cancel", "running"), ("suspend", "suspended")] {
        let id = client.started(GUESTS, &continues(u64::from(u32::MAX))).await;
        client.status_when(&id, "is in its tenth run", |status| status["run"].as_u64() >= Some(10)).await;
        client.signal(&id, "unheard", &json!(1)).await.expect(202);
        client.tell(&id, how).await.expect(202);
        let status = client.status(&id).await;
        assert_eq!(status["state"], state, "{how}: {status:#}");
        if state != "terminated" {
            client.tell(&id, "terminate").await.expect(202);
            assert_eq!(client.over(&id).await["state"], "terminated", "after {how}");
        }
    }
}

#[tokio::test]
async fn a_workflow_that_continues_for_ever_does_not_keep_the_host_from_ending() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let id = client.started(GUESTS, &continues(u64::from(u32::MAX))).await;
    let run = |status: &Value| status["run"].as_u64().unwrap_or_default();
    client.status_when(&id, "is in its tenth run", |status| run(status) >= 10).await;
    let asked = Instant::now();
    assert_eq!(host.stop(), 0);
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}, half of what it may wait", asked.elapsed());
    host.restart();
    let before = run(&client.status(&id).await);
    client.status_when(&id, "goes on", |status| run(status) > before + 10).await;
    host.kill();
    host.restart();
    let before = run(&client.status(&id).await);
    client.status_when(&id, "goes on after a kill", |status| run(status) > before + 10).await;
    client.tell(&id, "terminate").await.expect(202);
}

#[tokio::test]
async fn the_next_run_has_the_newest_version_or_that_of_the_run_before() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let mut ids = Vec::new();
    for version in ["newest", "same"] {
        let mut input = taking(1);
        input["version"] = json!(version);
        let id = client.started(GUESTS, &input).await;
        client.waiting(&id, "signal").await;
        ids.push(id);
    }
    client.deploy(GUESTS, "2", &component("test_guests_changed")).await.expect(201);
    for (id, version) in ids.iter().zip(["2", "1"]) {
        client.signal(id, "go", &json!(1)).await.expect(202);
        let status = client.status_when(id, "is in its second run", |status| status["run"] == 2).await;
        assert_eq!(status["version"], version, "{status:#}");
        client.waiting(id, "signal").await;
        client.signal(id, "go", &json!(2)).await.expect(202);
        let status = client.over(id).await;
        assert_eq!(status["output"], json!({ "run": 2, "taken": [1, 2] }), "{status:#}");
        assert_eq!(client.history_of(id, 1).await[0]["version"], "1");
        assert_eq!(client.history_of(id, 2).await[0]["version"], version);
    }
}

#[tokio::test]
async fn a_parent_waits_for_the_last_run_of_its_child() {
    let client = Host::shared().await.client();
    let id = fresh_id("continued-child");
    let input = json!({ "do": "child", "workflow": GUESTS, "id": id, "input": taking(5) });
    let parent = client.started(GUESTS, &input).await;
    client.there(&id).await;
    for n in 0..6 {
        client.signal(&id, "go", &json!(n)).await.expect(202);
    }
    let status = client.over(&parent).await;
    assert_eq!(status["output"]["ok"], json!({ "run": 6, "taken": [0, 1, 2, 3, 4, 5] }), "{status:#}");
    assert_eq!(client.status(&id).await["parent"], json!(parent));
    assert_eq!(history::count(&client.history(&parent).await, "ReplyReceived"), 1);
}

#[tokio::test]
async fn a_child_that_continued_is_still_its_parents() {
    let client = Host::shared().await.client();
    let id = fresh_id("continued-child");
    let input = json!({ "do": "child", "workflow": GUESTS, "id": id, "input": taking(5) });
    let parent = client.started(GUESTS, &input).await;
    client.there(&id).await;
    client.signal(&id, "go", &json!(1)).await.expect(202);
    client.status_when(&id, "is in its second run", |status| status["run"] == 2).await;
    client.tell(&parent, "terminate").await.expect(202);
    assert_eq!(client.over(&id).await["state"], "terminated");
}

#[tokio::test]
async fn what_a_run_left_open_does_nothing_to_the_next() {
    let client = Host::shared().await.client();
    let sink = Sink::start().await;
    let mut input = taking(2);
    input["register_url"] = json!(format!("{}/callback", sink.url()));
    let id = client.started(GUESTS, &input).await;
    let url = |n: usize| {
        let sink = &sink;
        eventually("a run hands out its URL", async move || {
            let received = sink.received_at("/callback");
            received.get(n).and_then(|one| one.body["url"].as_str().map(str::to_owned)).ok_or(received.len())
        })
    };
    let first = url(0).await;
    client.signal(&id, "go", &json!("a")).await.expect(202);
    let second = url(1).await;
    assert_ne!(first, second);
    assert_eq!(client.callback(&first, "1").await.status, 410, "the run that handed it out is over");
    client.waiting(&id, "signal").await;
    // Longer than the timer that the first run left open.
    let sleeps = client.started(GUESTS, &json!({ "do": "sleep", "ms": 400 })).await;
    client.over(&sleeps).await;
    let fired = client.history_of(&id, 2).await;
    let ops: Vec<&Value> = fired.iter().filter(|it| history::name(it) == "TimerFired").map(|it| &it["op"]).collect();
    assert!(ops.len() <= 1, "only its own timer can fire: {fired:#?}");
    assert_eq!(history::check(&client.history_of(&id, 1).await), Ok(()), "nothing follows the end of the first run");
    assert_eq!(client.callback(&second, "1").await.status, 202, "the run that handed it out goes on");
    assert_eq!(client.callback(&first, "1").await.status, 410);
    for n in 0..2 {
        client.signal(&id, "go", &json!(n)).await.expect(202);
    }
    let status = client.over(&id).await;
    assert_eq!(status["output"], json!({ "run": 3, "taken": ["a", 0, 1] }), "{status:#}");
}

/// Bytes of the host's memory that are in use.
fn memory(host: &Host) -> u64 {
    let pid = host.pid().expect("the host runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory is told");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[tokio::test]
async fn thousands_of_runs_in_a_row_need_no_more_memory() {
    const GROWTH_MAX: u64 = 48 << 20;
    let runs = std::env::var("REHYDRATE_TEST_CONTINUATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000_u64);
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let warm = client.started(GUESTS, &continues(200)).await;
    client.over(&warm).await;
    let before = memory(&host);
    let id = client.started(GUESTS, &continues(runs)).await;
    let is_over = |status: &Value| status["state"] != "running";
    let status = client.status_within(Duration::from_secs(600), &id, "is over", is_over).await;
    assert_eq!(status["output"]["run"], runs + 1, "{status:#}");
    let growth = memory(&host).saturating_sub(before);
    assert!(growth < GROWTH_MAX, "{runs} runs took {growth} bytes of memory, at most {GROWTH_MAX} were expected");
    println!("{runs} runs took {growth} bytes of memory");
}
