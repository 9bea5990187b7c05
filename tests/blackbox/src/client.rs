//! A client of the HTTP API. It checks nothing: tests look at the answer.

use crate::host::ENTITIES;
use crate::wait::{SOON, eventually, within};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as JSON; `null` if it is none.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The code of a problem document, or nothing.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// This answer if it has that status; panics with the whole answer if not.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Whether an instance is over.
pub fn is_over(state: &Value) -> bool {
    matches!(state.as_str(), Some("completed" | "failed" | "cancelled" | "terminated"))
}

/// A client of one host.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    admin: String,
    public: String,
}

impl Client {
    /// A client of the host with those base URLs.
    pub fn new(admin: &str, public: &str) -> Client {
        Client { http: http_client(), admin: admin.to_owned(), public: public.to_owned() }
    }

    /// A request to the admin listener.
    pub fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.admin))
    }

    /// A request to the public listener.
    pub fn public(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.public))
    }

    /// A POST of exact bytes, said to be JSON, to any URL.
    pub fn post_bytes(&self, url: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.http.post(url).header("content-type", "application/json").body(body)
    }

    /// GET from the admin listener.
    pub async fn get(&self, path: &str) -> Answer {
        answer(self.admin(Method::GET, path)).await
    }

    /// POST of JSON to the admin listener.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.admin(Method::POST, path).json(body)).await
    }

    /// Deploys the component in a file.
    pub async fn deploy(&self, name: &str, version: &str, file: &Path) -> Answer {
        let bytes = std::fs::read(file).expect("the component can be read");
        self.deploy_bytes(name, version, bytes).await
    }

    /// Deploys bytes.
    pub async fn deploy_bytes(&self, name: &str, version: &str, bytes: Vec<u8>) -> Answer {
        let request = self.admin(Method::PUT, &format!("/v1/components/{name}/{version}"));
        answer(request.header("content-type", "application/wasm").body(bytes)).await
    }

    /// Starts an instance under an id of the test's choice.
    pub async fn start(&self, workflow: &str, id: &str, input: &Value) -> Answer {
        self.post("/v1/instances", &json!({ "workflow": workflow, "id": id, "input": input })).await
    }

    /// Starts an instance, which must work, and gives its id.
    #[track_caller]
    pub fn started(&self, workflow: &str, input: &Value) -> impl Future<Output = String> {
        let request = json!({ "workflow": workflow, "input": input });
        async move {
            let answer = self.post("/v1/instances", &request).await.expect(202);
            answer.body["id"].as_str().expect("the answer has the id").to_owned()
        }
    }

    /// The status of an instance, which must be there.
    pub async fn status(&self, id: &str) -> Value {
        self.get(&format!("/v1/instances/{id}")).await.expect(200).body
    }

    /// The status without what the host may change at any moment on its own: whether the guest is in memory.
    pub async fn recorded_status(&self, id: &str) -> Value {
        let mut status = self.status(id).await;
        status.as_object_mut().expect("a status is an object").remove("resident");
        status
    }

    /// The status once there is such an instance.
    pub async fn there(&self, id: &str) -> Value {
        eventually(&format!("there is an instance {id}"), async || {
            match self.get(&format!("/v1/instances/{id}")).await {
                Answer { status: 200, body, .. } => Ok(body),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// The status once `done` holds of it.
    pub async fn status_when(&self, id: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        self.status_within(SOON, id, what, done).await
    }

    /// The status once `done` holds of it, at the latest after `limit`.
    pub async fn status_within(&self, limit: Duration, id: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        within(limit, &format!("instance {id} {what}"), async || {
            let status = self.status(id).await;
            if done(&status) { Ok(status) } else { Err(status) }
        })
        .await
    }

    /// The status once the instance is over.
    pub async fn over(&self, id: &str) -> Value {
        self.status_when(id, "is over", |status| is_over(&status["state"])).await
    }

    /// The status once the instance waits for an operation of that kind.
    pub async fn waiting(&self, id: &str, kind: &str) -> Value {
        self.status_when(id, &format!("waits for a {kind}"), |status| {
            status["waiting_for"].as_array().is_some_and(|all| all.iter().any(|wait| wait["kind"] == kind))
        })
        .await
    }

    /// The whole history of an instance's current run, page by page.
    pub async fn history(&self, id: &str) -> Vec<Value> {
        self.history_at(id, "").await
    }

    /// The whole history of one run of an instance.
    pub async fn history_of(&self, id: &str, run: u32) -> Vec<Value> {
        self.history_at(id, &format!("&run={run}")).await
    }

    async fn history_at(&self, id: &str, more: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let from = events.len() + 1;
            let page = self.get(&format!("/v1/instances/{id}/history?from={from}&limit=1000{more}")).await.expect(200);
            let page = page.body["events"].as_array().expect("a page has events").clone();
            if page.is_empty() {
                return events;
            }
            events.extend(page);
        }
    }

    /// POST to an instance: `cancel`, `terminate`, `suspend`, `resume` or `rewind`, without a reason.
    pub async fn tell(&self, id: &str, what: &str) -> Answer {
        self.post(&format!("/v1/instances/{id}/{what}"), &json!({})).await
    }

    /// Calls an entity of the tests.
    pub async fn call_entity(&self, key: &str, operation: &str, input: &Value) -> Answer {
        self.post(&format!("/v1/entities/{ENTITIES}/{key}/call/{operation}"), input).await
    }

    /// What an entity of the tests gave, which must be an output.
    pub async fn entity_gave(&self, key: &str, operation: &str, input: &Value) -> Value {
        let answer = self.call_entity(key, operation, input).await.expect(200);
        assert!(answer.body.get("failure").is_none(), "{answer:?}");
        answer.body["output"].clone()
    }

    /// Signals an entity of the tests.
    pub async fn signal_entity(&self, key: &str, operation: &str, input: &Value) -> Answer {
        self.post(&format!("/v1/entities/{ENTITIES}/{key}/signal/{operation}"), input).await
    }

    /// An entity of the tests as it stands.
    pub async fn entity(&self, key: &str) -> Answer {
        self.get(&format!("/v1/entities/{ENTITIES}/{key}")).await
    }

    /// An entity of the tests once `done` holds of it.
    pub async fn entity_when(&self, key: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("entity {key} {what}"), async || {
            let entity = self.entity(key).await.body;
            if done(&entity) { Ok(entity) } else { Err(entity) }
        })
        .await
    }

    /// Sends a signal.
    pub async fn signal(&self, id: &str, name: &str, payload: &Value) -> Answer {
        self.post(&format!("/v1/instances/{id}/signals/{name}"), payload).await
    }

    /// Posts exact bytes to a callback URL, or any other.
    pub async fn callback(&self, url: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.post_bytes(url, body)).await
    }
}

/// A client that goes straight to loopback and follows nothing.
pub fn http_client() -> reqwest::Client {
    // Another test may have installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No connection is kept: one to a host that was killed since would fail the next request.
    let builder =
        reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).redirect(reqwest::redirect::Policy::none());
    builder.timeout(Duration::from_secs(60)).build().expect("a client can be made")
}

/// Sends a request that must be answered, whatever the answer.
pub async fn answer(request: RequestBuilder) -> Answer {
    try_answer(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
}

/// Sends a request; an error if no whole answer came.
pub async fn try_answer(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    Ok(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
}
