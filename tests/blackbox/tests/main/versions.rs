//! Who runs which version, and removing one.

use crate::start::fresh_id;
use futures::future::join_all;
use rehydrate_blackbox::client::answer;
use rehydrate_blackbox::programs::component;
use rehydrate_blackbox::{Answer, Client, Host, HostSettings};
use reqwest::Method;
use serde_json::{Value, json};

/// The guests of the tests, as other bytes that do the same: with a section that means nothing.
pub fn rebuilt(mark: u8) -> Vec<u8> {
    let bytes = std::fs::read(component("test_guests")).expect("the component can be read");
    // A custom section: its id, its size, the size of its name, the name, and one byte.
    [bytes, vec![0, 4, 2, b'n', b'o', mark]].concat()
}

fn wait() -> Value {
    json!({ "do": "signal", "name": "go", "count": 1 })
}

async fn start(client: &Client, name: &str, version: &str, id: &str, input: &Value) -> Answer {
    let request = json!({ "workflow": name, "version": version, "id": id, "input": input });
    client.post("/v1/instances", &request).await
}

async fn remove(client: &Client, name: &str, version: &str) -> Answer {
    answer(client.admin(Method::DELETE, &format!("/v1/components/{name}/{version}"))).await
}

/// The files of a component's compiled code.
fn compiled(host: &Host, digest: &str) -> usize {
    let files = std::fs::read_dir(host.data().join("compiled")).expect("the compiled components are there");
    files.flatten().filter(|file| file.file_name().to_string_lossy().starts_with(digest)).count()
}

#[tokio::test]
async fn a_version_tells_how_many_instances_are_pinned_to_it() {
    let host = Host::shared().await;
    let client = host.client();
    let name = fresh_id("counted");
    for version in ["1", "2"] {
        client.deploy_bytes(&name, version, rebuilt(1)).await.expect(201);
    }
    let shown = client.get(&format!("/v1/components/{name}/1")).await.expect(200).body;
    assert_eq!((&shown["name"], &shown["kind"], &shown["instances"]), (&json!(name), &json!("workflow"), &json!({})));
    for n in 0..3 {
        start(&client, &name, "1", &format!("{name}-open-{n}"), &wait()).await.expect(202);
        start(&client, &name, "2", &format!("{name}-other-{n}"), &wait()).await.expect(202);
    }
    start(&client, &name, "1", &format!("{name}-done"), &json!({ "do": "echo", "value": 1 })).await.expect(202);
    client.over(&format!("{name}-done")).await;
    let shown = client.get(&format!("/v1/components/{name}/1")).await.expect(200).body;
    assert_eq!(shown["instances"], json!({ "running": 3, "completed": 1 }));
    assert_eq!(shown["counted_all"], true);
    let list = client.get(&format!("/v1/instances?workflow={name}&version=1&state=running")).await.expect(200).body;
    let ids: Vec<_> = list["instances"].as_array().expect("a page").iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [2, 1, 0].map(|n| json!(format!("{name}-open-{n}"))));
    let done = host.cli(&["component", "show", &format!("{name}@1")]).await;
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.contains("3 running, 1 completed"), "{text}");
    let listed = host.cli(&["instance", "list", "--workflow", &name, "--version", "2", "--output", "json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["instances"].as_array().map(Vec::len), Some(3));
    client.get(&format!("/v1/components/{name}/3")).await.expect(404);
}

#[tokio::test]
async fn a_version_that_an_open_instance_runs_stays_and_goes_afterwards_with_its_code() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let digest = client.deploy_bytes("job", "1", rebuilt(2)).await.expect(201).body["digest"].clone();
    let digest = digest.as_str().expect("a digest").to_owned();
    start(&client, "job", "1", "open", &wait()).await.expect(202);
    start(&client, "job", "1", "done", &json!({ "do": "echo", "value": 1 })).await.expect(202);
    client.over("done").await;
    let done = client.recorded_status("done").await;
    let refused = remove(&client, "job", "1").await.expect(409);
    assert_eq!(refused.code(), "component.in-use");
    let detail = refused.body["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("1 open instances") && detail.contains("instance list --workflow job --version 1"),
        "{detail}"
    );
    client.signal("open", "go", &json!(1)).await.expect(202);
    client.over("open").await;
    assert_eq!(compiled(&host, &digest), 1);
    remove(&client, "job", "1").await.expect(204);
    let assert_removed = async |host: &Host| {
        assert_eq!(remove(&client, "job", "1").await.expect(404).code(), "component.not-found");
        for version in [Some("1"), None] {
            let request = json!({ "workflow": "job", "version": version, "input": wait() });
            assert_eq!(client.post("/v1/instances", &request).await.expect(404).code(), "workflow.not-found");
        }
        assert_eq!(client.recorded_status("done").await, done, "what has ended can still be looked at");
        let replay = client.post("/v1/instances/done/replay", &json!({})).await.expect(404);
        assert_eq!(replay.code(), "component.removed");
        assert_eq!(compiled(host, &digest), 0);
    };
    assert_removed(&host).await;
    host.kill();
    host.restart();
    assert_removed(&host).await;
    client.deploy_bytes("job", "1", rebuilt(2)).await.expect(201);
    let report = client.post("/v1/instances/done/replay", &json!({})).await.expect(200).body;
    assert_eq!(report["verdict"], "matches", "{report:#}");
    start(&client, "job", "1", "new", &json!({ "do": "echo", "value": 2 })).await.expect(202);
    assert_eq!(client.over("new").await["output"], 2);
    let removed = host.cli(&["component", "remove", "job@1"]).await;
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
}

#[tokio::test]
async fn bytes_that_another_deployment_has_stay() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    for name in ["first", "second"] {
        client.deploy_bytes(name, "1", rebuilt(3)).await.expect(201);
        start(&client, name, "1", name, &wait()).await.expect(202);
    }
    client.post("/v1/instances/first/terminate", &json!({})).await.expect(202);
    remove(&client, "first", "1").await.expect(204);
    client.signal("second", "go", &json!(1)).await.expect(202);
    assert_eq!(client.over("second").await["state"], "completed");
    start(&client, "second", "1", "third", &json!({ "do": "echo", "value": 3 })).await.expect(202);
    assert_eq!(client.over("third").await["output"], 3);
}

#[tokio::test]
async fn a_start_that_races_with_the_removal_of_its_version_holds_it_or_is_refused() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    // The same bytes under a name that stays, so that no round compiles them again.
    client.deploy_bytes("kept", "1", rebuilt(4)).await.expect(201);
    let (mut held, mut refused) = (0, 0);
    for round in 0..60 {
        let name = format!("raced-{round}");
        client.deploy_bytes(&name, "1", rebuilt(4)).await.expect(201);
        // Sometimes the removal comes first, sometimes some of the starts.
        let after_requests = async |count: usize| {
            for _ in 0..count {
                client.get("/v1/health").await.expect(200);
            }
        };
        let starter = async |n: usize| {
            after_requests(round % 3 * 4).await;
            start(&client, &name, "1", &format!("{name}-{n}"), &wait()).await.status
        };
        let removal = async {
            after_requests(round % 4).await;
            remove(&client, &name, "1").await.status
        };
        let (starts, removed) = tokio::join!(join_all((0..8).map(starter)), removal);
        assert!(starts.iter().all(|status| [202, 404].contains(status)), "{starts:?}");
        if starts.contains(&202) {
            held += 1;
            assert_eq!(removed, 409, "round {round}: an open instance is pinned to it: {starts:?}");
            client.get(&format!("/v1/components/{name}/1")).await.expect(200);
        } else {
            refused += 1;
            assert_eq!(removed, 204, "round {round}: {starts:?}");
        }
    }
    assert!(held > 0 && refused > 0, "the race went both ways: {held} {refused}");
}
