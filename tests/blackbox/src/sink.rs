//! A small HTTP server that records every request and answers as it is told: the outside world of a test.

use crate::wait::eventually;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; `null` if it is none.
    pub body: Value,
    /// The body's bytes.
    pub bytes: Vec<u8>,
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// How long to wait first.
    pub delay: std::time::Duration,
}

impl Reply {
    /// JSON with a status.
    pub fn json(status: u16, body: &Value) -> Reply {
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply { status, headers, body: body.to_string(), delay: std::time::Duration::ZERO }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Reply {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The same, after a delay.
    #[must_use]
    pub fn after(self, delay: std::time::Duration) -> Reply {
        Reply { delay, ..self }
    }
}

type Answering = dyn Fn(&Received) -> Reply + Send + Sync;

/// The server; it ends with the runtime of its test.
#[derive(Clone)]
pub struct Sink {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

#[derive(Clone)]
struct Shared {
    received: Arc<Mutex<Vec<Received>>>,
    answering: Arc<Answering>,
}

impl Sink {
    /// A server that answers everything with 200 and `{}`.
    pub async fn start() -> Sink {
        Sink::answering(|_| Reply::json(200, &serde_json::json!({}))).await
    }

    /// A server that answers with what `answering` gives for the request.
    pub async fn answering(answering: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { received: received.clone(), answering: Arc::new(answering) };
        let router = Router::new().fallback(receive).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Sink { url, received }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no recorder panics").clone()
    }

    /// What was received so far at one path.
    pub fn received_at(&self, path: &str) -> Vec<Received> {
        let all = self.received.lock().expect("no recorder panics");
        all.iter().filter(|one| one.path == path).cloned().collect()
    }

    /// The first request for which `wanted` holds, as soon as there is one.
    pub async fn received_when(&self, what: &str, wanted: impl Fn(&Received) -> bool) -> Received {
        eventually(&format!("the sink received {what}"), async || {
            let all = self.received();
            all.iter().find(|one| wanted(one)).cloned().ok_or_else(|| format!("{} requests: {all:?}", all.len()))
        })
        .await
    }
}

async fn receive(State(shared): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let received = Received {
        method,
        path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        bytes: body.to_vec(),
    };
    let reply = (shared.answering)(&received);
    shared.received.lock().expect("no recorder panics").push(received);
    tokio::time::sleep(reply.delay).await;
    let mut response = reply.body.into_response();
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().clear();
    for (name, value) in reply.headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
