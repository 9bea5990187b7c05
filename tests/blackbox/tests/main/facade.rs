//! The HTTP API of Durable Functions, route by route; the published clients are in `durable_clients`.

use crate::start::fresh_id;
use rehydrate_blackbox::client::answer;
use rehydrate_blackbox::host::{ENTITIES, GUESTS};
use rehydrate_blackbox::{Answer, Client, Host, HostSettings, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const BASE: &str = "/runtime/webhooks/durabletask";
const CONTINUATION: &str = "x-ms-continuation-token";

/// The facade of one host.
struct Facade {
    client: Client,
}

impl Facade {
    /// Of the host that all tests share.
    async fn shared() -> Facade {
        Facade { client: Host::shared().await.client() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.admin(method, &format!("{BASE}/{path}"))
    }

    async fn ask(&self, method: Method, path: &str) -> Answer {
        checked(answer(self.request(method, path)).await)
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path).await
    }

    /// POST without a body.
    async fn tell(&self, path: &str) -> Answer {
        self.ask(Method::POST, path).await
    }

    /// POST of exact bytes, said to be JSON.
    async fn post_text(&self, path: &str, body: &str) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        checked(answer(request.body(body.to_owned())).await)
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    /// Starts an instance of the test guests under an id of its own.
    async fn started(&self, what: &str, input: &Value) -> String {
        let id = fresh_id(what);
        self.post(&format!("orchestrators/{GUESTS}/{id}"), input).await.expect(202);
        id
    }

    /// Starts one and waits for its end.
    async fn ended(&self, what: &str, input: &Value) -> String {
        let id = self.started(what, input).await;
        self.over(&id).await;
        id
    }

    /// The status once the instance is over.
    async fn over(&self, id: &str) -> Value {
        let ended = |word: &Value| matches!(word.as_str(), Some("Completed" | "Failed" | "Terminated" | "Canceled"));
        self.when(id, "is over", |status| ended(&status["runtimeStatus"])).await
    }

    async fn when(&self, id: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("instance {id} {what}"), async || {
            let status = self.get(&format!("instances/{id}")).await.body;
            if done(&status) { Ok(status) } else { Err(status) }
        })
        .await
    }

    /// The ids of a page, sorted, and the token for the next.
    async fn page(&self, query: &str, token: &str) -> (Vec<String>, String) {
        let request = self.request(Method::GET, &format!("instances/?{query}")).header(CONTINUATION, token);
        let page = checked(answer(request).await).expect(200);
        (ids(&page.body), page.header(CONTINUATION).to_owned())
    }

    async fn entity_when(&self, path: &str, expected: &Value) {
        eventually(&format!("entity {path} is {expected}"), async || {
            let seen = self.get(path).await;
            if seen.body == *expected { Ok(()) } else { Err(seen.text) }
        })
        .await;
    }
}

fn ids(list: &Value) -> Vec<String> {
    let text = |one: &Value| one["instanceId"].as_str().map(str::to_owned);
    let mut ids: Vec<String> = list.as_array().expect("a list").iter().filter_map(text).collect();
    ids.sort();
    ids
}

/// What holds of every answer: its body is empty or JSON, and a 400 says where the clients look what was wrong.
#[track_caller]
fn checked(answer: Answer) -> Answer {
    let is_json = serde_json::from_str::<Value>(&answer.text).is_ok();
    assert!(answer.text.is_empty() || is_json, "{answer:?}");
    assert_eq!(is_json, answer.header("content-type").starts_with("application/"), "{answer:?}");
    if answer.status == 400 {
        let said = |name: &str| answer.body[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(said("Message") && said("ExceptionMessage"), "{answer:?}");
    }
    answer
}

fn echo(value: impl Into<Value>) -> Value {
    json!({ "do": "echo", "value": value.into() })
}

fn waits() -> Value {
    json!({ "do": "signal", "name": "Go", "count": 1 })
}

#[tokio::test]
async fn a_start_is_answered_with_the_urls_of_the_instance() {
    let facade = Facade::shared().await;
    let started = facade.post(&format!("orchestrators/{GUESTS}?code=k&taskHub=T"), &echo(1)).await.expect(202);
    let id = started.body["id"].as_str().expect("an id");
    assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    let at = format!("{}{BASE}/instances/{id}", Host::shared().await.admin_url());
    let expected = json!({
        "id": id,
        "statusQueryGetUri": format!("{at}?taskHub=T&code=k"),
        "sendEventPostUri": format!("{at}/raiseEvent/{{eventName}}?taskHub=T&code=k"),
        "terminatePostUri": format!("{at}/terminate?reason={{text}}&taskHub=T&code=k"),
        "rewindPostUri": format!("{at}/rewind?reason={{text}}&taskHub=T&code=k"),
        "purgeHistoryDeleteUri": format!("{at}?taskHub=T&code=k"),
        "restartPostUri": format!("{at}/restart?taskHub=T&code=k"),
        "suspendPostUri": format!("{at}/suspend?reason={{text}}&taskHub=T&code=k"),
        "resumePostUri": format!("{at}/resume?reason={{text}}&taskHub=T&code=k"),
    });
    assert_eq!(started.body, expected);
    assert_eq!(started.header("location"), expected["statusQueryGetUri"]);
    assert_eq!(started.header("retry-after"), "10");
}

#[tokio::test]
async fn a_start_that_is_wrong_says_what_is_wrong() {
    let facade = Facade::shared().await;
    let refused = async |path: &str, body: &str, expected: &str| {
        let answer = facade.post_text(&format!("orchestrators/{path}"), body).await.expect(400);
        let said = answer.body["ExceptionMessage"].as_str().unwrap_or_default();
        assert!(said.contains(expected), "{path}: {said}");
    };
    refused("nobody", "1", "`nobody`").await;
    refused(&format!("{GUESTS}?version=99"), "1", "99").await;
    refused(ENTITIES, "1", ENTITIES).await;
    refused(GUESTS, "{", "JSON").await;
    refused(GUESTS, "one", "JSON").await;
    for (id, expected) in [("@a", "`@`"), ("a%23b", "'#'"), ("a%2Fb", "'/'"), ("a%3Fb", "'?'"), ("a%5Cb", "'\\\\'")] {
        refused(&format!("{GUESTS}/{id}"), "1", expected).await;
    }
    refused(&format!("{GUESTS}/a%0Ab"), "1", "control").await;
    refused(&format!("{GUESTS}/{}", "x".repeat(257)), "1", "257").await;
    refused(&format!("{GUESTS}/%FF"), "1", "UTF-8").await;
    refused(&format!("{GUESTS}?timeout=soon&pollingInterval=1"), "1", "timeout").await;
    refused(&format!("{GUESTS}?timeout=1&pollingInterval=2"), "1", "pollingInterval").await;
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    assert_eq!(facade.post_text(&format!("orchestrators/{GUESTS}"), &large).await.status, 413);
}

#[tokio::test]
async fn an_id_can_be_used_again_only_when_its_instance_has_ended() {
    let facade = Facade::shared().await;
    let id = facade.started("twice", &waits()).await;
    let path = format!("orchestrators/{GUESTS}/{id}");
    assert!(facade.post(&path, &echo(1)).await.expect(409).body["Message"].is_string());
    facade.tell(&format!("instances/{id}/terminate")).await.expect(202);
    facade.post(&path, &echo("again")).await.expect(202);
    assert_eq!(facade.over(&id).await["output"], "again");
}

#[tokio::test]
async fn an_id_of_256_characters_of_any_script_is_taken() {
    let facade = Facade::shared().await;
    let id = format!("{}-ü%", fresh_id("long"));
    let id = format!("{id}{}", "é".repeat(256 - id.chars().count()));
    let started = facade.client.admin(Method::POST, &format!("{BASE}/orchestrators/{GUESTS}/{}", escaped(&id)));
    let started = checked(answer(started.json(&echo(1))).await).expect(202);
    assert_eq!(started.body["id"], *id);
    let path = started.header("location").split_once(BASE).expect("a URL of the API").1.to_owned();
    eventually("the instance is over", async || {
        let status = facade.get(path.trim_start_matches('/')).await;
        if status.status == 200 { Ok(()) } else { Err(status.text) }
    })
    .await;
}

/// All bytes of a text that are not plain, for a URL's path.
fn escaped(text: &str) -> String {
    let byte = |b: u8| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).into() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

#[tokio::test]
async fn a_start_can_wait_for_the_output() {
    let facade = Facade::shared().await;
    let start = async |query: &str, input: Value| facade.post(&format!("orchestrators/{GUESTS}?{query}"), &input).await;
    let done = start("timeout=60&pollingInterval=1", echo(json!({ "a": 1 }))).await.expect(200);
    assert_eq!(done.text, r#"{"a":1}"#);
    let late = start("timeout=0.1&pollingInterval=0.1", waits()).await.expect(202);
    assert_eq!(late.header("retry-after"), "10");
    facade.tell(&format!("instances/{}/terminate", late.body["id"].as_str().unwrap())).await.expect(202);
    start("timeout=60", echo(1)).await.expect(202);
    start("pollingInterval=1", echo(1)).await.expect(202);
    let fail = json!({ "do": "fail", "failure": { "code": "c", "message": "it failed" } });
    let failed = start("timeout=60&pollingInterval=1", fail.clone()).await.expect(200);
    assert_eq!(failed.body["runtimeStatus"], "Failed");
    let query = "timeout=60&pollingInterval=1&returnInternalServerErrorOnFailure=true";
    assert_eq!(start(query, fail).await.expect(500).body["runtimeStatus"], "Failed");
}

#[tokio::test]
async fn a_status_has_all_members_and_its_code_says_how_far_the_instance_is() {
    let facade = Facade::shared().await;
    let id = facade.started("status", &json!({ "do": "status", "value": { "step": 1 } })).await;
    facade.when(&id, "has a custom status", |status| status["customStatus"] == json!({ "step": 1 })).await;
    let open = facade.get(&format!("instances/{id}?taskHub=T")).await.expect(202);
    assert!(open.header("location").ends_with(&format!("/instances/{id}?taskHub=T")), "{open:?}");
    assert_eq!(open.header("retry-after"), "5");
    facade.post(&format!("instances/{id}/raiseEvent/go"), &json!([1])).await.expect(202);
    facade.over(&id).await;
    let ended = facade.get(&format!("instances/{id}")).await.expect(200);
    assert_eq!((ended.header("location"), ended.header("retry-after")), ("", ""));
    let mut body = ended.body;
    for name in ["createdTime", "lastUpdatedTime"] {
        let time = body[name].take();
        let time = time.as_str().expect("a time");
        assert!(time.len() == 20 && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    let expected = json!({
        "name": GUESTS,
        "instanceId": id,
        "runtimeStatus": "Completed",
        "input": { "do": "status", "value": { "step": 1 } },
        "customStatus": { "step": 1 },
        "output": [1],
        "createdTime": null,
        "lastUpdatedTime": null,
    });
    assert_eq!(body, expected);
    let hidden = facade.get(&format!("instances/{id}?SHOWINPUT=false")).await.expect(200).body;
    assert!(hidden["input"].is_null() && hidden.get("input").is_some(), "{hidden}");
    assert_eq!(facade.get("instances/nobody").await.expect(404).text, "");
}

#[tokio::test]
async fn a_failed_instance_is_a_500_if_the_client_wants_that() {
    let facade = Facade::shared().await;
    let fail = json!({ "do": "fail", "failure": { "code": "c", "message": "it failed" } });
    let id = facade.ended("failed", &fail).await;
    let status = facade.get(&format!("instances/{id}")).await.expect(200).body;
    assert_eq!((&status["runtimeStatus"], &status["output"]), (&json!("Failed"), &json!("it failed")));
    let path = format!("instances/{id}?returnInternalServerErrorOnFailure=true");
    assert_eq!(facade.get(&path).await.expect(500).body["runtimeStatus"], "Failed");
}

#[tokio::test]
async fn names_are_known_in_any_case() {
    let facade = Facade::shared().await;
    let id = fresh_id("case");
    facade.post(&format!("ORCHESTRATORS/{}/{id}", GUESTS.to_uppercase()), &waits()).await.expect(202);
    assert_eq!(facade.get(&format!("Instances/{id}")).await.expect(202).body["name"], GUESTS);
    facade.when(&id, "waits", |status| status["runtimeStatus"] == "Running").await;
    facade.client.waiting(&id, "signal").await;
    facade.post(&format!("instances/{id}/RAISEEVENT/gO"), &json!("x")).await.expect(202);
    facade.over(&id).await;
    let status = facade.get(&format!("instances/{id}?ShowHistory=TRUE&SHOWHISTORYOUTPUT=true")).await.expect(200).body;
    assert_eq!(status["historyEvents"][1]["Name"], "Go");
    assert_eq!(facade.get(&format!("instances/{}", id.to_uppercase())).await.status, 404, "ids are not names");
    let key = fresh_id("case");
    facade.post(&format!("Entities/{}/{key}?OP=add", ENTITIES.to_uppercase()), &json!(2)).await.expect(202);
    facade.entity_when(&format!("entities/{ENTITIES}/{key}"), &json!(2)).await;
}

#[tokio::test]
async fn what_a_client_encoded_twice_is_stored_as_sent() {
    let facade = Facade::shared().await;
    let twice = |value: &Value| Value::String(value.to_string());
    let id = facade.started("encoded", &twice(&waits())).await;
    facade.post(&format!("instances/{id}/raiseEvent/Go"), &twice(&json!({ "n": 1 }))).await.expect(202);
    let status = facade.over(&id).await;
    assert_eq!(status["input"], twice(&waits()));
    assert_eq!(status["output"], json!([r#"{"n":1}"#]));
}

#[tokio::test]
async fn what_is_not_there_is_a_404_with_any_method() {
    let facade = Facade::shared().await;
    let id = facade.ended("methods", &echo(1)).await;
    let instance = format!("instances/{id}");
    for (method, path) in [
        (Method::GET, format!("orchestrators/{GUESTS}")),
        (Method::PUT, instance.clone()),
        (Method::POST, instance.clone()),
        (Method::GET, format!("{instance}/terminate")),
        (Method::POST, format!("{instance}/cancel")),
        (Method::POST, format!("{instance}/raiseEvent")),
        (Method::POST, format!("{instance}/raiseEvent/a/b")),
        (Method::PATCH, format!("entities/{ENTITIES}/a")),
        (Method::POST, "instances/".to_owned()),
        (Method::GET, "activities".to_owned()),
        (Method::GET, String::new()),
    ] {
        assert_eq!(facade.ask(method.clone(), &path).await.status, 404, "{method} {path}");
    }
    facade.get(&instance).await.expect(200);
}

#[tokio::test]
async fn lists_are_filtered() {
    let facade = Facade::shared().await;
    let prefix = fresh_id("list");
    let open = facade.started(&format!("{prefix}-a"), &waits()).await;
    let done = facade.ended(&format!("{prefix}-b"), &echo("b")).await;
    let failed = facade.ended(&format!("{prefix}-c"), &json!({ "do": "fail", "failure": { "message": "no" } })).await;
    let all = vec![open.clone(), done.clone(), failed.clone()];
    let listed = async |query: &str| facade.page(&format!("instanceIdPrefix={prefix}&{query}"), "").await.0;
    assert_eq!(listed("").await, all);
    assert_eq!(listed("runtimeStatus=Completed,failed").await, [done.clone(), failed.clone()]);
    assert_eq!(listed("runtimeStatus=Completed&runtimeStatus=Running").await, [open.clone(), done.clone()]);
    assert_eq!(listed("runtimeStatus=Pending").await, [""; 0]);
    assert_eq!(listed("createdTimeFrom=2020-01-01T00:00:00Z&createdTimeTo=2999-01-01T00:00:00.0Z").await, all);
    assert_eq!(listed("createdTimeTo=2020-01-01T00:00:00").await, [""; 0]);
    let page = facade.get(&format!("instances?instanceIdPrefix={done}&showInput=false")).await.expect(200).body;
    assert_eq!((&page[0]["input"], &page[0]["output"]), (&Value::Null, &json!("b")));
    for wrong in ["runtimeStatus=Asleep", "createdTimeFrom=soon", "top=none", "top=0"] {
        facade.get(&format!("instances/?{wrong}")).await.expect(400);
    }
    let request = facade.request(Method::GET, "instances/").header(CONTINUATION, "not/one");
    checked(answer(request).await).expect(400);
    facade.tell(&format!("instances/{open}/terminate")).await.expect(202);
}

#[tokio::test]
async fn a_list_goes_on_where_its_token_says() {
    let facade = Facade::shared().await;
    let prefix = fresh_id("pages");
    let mut all = Vec::new();
    for n in 0..5 {
        all.push(facade.ended(&format!("{prefix}-{n}"), &echo(n)).await);
    }
    let query = format!("instanceIdPrefix={prefix}&top=2");
    let (mut seen, mut token) = facade.page(&query, "").await;
    let mut pages = 1;
    while !token.is_empty() {
        assert_eq!(seen.len() % 2, 0, "all pages but the last are full");
        let (more, next) = facade.page(&query, &token).await;
        seen.extend(more);
        token = next;
        pages += 1;
    }
    seen.sort();
    assert_eq!((seen, pages), (all, 3));
}

#[tokio::test]
async fn instances_are_purged_when_they_have_ended() {
    let facade = Facade::shared().await;
    let id = facade.started("purged", &waits()).await;
    assert_eq!(facade.delete(&format!("instances/{id}")).await.expect(404).text, "");
    facade.get(&format!("instances/{id}")).await.expect(202);
    facade.tell(&format!("instances/{id}/terminate")).await.expect(202);
    assert_eq!(facade.delete(&format!("instances/{id}")).await.expect(200).body, json!({ "instancesDeleted": 1 }));
    facade.get(&format!("instances/{id}")).await.expect(404);
    facade.delete(&format!("instances/{id}")).await.expect(404);
}

#[tokio::test]
async fn a_purge_of_many_needs_a_time_and_spares_what_is_open() {
    // A host of its own: a purge takes what other tests still want to see.
    let host = Host::with_guests(HostSettings::default()).await;
    let facade = Facade { client: host.client() };
    let open = facade.started("open", &waits()).await;
    for n in 0..3 {
        facade.ended("purge", &echo(n)).await;
    }
    facade.delete("instances/").await.expect(400);
    facade.delete("instances?runtimeStatus=Completed").await.expect(400);
    let path = |more: &str| format!("instances/?createdTimeFrom=2020-01-01T00:00:00Z{more}");
    for none in ["&createdTimeTo=2020-01-02T00:00:00Z", "&runtimeStatus=Failed", "&runtimeStatus=Running,Pending"] {
        assert_eq!(facade.delete(&path(none)).await.expect(404).text, "");
    }
    let purged = facade.delete(&path("&runtimeStatus=Completed,Running")).await.expect(200).body;
    assert_eq!(purged, json!({ "instancesDeleted": 3 }));
    facade.get(&format!("instances/{open}")).await.expect(202);
}

#[tokio::test]
async fn an_event_is_taken_as_json_and_nothing_else() {
    let facade = Facade::shared().await;
    let id = facade.started("events", &waits()).await;
    let path = format!("instances/{id}/raiseEvent/Go");
    for kind in ["text/plain", "application/octet-stream", "application/jsonp"] {
        let request = facade.request(Method::POST, &path).header("content-type", kind).body("1");
        checked(answer(request).await).expect(400);
    }
    facade.tell(&path).await.expect(400);
    facade.post_text(&path, "{").await.expect(400);
    assert_eq!(facade.post(&path.replace(&id, "nobody"), &json!(1)).await.expect(404).text, "");
    let request =
        facade.request(Method::POST, &path).header("content-type", "Application/JSON; charset=utf-8").body("1");
    assert_eq!(checked(answer(request).await).expect(202).text, "");
    assert_eq!(facade.over(&id).await["output"], json!([1]));
    facade.post(&path, &json!(2)).await.expect(410);
}

#[tokio::test]
async fn an_instance_is_suspended_resumed_and_terminated() {
    let facade = Facade::shared().await;
    let id = facade.started("changed", &waits()).await;
    let tell = async |verb: &str, expected: u16| {
        let path = format!("instances/{id}/{verb}?reason=because%20of%20me");
        facade.tell(&path).await.expect(expected)
    };
    assert_eq!(tell("suspend", 202).await.text, "");
    assert_eq!(facade.get(&format!("instances/{id}")).await.expect(202).body["runtimeStatus"], "Suspended");
    tell("suspend", 202).await;
    tell("Resume", 202).await;
    tell("resume", 202).await;
    facade.when(&id, "runs", |status| status["runtimeStatus"] == "Running").await;
    tell("terminate", 202).await;
    let status = facade.over(&id).await;
    assert_eq!(status["runtimeStatus"], "Terminated");
    assert!(status["output"].as_str().is_some_and(|text| text.contains("because of me")), "{status}");
    for verb in ["suspend", "resume", "terminate", "rewind"] {
        tell(verb, 410).await;
        facade.tell(&format!("instances/nobody/{verb}?reason=x")).await.expect(404);
    }
    let history = facade.get(&format!("instances/{id}?showHistory=true")).await.expect(200).body;
    let of_kind = |kind: &str| {
        let events = history["historyEvents"].as_array().expect("events");
        events.iter().filter(|event| event["EventType"] == kind).map(|event| event["Reason"].clone()).collect()
    };
    let (suspended, resumed): (Vec<_>, Vec<_>) = (of_kind("ExecutionSuspended"), of_kind("ExecutionResumed"));
    assert_eq!((suspended, resumed), (vec![json!("because of me")], vec![json!("because of me")]));
}

#[tokio::test]
async fn only_a_failed_instance_is_rewound() {
    let facade = Facade::shared().await;
    let open = facade.started("open", &waits()).await;
    facade.tell(&format!("instances/{open}/rewind?reason=x")).await.expect(409);
    let failure = json!({ "kind": "application", "code": "c", "message": "no" });
    let input = json!({ "do": "rewindable", "activity": "fail", "count": 1, "input": { "failure": failure } });
    let id = facade.ended("rewound", &input).await;
    assert_eq!(facade.tell(&format!("instances/{id}/rewind?reason=x")).await.expect(202).text, "");
    assert_eq!(facade.over(&id).await["runtimeStatus"], "Failed", "it fails again");
    facade.tell(&format!("instances/{open}/terminate")).await.expect(202);
}

#[tokio::test]
async fn an_instance_is_restarted_under_a_new_id_or_its_own() {
    let facade = Facade::shared().await;
    let id = facade.ended("restarted", &echo("once more")).await;
    let new = facade.tell(&format!("instances/{id}/restart")).await.expect(202);
    let new_id = new.body["id"].as_str().expect("an id");
    assert!(new_id != id && new.header("location").contains(new_id) && new.header("retry-after") == "10", "{new:?}");
    assert_eq!(facade.over(new_id).await["output"], "once more");
    let same = facade.tell(&format!("instances/{id}/restart?restartWithNewInstanceId=false")).await.expect(202);
    assert_eq!(same.body["id"], *id);
    facade.over(&id).await;
    facade.tell("instances/nobody/restart").await.expect(400);
    let open = facade.started("open", &waits()).await;
    facade.tell(&format!("instances/{open}/restart?restartWithNewInstanceId=false")).await.expect(409);
    facade.tell(&format!("instances/{open}/terminate")).await.expect(202);
}

/// The history of an instance, each event without its times, and with `Details` reduced to its code.
async fn history_of(facade: &Facade, id: &str, query: &str) -> Vec<Value> {
    let status = facade.get(&format!("instances/{id}?showHistory=true{query}")).await.expect(200).body;
    assert_eq!(status["history"], status["historyEvents"]);
    let mut events = status["history"].as_array().expect("events").clone();
    for event in &mut events {
        let members = event.as_object_mut().expect("an object");
        let is_time = |text: &Value| text.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok());
        for name in ["Timestamp", "ScheduledTime", "FireAt"] {
            assert!(members.remove(name).is_none_or(|time| is_time(&time)), "{name}");
        }
        if let Some(details) = members.get_mut("Details") {
            *details = details["code"].take();
        }
    }
    events
}

#[tokio::test]
async fn a_history_has_the_shape_that_the_clients_know() {
    let facade = Facade::shared().await;
    let activity = json!({ "do": "activity", "name": "echo", "input": 7 });
    let id = facade.ended("activity", &activity).await;
    let expected = [
        json!({ "EventType": "ExecutionStarted", "FunctionName": GUESTS, "Input": activity }),
        json!({ "EventType": "TaskCompleted", "FunctionName": "echo", "Result": 7 }),
        json!({ "EventType": "ExecutionCompleted", "OrchestrationStatus": "Completed", "Result": 7 }),
    ];
    assert_eq!(history_of(&facade, &id, "&showHistoryOutput=true").await, expected);
    let bare = history_of(&facade, &id, "&showInput=false").await;
    assert!(bare.iter().all(|event| event.get("Result").is_none() && event.get("Input").is_none()), "{bare:?}");

    let failure = json!({ "kind": "application", "code": "c", "message": "no" });
    let failing = json!({ "do": "activity", "name": "fail", "input": { "failure": failure } });
    let id = facade.ended("failing", &failing).await;
    let expected = [
        json!({ "EventType": "TaskFailed", "FunctionName": "fail", "Reason": "no", "Details": "c" }),
        json!({ "EventType": "ExecutionCompleted", "OrchestrationStatus": "Failed", "Result": "no" }),
    ];
    assert_eq!(history_of(&facade, &id, "").await[1..], expected);

    let id = facade.ended("timer", &json!({ "do": "sleep", "ms": 1 })).await;
    assert_eq!(history_of(&facade, &id, "").await[1], json!({ "EventType": "TimerFired" }));

    let child = fresh_id("child");
    let id = facade.ended("parent", &json!({ "do": "child", "workflow": GUESTS, "id": child, "input": echo(3) })).await;
    let kind = "SubOrchestrationInstanceCompleted";
    let expected = json!({ "EventType": kind, "FunctionName": GUESTS, "InstanceId": child, "Result": 3 });
    assert_eq!(history_of(&facade, &id, "&showHistoryOutput=true").await[1], expected);
}

#[tokio::test]
async fn an_open_operation_is_in_the_history_and_an_event_with_its_name() {
    let facade = Facade::shared().await;
    let id = facade.started("open", &json!({ "do": "signal", "name": "Go", "count": 2 })).await;
    facade.post(&format!("instances/{id}/raiseEvent/Go"), &json!("x")).await.expect(202);
    let path = format!("instances/{id}?showHistory=true");
    let events = facade.get(&path).await.expect(202).body["history"].take();
    assert_eq!(
        (&events[1]["EventType"], &events[1]["Name"], &events[1]["Input"]),
        (&"EventRaised".into(), &"Go".into(), &"x".into())
    );
    facade.tell(&format!("instances/{id}/terminate?reason=enough")).await.expect(202);
    let events = history_of(&facade, &id, "").await;
    assert_eq!(events.last(), Some(&json!({ "EventType": "ExecutionTerminated", "Input": "enough" })));
    let id = facade.started("timer", &json!({ "do": "sleep", "ms": 600_000 })).await;
    facade.client.waiting(&id, "timer").await;
    let events = facade.get(&format!("instances/{id}?showHistory=true")).await.expect(202).body["history"].take();
    assert_eq!(events[1]["EventType"], "TimerCreated");
    assert!(events[1]["FireAt"].as_str() > events[1]["Timestamp"].as_str(), "{events}");
    facade.tell(&format!("instances/{id}/terminate")).await.expect(202);
}

#[tokio::test]
async fn an_instance_that_goes_on_as_new_is_running_all_the_time() {
    let facade = Facade::shared().await;
    let id = facade.started("continued", &json!({ "do": "continue", "left": 1, "take": "Go" })).await;
    facade.post(&format!("instances/{id}/raiseEvent/Go"), &json!(1)).await.expect(202);
    let second = |status: &Value| status["customStatus"] == json!({ "left": 0, "run": 2 });
    let status = facade.when(&id, "is in its second run", second).await;
    assert_eq!(status["runtimeStatus"], "Running");
    let listed = facade.page(&format!("instanceIdPrefix={id}&runtimeStatus=Running"), "").await.0;
    assert_eq!(listed, [id.as_str()]);
    facade.post(&format!("instances/{id}/raiseEvent/Go"), &json!(2)).await.expect(202);
    assert_eq!(facade.over(&id).await["output"], json!({ "run": 2, "taken": [1, 2] }));
}

#[tokio::test]
async fn an_entity_is_signalled_read_and_deleted() {
    let facade = Facade::shared().await;
    let path = format!("entities/{ENTITIES}/{}", fresh_id("entity"));
    assert_eq!(facade.get(&path).await.expect(404).text, "");
    assert_eq!(facade.post(&format!("{path}?op=add"), &json!(5)).await.expect(202).text, "");
    facade.entity_when(&path, &json!(5)).await;
    assert_eq!(facade.get(&path).await.expect(200).text, "5");
    facade.delete(&path).await.expect(202);
    facade.entity_when(&path, &Value::Null).await;
    facade.get(&path).await.expect(404);
    facade.post("entities/nobody/key?op=add", &json!(1)).await.expect(404);
    facade.get("entities/nobody/key").await.expect(404);
}

#[tokio::test]
async fn a_body_for_an_entity_that_is_no_json_is_a_string() {
    let facade = Facade::shared().await;
    let path = format!("entities/{ENTITIES}/{}", fresh_id("entity"));
    let request = facade.request(Method::POST, &format!("{path}?op=note")).header("content-type", "text/plain");
    checked(answer(request.body("it's \"plain\"")).await).expect(202);
    facade.entity_when(&path, &json!({ "note": "it's \"plain\"" })).await;
}

#[tokio::test]
async fn a_dollar_stands_for_the_empty_key() {
    let facade = Facade::shared().await;
    let path = format!("entities/{ENTITIES}/$");
    facade.post(&format!("{path}?op=set"), &json!(11)).await.expect(202);
    facade.entity_when(&path, &json!(11)).await;
    let listed = facade.get(&format!("entities/{ENTITIES}?fetchState=true&top=500")).await.expect(200).body;
    let all = listed.as_array().expect("a list");
    let empty = all.iter().find(|one| one["entityId"] == json!({ "name": ENTITIES, "key": "" }));
    assert_eq!(empty.expect("the one with the empty key")["state"], 11);
    facade.delete(&path).await.expect(202);
    facade.entity_when(&path, &Value::Null).await;
}

#[tokio::test]
async fn entities_are_listed_page_by_page() {
    // A host of its own: a list of the shared one changes between two pages.
    let host = Host::with_guests(HostSettings::default()).await;
    let facade = Facade { client: host.client() };
    for key in ["a", "b", "c"] {
        facade.post(&format!("entities/{ENTITIES}/{key}?op=set"), &json!(key.len())).await.expect(202);
        facade.entity_when(&format!("entities/{ENTITIES}/{key}"), &json!(1)).await;
    }
    let keys = |page: &Answer| -> Vec<Value> {
        page.body.as_array().expect("a list").iter().map(|one| one["entityId"]["key"].clone()).collect()
    };
    let path = format!("entities/{}?top=2&fetchState=true", ENTITIES.to_uppercase());
    let first = facade.get(&path).await.expect(200);
    let request = facade.request(Method::GET, &path).header(CONTINUATION, first.header(CONTINUATION));
    let second = checked(answer(request).await).expect(200);
    assert_eq!((keys(&first), keys(&second)), (vec![json!("a"), json!("b")], vec![json!("c")]));
    assert_eq!((&first.body[0]["state"], second.header(CONTINUATION)), (&json!(1), ""));
    let all = facade.get("entities/").await.expect(200);
    assert_eq!(keys(&all).len(), 3);
    assert!(all.body[0].get("state").is_none_or(Value::is_null));
    assert!(all.body[0]["lastOperationTime"].as_str().is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok()), "{all:?}");
    let none = facade.get("entities?lastOperationTimeTo=2020-01-01T00:00:00Z").await.expect(200);
    assert_eq!(none.body, json!([]));
    facade.get("entities?lastOperationTimeFrom=soon").await.expect(400);
    let request = facade.request(Method::GET, "entities").header(CONTINUATION, "not/one");
    checked(answer(request).await).expect(400);
}

#[tokio::test]
async fn a_key_in_the_url_stands_for_the_admin_token_in_this_api_only() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    host.stop();
    let token = "0123456789 abc+def";
    let file = host.directory().join("token");
    std::fs::write(&file, token).expect("the token can be written");
    let arguments = vec!["--admin-token-file".to_owned(), file.display().to_string()];
    host.restart_with(HostSettings { arguments, ..HostSettings::default() });
    let facade = Facade { client: host.client() };
    let path = format!("orchestrators/{GUESTS}");
    for refused in [path.clone(), format!("{path}?code="), format!("{path}?code=0123456789+abc%2Bdeg")] {
        assert_eq!(facade.post(&refused, &echo(1)).await.status, 401, "{refused}");
    }
    let started = facade.post(&format!("{path}?Code=0123456789+abc%2Bdef"), &echo(1)).await.expect(202);
    let (_, status) = started.header("location").split_once(BASE).expect("a URL of the API");
    let status = facade.get(status.trim_start_matches('/')).await;
    assert!(matches!(status.status, 200 | 202), "the URLs carry the key: {status:?}");
    let own = facade.client.get("/v1/instances?code=0123456789+abc%2Bdef").await;
    assert_eq!(own.status, 401, "the host's own API takes the token in a header only");
    let with_header = facade.request(Method::GET, "instances/").bearer_auth(token);
    assert_eq!(answer(with_header).await.status, 200);
}

#[tokio::test]
async fn the_api_can_be_switched_off() {
    let config = Some("[http]\ndurable-functions = false\n".to_owned());
    let host = Host::start(HostSettings { config, ..HostSettings::default() });
    let facade = Facade { client: host.client() };
    assert_eq!(facade.get("instances/").await.status, 404);
    assert_eq!(facade.client.get("/v1/instances").await.status, 200);
}
