//! Checking a component against what is under way before it is deployed, and moving everything to it.

use crate::versions::rebuilt;
use rehydrate_blackbox::client::{Answer, answer};
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::programs::component;
use rehydrate_blackbox::{Client, Host, HostSettings, eventually};
use reqwest::Method;
use serde_json::{Value, json};

fn changed() -> Vec<u8> {
    std::fs::read(component("test_guests_changed")).expect("the component can be read")
}

fn sleep() -> Value {
    json!({ "do": "sleep", "ms": 600_000 })
}

fn wait() -> Value {
    json!({ "do": "signal", "name": "go", "count": 1 })
}

async fn post(client: &Client, path: &str, bytes: Vec<u8>) -> Answer {
    answer(client.admin(Method::POST, path).header("content-type", "application/wasm").body(bytes)).await
}

async fn check(client: &Client, version: &str, bytes: Vec<u8>) -> Value {
    post(client, &format!("/v1/components/{GUESTS}/{version}/check"), bytes).await.expect(200).body
}

async fn migrate(client: &Client, version: &str, bytes: Vec<u8>) -> Answer {
    post(client, &format!("/v1/components/{GUESTS}/{version}/migrate"), bytes).await
}

fn totals(compatible: u64, diverging: u64, stopped: u64) -> Value {
    json!({ "compatible": compatible, "diverging": diverging, "stopped": stopped })
}

async fn start(client: &Client, id: &str, input: &Value) {
    let request = json!({ "workflow": GUESTS, "version": "1", "id": id, "input": input });
    client.post("/v1/instances", &request).await.expect(202);
}

async fn start_many(client: &Client, what: &str, count: usize, input: &Value) {
    for n in 0..count {
        start(client, &format!("{what}-{n}"), input).await;
    }
}

/// Which version an instance is pinned to, and whether it goes on.
async fn pinned(client: &Client, id: &str) -> (Value, Value) {
    let status = client.status(id).await;
    (status["version"].clone(), status["state"].clone())
}

#[tokio::test]
async fn a_check_says_which_open_and_ended_instances_do_not_match_and_writes_nothing() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    start_many(&client, "sleeping", 120, &sleep()).await;
    start_many(&client, "waiting", 5, &wait()).await;
    start_many(&client, "done", 3, &json!({ "do": "sequence", "name": "echo", "count": 2 })).await;
    start_many(&client, "echoed", 2, &json!({ "do": "echo", "value": 1 })).await;
    for id in ["done-0", "done-1", "done-2", "echoed-0", "echoed-1"] {
        client.over(id).await;
    }
    let all = async || {
        let list = client.get("/v1/instances?limit=500").await.expect(200).body;
        (list, client.get("/v1/components").await.expect(200).body, client.history("sleeping-7").await)
    };
    let compiled = || std::fs::read_dir(host.data().join("compiled")).expect("a directory").count();
    let before = (all().await, compiled());
    let report = check(&client, "2", rebuilt(5)).await;
    assert_eq!((&report["open"], &report["ended"]), (&totals(125, 0, 0), &totals(5, 0, 0)), "{report:#}");
    assert_eq!(report["failing"], json!([]));
    let report = check(&client, "2", changed()).await;
    assert_eq!((&report["open"], &report["ended"]), (&totals(5, 120, 0), &totals(2, 3, 0)), "{report:#}");
    let failing = report["failing"].as_array().expect("a list");
    assert_eq!(failing.len(), 100, "the report is bounded");
    let newest = &failing[0];
    assert_eq!((&newest["id"], &newest["verdict"]), (&json!("sleeping-119"), &json!("diverges")), "{newest:#}");
    assert_eq!(newest["divergence"]["event"], 2, "{newest:#}");
    let report = post(&client, &format!("/v1/components/{GUESTS}/2/check?ended=1"), changed()).await.expect(200).body;
    assert_eq!(report["ended"], totals(1, 0, 0), "only the newest");
    assert_eq!((all().await, compiled()), before, "nothing was written");
}

#[tokio::test]
async fn what_could_not_be_deployed_is_refused_by_a_check_as_well() {
    let client = Host::shared().await.client();
    let activities = std::fs::read(component("test_activities")).expect("the component can be read");
    for (version, bytes, status, code) in [
        ("2", b"not wasm".to_vec(), 422, "deployment.not-a-component"),
        ("2", activities, 422, "deployment.no-workflow"),
        ("1", rebuilt(6), 409, "deployment.exists"),
    ] {
        for verb in ["check", "migrate"] {
            let path = format!("/v1/components/{GUESTS}/{version}/{verb}");
            // Another test may be checking something.
            let refused = eventually("the host is not busy", async || {
                let answer = post(&client, &path, bytes.clone()).await;
                if answer.status == 503 { Err(answer.text) } else { Ok(answer) }
            })
            .await;
            assert_eq!(refused.expect(status).code(), code, "{verb}");
        }
    }
}

#[tokio::test]
async fn all_open_instances_are_moved_and_go_on_or_none_is() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    start_many(&client, "waiting", 40, &wait()).await;
    start(&client, "sleeping", &sleep()).await;
    // Compiled before, so that what follows takes less time than the short sleep.
    for (name, bytes) in [("other", changed()), ("same", rebuilt(7))] {
        client.deploy_bytes(name, "1", bytes).await.expect(201);
    }
    start(&client, "short", &json!({ "do": "sleep", "ms": 5_000 })).await;
    start(&client, "done", &json!({ "do": "echo", "value": 1 })).await;
    client.waiting("sleeping", "timer").await;
    client.over("done").await;
    let refused = migrate(&client, "2", changed()).await.expect(409);
    assert_eq!(refused.code(), "deployment.diverges");
    let detail = refused.body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("of 42 open instances") && detail.contains("event 2"), "{detail}");
    client.get(&format!("/v1/components/{GUESTS}/2")).await.expect(404);
    assert_eq!(pinned(&client, "waiting-0").await, (json!("1"), json!("running")));
    let moved = migrate(&client, "2", rebuilt(7)).await.expect(200).body;
    assert_eq!((&moved["moved"], &moved["left"], &moved["component"]["version"]), (&json!(42), &json!(0), &json!("2")));
    for id in ["waiting-0", "sleeping"] {
        assert_eq!(pinned(&client, id).await, (json!("2"), json!("running")));
    }
    assert_eq!(pinned(&client, "done").await.0, "1");
    client.signal("waiting-7", "go", &json!(7)).await.expect(202);
    assert_eq!(client.over("waiting-7").await["output"], json!([7]));
    assert_eq!(client.over("short").await["state"], "completed");
    let again = migrate(&client, "2", rebuilt(7)).await.expect(200).body;
    assert_eq!((&again["moved"], &again["check"]["open"]), (&json!(0), &totals(40, 0, 0)));
    let shown = client.get(&format!("/v1/components/{GUESTS}/1")).await.expect(200).body;
    assert_eq!(shown["instances"], json!({ "completed": 1 }));
}

#[tokio::test]
async fn a_paused_instance_is_moved_to_what_matches_and_goes_on() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    start(&client, "broken", &sleep()).await;
    client.waiting("broken", "timer").await;
    client.deploy_bytes(GUESTS, "2", changed()).await.expect(201);
    client.post("/v1/instances/broken/migrate", &json!({ "version": "2" })).await.expect(202);
    client.status_when("broken", "is paused", |status| status["state"] == "paused").await;
    assert_eq!(check(&client, "3", rebuilt(8)).await["open"], totals(1, 0, 0));
    migrate(&client, "3", rebuilt(8)).await.expect(200);
    assert_eq!(pinned(&client, "broken").await, (json!("3"), json!("running")));
    assert_eq!(client.status("broken").await["problem"], Value::Null);
}

#[tokio::test]
async fn an_instance_that_does_not_match_any_more_when_it_is_to_be_moved_stays_and_is_named() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    // So many that the check takes a while; compiled before, so that it begins at once.
    start_many(&client, "waiting", 1_500, &wait()).await;
    client.deploy_bytes("compiled", "1", changed()).await.expect(201);
    for round in 0..20 {
        let version = format!("2.{round}");
        let migrating = {
            let (client, version) = (client.clone(), version.clone());
            tokio::spawn(async move { migrate(&client, &version, changed()).await })
        };
        eventually("the check is under way", async || {
            let asked = post(&client, &format!("/v1/components/{GUESTS}/9/check"), b"no".to_vec()).await;
            if asked.code() == "deploy-check.busy" || migrating.is_finished() { Ok(()) } else { Err(asked.text) }
        })
        .await;
        // It is newer than all that the check has listed, unless it came too early or too late.
        let late = format!("late-{round}");
        start(&client, &late, &sleep()).await;
        let answer = migrating.await.expect("an answer");
        if answer.status == 200 && answer.body["left"] == 1 {
            assert_eq!(answer.body["left_named"][0]["id"], json!(late), "{answer:?}");
            let reason = answer.body["left_named"][0]["reason"].as_str().unwrap_or_default();
            assert!(reason.contains("event 2"), "{reason}");
            assert_eq!(pinned(&client, &late).await, (json!("1"), json!("running")));
            assert_eq!(pinned(&client, "waiting-3").await, (json!(version), json!("running")));
            return;
        }
        // It was refused because the instance came early, or because the look whether it is under way was.
        assert!([200, 409, 503].contains(&answer.status), "{answer:?}");
        client.post(&format!("/v1/instances/{late}/terminate"), &json!({})).await.expect(202);
    }
    panic!("no instance ever came between the check and the moves");
}

#[tokio::test]
async fn the_command_line_checks_and_migrates_and_ends_with_3_where_something_diverges() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    start_many(&client, "sleeping", 3, &sleep()).await;
    client.waiting("sleeping-0", "timer").await;
    let write = |name: &str, bytes: Vec<u8>| {
        let path = host.directory().join(name);
        std::fs::write(&path, bytes).expect("the component can be written");
        path.display().to_string()
    };
    let (same, other) = (write("same.wasm", rebuilt(9)), write("other.wasm", changed()));
    let cli = async |file: &str, option: &str| {
        let done = host.cli(&["deploy", &format!("{GUESTS}@2"), file, option]).await;
        let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        (done.status.code(), text.into_owned())
    };
    let (code, text) = cli(&other, "--check").await;
    assert!(code == Some(3) && text.contains("3 diverge") && text.contains("sleeping-2"), "{code:?} {text}");
    let (code, text) = cli(&same, "--check").await;
    assert!(code == Some(0) && text.contains("3 compatible"), "{code:?} {text}");
    let (code, text) = cli(&other, "--migrate").await;
    assert!(code == Some(3) && text.contains("nothing was deployed"), "{code:?} {text}");
    let (code, text) = cli(&same, "--migrate").await;
    assert!(code == Some(0) && text.contains("3 instances go on with it"), "{code:?} {text}");
    assert_eq!(pinned(&client, "sleeping-1").await, (json!("2"), json!("running")));
}
