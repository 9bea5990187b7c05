//! The HTTP management API of Azure Durable Functions, so that its clients and tools work against this host.
//!
//! Routes, bodies, codes and headers are that API's, and so are its errors; nothing else of this room may look like
//! it. It translates to the same calls of the runtime as the host's own API, and is served beside that on the admin
//! listener. Its routes are not in `/openapi.json`: that describes our own API, and this one is described elsewhere.

mod entities;
mod history;
mod instances;
mod query;
mod reply;

use crate::admin::Admin;
use crate::body::{self, BodySize};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method, Uri, header};
use percent_encoding::percent_decode_str;
use query::Query;
use rehydrate_runtime::Runtime;
use rehydrate_runtime::store::ComponentKind;
use reply::Refusal;

/// What the paths of this API begin with.
pub const BASE: &str = "/runtime/webhooks/durabletask";

/// What the handlers share: what those of the host's own API do.
#[derive(Clone)]
pub struct Facade(pub(crate) Admin);

/// A request, taken apart.
struct Asked {
    query: Query,
    /// The URL of this API as the client sees it, without a slash at its end.
    base: String,
    headers: HeaderMap,
    body: Body,
}

/// The key that a client sends in the URL, in place of a token in a header.
pub fn code(uri: &Uri) -> Option<String> {
    Query::parse(uri.query()).get("code").map(str::to_owned)
}

/// Answers any request below [`BASE`].
pub async fn handle(State(facade): State<Facade>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().strip_prefix(BASE).unwrap_or_default().trim_start_matches('/');
    let segments: Option<Vec<String>> = path.split('/').map(decoded).collect();
    let Some(segments) = segments else {
        return Refusal::bad("the path is not UTF-8").into();
    };
    let method = parts.method.clone();
    let asked = Asked { query: Query::parse(parts.uri.query()), base: base(&parts), headers: parts.headers, body };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    facade.route(&method, &segments, asked).await.unwrap_or_else(Response::from)
}

fn decoded(segment: &str) -> Option<String> {
    percent_decode_str(segment).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The URL under which the client reached this API. A proxy in front says whether it speaks TLS.
fn base(parts: &Parts) -> String {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = header("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
    let host = header(header::HOST.as_str()).unwrap_or("localhost");
    format!("{scheme}://{host}{BASE}")
}

impl Facade {
    /// Finds the operation for a path, whose fixed parts may be in any case.
    async fn route(&self, method: &Method, segments: &[&str], asked: Asked) -> Result<Response, Refusal> {
        let lower: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
        let kind = lower.first().map_or("", String::as_str);
        let verb = lower.get(2).map_or("", String::as_str);
        match (method.as_str(), kind, segments.get(1..).unwrap_or_default()) {
            ("POST", "orchestrators", [name]) => self.start(name, None, asked).await,
            ("POST", "orchestrators", [name, id]) => self.start(name, Some(id), asked).await,
            ("GET", "instances", [] | [""]) => self.list(asked).await,
            ("DELETE", "instances", [] | [""]) => self.purge_where(asked).await,
            ("GET", "instances", [id]) => self.status(id, asked).await,
            ("DELETE", "instances", [id]) => self.purge(id).await,
            ("POST", "instances", [id, _, name]) if verb == "raiseevent" => self.raise_event(id, name, asked).await,
            ("POST", "instances", [id, _]) => self.change(id, verb, asked).await,
            ("GET", "entities", [] | [""]) => self.list_entities(None, asked).await,
            ("GET", "entities", [name] | [name, ""]) => self.list_entities(Some(name), asked).await,
            ("GET", "entities", [name, key]) => self.read_entity(name, key).await,
            ("POST", "entities", [name, key]) => self.signal_entity(name, key, asked).await,
            ("DELETE", "entities", [name, key]) => self.delete_entity(name, key).await,
            _ => Err(Refusal::nothing_here()),
        }
    }

    fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// A component's name as it is deployed: this API knows no case in names. One that is not deployed stays as it is.
    async fn deployed_name(&self, kind: ComponentKind, name: &str) -> Result<String, Refusal> {
        let deployed = self.runtime().deployments().await?;
        let mut names = deployed.iter().filter(|row| row.kind == kind).map(|row| &row.name);
        let exact = names.clone().find(|known| *known == name);
        let spelled = exact.or_else(|| names.find(|known| known.eq_ignore_ascii_case(name)));
        Ok(spelled.map_or(name, String::as_str).to_owned())
    }

    /// The body as JSON text; none is `null`.
    async fn json(&self, body: Body) -> Result<String, Refusal> {
        let bytes = self.bytes(body).await?;
        if bytes.is_empty() {
            return Ok("null".to_owned());
        }
        body::json_text(&bytes).map_err(Refusal::from)
    }

    async fn bytes(&self, body: Body) -> Result<bytes::Bytes, Refusal> {
        let limit = BodySize::payload(self.runtime().limits(), 0);
        body::read(body, limit, self.0.time).await.map_err(Refusal::from)
    }
}
