//! Outgoing HTTP for activity components (feature `http`), over `wasi:http/outgoing-handler` and so under the
//! host's outbound policy. Never for workflows: a workflow that imports wasi:http is refused at deploy; it
//! uses [`Context::http`](crate::Context::http).

use crate::failure::{Failure, OrFail};
use crate::http_call::{HttpRequest, HttpResponse};
use wstd::http::{Body, Client, Request};

/// Sends one request. Any status is an answer; that `request.success` names only some is not looked at here.
///
/// Errors: code `http.request` for a request that can not be built, `http.send` (retryable) for one that got
/// no answer, and `http.body` (retryable) for an answer that broke off.
pub async fn send(request: &HttpRequest) -> Result<HttpResponse, Failure> {
    let answer = Client::new().send(build(request)?).await.or_retry("http.send")?;
    let (head, mut body) = answer.into_parts();
    let body = body.contents().await.or_retry("http.body")?;
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let json = serde_json::from_slice(body).ok();
    let text = if json.is_some() { None } else { Some(String::from_utf8_lossy(body).into_owned()) };
    Ok(HttpResponse { status: head.status.as_u16(), headers: headers.collect(), json, text })
}

fn build(request: &HttpRequest) -> Result<Request<Body>, Failure> {
    let mut building = Request::builder().method(request.method.as_str()).uri(request.url.as_str());
    for (name, value) in &request.headers {
        building = building.header(name, value);
    }
    let body = match (&request.json, &request.text) {
        (Some(json), _) => {
            if !request.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
                building = building.header("content-type", "application/json");
            }
            Body::from(json.to_string())
        }
        (None, Some(text)) => Body::from(text.clone()),
        (None, None) => Body::empty(),
    };
    building.body(body).or_fail("http.request")
}
