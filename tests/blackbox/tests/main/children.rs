//! Children: what their parents learn of them, what becomes of them without their parents; instances that are started,
//! signalled and asked to cancel by others.

use crate::start::fresh_id;
use futures::future::join_all;
use rehydrate_blackbox::host::{GUESTS, HostSettings};
use rehydrate_blackbox::sink::Reply;
use rehydrate_blackbox::{Client, Host, Sink, history};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn child(id: &str, input: &Value) -> Value {
    json!({ "do": "child", "workflow": GUESTS, "id": id, "input": input })
}

fn failing() -> Value {
    let failure = json!({
        "kind": "application", "code": "card-declined", "message": "no money", "details": { "card": 7 }, "retryable": false,
    });
    json!({ "do": "fail", "failure": failure })
}

fn takes(name: &str, count: u64) -> Value {
    json!({ "do": "signal", "name": name, "count": count })
}

/// Starts a parent and gives its output once it has completed.
async fn output(client: &Client, input: &Value) -> (String, Value) {
    let id = client.started(GUESTS, input).await;
    let status = client.over(&id).await;
    assert_eq!(status["state"], "completed", "{status:#}");
    (id, status["output"].clone())
}

#[tokio::test]
async fn a_parent_gets_the_output_of_its_child() {
    let client = Host::shared().await.client();
    let id = fresh_id("child");
    let (parent, output) = output(&client, &child(&id, &json!({ "do": "echo", "value": { "a": [1, null] } }))).await;
    assert_eq!(output, json!({ "ok": { "a": [1, null] } }));
    let of_parent = client.history(&parent).await;
    assert_eq!(history::names(&of_parent), ["InstanceStarted", "ChildStarted", "ReplyReceived", "InstanceCompleted"]);
    let status = client.over(&id).await;
    assert_eq!((&status["parent"], &status["run"]), (&json!(parent), &json!(1)), "{status:#}");
    assert_eq!(client.history(&id).await[0]["parent"], json!(parent));
}

#[tokio::test]
async fn a_failure_of_a_child_reaches_its_parent_whole() {
    let client = Host::shared().await.client();
    let (_, output) = output(&client, &child(&fresh_id("child"), &failing())).await;
    assert_eq!(output["err"]["kind"], "application");
    let failure = ["code", "message", "details"].map(|field| output["err"][field].clone());
    assert_eq!(failure, [json!("card-declined"), json!("no money"), json!({ "card": 7 })]);
}

#[tokio::test]
async fn a_child_that_is_stopped_cancelled_or_terminated_fails_for_its_parent() {
    let client = Host::shared().await.client();
    let (_, stopped) =
        output(&client, &child(&fresh_id("child"), &json!({ "do": "misbehave", "how": "panic", "message": "oh" })))
            .await;
    assert!(stopped["err"]["message"].as_str().is_some_and(|text| text.contains("oh")), "{stopped}");
    for (how, kind) in [("cancel", "cancelled"), ("terminate", "terminated")] {
        let id = fresh_id("child");
        let parent = client.started(GUESTS, &child(&id, &takes("never", 1))).await;
        client.waiting(&parent, "child").await;
        client.there(&id).await;
        client.tell(&id, how).await.expect(202);
        let status = client.over(&parent).await;
        assert_eq!(status["output"]["err"]["kind"], kind, "{status:#}");
    }
}

#[tokio::test]
async fn a_child_of_an_unknown_workflow_or_version_fails_as_not_found() {
    let client = Host::shared().await.client();
    let unknown = json!({ "do": "child", "workflow": "nothing", "id": fresh_id("child") });
    let version = json!({ "do": "child", "workflow": GUESTS, "version": "99", "id": fresh_id("child") });
    for input in [unknown, version] {
        let (_, output) = output(&client, &input).await;
        assert_eq!(output["err"]["kind"], "not-found", "{output}");
        assert_eq!(client.get(&format!("/v1/instances/{}", input["id"].as_str().unwrap())).await.status, 404);
    }
}

#[tokio::test]
async fn an_id_that_is_running_is_refused_to_a_child_and_left_alone() {
    let client = Host::shared().await.client();
    let id = fresh_id("taken");
    client.start(GUESTS, &id, &takes("go", 1)).await.expect(202);
    let (_, output) = output(&client, &child(&id, &json!({ "do": "echo", "value": 1 }))).await;
    let err = &output["err"];
    assert_eq!((&err["kind"], &err["code"]), (&json!("rejected"), &json!("instance.running")), "{output}");
    client.signal(&id, "go", &json!("its own")).await.expect(202);
    let status = client.over(&id).await;
    assert_eq!((&status["output"], &status["run"]), (&json!(["its own"]), &json!(1)), "{status:#}");
}

#[tokio::test]
async fn an_id_that_has_ended_begins_a_new_run_as_a_child() {
    let client = Host::shared().await.client();
    let id = fresh_id("ended");
    client.start(GUESTS, &id, &json!({ "do": "echo", "value": 1 })).await.expect(202);
    client.over(&id).await;
    let (parent, output) = output(&client, &child(&id, &json!({ "do": "info" }))).await;
    assert_eq!(output["ok"]["run"], 2, "{output}");
    assert_eq!(client.status(&id).await["parent"], json!(parent));
}

fn retried(id: &str, input: &Value, retry: &Value) -> Value {
    json!({ "do": "child", "workflow": GUESTS, "id": id, "input": input, "retry": retry })
}

#[tokio::test]
async fn a_failed_child_is_started_again_in_new_runs_until_it_succeeds() {
    let client = Host::shared().await.client();
    let asked = AtomicUsize::new(0);
    let sink = Sink::answering(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Reply::json(500, &json!("not yet")),
        _ => Reply::json(200, &json!("done")),
    })
    .await;
    let id = fresh_id("retried");
    let work = json!({ "do": "activity", "name": "ask", "input": { "url": sink.url() } });
    let (parent, output) = output(&client, &retried(&id, &work, &json!({ "initial_ms": 20, "attempts": 5 }))).await;
    assert_eq!(output, json!({ "ok": "done" }));
    let status = client.status(&id).await;
    assert_eq!((&status["run"], &status["state"]), (&json!(3), &json!("completed")), "{status:#}");
    assert_eq!(sink.received().len(), 3);
    let of_parent = client.history(&parent).await;
    let attempts: Vec<&Value> = of_parent.iter().filter(|it| history::name(it) == "ChildAttemptFailed").collect();
    assert_eq!(attempts.iter().map(|it| &it["attempt"]).collect::<Vec<_>>(), [&json!(1), &json!(2)]);
    assert!(attempts.iter().all(|it| it["failure"]["code"] == "ask.refused"), "{attempts:#?}");
    assert_eq!(history::count(&of_parent, "ReplyReceived"), 1);
    for run in 1..=3 {
        let of_run = client.history_of(&id, run).await;
        assert_eq!(history::check(&of_run), Ok(()), "run {run}");
        let end = if run == 3 { "InstanceCompleted" } else { "InstanceFailed" };
        assert_eq!(of_run.last().map(history::name), Some(end), "run {run}");
        assert_eq!(of_run[0]["parent"], json!(parent));
    }
}

#[tokio::test]
async fn a_child_is_given_up_after_its_last_attempt_or_a_failure_that_is_not_retried() {
    let client = Host::shared().await.client();
    for (retry, runs) in [
        (json!({ "initial_ms": 5, "attempts": 3 }), 3),
        (json!({ "initial_ms": 5, "attempts": 3, "non_retryable": ["card-declined"] }), 1),
    ] {
        let id = fresh_id("retried");
        let (parent, output) = output(&client, &retried(&id, &failing(), &retry)).await;
        assert_eq!(output["err"]["code"], "card-declined", "{output}");
        assert_eq!(client.status(&id).await["run"], runs);
        let failed = history::count(&client.history(&parent).await, "ChildAttemptFailed");
        assert_eq!(failed, usize::try_from(runs - 1).unwrap());
    }
}

#[tokio::test]
async fn of_many_retries_that_are_due_at_once_each_starts_its_child_once() {
    let client = Host::shared().await.client();
    let run = async || {
        let id = fresh_id("retried");
        let input = retried(&id, &failing(), &json!({ "initial_ms": 3, "attempts": 8 }));
        let (_, output) = output(&client, &input).await;
        assert_eq!(output["err"]["code"], "card-declined", "{output}");
        assert_eq!(client.status(&id).await["run"], 8);
    };
    join_all((0..300).map(|_| run())).await;
}

/// How a parent leaves its child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leave {
    Return,
    Fail,
    Drop,
    Terminate,
    Cancel,
}

const LEAVES: [Leave; 5] = [Leave::Return, Leave::Fail, Leave::Drop, Leave::Terminate, Leave::Cancel];

/// Has a parent leave its child in that way under that policy, and checks what becomes of both.
async fn leave(client: &Client, policy: &str, how: Leave) {
    let what = format!("{policy} {how:?}");
    let id = fresh_id("left");
    let input = json!({
        "do": "child_then_fail", "workflow": GUESTS, "id": id, "input": takes("end", 1), "parent_close": policy,
        "how": match how { Leave::Fail => "fail", Leave::Drop => "drop_then_wait", _ => "return" },
    });
    let parent = client.started(GUESTS, &input).await;
    client.waiting(&parent, "signal").await;
    client.there(&id).await;
    client.waiting(&id, "signal").await;
    let parent_ends_as = match how {
        Leave::Return | Leave::Fail | Leave::Drop => {
            client.signal(&parent, "go", &json!(null)).await.expect(202);
            if how == Leave::Fail { "failed" } else { "completed" }
        }
        Leave::Terminate => {
            client.tell(&parent, "terminate").await.expect(202);
            "terminated"
        }
        Leave::Cancel => {
            client.tell(&parent, "cancel").await.expect(202);
            "cancelled"
        }
    };
    if how == Leave::Drop {
        client.status_when(&parent, "has dropped its child", |status| status["custom_status"] == "dropped").await;
    } else {
        assert_eq!(client.over(&parent).await["state"], parent_ends_as, "{what}");
    }
    let child_ends_as = match policy {
        "terminate" => "terminated",
        "request_cancel" => "cancelled",
        _ => {
            // Nothing ends it: it takes its signal as if it had never had a parent.
            client.signal(&id, "end", &json!("by itself")).await.expect(202);
            "completed"
        }
    };
    let status = client.over(&id).await;
    assert_eq!(status["state"], child_ends_as, "{what}: {status:#}");
    let asked = history::count(&client.history(&id).await, "CancelRequested");
    assert_eq!(asked, usize::from(policy == "request_cancel"), "{what}");
    if how == Leave::Drop {
        client.signal(&parent, "end", &json!(null)).await.expect(202);
        let status = client.over(&parent).await;
        assert_eq!(status["output"], "dropped the child", "{what}: {status:#}");
    }
}

#[tokio::test]
async fn a_child_that_is_left_ends_as_its_parent_close_policy_says() {
    let client = &Host::shared().await.client();
    let policies = ["terminate", "request_cancel", "abandon"];
    let all = policies.into_iter().flat_map(|policy| LEAVES.map(|how| leave(client, policy, how)));
    join_all(all).await;
}

#[tokio::test]
async fn a_child_that_waits_for_its_next_attempt_is_given_up_with_its_parent() {
    let client = Host::shared().await.client();
    let id = fresh_id("retried");
    let retry = json!({ "initial_ms": 300, "attempts": 5 });
    let parent = client.started(GUESTS, &retried(&id, &failing(), &retry)).await;
    client.there(&id).await;
    client.over(&id).await;
    client
        .status_when(&parent, "waits for the next attempt", |status| status["waiting_for"][0]["due"].is_string())
        .await;
    client.tell(&parent, "terminate").await.expect(202);
    // A timer that is started now fires after the attempt would have been started.
    let (_, _) = output(&client, &json!({ "do": "sleep", "ms": 600 })).await;
    assert_eq!(client.status(&id).await["run"], 1);
}

#[tokio::test]
async fn children_can_not_be_stacked_deeper_than_the_limit() {
    let config = Some("[limits]\nchild-depth = 3\n".to_owned());
    let host = Host::with_guests(HostSettings { config, ..HostSettings::default() }).await;
    let client = host.client();
    let (_, depth) = output(&client, &json!({ "do": "depth", "left": 3 })).await;
    assert_eq!(depth, 3);
    let id = client.started(GUESTS, &json!({ "do": "depth", "left": 4 })).await;
    let status = client.over(&id).await;
    assert_eq!(
        (&status["state"], &status["failure"]["code"]),
        (&json!("failed"), &json!("limit.child-depth")),
        "{status:#}"
    );
    assert!(
        status["failure"]["message"].as_str().is_some_and(|text| text.contains("limits.child-depth")),
        "{status:#}"
    );
}

#[tokio::test]
async fn an_instance_that_is_started_detached_belongs_to_nobody() {
    let client = Host::shared().await.client();
    let id = fresh_id("detached");
    let start = json!({ "do": "detached", "workflow": GUESTS, "id": id, "input": takes("go", 1) });
    let (parent, gave) = output(&client, &start).await;
    assert_eq!(gave, json!({ "ok": null }));
    assert_eq!(history::names(&client.history(&parent).await)[1], "StartSent");
    let status = client.waiting(&id, "signal").await;
    assert_eq!((&status["parent"], &status["state"]), (&Value::Null, &json!("running")), "{status:#}");
    let (_, refused) = output(&client, &start).await;
    assert_eq!(refused["err"]["code"], "instance.running", "{refused}");
    client.signal(&id, "go", &json!(1)).await.expect(202);
    assert_eq!(client.over(&id).await["output"], json!([1]));
    for (version, outcome) in [("1", &Value::Null), ("99", &json!("not-found"))] {
        let id = fresh_id("detached");
        let echo = json!({ "do": "echo", "value": 1 });
        let start = json!({ "do": "detached", "workflow": GUESTS, "id": id, "input": echo, "version": version });
        let (_, gave) = output(&client, &start).await;
        assert_eq!(&gave["err"]["kind"], outcome, "{gave}");
    }
}

fn sends(to: &str, payload: &Value) -> Value {
    json!({ "do": "send_signal", "to": to, "name": "go", "payload": payload })
}

#[tokio::test]
async fn a_signal_from_another_instance_is_taken_as_any_other() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &takes("go", 3)).await;
    client.signal(&id, "go", &json!("from outside")).await.expect(202);
    let (_, gave) = output(&client, &sends(&id, &json!({ "from": "inside" }))).await;
    assert_eq!(gave, json!({ "ok": null }));
    let (_, _) = output(&client, &sends(&id, &json!(3))).await;
    assert_eq!(client.over(&id).await["output"], json!(["from outside", { "from": "inside" }, 3]));
}

#[tokio::test]
async fn a_signal_to_nobody_or_to_an_ended_instance_is_not_found() {
    let client = Host::shared().await.client();
    let ended = client.started(GUESTS, &json!({ "do": "echo", "value": 1 })).await;
    client.over(&ended).await;
    // The last two can be no instance at all.
    for to in ["nobody-of-this-name", ended.as_str(), "@nobody", "@entities@x"] {
        for input in [sends(to, &json!(1)), json!({ "do": "send_cancel", "to": to })] {
            let (_, gave) = output(&client, &input).await;
            let kind = gave["err"]["kind"].as_str().unwrap_or_default();
            assert!(matches!(kind, "not-found" | "rejected"), "{to}: {gave}");
        }
    }
    assert_eq!(history::count(&client.history(&ended).await, "SignalReceived"), 0);
}

#[tokio::test]
async fn an_instance_may_signal_itself() {
    let client = Host::shared().await.client();
    let id = fresh_id("itself");
    client.start(GUESTS, &id, &sends(&id, &json!(1))).await.expect(202);
    let status = client.over(&id).await;
    assert_eq!(status["output"], json!({ "ok": null }), "{status:#}");
    assert_eq!(history::count(&client.history(&id).await, "SignalReceived"), 1);
}

#[tokio::test]
async fn an_instance_that_is_asked_to_cancel_by_another_may_clean_up() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "cancel_cleanup", "activity": "echo", "ms": 1 })).await;
    client.waiting(&id, "signal").await;
    let cancel = json!({ "do": "send_cancel", "to": id, "reason": "another said so" });
    let (_, gave) = output(&client, &cancel).await;
    assert_eq!(gave, json!({ "ok": null }));
    let status = client.over(&id).await;
    assert_eq!(status["custom_status"], json!({ "cleaned": "another said so" }), "{status:#}");
    assert_eq!(status["state"], "cancelled");
}

#[tokio::test]
async fn a_thousand_children_are_awaited_at_once() {
    let client = Host::shared().await.client();
    let input = json!({ "do": "children", "workflow": GUESTS, "count": 1000, "input": { "do": "info" } });
    let id = client.started(GUESTS, &input).await;
    let status = client.status_within(Duration::from_secs(120), &id, "is over", |it| it["state"] != "running").await;
    let outputs = status["output"].as_array().unwrap_or_else(|| panic!("{status:#}"));
    let ids: std::collections::BTreeSet<&str> = outputs.iter().filter_map(|it| it["instance_id"].as_str()).collect();
    assert_eq!((outputs.len(), ids.len()), (1000, 1000), "each child gave its own output");
    let of_parent = client.history(&id).await;
    assert_eq!(history::check(&of_parent), Ok(()));
    let counts = ["ChildStarted", "ReplyReceived"].map(|name| history::count(&of_parent, name));
    assert_eq!(counts, [1000, 1000]);
}
