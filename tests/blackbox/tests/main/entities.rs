//! Entities: operations, what is kept of them, and locks.

use crate::start::fresh_id;
use futures::future::join_all;
use rehydrate_blackbox::host::{ENTITIES, GUESTS, HostSettings};
use rehydrate_blackbox::programs::component;
use rehydrate_blackbox::{Client, Host, eventually, history};
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn client() -> Client {
    Host::shared().await.client()
}

fn calls(key: &str, op: &str, input: &Value) -> Value {
    json!({ "do": "entity_call", "name": ENTITIES, "key": key, "op": op, "input": input })
}

fn transfer(from: &str, to: &str, amount: i64) -> Value {
    json!({ "do": "locked_transfer", "from": from, "to": to, "amount": amount })
}

/// Starts a workflow and gives its output once it has completed.
async fn output(client: &Client, input: &Value) -> Value {
    let id = client.started(GUESTS, input).await;
    let status = client.over(&id).await;
    assert_eq!(status["state"], "completed", "{status:#}");
    status["output"].clone()
}

fn is_free(entity: &Value) -> bool {
    entity["locked_by"].is_null() && entity["waiting"].as_u64().unwrap_or_default() == 0
}

#[tokio::test]
async fn an_entity_keeps_its_state_from_call_to_call() {
    let client = client().await;
    let key = fresh_id("counter");
    assert_eq!(client.entity(&key).await.status, 404);
    assert_eq!(client.entity_gave(&key, "get", &json!(null)).await, 0);
    assert_eq!(client.entity_gave(&key, "add", &json!(5)).await, 5);
    assert_eq!(client.entity_gave(&key, "add", &json!(-2)).await, 3);
    let entity = client.entity(&key).await.expect(200).body;
    assert_eq!((&entity["name"], &entity["key"]), (&json!(ENTITIES), &json!(key)));
    assert_eq!(entity["values"], json!({ "state": 3 }), "{entity:#}");
    assert!(is_free(&entity) && entity["created"].as_str() <= entity["last_operation"].as_str(), "{entity:#}");
}

#[tokio::test]
async fn a_signal_is_performed_by_the_time_it_is_acknowledged() {
    let client = client().await;
    let key = fresh_id("counter");
    for (op, n) in [("set", 10), ("add", 3), ("set", 5), ("add", 2)] {
        let answer = client.signal_entity(&key, op, &json!(n)).await.expect(202);
        assert_eq!(answer.text, "");
    }
    assert_eq!(client.entity(&key).await.body["values"], json!({ "state": 7 }));
}

#[tokio::test]
async fn operations_at_once_are_performed_one_by_one() {
    let client = client().await;
    let key = fresh_id("counter");
    let calls = (0..150).map(|_| async { client.entity_gave(&key, "add", &json!(1)).await });
    let signals = (0..150).map(|_| async {
        client.signal_entity(&key, "add", &json!(1)).await.expect(202);
        Value::Null
    });
    let workflows = (0..5).map(|_| {
        let input = json!({ "do": "entity_calls", "name": ENTITIES, "key": key, "op": "add", "input": 1, "count": 20 });
        let client = &client;
        async move { output(client, &input).await }
    });
    let (called, _, _) = tokio::join!(join_all(calls), join_all(signals), join_all(workflows));
    let sums: BTreeSet<i64> = called.iter().filter_map(Value::as_i64).collect();
    assert_eq!(sums.len(), 150, "no two calls saw the same sum");
    assert_eq!(client.entity_gave(&key, "get", &json!(null)).await, 400);
}

#[tokio::test]
async fn a_workflow_calls_and_signals_entities() {
    let client = client().await;
    let key = fresh_id("counter");
    assert_eq!(output(&client, &calls(&key, "add", &json!(4))).await, json!({ "ok": 4 }));
    let mut signal = calls(&key, "add", &json!(6));
    signal["do"] = json!("entity_signal");
    assert_eq!(output(&client, &signal).await, Value::Null);
    client.entity_when(&key, "was signalled", |it| it["values"]["state"] == 10).await;
    let failed = output(&client, &calls(&key, "withdraw", &json!(11))).await;
    assert_eq!(failed["err"]["code"], "insufficient", "{failed}");
    assert_eq!(output(&client, &calls(&key, "get", &json!(null))).await, json!({ "ok": 10 }));
}

#[tokio::test]
async fn an_operation_knows_who_asked() {
    let client = client().await;
    let (key, other) = (fresh_id("info"), fresh_id("info"));
    let outside = client.entity_gave(&key, "info", &json!(null)).await;
    assert_eq!(outside, json!({ "entity": { "name": ENTITIES, "key": key }, "caller": null, "is_call": true }));
    let id = client.started(GUESTS, &calls(&other, "info", &json!(null))).await;
    let info = client.over(&id).await["output"]["ok"].clone();
    assert_eq!(info, json!({ "entity": { "name": ENTITIES, "key": other }, "caller": id, "is_call": true }));
}

#[tokio::test]
async fn an_operation_that_fails_or_traps_changes_nothing() {
    let client = client().await;
    let key = fresh_id("rolled-back");
    client.entity_gave(&key, "add", &json!(1)).await;
    let failed = client.call_entity(&key, "fail", &json!(null)).await.expect(200).body;
    assert_eq!(
        (&failed["failure"]["code"], &failed["failure"]["details"]),
        (&json!("told-to"), &json!(-1)),
        "{failed}"
    );
    assert!(failed.get("output").is_none(), "{failed}");
    let trapped = client.call_entity(&key, "trap", &json!(null)).await.expect(200).body;
    let message = trapped["failure"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("the operation was told to trap"), "{trapped}");
    assert_eq!(client.entity(&key).await.body["values"], json!({ "state": 1 }));
    // Also when they stand between others that succeed, in one turn.
    let adds = (0..40).map(|n| {
        let (client, key) = (&client, &key);
        async move {
            let op = ["add", "fail", "trap"][n % 3];
            client.call_entity(key, op, &json!(1)).await.expect(200);
        }
    });
    join_all(adds).await;
    assert_eq!(client.entity(&key).await.body["values"], json!({ "state": 15 }));
}

#[tokio::test]
async fn an_operation_that_computes_for_ever_is_stopped_and_others_go_on() {
    let config = Some("[limits]\ncpu-per-turn-ms = 300\n".to_owned());
    let host = Host::with_guests(HostSettings { config, ..HostSettings::default() }).await;
    let client = host.client();
    let input = json!(null);
    let loops = client.call_entity("loops", "loop", &input);
    let others = join_all((0..20).map(|_| async { client.entity_gave("fine", "add", &json!(1)).await }));
    let (stopped, _) = tokio::join!(loops, others);
    let failure = &stopped.expect(200).body["failure"];
    assert_eq!(failure["code"], "limit.cpu-per-turn-ms", "{failure}");
    assert_eq!(client.entity_gave("loops", "add", &json!(1)).await, 1);
    assert_eq!(client.entity_gave("fine", "get", &json!(null)).await, 20);
}

#[tokio::test]
async fn an_entity_that_is_deleted_is_as_if_it_had_never_been() {
    let client = client().await;
    let key = fresh_id("deleted");
    client.entity_gave(&key, "add", &json!(1)).await;
    client.entity_gave(&key, "store", &json!({ "key": "k", "value": 1 })).await;
    client.entity_gave(&key, "delete", &json!(null)).await;
    assert_eq!(client.entity(&key).await.code(), "entity.not-found");
    assert_eq!(client.entity_gave(&key, "keys", &json!(null)).await, json!([]));
    assert_eq!(client.entity_gave(&key, "add", &json!(2)).await, 2);
    let unknown = client.call_entity(&key, "nonsense", &json!(null)).await.expect(200).body;
    assert_eq!(unknown["failure"]["kind"], "not-found", "{unknown}");
}

#[tokio::test]
async fn values_are_kept_under_their_keys() {
    let client = client().await;
    let key = fresh_id("values");
    for (name, value) in [("b", json!({ "x": [1] })), ("a", json!("ü")), ("", json!(null)), ("b", json!(2))] {
        client.entity_gave(&key, "store", &json!({ "key": name, "value": value })).await;
    }
    assert_eq!(client.entity_gave(&key, "load", &json!("b")).await, 2);
    assert_eq!(client.entity_gave(&key, "load", &json!("c")).await, Value::Null);
    let keys = client.entity_gave(&key, "keys", &json!(null)).await;
    assert!(["", "a", "b"].iter().all(|name| keys.as_array().is_some_and(|all| all.contains(&json!(name)))), "{keys}");
    let values = client.entity(&key).await.body["values"].clone();
    assert_eq!((&values["a"], &values["b"], &values[""]), (&json!("ü"), &json!(2), &json!(null)), "{values}");
}

/// All entities that a query lists, page by page.
async fn listed(client: &Client, query: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut path = format!("/v1/entities?{query}");
    loop {
        let page = client.get(&path).await.expect(200).body;
        for entity in page["entities"].as_array().expect("a page has entities") {
            let part = |field: &str| entity[field].as_str().unwrap_or_default().to_owned();
            all.push(format!("{}/{}", part("name"), part("key")));
        }
        let Some(cursor) = page["next_cursor"].as_str() else { return all };
        path = format!("/v1/entities?{query}&cursor={}", percent(cursor));
    }
}

/// A text as a part of a URL: everything but letters and digits by its bytes.
fn percent(text: &str) -> String {
    let byte =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}

#[tokio::test]
async fn entities_are_listed_by_name_key_and_last_operation() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    client.deploy("other", "1", &component("test_entities")).await.expect(201);
    for n in [3, 1, 4, 2, 5] {
        client.entity_gave(&format!("k{n}"), "add", &json!(n)).await;
    }
    let other = client.post("/v1/entities/other/k/call/add", &json!(1)).await.expect(200);
    assert_eq!(other.body["output"], 1);
    let keys = |keys: &[u8]| keys.iter().map(|n| format!("{ENTITIES}/k{n}")).collect::<Vec<_>>();
    assert_eq!(listed(&client, "name=entities").await, keys(&[1, 2, 3, 4, 5]));
    for limit in 1..=6 {
        let all = listed(&client, &format!("limit={limit}")).await;
        assert_eq!(all, [&keys(&[1, 2, 3, 4, 5])[..], &["other/k".to_owned()]].concat(), "pages of {limit}");
    }
    assert_eq!(listed(&client, "name=other&limit=1").await, ["other/k"]);
    assert_eq!(listed(&client, "name=nothing").await, Vec::<String>::new());
    let time = |entity: &Value| percent(entity["last_operation"].as_str().expect("a time"));
    let third = time(&client.entity("k4").await.body);
    assert_eq!(listed(&client, &format!("name=entities&last_operation_from={third}")).await, keys(&[2, 4, 5]));
    assert_eq!(listed(&client, &format!("name=entities&last_operation_to={third}&limit=2")).await, keys(&[1, 3, 4]));
    for wrong in ["limit=0", "last_operation_from=yesterday", "state=running"] {
        assert_eq!(client.get(&format!("/v1/entities?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn keys_of_any_writing_are_kept_apart() {
    let client = client().await;
    let keys = ["a@b", "a b", "ü", "a%2Fb", "A", "a", "@", "..."].map(|key| format!("{}{key}", fresh_id("key-")));
    for (n, key) in keys.iter().enumerate() {
        client.entity_gave(&percent(key), "set", &json!(n)).await;
    }
    for (n, key) in keys.iter().enumerate() {
        let entity = client.entity(&percent(key)).await.expect(200).body;
        assert_eq!((&entity["key"], &entity["values"]["state"]), (&json!(key), &json!(n)), "{entity:#}");
    }
}

#[tokio::test]
async fn an_entity_starts_instances_and_signals_instances_and_entities() {
    let client = client().await;
    let (key, id, other) = (fresh_id("sender"), fresh_id("started"), fresh_id("counter"));
    let waits = json!({ "do": "signal", "name": "go", "count": 2 });
    client.entity_gave(&key, "start", &json!({ "workflow": GUESTS, "id": id, "input": waits })).await;
    let status = client.there(&id).await;
    assert_eq!(status["parent"], Value::Null);
    // The id is taken now, which nobody is told.
    client.entity_gave(&key, "start", &json!({ "workflow": GUESTS, "id": id, "input": waits })).await;
    for n in 1..=2 {
        client.entity_gave(&key, "notify", &json!({ "instance": id, "name": "go", "payload": n })).await;
    }
    let status = client.over(&id).await;
    assert_eq!((&status["output"], &status["run"]), (&json!([1, 2]), &json!(1)), "{status:#}");
    client.entity_gave(&key, "forward", &json!({ "key": other, "op": "add", "input": 7 })).await;
    client.entity_when(&other, "was signalled", |it| it["values"]["state"] == 7).await;
    for nobody in ["nobody", "@nobody", "@entities@x", ""] {
        client.call_entity(&key, "notify", &json!({ "instance": nobody, "name": "go" })).await.expect(200);
    }
    assert_eq!(client.entity_gave(&key, "get", &json!(null)).await, 0);
}

#[tokio::test]
async fn an_entity_may_signal_itself() {
    let client = client().await;
    let key = fresh_id("itself");
    client.entity_gave(&key, "forward", &json!({ "key": key, "op": "add", "input": 7 })).await;
    client.entity_when(&key, "was signalled", |it| it["values"]["state"] == 7).await;
}

#[tokio::test]
async fn an_entity_that_is_not_deployed_is_not_found() {
    let client = client().await;
    let called = client.post("/v1/entities/nothing/k/call/add", &json!(1)).await;
    let code = called.body["failure"]["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!((called.status, code.as_str()), (200, "entity.not-deployed"), "{called:?}");
    let signalled = client.post("/v1/entities/nothing/k/signal/add", &json!(1)).await;
    assert_eq!((signalled.status, signalled.code()), (404, "entity.not-deployed"));
    let input = json!({ "do": "entity_call", "name": "nothing", "key": "k", "op": "add", "input": 1 });
    assert_eq!(output(&client, &input).await["err"]["kind"], "not-found");
    // What is deployed under that name is a workflow.
    let input = json!({ "do": "entity_call", "name": GUESTS, "key": "k", "op": "add", "input": 1 });
    assert_eq!(output(&client, &input).await["err"]["kind"], "not-found");
    assert_eq!(client.get("/v1/entities/nothing/k").await.status, 404);
}

#[tokio::test]
async fn names_keys_and_inputs_that_can_not_be_are_refused() {
    let client = client().await;
    let long = "k".repeat(201);
    for (name, key) in
        [("a%20b", "k"), ("a@b", "k"), (ENTITIES, "a%2Fb"), (ENTITIES, "a%3Fb"), (ENTITIES, "a%0Ab"), (ENTITIES, &long)]
    {
        for what in ["call", "signal"] {
            let answer = client.post(&format!("/v1/entities/{name}/{key}/{what}/add"), &json!(1)).await;
            assert_eq!((answer.status, answer.code()), (400, "entity.invalid-id"), "{what} {name} {key}: {answer:?}");
        }
        assert_eq!(client.get(&format!("/v1/entities/{name}/{key}")).await.status, 400, "{name} {key}");
    }
    assert_eq!(client.call_entity(&"k".repeat(200), "get", &json!(null)).await.status, 200);
    let key = fresh_id("refused");
    assert_eq!(client.call_entity(&key, &"o".repeat(257), &json!(1)).await.code(), "limit.name-bytes");
    let path = format!("/v1/entities/{ENTITIES}/{key}/call/add");
    let url = format!("{}{path}", Host::shared().await.admin_url());
    assert_eq!(client.callback(&url, "{").await.status, 400);
    assert_eq!(client.callback(&url, format!("\"{}\"", "x".repeat(1 << 20))).await.status, 413);
    // An input of another type is the entity's to refuse.
    let wrong = client.call_entity(&key, "add", &json!("one")).await.expect(200);
    assert!(wrong.body["failure"]["code"].is_string(), "{wrong:?}");
    assert_eq!(client.entity(&key).await.status, 404, "nothing was kept");
    let id = client.started(GUESTS, &calls("a/b", "get", &json!(null))).await;
    let status = client.over(&id).await;
    let message = status["failure"]["message"].as_str().unwrap_or_default();
    assert!(status["state"] == "failed" && message.contains("entity key"), "{status:#}");
}

#[tokio::test]
async fn transfers_under_a_lock_lose_nothing_whoever_waits_for_whom() {
    const ACCOUNTS: usize = 4;
    let client = client().await;
    let accounts: Vec<String> = (0..ACCOUNTS).map(|_| fresh_id("account")).collect();
    for account in &accounts {
        client.entity_gave(account, "set", &json!(1000)).await;
    }
    // Every pair in both orders, several times: if locks could be taken in opposite orders they would meet here.
    let pairs = (0..5).flat_map(|_| (0..ACCOUNTS).flat_map(|from| (0..ACCOUNTS).map(move |to| (from, to))));
    let transfers = pairs.filter(|(from, to)| from != to).enumerate().map(|(n, (from, to))| {
        let mut input = transfer(&accounts[from], &accounts[to], i64::try_from(1 + n % 7).unwrap());
        input["hold_ms"] = json!(n % 3);
        let client = &client;
        async move {
            let id = client.started(GUESTS, &input).await;
            let status = client.over(&id).await;
            assert_eq!(status["state"], "completed", "{status:#}");
        }
    });
    join_all(transfers).await;
    let mut sum = 0;
    for account in &accounts {
        let entity = client.entity_when(account, "is free", is_free).await;
        sum += entity["values"]["state"].as_i64().expect("a balance");
    }
    assert_eq!(sum, 1000 * i64::try_from(ACCOUNTS).unwrap());
}

/// Locks an entity for a workflow that waits for the signal `go`.
async fn locked(client: &Client, keys: &[&str]) -> String {
    let id = client.started(GUESTS, &json!({ "do": "lock_wait", "keys": keys, "signal": "go" })).await;
    client.status_when(&id, "has its lock", |status| status["custom_status"] == "locked").await;
    id
}

async fn unlock(client: &Client, id: &str) {
    client.signal(id, "go", &json!(null)).await.expect(202);
    let status = client.over(id).await;
    assert_eq!(status["output"], "unlocked after", "{status:#}");
}

#[tokio::test]
async fn while_an_entity_is_locked_calls_are_refused_and_signals_wait_in_order() {
    let client = client().await;
    let key = fresh_id("locked");
    client.entity_gave(&key, "set", &json!(1)).await;
    let holder = locked(&client, &[&key]).await;
    let refused = client.call_entity(&key, "add", &json!(1)).await;
    assert_eq!((refused.status, refused.code()), (409, "entity.locked"), "{refused:?}");
    for (op, n) in [("add", 10), ("set", 100), ("add", 3)] {
        client.signal_entity(&key, op, &json!(n)).await.expect(202);
    }
    let entity = client.entity(&key).await.body;
    assert_eq!((&entity["locked_by"]["instance"], &entity["waiting"]), (&json!(holder), &json!(3)), "{entity:#}");
    assert_eq!(entity["values"], json!({ "state": 1 }));
    unlock(&client, &holder).await;
    let entity = client.entity_when(&key, "is free", is_free).await;
    assert_eq!(entity["values"], json!({ "state": 103 }));
}

#[tokio::test]
async fn when_too_many_wait_for_a_lock_who_can_be_told_is_refused_and_nothing_is_lost() {
    const WAITING_MAX: i64 = 1_000;
    let client = client().await;
    let key = fresh_id("crowded");
    let holder = locked(&client, &[&key]).await;
    let fill = async || {
        for _ in 0..WAITING_MAX / 20 {
            client.signal_entity(&key, "add", &json!(1)).await.expect(202);
        }
    };
    join_all((0..20).map(|_| fill())).await;
    assert_eq!(client.entity(&key).await.body["waiting"], WAITING_MAX);
    let refused = client.signal_entity(&key, "add", &json!(1)).await;
    assert_eq!((refused.status, refused.code()), (503, "entity.busy"), "{refused:?}");
    let refused = output(&client, &calls(&key, "add", &json!(1))).await;
    assert_eq!(refused["err"]["code"], "limit.entity-waiting", "{refused}");
    let mut signal = calls(&key, "add", &json!(1_000_000));
    signal["do"] = json!("entity_signal");
    output(&client, &signal).await;
    unlock(&client, &holder).await;
    let expected = 1_000_000 + WAITING_MAX;
    client.entity_when(&key, "was told everything", |it| it["values"]["state"] == expected).await;
}

#[tokio::test]
async fn a_call_of_another_workflow_waits_for_the_lock() {
    let client = client().await;
    let key = fresh_id("locked");
    let holder = locked(&client, &[&key]).await;
    let waits = client.started(GUESTS, &calls(&key, "add", &json!(5))).await;
    client.entity_when(&key, "has one waiting", |it| it["waiting"] == 1).await;
    assert_eq!(client.waiting(&waits, "entity").await["state"], "running");
    unlock(&client, &holder).await;
    assert_eq!(client.over(&waits).await["output"], json!({ "ok": 5 }));
}

#[tokio::test]
async fn a_lock_over_an_entity_that_is_locked_is_granted_in_turn() {
    let client = client().await;
    let key = fresh_id("locked");
    let first = locked(&client, &[&key]).await;
    let wait = json!({ "do": "lock_wait", "keys": [key], "signal": "go" });
    let second = client.started(GUESTS, &wait).await;
    client.entity_when(&key, "has one waiting", |it| it["waiting"] == 1).await;
    let third = client.started(GUESTS, &wait).await;
    client.entity_when(&key, "has two waiting", |it| it["waiting"] == 2).await;
    for (holder, next) in [(&first, Some(&second)), (&second, Some(&third)), (&third, None)] {
        unlock(&client, holder).await;
        if let Some(next) = next {
            client.entity_when(&key, "is locked by the next", |it| it["locked_by"]["instance"] == json!(next)).await;
        }
    }
    // It keeps nothing: without a lock it is no more.
    client.entity_when(&key, "is no more", |it| it["code"] == "entity.not-found").await;
}

#[tokio::test]
async fn a_lock_is_given_back_however_its_holder_ends() {
    let client = client().await;
    for (how, state) in [("fail", "failed"), ("trap", "failed"), ("terminate", "terminated"), ("cancel", "cancelled")] {
        let (from, to) = (fresh_id("account"), fresh_id("account"));
        client.entity_gave(&from, "set", &json!(10)).await;
        let mut input = transfer(&from, &to, 4);
        input["then"] = json!(if how == "fail" || how == "trap" { how } else { "wait" });
        let id = client.started(GUESTS, &input).await;
        if input["then"] == "wait" {
            client.waiting(&id, "signal").await;
            assert_eq!(client.call_entity(&from, "add", &json!(1)).await.code(), "entity.locked");
            client.tell(&id, how).await.expect(202);
        }
        assert_eq!(client.over(&id).await["state"], state, "{how}");
        for (account, has) in [(from, 6), (to, 4)] {
            let entity = client.entity_when(&account, "is free", is_free).await;
            assert_eq!(entity["values"], json!({ "state": has }), "{how}: the money was moved");
            assert_eq!(client.entity_gave(&account, "add", &json!(1)).await, has + 1, "{how}");
        }
    }
}

#[tokio::test]
async fn a_request_for_a_lock_that_is_given_up_leaves_nothing_behind() {
    let client = client().await;
    for how in ["terminate", "cancel"] {
        // Entities are asked in the order of their ids: it gets the first and waits for the second.
        let (first, second) = (fresh_id("a"), fresh_id("b"));
        let holder = locked(&client, &[&second]).await;
        let asks = json!({ "do": "lock_wait", "keys": [second, first], "signal": "go" });
        let asks = client.started(GUESTS, &asks).await;
        client.entity_when(&second, "has one waiting", |it| it["waiting"] == 1).await;
        let waiting = client.waiting(&asks, "lock").await;
        assert_eq!(client.entity(&first).await.body["locked_by"]["instance"], json!(asks), "{waiting:#}");
        client.tell(&asks, how).await.expect(202);
        client.over(&asks).await;
        client.entity_when(&first, "is no more", |it| it["code"] == "entity.not-found").await;
        client.entity_when(&second, "has none waiting", |it| it["waiting"] == 0).await;
        assert_eq!(client.entity(&second).await.body["locked_by"]["instance"], json!(holder));
        unlock(&client, &holder).await;
        assert_eq!(client.entity_gave(&second, "add", &json!(1)).await, 1, "{how}");
    }
}

#[tokio::test]
async fn a_request_for_a_lock_that_its_workflow_drops_is_given_up() {
    let client = client().await;
    let (first, second) = (fresh_id("a"), fresh_id("b"));
    let holder = locked(&client, &[&second]).await;
    let asks = json!({ "do": "lock_wait", "keys": [first, second], "signal": "go", "timeout_ms": 200 });
    let asks = client.started(GUESTS, &asks).await;
    client.entity_when(&second, "has one waiting", |it| it["waiting"] == 1).await;
    client.status_when(&asks, "gave up", |status| status["custom_status"] == "gave up").await;
    client.entity_when(&first, "is no more", |it| it["code"] == "entity.not-found").await;
    client.entity_when(&second, "has none waiting", |it| it["waiting"] == 0).await;
    unlock(&client, &holder).await;
    client.entity_when(&second, "is no more", |it| it["code"] == "entity.not-found").await;
    client.signal(&asks, "go", &json!(null)).await.expect(202);
    assert_eq!(client.over(&asks).await["output"], "gave up");
}

#[tokio::test]
async fn a_lock_that_is_granted_too_late_is_given_back_at_once() {
    let client = client().await;
    let key = fresh_id("late");
    let holder = locked(&client, &[&key]).await;
    let asks = json!({ "do": "lock_wait", "keys": [key], "signal": "go", "timeout_ms": 300 });
    let asks = client.started(GUESTS, &asks).await;
    client.entity_when(&key, "has one waiting", |it| it["waiting"] == 1).await;
    // While it is suspended its patience ends first, and then the lock is granted: it learns of both, in that order.
    client.tell(&asks, "suspend").await.expect(202);
    let last_is = async |name: &str| {
        eventually(&format!("{name} is recorded"), async || {
            let history = client.history(&asks).await;
            if history.last().is_some_and(|it| history::name(it) == name) {
                Ok(())
            } else {
                Err(format!("{history:#?}"))
            }
        })
        .await;
    };
    last_is("TimerFired").await;
    unlock(&client, &holder).await;
    last_is("LockGranted").await;
    client.tell(&asks, "resume").await.expect(202);
    client.status_when(&asks, "gave up", |status| status["custom_status"] == "gave up").await;
    client.entity_when(&key, "is no more", |it| it["code"] == "entity.not-found").await;
    client.signal(&asks, "go", &json!(null)).await.expect(202);
    assert_eq!(client.over(&asks).await["output"], "gave up");
}
