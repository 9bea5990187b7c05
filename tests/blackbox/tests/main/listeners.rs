//! The two listeners: what each serves, to whom, and what it says about itself.

use rehydrate_blackbox::client::answer;
use rehydrate_blackbox::{Host, HostSettings};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn the_public_listener_serves_callbacks_and_nothing_else() {
    let client = Host::shared().await.client();
    let unknown = answer(client.public(Method::GET, "/anything")).await;
    assert_eq!(unknown.status, 404);
    for path in ["/v1/instances", "/v1/health", "/openapi.json", "/", "/callbacks", "/v1/components"] {
        for method in [Method::GET, Method::POST] {
            let answer = answer(client.public(method.clone(), path)).await;
            assert_eq!((answer.status, &answer.text), (404, &unknown.text), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_admin_listener_serves_no_callbacks() {
    let client = Host::shared().await.client();
    assert_eq!(answer(client.admin(Method::POST, "/callbacks/x").body("1")).await.status, 404);
}

#[tokio::test]
async fn the_admin_listener_checks_host_and_origin() {
    let client = Host::shared().await.client();
    for (header, value) in [("host", "evil.example"), ("origin", "http://evil.example"), ("origin", "null")] {
        let answer = answer(client.admin(Method::GET, "/v1/instances").header(header, value)).await;
        assert!((400..500).contains(&answer.status), "{header}: {value}: {answer:?}");
    }
    assert_eq!(client.get("/v1/instances?limit=1").await.status, 200);
}

#[tokio::test]
async fn health_and_readiness_can_be_asked() {
    let client = Host::shared().await.client();
    assert_eq!(client.get("/v1/health").await.expect(200).body["status"], "alive");
    assert_eq!(client.get("/v1/ready").await.expect(200).body["ready"], true);
}

#[tokio::test]
async fn the_api_describes_itself_with_every_path() {
    let client = Host::shared().await.client();
    let document = client.get("/openapi.json").await.expect(200).body;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document:#}");
    let paths = document["paths"].as_object().expect("paths");
    for path in [
        "/v1/instances",
        "/v1/instances/{id}",
        "/v1/instances/{id}/history",
        "/v1/instances/{id}/events",
        "/v1/instances/{id}/signals/{name}",
        "/v1/instances/{id}/cancel",
        "/v1/instances/{id}/terminate",
        "/v1/instances/{id}/replay",
        "/v1/components",
        "/v1/components/{name}/{version}",
        "/v1/health",
        "/v1/ready",
    ] {
        assert!(paths.contains_key(path), "{path} is not described");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document() {
    let client = Host::shared().await.client();
    for (method, path, status) in
        [(Method::GET, "/nothing", 404), (Method::PATCH, "/v1/instances", 405), (Method::POST, "/v1/instances", 400)]
    {
        let answer = answer(client.admin(method.clone(), path)).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        assert_eq!(answer.body["status"], status);
        assert!(!answer.code().is_empty());
    }
}

#[tokio::test]
async fn an_unknown_key_in_the_configuration_is_an_error_that_names_it() {
    let host = Host::start(HostSettings::default());
    let file = host.directory().join("wrong.toml");
    std::fs::write(&file, "[limits]\npayload-byte = 5\n").expect("the file can be written");
    let data = host.directory().join("other").display().to_string();
    let done = host.cli(&["serve", "--data-dir", &data, "--config", &file.display().to_string()]).await;
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("payload-byte") && said.contains("payload-bytes"), "{said}");
}

#[tokio::test]
async fn the_public_url_can_be_another_than_the_listener() {
    let arguments = vec!["--public-url".to_owned(), "https://callbacks.example/base".to_owned()];
    let host = Host::with_guests(HostSettings { arguments, ..HostSettings::default() }).await;
    let client = host.client();
    let sink = rehydrate_blackbox::Sink::start().await;
    let input = json!({ "do": "callback", "name": "c", "expires_ms": null, "register_url": sink.url() });
    let id = client.started(rehydrate_blackbox::host::GUESTS, &input).await;
    let received = sink.received_when("the URL", |_| true).await;
    let url = received.body["url"].as_str().expect("a URL").to_owned();
    let path = url.strip_prefix("https://callbacks.example/base").expect("the URL is under the public one").to_owned();
    assert_eq!(answer(client.public(Method::POST, &path).body("7")).await.status, 202);
    assert_eq!(client.over(&id).await["output"], 7);
}
