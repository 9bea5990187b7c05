//! Starting instances: ids, repeated requests, and what is refused.

use rehydrate_blackbox::client::answer;
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::{Answer, Client, Host};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

/// An id that no other test uses, nor an earlier run of this one.
pub fn fresh_id(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn echo(value: u32) -> Value {
    json!({ "do": "echo", "value": value })
}

fn wait() -> Value {
    json!({ "do": "signal", "name": "go", "count": 1 })
}

async fn start(client: &Client, request: &Value) -> Answer {
    client.post("/v1/instances", request).await
}

async fn start_with_key(client: &Client, request: &Value, key: &str) -> Answer {
    answer(client.admin(Method::POST, "/v1/instances").header("idempotency-key", key).json(request)).await
}

#[tokio::test]
async fn a_start_answers_with_the_id_and_where_to_look() {
    let client = Host::shared().await.client();
    let answer = start(&client, &json!({ "workflow": GUESTS, "input": echo(7) })).await.expect(202);
    let id = answer.body["id"].as_str().expect("an id").to_owned();
    assert_eq!((&answer.body["run"], &answer.body["created"]), (&json!(1), &json!(true)));
    assert_eq!(answer.header("location"), format!("/v1/instances/{id}"));
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &json!(7)));
    assert_eq!(status["input"], echo(7));
}

#[tokio::test]
async fn a_generated_id_is_never_used_twice() {
    let client = Host::shared().await.client();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(client.started(GUESTS, &echo(1)).await);
    }
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_same_instance() {
    let client = Host::shared().await.client();
    let key = fresh_id("key");
    let request = json!({ "workflow": GUESTS, "input": echo(1) });
    let first = start_with_key(&client, &request, &key).await.expect(202);
    client.over(first.body["id"].as_str().expect("an id")).await;
    let again = start_with_key(&client, &request, &key).await.expect(202);
    assert_eq!((&again.body["id"], &again.body["run"]), (&first.body["id"], &first.body["run"]));
    assert_eq!((&first.body["created"], &again.body["created"]), (&json!(true), &json!(false)));
    let other = json!({ "workflow": GUESTS, "input": echo(2) });
    assert_eq!(start_with_key(&client, &other, &key).await.status, 409, "the same key for another request");
}

#[tokio::test]
async fn of_many_starts_at_once_with_one_key_exactly_one_creates() {
    let client = Host::shared().await.client();
    let key = fresh_id("key");
    let starts = (0..16).map(|_| {
        let (client, key) = (client.clone(), key.clone());
        tokio::spawn(
            async move { start_with_key(&client, &json!({ "workflow": GUESTS, "input": wait() }), &key).await },
        )
    });
    let answers: Vec<Answer> =
        futures::future::join_all(starts).await.into_iter().map(|one| one.expect("it ran")).collect();
    let ids: std::collections::BTreeSet<_> = answers.iter().map(|answer| answer.body["id"].to_string()).collect();
    let created = answers.iter().filter(|answer| answer.body["created"] == true).count();
    assert_eq!((ids.len(), created), (1, 1), "{answers:?}");
}

#[tokio::test]
async fn of_many_starts_at_once_with_one_id_exactly_one_is_taken() {
    let client = Host::shared().await.client();
    let id = fresh_id("race");
    let starts = (0..16).map(|_| {
        let (client, id) = (client.clone(), id.clone());
        tokio::spawn(async move { client.start(GUESTS, &id, &wait()).await.status })
    });
    let mut statuses: Vec<u16> =
        futures::future::join_all(starts).await.into_iter().map(|one| one.expect("it ran")).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1..].iter().all(|status| *status == 409)), (202, true), "{statuses:?}");
    assert_eq!(client.status(&id).await["run"], 1);
}

#[tokio::test]
async fn the_conflict_policy_decides_while_an_instance_runs() {
    let client = Host::shared().await.client();
    let id = fresh_id("conflict");
    let request = |policy: &str| json!({ "workflow": GUESTS, "id": id, "input": wait(), "conflict_policy": policy });
    client.start(GUESTS, &id, &wait()).await.expect(202);
    assert_eq!(client.start(GUESTS, &id, &wait()).await.status, 409);
    assert_eq!(start(&client, &request("refuse")).await.status, 409);
    let existing = start(&client, &request("use-existing")).await.expect(202);
    assert_eq!((&existing.body["run"], &existing.body["created"]), (&json!(1), &json!(false)));
    let next = start(&client, &request("terminate")).await.expect(202);
    assert_eq!((&next.body["run"], &next.body["created"]), (&json!(2), &json!(true)));
    assert_eq!(client.status(&id).await["state"], "running");
    let first = client.get(&format!("/v1/instances/{id}/history?run=1")).await.expect(200);
    let last = first.body["events"].as_array().and_then(|events| events.last()).cloned();
    assert_eq!(last.map(|event| event["type"].clone()), Some(json!("InstanceTerminated")));
}

#[tokio::test]
async fn the_reuse_policy_decides_after_an_instance_has_ended() {
    let client = Host::shared().await.client();
    let id = fresh_id("reuse");
    let request = |policy: &str| json!({ "workflow": GUESTS, "id": id, "input": echo(1), "reuse_policy": policy });
    client.start(GUESTS, &id, &echo(1)).await.expect(202);
    client.over(&id).await;
    assert_eq!(start(&client, &request("refuse")).await.status, 409);
    assert_eq!(start(&client, &request("allow-if-failed")).await.status, 409, "it completed");
    assert_eq!(start(&client, &request("allow")).await.expect(202).body["run"], 2);
    client.over(&id).await;
    let failing = json!({ "do": "misbehave", "how": "panic", "message": "on purpose" });
    client.start(GUESTS, &id, &failing).await.expect(202);
    assert_eq!(client.over(&id).await["state"], "failed");
    assert_eq!(start(&client, &request("allow-if-failed")).await.expect(202).body["run"], 4);
}

#[tokio::test]
async fn what_can_not_be_started_is_refused_by_name() {
    let client = Host::shared().await.client();
    let unknown = start(&client, &json!({ "workflow": "nothing", "input": 1 })).await.expect(404);
    assert!(unknown.body["detail"].as_str().is_some_and(|detail| detail.contains("`nothing`")), "{unknown:?}");
    let version = start(&client, &json!({ "workflow": GUESTS, "version": "77", "input": 1 })).await.expect(404);
    assert!(version.body["detail"].as_str().is_some_and(|detail| detail.contains("77")), "{version:?}");
    let activity = start(&client, &json!({ "workflow": "activities", "input": 1 })).await;
    assert!((400..500).contains(&activity.status), "an activity component is no workflow: {activity:?}");
    assert_eq!(start(&client, &json!({ "input": 1 })).await.status, 400);
    assert_eq!(start(&client, &json!({ "workflow": GUESTS, "inptu": 1 })).await.status, 400);
    for id in ["", "@entity", "a/b", "a?b", "a#b", "a\\b", "a\nb", &"x".repeat(257)] {
        assert_eq!(client.start(GUESTS, id, &echo(1)).await.status, 400, "{id:?}");
    }
}

#[tokio::test]
async fn an_id_of_any_allowed_characters_works_everywhere() {
    let client = Host::shared().await.client();
    let id = format!("größe 1% & {}", fresh_id("x"));
    client.start(GUESTS, &id, &echo(3)).await.expect(202);
    let path: String = url_encoded(&id);
    assert_eq!(client.over(&path).await["id"], json!(id));
}

fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[tokio::test]
async fn an_input_that_is_too_large_is_413() {
    let client = Host::shared().await.client();
    let input = json!({ "do": "echo", "value": "x".repeat(1 << 20) });
    let answer = client.start(GUESTS, &fresh_id("large"), &input).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
}

#[tokio::test]
async fn an_instance_that_does_not_exist_is_404_with_the_next_step() {
    let client = Host::shared().await.client();
    for path in ["/v1/instances/nobody", "/v1/instances/nobody/history", "/v1/instances/nobody/events"] {
        let answer = client.get(path).await.expect(404);
        assert_eq!((answer.code(), answer.header("content-type")), ("instance.not-found", "application/problem+json"));
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains("nobody")), "{answer:?}");
    }
}

#[tokio::test]
async fn an_id_that_no_url_can_name_is_refused() {
    let client = Host::shared().await.client();
    for id in [".", ".."] {
        let request = json!({ "workflow": GUESTS, "id": id, "input": { "do": "echo", "value": 1 } });
        let answer = client.post("/v1/instances", &request).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("instance.invalid-id")), "{id}");
    }
}

#[tokio::test]
async fn a_start_that_waits_answers_with_the_result() {
    let client = Host::shared().await.client();
    let ended = client.post("/v1/instances?wait_seconds=30", &json!({ "workflow": GUESTS, "input": echo(7) })).await;
    let ended = ended.expect(200).body;
    assert_eq!((&ended["state"], &ended["output"], &ended["run"]), (&json!("completed"), &json!(7), &json!(1)));
    let failing = json!({ "do": "fail", "failure": { "kind": "application", "code": "no", "message": "no",
        "details": null, "retryable": false } });
    let failed = client.post("/v1/instances?wait_seconds=30", &json!({ "workflow": GUESTS, "input": failing })).await;
    let failed = failed.expect(200).body;
    assert_eq!((&failed["state"], &failed["failure"]["code"]), (&json!("failed"), &json!("no")));
}

#[tokio::test]
async fn a_start_that_waits_is_told_of_its_own_run_or_of_the_one_that_is_there() {
    let client = Host::shared().await.client();
    let id = fresh_id("own-run");
    let waiting = async |input: Value, policy: &str| {
        let request = json!({ "workflow": GUESTS, "id": id, "input": input, "conflict_policy": policy });
        client.post("/v1/instances?wait_seconds=30", &request).await
    };
    client.start(GUESTS, &id, &wait()).await.expect(202);
    // The end of the first run, which this one puts an end to, is not what is waited for.
    let second = waiting(echo(7), "terminate").await.expect(200).body;
    assert_eq!((&second["run"], &second["state"], &second["output"]), (&json!(2), &json!("completed"), &json!(7)));
    client.start(GUESTS, &id, &wait()).await.expect(202);
    assert_eq!(waiting(echo(8), "refuse").await.status, 409);
    let (joined, _) = tokio::join!(waiting(echo(8), "use-existing"), async {
        client.waiting(&id, "signal").await;
        client.signal(&id, "go", &json!(1)).await.expect(202)
    });
    let joined = joined.expect(200).body;
    assert_eq!((&joined["run"], &joined["output"]), (&json!(3), &json!([1])));
    // What was started under this key has ended long since.
    let request = json!({ "workflow": GUESTS, "input": echo(9) });
    let keyed = || client.admin(Method::POST, "/v1/instances?wait_seconds=30").header("idempotency-key", &id);
    for _ in 0..2 {
        let ended = answer(keyed().json(&request)).await.expect(200).body;
        assert_eq!((&ended["run"], &ended["output"]), (&json!(1), &json!(9)));
    }
}

#[tokio::test]
async fn a_result_is_waited_for_and_until_then_the_answer_is_202() {
    let client = Host::shared().await.client();
    let started = client.post("/v1/instances?wait_seconds=0.05", &json!({ "workflow": GUESTS, "input": wait() })).await;
    let id = started.expect(202).body["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/instances/{id}/result");
    let open = client.get(&path).await.expect(202).body;
    assert_eq!((&open["state"], &open["id"]), (&json!("running"), &json!(id)));
    let path = format!("{path}?wait_seconds=30");
    let (ended, _) = tokio::join!(client.get(&path), async {
        client.waiting(&id, "signal").await;
        client.signal(&id, "go", &json!(1)).await.expect(202)
    });
    assert_eq!(ended.expect(200).body["output"], json!([1]));
    client.get("/v1/instances/none/result").await.expect(404);
    assert_eq!(client.get(&format!("{path}0")).await.expect(400).code(), "query.invalid");
}
