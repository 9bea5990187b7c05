//! Both listeners' routes on a real runtime over the store in memory, as far as they go without a guest.

use crate::admin::{self, AdminOptions};
use crate::body::BodyTime;
use crate::dto::InstanceList;
use crate::problem::Problem;
use crate::public;
use crate::server::{Draining, HttpLimits};
use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use rehydrate_runtime::core::{Limits, Nanos};
use rehydrate_runtime::outbound::{OutboundClient, OutboundLimits, OutboundPolicy, Secrets};
use rehydrate_runtime::store::MemoryStore;
use rehydrate_runtime::{RetentionConfig, Runtime, RuntimeConfig};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tower::ServiceExt as _;

const COMPONENT_BYTES: usize = 1_000;
const PAYLOAD_BYTES: usize = 100;

async fn runtime(dir: &Path) -> Runtime {
    let secrets = Secrets::load(&BTreeMap::new()).expect("no secrets");
    let outbound = OutboundClient::new(&OutboundPolicy::default(), secrets, OutboundLimits::default());
    let config = RuntimeConfig {
        data_dir: dir.to_owned(),
        public_url: "http://127.0.0.1:7071".to_owned(),
        limits: Limits { payload_bytes: PAYLOAD_BYTES, ..Limits::default() },
        resident_instances: 1,
        resident_bytes: 1 << 20,
        activity_concurrency: 1,
        queue_concurrency: BTreeMap::new(),
        default_start_to_close: Nanos::from_secs(1),
        component_bytes: COMPONENT_BYTES,
        compile_timeout: Nanos::from_secs(10),
        free_bytes_min: 0,
        idempotency_retention: Nanos::from_secs(60),
        retention: RetentionConfig::default(),
        schedules_max: 10,
        outbound: outbound.expect("a client"),
    };
    let on_fatal = Arc::new(|reason: String| panic!("{reason}"));
    Runtime::open(config, Arc::new(MemoryStore::new()), on_fatal).await.expect("a runtime")
}

/// The admin and the public routes of one runtime.
struct Api {
    admin: Router,
    public: Router,
    _dir: tempfile::TempDir,
}

async fn api(token: Option<&str>) -> Api {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = runtime(dir.path()).await;
    let options = AdminOptions {
        token: token.map(str::to_owned),
        component_bytes: COMPONENT_BYTES,
        durable_functions: true,
        ..AdminOptions::default()
    };
    let time = BodyTime::of(&HttpLimits::default());
    let local = "127.0.0.1:7070".parse().expect("an address");
    let admin = admin::routes(local, runtime.clone(), &options, time, Draining::never());
    Api { admin, public: public::routes(runtime, time), _dir: dir }
}

async fn ask(router: &Router, method: &str, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost:7070");
    send(router, request.body(body.into()).expect("a request")).await
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.clone().oneshot(request).await.expect("routes never fail");
    let status = response.status();
    let problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "application/problem+json");
    assert_eq!(problem, status.is_client_error() || status == 500, "errors, and only they, are problem documents");
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(bytes.to_vec()).expect("text"))
}

fn code(text: &str) -> String {
    serde_json::from_str::<Problem>(text).expect("a problem").code
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_description_is_routed() {
    let api = api(None).await;
    let document: serde_json::Value = serde_json::from_str(crate::openapi_document()).expect("json");
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", "a").replace("{name}", "n").replace("{version}", "1");
        for method in operations.as_object().expect("operations").keys() {
            let (_, text) = ask(&api.admin, &method.to_uppercase(), &path, "{}").await;
            let code = serde_json::from_str::<Problem>(&text).map(|problem| problem.code).unwrap_or_default();
            assert!(!["path.not-found", "method.not-allowed"].contains(&code.as_str()), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_404_and_a_wrong_method_a_405() {
    let api = api(None).await;
    let (status, text) = ask(&api.admin, "GET", "/v2", "").await;
    assert_eq!((status.as_u16(), code(&text).as_str()), (404, "path.not-found"));
    let (status, text) = ask(&api.admin, "PATCH", "/v1/instances/a", "").await;
    assert_eq!((status.as_u16(), code(&text).as_str()), (405, "method.not-allowed"));
    for path in ["/v1/instances/a", "/v1/instances/a/history", "/v1/instances/a/events", "/v1/instances/a/log"] {
        let (status, text) = ask(&api.admin, "GET", path, "").await;
        assert_eq!((status.as_u16(), code(&text).as_str()), (404, "instance.not-found"), "{path}");
    }
    for verb in ["cancel", "terminate", "resume", "replay", "restart", "signals/go"] {
        let (status, text) = ask(&api.admin, "POST", &format!("/v1/instances/a/{verb}"), "{}").await;
        assert_eq!((status.as_u16(), code(&text).as_str()), (404, "instance.not-found"), "{verb}");
    }
    for method in ["GET", "DELETE"] {
        let (status, text) = ask(&api.admin, method, "/v1/components/a/1", "").await;
        assert_eq!((status.as_u16(), code(&text).as_str()), (404, "component.not-found"), "{method}");
    }
    let (status, text) = ask(&api.admin, "DELETE", "/v1/instances/a", "").await;
    assert_eq!((status.as_u16(), code(&text).as_str()), (404, "instance.not-found"));
    let (status, text) = ask(&api.admin, "POST", "/v1/instances", r#"{"workflow":"none"}"#).await;
    assert_eq!((status.as_u16(), code(&text).as_str()), (404, "workflow.not-found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_host_lists_nothing_and_is_ready() {
    let api = api(None).await;
    let (status, text) = ask(&api.admin, "GET", "/v1/instances?state=running&limit=5", "").await;
    assert_eq!(status, 200);
    let list: InstanceList = serde_json::from_str(&text).expect("a list");
    assert!(list.instances.is_empty() && list.next_cursor.is_none());
    assert_eq!(ask(&api.admin, "GET", "/v1/components", "").await.1, r#"{"components":[]}"#);
    assert_eq!(ask(&api.admin, "GET", "/v1/health", "").await.0, 200);
    assert_eq!(ask(&api.admin, "GET", "/v1/ready", "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_needs_a_condition_that_is_of_ended_instances() {
    let api = api(None).await;
    for (query, expected) in [
        ("", "purge.no-filter"),
        ("?state=running", "purge.open-state"),
        ("?state=asleep", "query.invalid"),
        ("?limit=1", "query.invalid"),
    ] {
        let (status, text) = ask(&api.admin, "DELETE", &format!("/v1/instances{query}"), "").await;
        assert_eq!((status.as_u16(), code(&text).as_str()), (400, expected), "{query}");
    }
    let (status, text) = ask(&api.admin, "DELETE", "/v1/instances?state=failed", "").await;
    assert_eq!((status.as_u16(), text.as_str()), (200, r#"{"purged":0}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_wrong_is_refused_before_the_runtime_sees_it() {
    let api = api(None).await;
    for body in ["", "{", "[]", r#"{"workflow":1}"#, r#"{"workflow":"w","more":1}"#] {
        let (status, text) = ask(&api.admin, "POST", "/v1/instances", body).await;
        assert_eq!((status.as_u16(), code(&text).as_str()), (400, "body.invalid"), "{body}");
    }
    for (body, expected) in [("", "body.empty"), ("{", "body.not-json")] {
        let (status, text) = ask(&api.admin, "POST", "/v1/instances/a/signals/go", body).await;
        assert_eq!((status.as_u16(), code(&text).as_str()), (400, expected));
    }
    let large = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES));
    let (status, text) = ask(&api.admin, "POST", "/v1/instances/a/signals/go", large).await;
    assert_eq!((status.as_u16(), code(&text).as_str()), (413, "body.too-large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_too_large_or_none_is_refused() {
    let api = api(None).await;
    let put = async |bytes: Vec<u8>| ask(&api.admin, "PUT", "/v1/components/job/1.0.0", bytes).await;
    assert_eq!(put(vec![0; COMPONENT_BYTES + 1]).await.0, 413);
    assert_eq!(put(b"not wasm".to_vec()).await.0, 422);
    assert_eq!(ask(&api.admin, "GET", "/v1/components", "").await.1, r#"{"components":[]}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_only_the_probes_are_open() {
    const TOKEN: &str = "0123456789abcdef";
    let api = api(Some(TOKEN)).await;
    for path in ["/v1/health", "/v1/ready"] {
        assert_eq!(ask(&api.admin, "GET", path, "").await.0, 200, "{path}");
    }
    for path in ["/v1/instances", "/v1/stats", "/openapi.json", "/v1/nothing"] {
        let (status, text) = ask(&api.admin, "GET", path, "").await;
        assert_eq!((status.as_u16(), code(&text).as_str()), (401, "token.refused"), "{path}");
        let request = Request::builder().method(Method::GET).uri(path).header(header::HOST, "localhost:7070");
        let request = request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        assert_ne!(send(&api.admin, request.body(Body::empty()).expect("a request")).await.0, 401, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_public_side_everything_that_is_not_a_callback_reads_the_same() {
    let api = api(None).await;
    let forged = format!("/callbacks/rhcb_{}", "A".repeat(87));
    let (status, nothing) = ask(&api.public, "GET", "/", "").await;
    assert_eq!((status.as_u16(), code(&nothing).as_str()), (404, "not-found"));
    for (method, path) in [
        ("POST", forged.as_str()),
        ("GET", forged.as_str()),
        ("POST", "/callbacks/x"),
        ("POST", "/callbacks/x/reject"),
        ("POST", "/callbacks/%ff"),
        ("POST", "/callbacks"),
        ("POST", "/callbacks/x/y"),
        ("GET", "/v1/health"),
        ("GET", "/openapi.json"),
    ] {
        for body in ["{}", "", "not json", &"x".repeat(PAYLOAD_BYTES * 3)] {
            let answer = ask(&api.public, method, path, body.to_owned()).await;
            assert_eq!(answer, (StatusCode::NOT_FOUND, nothing.clone()), "{method} {path}");
        }
    }
}
