//! Deploying components: what is taken, and what is refused with a reason.

use crate::start::fresh_id;
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::programs::component;
use rehydrate_blackbox::{Answer, Client, Host};
use serde_json::json;

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(component(name)).expect("the component can be read")
}

/// Deploys under a name of its own; it must be refused and leave nothing behind.
async fn refused(client: &Client, bytes: Vec<u8>) -> Answer {
    let name = fresh_id("refused");
    let answer = client.deploy_bytes(&name, "1", bytes).await;
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let list = client.get("/v1/components").await.expect(200);
    assert!(!list.text.contains(&name), "a refused component is not listed");
    answer
}

#[tokio::test]
async fn a_component_is_deployed_once_and_listed_with_its_kind() {
    let client = Host::shared().await.client();
    let name = fresh_id("deployed");
    let first = client.deploy_bytes(&name, "1.0.0", bytes("test_guests")).await.expect(201);
    assert_eq!((&first.body["kind"], &first.body["version"]), (&json!("workflow"), &json!("1.0.0")));
    assert_eq!(first.body["bytes"], bytes("test_guests").len());
    let again = client.deploy_bytes(&name, "1.0.0", bytes("test_guests")).await.expect(200);
    assert_eq!(again.body["digest"], first.body["digest"]);
    let list = client.get("/v1/components").await.expect(200).body;
    let all = list["components"].as_array().expect("a list");
    assert_eq!(all.iter().filter(|one| one["name"] == json!(name)).count(), 1);
    let activities = all.iter().find(|one| one["name"] == "activities").expect("the activities are deployed");
    assert_eq!(activities["kind"], "activity");
    assert!(activities["activities"].as_array().is_some_and(|names| names.contains(&json!("echo"))), "{activities:#}");
}

#[tokio::test]
async fn a_version_stands_for_the_same_bytes_for_ever() {
    let client = Host::shared().await.client();
    let answer = client.deploy_bytes(GUESTS, "1", bytes("test_guests_changed")).await.expect(409);
    assert_eq!(answer.code(), "deployment.exists");
}

#[tokio::test]
async fn a_workflow_that_needs_files_or_sockets_is_refused_by_the_name_of_the_import() {
    let client = Host::shared().await.client();
    let answer = refused(&client, bytes("test_refused")).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("wasi:sockets/") || detail.contains("wasi:filesystem/"), "{detail}");
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    let client = Host::shared().await.client();
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    let precompiled = [b"\x7fELF\x02\x01\x01".to_vec(), vec![0; 4096]].concat();
    let text = b"(component)".to_vec();
    let mut cut = bytes("test_guests");
    cut.truncate(cut.len() / 2);
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("rubbish", vec![7; 1000]),
        ("a core module", core_module),
        ("a component that exports nothing", empty_component),
        ("something precompiled", precompiled),
        ("text", text),
        ("half a component", cut),
    ] {
        let answer = refused(&client, bytes).await;
        assert!(answer.status == 422 || answer.status == 400, "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn a_name_or_version_of_another_form_is_refused() {
    let client = Host::shared().await.client();
    for (name, version) in [("a%20b", "1"), ("a", "%0a"), (&*"x".repeat(300), "1")] {
        let answer = client.deploy_bytes(name, version, bytes("test_guests")).await;
        assert_eq!(answer.status, 400, "{name}@{version}: {answer:?}");
    }
}
