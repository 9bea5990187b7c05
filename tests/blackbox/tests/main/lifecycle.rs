//! Suspending, resuming and rewinding instances, and ending whole families of them.

use crate::start::fresh_id;
use futures::future::join_all;
use rehydrate_blackbox::host::{GUESTS, HostSettings};
use rehydrate_blackbox::sink::Reply;
use rehydrate_blackbox::{Client, Host, Sink, eventually, history};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

async fn client() -> Client {
    Host::shared().await.client()
}

fn takes(count: u64) -> Value {
    json!({ "do": "signal", "name": "go", "count": count })
}

async fn suspended(client: &Client, id: &str) {
    let path = format!("/v1/instances/{id}/suspend");
    let answer = client.post(&path, &json!({ "reason": "for a look" })).await.expect(202);
    assert_eq!(answer.body["status"], "accepted");
    let status = client.status(id).await;
    assert_eq!((&status["state"], &status["suspended"]), (&json!("suspended"), &json!("for a look")), "{status:#}");
}

/// Waits until the history of a suspended instance has that event, and checks that it did not go on.
async fn recorded(client: &Client, id: &str, name: &str) {
    eventually(&format!("{id} has recorded {name}"), async || {
        let history = client.history(id).await;
        if history.last().is_some_and(|event| history::name(event) == name) {
            Ok(())
        } else {
            Err(format!("{history:#?}"))
        }
    })
    .await;
    assert_eq!(client.status(id).await["state"], "suspended");
}

#[tokio::test]
async fn signals_to_a_suspended_instance_are_taken_in_order_when_it_is_resumed() {
    let client = client().await;
    let id = client.started(GUESTS, &takes(5)).await;
    client.signal(&id, "go", &json!(0)).await.expect(202);
    client.waiting(&id, "signal").await;
    suspended(&client, &id).await;
    for n in 1..5 {
        client.signal(&id, "go", &json!(n)).await.expect(202);
    }
    recorded(&client, &id, "SignalReceived").await;
    assert_eq!(client.tell(&id, "suspend").await.expect(202).body["status"], "duplicate");
    client.tell(&id, "resume").await.expect(202);
    assert_eq!(client.over(&id).await["output"], json!([0, 1, 2, 3, 4]));
    let names = history::names(&client.history(&id).await);
    let told: Vec<&String> =
        names.iter().filter(|name| name.starts_with("InstanceSus") || name.starts_with("InstanceRes")).collect();
    assert_eq!(told, ["InstanceSuspended", "InstanceResumed"]);
}

#[tokio::test]
async fn an_activity_and_a_timer_go_on_while_their_instance_is_suspended() {
    let client = client().await;
    let sink = Sink::answering(|_| Reply::json(200, &json!("done")).after(Duration::from_millis(400))).await;
    let activity = json!({ "do": "activity", "name": "ask", "input": { "url": sink.url() } });
    let cases = [
        (activity, "activity", "ActivityCompleted"),
        (json!({ "do": "sleep", "ms": 400 }), "timer", "TimerFired"),
        (json!({ "do": "activity", "name": "fail", "input": failure() }), "nothing", "ActivityFailed"),
    ];
    for (input, kind, event) in cases {
        let id = client.started(GUESTS, &input).await;
        if kind == "nothing" {
            let status = client.over(&id).await;
            assert_eq!(client.tell(&id, "suspend").await.status, 410, "{status:#}");
            continue;
        }
        client.waiting(&id, kind).await;
        suspended(&client, &id).await;
        recorded(&client, &id, event).await;
        client.tell(&id, "resume").await.expect(202);
        let status = client.over(&id).await;
        assert_eq!((&status["state"], &status["suspended"]), (&json!("completed"), &Value::Null), "{status:#}");
        assert_eq!(history::count(&client.history(&id).await, event), 1);
    }
    assert_eq!(sink.received().len(), 1);
}

fn failure() -> Value {
    json!({ "failure": { "kind": "application", "code": "told-to", "message": "m", "details": null, "retryable": false } })
}

#[tokio::test]
async fn retries_go_on_while_their_instance_is_suspended() {
    let client = client().await;
    let asked = AtomicUsize::new(0);
    let sink = Sink::answering(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0..3 => Reply::json(500, &json!("no")),
        _ => Reply::json(200, &json!("yes")),
    })
    .await;
    let input = json!({
        "do": "activity", "name": "http", "input": { "method": "GET", "url": sink.url() },
        "options": { "retry": { "initial_ms": 150, "attempts": 9, "backoff_permille": 1000 } },
    });
    let id = client.started(GUESTS, &input).await;
    sink.received_when("the first attempt", |_| true).await;
    suspended(&client, &id).await;
    recorded(&client, &id, "ActivityCompleted").await;
    client.tell(&id, "resume").await.expect(202);
    assert_eq!(client.over(&id).await["output"]["json"], "yes");
    assert_eq!(sink.received().len(), 4);
}

#[tokio::test]
async fn a_callback_to_a_suspended_instance_is_taken_when_it_is_resumed() {
    let client = client().await;
    let sink = Sink::start().await;
    let input = json!({ "do": "callback", "name": "c", "expires_ms": null, "register_url": sink.url() });
    let id = client.started(GUESTS, &input).await;
    let url = sink.received_when("a URL", |_| true).await.body["url"].as_str().expect("a URL").to_owned();
    client.waiting(&id, "callback").await;
    suspended(&client, &id).await;
    client.callback(&url, "[1]").await.expect(202);
    assert_eq!(client.callback(&url, "[1]").await.expect(202).body["status"], "duplicate");
    assert_eq!(client.callback(&url, "[2]").await.status, 409);
    recorded(&client, &id, "CallbackSettled").await;
    client.tell(&id, "resume").await.expect(202);
    assert_eq!(client.over(&id).await["output"], json!([1]));
}

#[tokio::test]
async fn answers_of_children_and_entities_reach_a_suspended_parent() {
    let client = client().await;
    let child = fresh_id("child");
    let input = json!({ "do": "child", "workflow": GUESTS, "id": child, "input": takes(1) });
    let id = client.started(GUESTS, &input).await;
    client.waiting(&id, "child").await;
    client.there(&child).await;
    suspended(&client, &id).await;
    client.signal(&child, "go", &json!(7)).await.expect(202);
    recorded(&client, &id, "ReplyReceived").await;
    client.tell(&id, "resume").await.expect(202);
    assert_eq!(client.over(&id).await["output"], json!({ "ok": [7] }));
}

#[tokio::test]
async fn a_suspended_instance_can_be_terminated_and_asked_to_cancel() {
    let client = client().await;
    let id = client.started(GUESTS, &takes(1)).await;
    client.waiting(&id, "signal").await;
    suspended(&client, &id).await;
    client.tell(&id, "terminate").await.expect(202);
    let status = client.status(&id).await;
    assert_eq!((&status["state"], &status["suspended"]), (&json!("terminated"), &Value::Null), "{status:#}");
    assert_eq!(client.tell(&id, "resume").await.code(), "instance.ended");
    let id = client.started(GUESTS, &json!({ "do": "cancel_cleanup", "activity": "echo", "ms": 1 })).await;
    client.waiting(&id, "signal").await;
    suspended(&client, &id).await;
    client.post(&format!("/v1/instances/{id}/cancel"), &json!({ "reason": "enough" })).await.expect(202);
    recorded(&client, &id, "CancelRequested").await;
    assert_eq!(client.status(&id).await["waiting_for"], json!([]), "what was open is cancelled");
    client.tell(&id, "resume").await.expect(202);
    let status = client.over(&id).await;
    assert_eq!(status["state"], "cancelled", "{status:#}");
    assert_eq!(status["custom_status"], json!({ "cleaned": "enough" }));
}

#[tokio::test]
async fn a_suspended_instance_stays_so_through_a_kill() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let sink = Sink::answering(|_| Reply::json(200, &json!("done")).after(Duration::from_millis(500))).await;
    let signals = client.started(GUESTS, &takes(3)).await;
    let timer = client.started(GUESTS, &json!({ "do": "sleep", "ms": 500 })).await;
    let ask = json!({ "do": "activity", "name": "ask", "input": { "url": sink.url() } });
    let activity = client.started(GUESTS, &ask).await;
    sink.received_when("the attempt", |_| true).await;
    let ids = [&signals, &timer, &activity];
    for id in ids {
        suspended(&client, id).await;
    }
    client.signal(&signals, "go", &json!(1)).await.expect(202);
    host.kill();
    host.restart();
    client.signal(&signals, "go", &json!(2)).await.expect(202);
    recorded(&client, &timer, "TimerFired").await;
    recorded(&client, &activity, "ActivityCompleted").await;
    recorded(&client, &signals, "SignalReceived").await;
    host.kill();
    host.restart();
    let listed = client.get("/v1/instances?state=suspended").await.expect(200).body;
    let listed: BTreeSet<&str> =
        listed["instances"].as_array().expect("a list").iter().filter_map(|it| it["id"].as_str()).collect();
    assert_eq!(listed, ids.map(String::as_str).into_iter().collect());
    for id in ids {
        client.tell(id, "resume").await.expect(202);
    }
    client.signal(&signals, "go", &json!(3)).await.expect(202);
    assert_eq!(client.over(&signals).await["output"], json!([1, 2, 3]));
    assert_eq!(client.over(&activity).await["output"], "done");
    assert_eq!(client.over(&timer).await["state"], "completed");
}

#[tokio::test]
async fn only_what_is_suspended_can_be_resumed() {
    let client = client().await;
    let id = client.started(GUESTS, &takes(1)).await;
    client.waiting(&id, "signal").await;
    let running = client.tell(&id, "resume").await;
    assert_eq!((running.status, running.code()), (409, "instance.not-paused"), "{running:?}");
    client.signal(&id, "go", &json!(1)).await.expect(202);
    client.over(&id).await;
    for what in ["resume", "suspend"] {
        let ended = client.tell(&id, what).await;
        assert_eq!((ended.status, ended.code()), (410, "instance.ended"), "{what}");
        assert_eq!(client.tell("nobody", what).await.status, 404, "{what}");
    }
}

/// A sink whose requests with those numbers (from 1) are refused for good, for the activity `ask`.
async fn refusing(numbers: &'static [usize]) -> Sink {
    let asked = Arc::new(AtomicUsize::new(0));
    Sink::answering(move |received| {
        if received.path != "/ask" {
            return Reply::json(200, &json!({}));
        }
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::json(if numbers.contains(&number) { 500 } else { 200 }, &json!(number))
    })
    .await
}

fn asks(sink: &Sink, count: u64) -> Value {
    json!({ "do": "rewindable", "activity": "ask", "count": count, "input": { "url": format!("{}/ask", sink.url()) } })
}

async fn failed(client: &Client, id: &str) {
    let status = client.over(id).await;
    assert_eq!(status["state"], "failed", "{status:#}");
}

async fn rewound(client: &Client, id: &str) {
    client.post(&format!("/v1/instances/{id}/rewind"), &json!({ "reason": "it is mended" })).await.expect(202);
}

#[tokio::test]
async fn a_failed_activity_runs_again_after_a_rewind() {
    let client = client().await;
    let sink = refusing(&[1]).await;
    let id = client.started(GUESTS, &asks(&sink, 1)).await;
    failed(&client, &id).await;
    rewound(&client, &id).await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &json!([2])), "{status:#}");
    assert_eq!((&status["run"], &status["failure"]), (&json!(2), &Value::Null));
    assert_eq!(sink.received().len(), 2);
    let (before, after) = (client.history_of(&id, 1).await, client.history_of(&id, 2).await);
    assert_eq!(before.last().map(history::name), Some("InstanceFailed"));
    assert_eq!(after[0]["rewound_from"], 1);
    for history in [&before, &after] {
        assert_eq!(history::check(history), Ok(()), "{history:#?}");
    }
    let log = client.get(&format!("/v1/instances/{id}/log")).await.expect(200);
    assert!(log.text.contains("it is mended"), "{log:?}");
    let replayed = client.post(&format!("/v1/instances/{id}/replay"), &json!({})).await.expect(200);
    assert_eq!(replayed.body["verdict"], "matches", "{replayed:?}");
}

#[tokio::test]
async fn of_a_fan_out_only_what_failed_runs_again() {
    let client = client().await;
    let sink = refusing(&[3]).await;
    let id = client.started(GUESTS, &asks(&sink, 6)).await;
    failed(&client, &id).await;
    assert_eq!(sink.received().len(), 6);
    rewound(&client, &id).await;
    let status = client.over(&id).await;
    assert_eq!(status["state"], "completed", "{status:#}");
    assert_eq!(sink.received().len(), 7, "five had succeeded and one had not");
    let outputs: BTreeSet<u64> =
        status["output"].as_array().expect("outputs").iter().filter_map(Value::as_u64).collect();
    assert_eq!(outputs, BTreeSet::from([1, 2, 4, 5, 6, 7]));
}

#[tokio::test]
async fn a_chain_goes_on_from_the_link_that_failed() {
    let client = client().await;
    let sink = refusing(&[3]).await;
    let mut input = asks(&sink, 5);
    input["in_a_row"] = json!(true);
    let id = client.started(GUESTS, &input).await;
    failed(&client, &id).await;
    assert_eq!(sink.received().len(), 3);
    rewound(&client, &id).await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &json!([1, 2, 4, 5, 6])), "{status:#}");
    assert_eq!(sink.received().len(), 6, "the two before it are not run again");
}

#[tokio::test]
async fn an_instance_can_be_rewound_as_often_as_it_fails() {
    let client = client().await;
    let sink = refusing(&[1, 3, 5, 6]).await;
    let id = client.started(GUESTS, &asks(&sink, 3)).await;
    for run in 1..=3 {
        failed(&client, &id).await;
        assert_eq!(client.status(&id).await["run"], run);
        rewound(&client, &id).await;
    }
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["run"]), (&json!("completed"), &json!(4)), "{status:#}");
    // Three at first, two of which failed; then two, of which one failed; then it, and once more.
    assert_eq!(sink.received().len(), 7);
}

#[tokio::test]
async fn a_callback_url_from_before_the_failure_settles_after_a_rewind() {
    let client = client().await;
    for posted_first in [false, true] {
        let sink = refusing(&[1, 2]).await;
        let mut input = asks(&sink, 1);
        input["register_url"] = json!(format!("{}/url", sink.url()));
        let id = client.started(GUESTS, &input).await;
        failed(&client, &id).await;
        let urls = sink.received_at("/url");
        let url = urls[0].body["url"].as_str().expect("a URL").to_owned();
        assert_eq!(client.callback(&url, "1").await.status, 410, "it has failed");
        rewound(&client, &id).await;
        failed(&client, &id).await;
        rewound(&client, &id).await;
        if !posted_first {
            client.waiting(&id, "callback").await;
        }
        client.callback(&url, "[1]").await.expect(202);
        let status = client.over(&id).await;
        assert_eq!((&status["output"], &status["run"]), (&json!([1]), &json!(3)), "{status:#}");
        assert_eq!(client.callback(&url, "[1]").await.expect(202).body["status"], "duplicate");
        assert_eq!(client.callback(&url, "[2]").await.status, 409);
        assert_eq!(sink.received_at("/url").len(), 1, "the URL was handed out once");
    }
}

#[tokio::test]
async fn a_failed_child_is_started_again_when_its_parent_is_rewound() {
    let client = client().await;
    let sink = refusing(&[1]).await;
    // Three generations: the failure of the last one fails them all.
    let generation = |input: Value| json!({ "do": "children", "workflow": GUESTS, "count": 1, "input": input });
    let id = client.started(GUESTS, &generation(generation(asks(&sink, 1)))).await;
    failed(&client, &id).await;
    rewound(&client, &id).await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &json!([[[2]]])), "{status:#}");
    assert_eq!(sink.received().len(), 2);
    let started = client.history(&id).await;
    let started: Vec<&Value> = started.iter().filter(|it| history::name(it) == "ChildStarted").collect();
    assert_eq!(started.len(), 1, "{started:#?}");
    let child = client.status(started[0]["instance"].as_str().expect("an id")).await;
    assert_eq!((&child["run"], &child["state"]), (&json!(2), &json!("completed")), "{child:#}");
}

#[tokio::test]
async fn of_several_children_only_those_that_failed_or_were_given_up_run_again() {
    let client = client().await;
    let sink = refusing(&[2]).await;
    let input = json!({ "do": "children", "workflow": GUESTS, "count": 4, "input": asks(&sink, 1) });
    let id = client.started(GUESTS, &input).await;
    failed(&client, &id).await;
    assert_eq!(sink.received().len(), 4);
    rewound(&client, &id).await;
    let status = client.over(&id).await;
    assert_eq!(status["state"], "completed", "{status:#}");
    assert_eq!(sink.received().len(), 5);
}

#[tokio::test]
async fn a_lock_that_was_lost_is_asked_for_again_after_a_rewind() {
    let client = client().await;
    let (from, to) = (fresh_id("account"), fresh_id("account"));
    let input = json!({ "do": "locked_transfer", "from": from, "to": to, "amount": 5 });
    let id = client.started(GUESTS, &input).await;
    failed(&client, &id).await;
    client.entity_when(&from, "is no more", |it| it["code"] == "entity.not-found").await;
    client.entity_gave(&from, "set", &json!(7)).await;
    rewound(&client, &id).await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &json!([2, 5])), "{status:#}");
    for account in [&from, &to] {
        client.entity_when(account, "is free", |it| it["locked_by"].is_null()).await;
    }
    assert_eq!(client.entity_gave(&to, "get", &json!(null)).await, 5, "the money arrived once");
}

#[tokio::test]
async fn only_a_failure_of_something_that_can_run_again_can_be_rewound() {
    let client = client().await;
    let running = client.started(GUESTS, &takes(1)).await;
    let refused = client.tell(&running, "rewind").await;
    assert_eq!((refused.status, refused.code()), (409, "instance.running"), "{refused:?}");
    client.signal(&running, "go", &json!(1)).await.expect(202);
    client.over(&running).await;
    let refused = client.tell(&running, "rewind").await;
    assert_eq!((refused.status, refused.code()), (410, "instance.ended"), "{refused:?}");
    let mut fail = failure();
    fail["do"] = json!("fail");
    let itself = client.started(GUESTS, &fail).await;
    failed(&client, &itself).await;
    let refused = client.tell(&itself, "rewind").await;
    assert_eq!((refused.status, refused.code()), (409, "instance.not-rewound"), "{refused:?}");
    assert_eq!(client.status(&itself).await["run"], 1);
    assert_eq!(client.tell("nobody", "rewind").await.status, 404);
    for how in ["terminate", "cancel"] {
        let id = client.started(GUESTS, &takes(1)).await;
        client.waiting(&id, "signal").await;
        client.tell(&id, how).await.expect(202);
        client.over(&id).await;
        assert_eq!(client.tell(&id, "rewind").await.status, 410, "{how}");
    }
}

#[tokio::test]
async fn an_instance_that_was_stopped_is_tried_again_from_where_it_was() {
    let client = client().await;
    let panics = json!({ "do": "misbehave", "how": "panic", "message": "oh" });
    let id = client.started(GUESTS, &panics).await;
    failed(&client, &id).await;
    rewound(&client, &id).await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["run"]), (&json!("failed"), &json!(2)), "{status:#}");
}

#[tokio::test]
async fn a_rewind_survives_a_kill() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let asked = AtomicUsize::new(0);
    let sink = Sink::answering(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::json(500, &json!("no")),
        _ => Reply::json(200, &json!("yes")).after(Duration::from_millis(700)),
    })
    .await;
    let id = client.started(GUESTS, &asks(&sink, 1)).await;
    failed(&client, &id).await;
    rewound(&client, &id).await;
    sink.received_when("the attempt after the rewind", |_| sink.received().len() == 2).await;
    host.kill();
    host.restart();
    let status = client.over(&id).await;
    assert_eq!((&status["output"], &status["run"]), (&json!(["yes"]), &json!(2)), "{status:#}");
}

#[tokio::test]
async fn an_end_from_outside_reaches_children_and_their_children() {
    let client = client().await;
    for (how, state) in [("terminate", "terminated"), ("cancel", "cancelled")] {
        let ids = [fresh_id("family"), fresh_id("family"), fresh_id("family")];
        let policy = if how == "terminate" { "terminate" } else { "request_cancel" };
        let input = ids[1..].iter().rev().fold(
            takes(1),
            |input, id| json!({ "do": "child", "workflow": GUESTS, "id": id, "input": input, "parent_close": policy }),
        );
        client.start(GUESTS, &ids[0], &input).await.expect(202);
        client.there(&ids[2]).await;
        client.waiting(&ids[2], "signal").await;
        client.tell(&ids[0], how).await.expect(202);
        let ends = join_all(ids.iter().map(|id| client.over(id))).await;
        assert_eq!(ends[2]["state"], state, "{how}: {:#}", ends[2]);
        if how == "terminate" {
            assert!(ends.iter().all(|end| end["state"] == state), "{ends:#?}");
        }
    }
}
