//! The built-in activity `http`: one HTTP request, described in JSON.
//!
//! Input: `{"method": "POST", "url": "https://…", "headers": {"name": "value"}, "json": any | "text": "…",
//! "success": ["2xx", 404, "200-299"], "follow_redirects": true}`; only `url` is required. `{{secret:NAME}}`
//! in the URL's path or query, a header value or the body stands for a secret.
//!
//! Output: `{"status": 200, "headers": {"name": "value"}, "json": any | null, "text": "…" | null}`. A body
//! that says it is JSON, and is, comes as `json` (digit for digit), any other as `text`.
//!
//! A status that is no success is a failure of kind `application` with the code `http.status-500`, and the
//! host retries it if it is one of those that pass. This file never retries on its own.

use super::body::{BodyBounds, ResponseBody};
use super::client::{CONNECTION_HEADERS, OutboundClient, SendOptions};
use super::error::{OutboundError, Phase};
use super::mask::Masker;
use super::redirect::{Hop, is_redirect, next_hop};
use super::secrets::{Place, mentions_secret};
use super::target::{Target, parse_url};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rehydrate_core::{Failure, FailureKind, Json, Nanos};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

/// What is read, and what is kept, of the body of a response that is no success.
const FAILURE_READ_BYTES: usize = 64 << 10;
const FAILURE_DETAIL_BYTES: usize = 4 << 10;
const FAILURE_MESSAGE_BYTES: usize = 200;
/// The longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: Nanos = Nanos::from_secs(24 * 60 * 60);
const USER_AGENT: &str = concat!("rehydrate/", env!("CARGO_PKG_VERSION"));
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Runs the activity once. `idempotency_key` becomes the header of that name unless the input has its own.
///
/// Failures: `http.invalid-input` (kind rejected), `http.status-NNN`, `http.not-text`,
/// `http.too-many-redirects`, and the codes of [`OutboundError`].
pub async fn run(client: &OutboundClient, input: &str, idempotency_key: &str) -> Result<Json, Failure> {
    let call = Call::parse(input)?;
    let after = Duration::from_millis(client.limits().total_timeout_ms);
    match tokio::time::timeout(after, call.run(client, idempotency_key)).await {
        Ok(ended) => ended,
        Err(_) => {
            let host = call.target.to_string();
            Err(OutboundError::Timeout { host, phase: Phase::Total, after }.to_failure())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    method: Option<String>,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Kept as written: no number loses a digit.
    #[serde(default, deserialize_with = "present")]
    json: Option<Box<RawValue>>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    success: Option<Vec<StatusSpec>>,
    #[serde(default)]
    follow_redirects: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StatusSpec {
    One(u16),
    Text(String),
}

/// `"json": null` is a body, the text `null`; a missing field is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// The checked input; secrets are still names.
struct Call {
    method: Method,
    target: Target,
    uri: Uri,
    headers: Vec<(HeaderName, String)>,
    body: Option<(String, Place)>,
    success: Vec<RangeInclusive<u16>>,
    follow: bool,
}

impl Call {
    fn parse(input: &str) -> Result<Call, Failure> {
        let input: Input = serde_json::from_str(input).map_err(|e| invalid(e.to_string()))?;
        let url = parse_url(&input.url).map_err(|e| invalid(e.to_string()))?;
        let target = Target::of_url(&url).map_err(|e| invalid(e.to_string()))?;
        let bare = url.as_str().split('#').next().unwrap_or_default();
        let uri = Uri::try_from(bare).map_err(|e| invalid(format!("the URL is not valid: {e}")))?;
        let body = match (input.json, input.text) {
            (Some(_), Some(_)) => return Err(invalid("give `json` or `text`, not both")),
            (Some(json), None) => Some((json.get().to_owned(), Place::Json)),
            (None, text) => text.map(|text| (text, Place::Verbatim)),
        };
        Ok(Call {
            method: parse_method(input.method.as_deref().unwrap_or("GET"))?,
            target,
            uri,
            headers: parse_headers(input.headers)?,
            body,
            success: parse_success(input.success)?,
            follow: input.follow_redirects.unwrap_or(true),
        })
    }

    async fn run(&self, client: &OutboundClient, idempotency_key: &str) -> Result<Json, Failure> {
        let mut hop = self.first_hop(client, idempotency_key)?;
        for redirects in 0..=client.limits().redirects {
            let context = |error: OutboundError| self.failure(client, error, redirects);
            let sent = client.exchange(request_of(&hop).map_err(context)?, SendOptions::default()).await;
            let response = sent.map_err(context)?;
            let status = response.status();
            let location = response.headers().get(header::LOCATION);
            match location {
                Some(location) if self.follow && is_redirect(status) && !self.is_success(status) => {
                    hop = next_hop(&hop, status, location).map_err(context)?;
                }
                _ => return self.finish(client, &hop, response).await,
            }
        }
        let message = format!(
            "{} {} was redirected more than {} times; give the final URL or raise `outbound.limits.redirects`",
            self.method,
            self.target,
            client.limits().redirects
        );
        Err(Failure::new(FailureKind::Application, "http.too-many-redirects", message))
    }

    /// The first request, with its secrets in place.
    fn first_hop(&self, client: &OutboundClient, idempotency_key: &str) -> Result<Hop, Failure> {
        let context = |error: OutboundError| self.failure(client, error, 0);
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let key = HeaderValue::from_str(idempotency_key);
        headers.insert(IDEMPOTENCY_KEY, key.map_err(|_| invalid("the idempotency key is not visible ASCII"))?);
        if let Some((_, place)) = &self.body {
            let json = *place == Place::Json;
            let content_type = if json { "application/json" } else { "text/plain; charset=utf-8" };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, text) in &self.headers {
            headers.insert(name, client.expand_header(name, text, &self.target).map_err(context)?);
        }
        let uri = client.expand_uri(&self.uri, &self.target).map_err(context)?;
        let url = parse_url(&uri.to_string()).map_err(context)?;
        let body = match &self.body {
            Some((text, place)) => Some(client.secrets().expand(text, *place, &self.target).map_err(context)?),
            None => None,
        };
        let body_has_secret = self.body.as_ref().is_some_and(|(text, _)| mentions_secret(text));
        let body = body.map(|text| Bytes::from(text.into_owned()));
        Ok(Hop { method: self.method.clone(), url, headers, body, body_has_secret })
    }

    fn is_success(&self, status: StatusCode) -> bool {
        self.success.iter().any(|range| range.contains(&status.as_u16()))
    }

    async fn finish(&self, client: &OutboundClient, hop: &Hop, response: Response<Incoming>) -> Result<Json, Failure> {
        let (parts, body) = response.into_parts();
        let (status, masker) = (parts.status, client.masker());
        let host = Target::of_url(&hop.url).map_or_else(|_| self.target.to_string(), |target| target.to_string());
        let bounds = BodyBounds {
            bytes: client.limits().response_bytes,
            setting: "response-bytes",
            between: Some(Duration::from_millis(client.limits().between_bytes_timeout_ms)),
        };
        // Masked below, where it is known what is JSON.
        let body = ResponseBody::new(body, host.clone(), bounds, Masker::default());
        let answer = Answer { method: &hop.method, host: &host, status, headers: &parts.headers, masker };
        if !self.is_success(status) {
            let bytes = read_beginning(body).await;
            return Err(answer.into_failure(&bytes, SystemTime::now()));
        }
        let read = body.collect().await.map_err(|e| self.failure(client, e, 0))?;
        answer.into_output(read.to_bytes())
    }

    fn failure(&self, client: &OutboundClient, error: OutboundError, redirects: u32) -> Failure {
        let error = error.map_reason(|reason| client.masker().text(reason).into_owned());
        let mut failure = error.to_failure();
        if redirects > 0 {
            failure.message = format!("after a redirect from {}: {}", self.target, failure.message);
        }
        failure
    }
}

fn request_of(hop: &Hop) -> Result<Request<super::client::RequestBody>, OutboundError> {
    let body = Full::new(hop.body.clone().unwrap_or_default()).map_err(|e: Infallible| match e {});
    let mut request = Request::new(body.boxed_unsync());
    *request.method_mut() = hop.method.clone();
    *request.headers_mut() = hop.headers.clone();
    let invalid = |_| OutboundError::InvalidRequest { reason: "the URL is too long; shorten it".to_owned() };
    *request.uri_mut() = Uri::try_from(hop.url.as_str()).map_err(invalid)?;
    Ok(request)
}

/// A response whose body is at hand.
struct Answer<'a> {
    method: &'a Method,
    host: &'a str,
    status: StatusCode,
    headers: &'a HeaderMap,
    masker: &'a Masker,
}

#[derive(Serialize)]
struct Output<'a> {
    status: u16,
    headers: BTreeMap<&'a str, String>,
    json: Option<Box<RawValue>>,
    text: Option<String>,
}

#[derive(Serialize)]
struct FailureDetails<'a> {
    status: u16,
    headers: BTreeMap<&'a str, String>,
    body: String,
}

impl Answer<'_> {
    fn into_output(self, bytes: Bytes) -> Result<Json, Failure> {
        let text = String::from_utf8(bytes.into()).map_err(|_| self.not_text())?;
        let json = if is_json(self.headers) { self.read_json(&text) } else { None };
        let text = if json.is_some() { None } else { Some(self.masker.text(&text).into_owned()) };
        let output = Output { status: self.status.as_u16(), headers: self.header_map(usize::MAX), json, text };
        serde_json::to_string(&output).map_err(|e| {
            let message = format!("the response of {} cannot be written as JSON: {e}", self.host);
            Failure::new(FailureKind::Application, "http.not-text", message)
        })
    }

    /// The body as JSON, digit for digit unless it holds a secret; none if it is not JSON after all.
    fn read_json(&self, text: &str) -> Option<Box<RawValue>> {
        let mut value: serde_json::Value = serde_json::from_str(text).ok()?;
        let masked =
            !self.masker.is_empty() && (self.masker.json(&mut value) | matches!(self.masker.text(text), Cow::Owned(_)));
        let text = if masked { value.to_string() } else { text.trim().to_owned() };
        RawValue::from_string(text).ok()
    }

    fn into_failure(self, bytes: &[u8], now: SystemTime) -> Failure {
        let lossy = String::from_utf8_lossy(bytes);
        let body = self.masker.text(&lossy);
        let reason = self.status.canonical_reason().unwrap_or("a status without a name");
        let mut message = format!("{} {} answered {} {reason}", self.method, self.host, self.status.as_u16());
        let words = body.split_whitespace().collect::<Vec<_>>().join(" ");
        if !words.is_empty() {
            message.push_str(": ");
            message.push_str(&shorten(&words, FAILURE_MESSAGE_BYTES));
        }
        let details = FailureDetails {
            status: self.status.as_u16(),
            headers: self.header_map(FAILURE_DETAIL_BYTES),
            body: shorten(&body, FAILURE_DETAIL_BYTES).into_owned(),
        };
        let code = format!("http.status-{}", self.status.as_u16());
        let mut failure = Failure::new(FailureKind::Application, &code, message);
        failure.details = serde_json::to_string(&details).ok();
        failure.retryable = is_retryable(self.status);
        let retry_after = self.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        failure.retry_after = retry_after.and_then(|text| parse_retry_after(text, now));
        failure
    }

    fn not_text(&self) -> Failure {
        let kind = self.headers.get(header::CONTENT_TYPE).map_or(Cow::Borrowed("no type"), |value| {
            Cow::Owned(self.masker.text(&String::from_utf8_lossy(value.as_bytes())).into_owned())
        });
        let message = format!(
            "{} {} answered with a body that is not UTF-8 text ({kind}); let the service send text or JSON, or \
             fetch it with an activity component",
            self.method, self.host
        );
        Failure::new(FailureKind::Application, "http.not-text", message)
    }

    /// The headers in at most so many bytes; several of one name are joined by a comma.
    fn header_map(&self, bytes_max: usize) -> BTreeMap<&str, String> {
        let mut map: BTreeMap<&str, String> = BTreeMap::new();
        let mut left = bytes_max;
        for (name, value) in self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let value = self.masker.text(&value);
            let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else { continue };
            left = rest;
            let joined = map.entry(name.as_str()).or_default();
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(&value);
        }
        map
    }
}

/// The first bytes of a body. What breaks off does not matter: the status has said enough.
async fn read_beginning(mut body: ResponseBody) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() >= FAILURE_READ_BYTES {
            bytes.truncate(FAILURE_READ_BYTES);
            break;
        }
    }
    bytes
}

fn parse_method(text: &str) -> Result<Method, Failure> {
    match Method::from_bytes(text.to_ascii_uppercase().as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) | Err(_) => {
            Err(invalid(format!("`{text}` is not a method that can be sent; use GET, POST, PUT, PATCH or DELETE")))
        }
        Ok(method) => Ok(method),
    }
}

fn parse_headers(headers: BTreeMap<String, String>) -> Result<Vec<(HeaderName, String)>, Failure> {
    let mut parsed: Vec<(HeaderName, String)> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let known = HeaderName::from_bytes(name.as_bytes());
        let known = known.map_err(|_| invalid(format!("`{name}` is not a header name")))?;
        if CONNECTION_HEADERS.contains(&known) || known == header::CONTENT_LENGTH {
            return Err(invalid(format!("the header `{known}` is set by the host; leave it out")));
        }
        if parsed.iter().any(|(other, _)| *other == known) {
            return Err(invalid(format!("the header `{known}` is given twice")));
        }
        parsed.push((known, value));
    }
    Ok(parsed)
}

fn parse_success(specs: Option<Vec<StatusSpec>>) -> Result<Vec<RangeInclusive<u16>>, Failure> {
    let Some(specs) = specs else { return Ok(vec![200..=299]) };
    if specs.is_empty() {
        return Err(invalid("`success` is empty, so that nothing could succeed; leave it out for 2xx"));
    }
    specs.into_iter().map(parse_status_spec).collect()
}

fn parse_status_spec(spec: StatusSpec) -> Result<RangeInclusive<u16>, Failure> {
    let range = match &spec {
        StatusSpec::One(status) => Some(*status..=*status),
        StatusSpec::Text(text) => parse_status_text(text.trim()),
    };
    let shown = match &spec {
        StatusSpec::One(status) => status.to_string(),
        StatusSpec::Text(text) => text.clone(),
    };
    range
        .filter(|range| (100..=999).contains(range.start()) && *range.end() <= 999 && !range.is_empty())
        .ok_or_else(|| invalid(format!("`{shown}` in `success` is no status; write 404, \"2xx\" or \"200-299\"")))
}

fn parse_status_text(text: &str) -> Option<RangeInclusive<u16>> {
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some(class * 100..=class * 100 + 99);
    }
    match text.split_once('-') {
        Some((from, to)) => Some(from.trim().parse().ok()?..=to.trim().parse().ok()?),
        None => text.parse().ok().map(|status: u16| status..=status),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// Statuses that pass: asked too early or too often, and the server's own troubles.
fn is_retryable(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 425 | 429 => true,
        501 | 505 => false,
        other => other >= 500,
    }
}

/// Seconds or an HTTP date, at most a day from `now`. Other texts say nothing.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Nanos> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // So many digits that they overflow are a long time too.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Nanos::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let wait = date.duration_since(now).unwrap_or_default();
    Some(u64::try_from(wait.as_nanos()).map_or(RETRY_AFTER_MAX, Nanos).min(RETRY_AFTER_MAX))
}

fn shorten(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(bytes_max)]))
}

fn invalid(reason: impl AsRef<str>) -> Failure {
    let message = format!("the input of the activity `http` is not valid: {}", reason.as_ref());
    Failure::new(FailureKind::Rejected, "http.invalid-input", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(input: &str) -> String {
        match Call::parse(input) {
            Ok(_) => panic!("accepted: {input}"),
            Err(failure) => {
                assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Rejected, "http.invalid-input"));
                assert!(!failure.retryable);
                failure.message
            }
        }
    }

    #[test]
    fn inputs_that_are_not_understood_are_rejected_with_the_reason() {
        for (input, part) in [
            ("[]", "invalid"),
            ("{}", "url"),
            (r#"{"url":"https://a.example","verb":"GET"}"#, "verb"),
            (r#"{"url":"a.example"}"#, "URL"),
            (r#"{"url":"ftp://a.example/"}"#, "ftp"),
            (r#"{"url":"https://u:p@a.example/"}"#, "user name"),
            (r#"{"url":"https://a.example","json":null,"text":""}"#, "not both"),
            (r#"{"url":"https://a.example","method":"CONNECT"}"#, "CONNECT"),
            (r#"{"url":"https://a.example","method":"G T"}"#, "G T"),
            (r#"{"url":"https://a.example","headers":{"Host":"b"}}"#, "host"),
            (r#"{"url":"https://a.example","headers":{"A":"1","a":"2"}}"#, "twice"),
            (r#"{"url":"https://a.example","headers":{"a b":"1"}}"#, "a b"),
            (r#"{"url":"https://a.example","success":[]}"#, "empty"),
            (r#"{"url":"https://a.example","success":["ok"]}"#, "ok"),
            (r#"{"url":"https://a.example","success":[99]}"#, "99"),
            (r#"{"url":"https://a.example","success":["299-200"]}"#, "299-200"),
            (r#"{"url":"https://{{secret:KEY}}/"}"#, "URL"),
        ] {
            let message = rejected(input);
            assert!(message.contains(part), "{input}: {message}");
        }
    }

    #[test]
    fn the_success_list_takes_classes_numbers_and_ranges() {
        let call = Call::parse(r#"{"url":"https://a.example","success":["2xx",404,"410-412"," 503 "]}"#);
        let call = call.unwrap_or_else(|f| panic!("{f}"));
        let is_success = |status| call.is_success(StatusCode::from_u16(status).expect("a status"));
        assert!([200, 299, 404, 410, 412, 503].into_iter().all(is_success));
        assert!(![199, 300, 403, 413, 500].into_iter().any(is_success));
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let at = |seconds| httpdate::fmt_http_date(now + Duration::from_secs(seconds));
        assert_eq!(parse_retry_after("120", now), Some(Nanos::from_secs(120)));
        assert_eq!(parse_retry_after(&at(90), now), Some(Nanos::from_secs(90)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Nanos(0)));
        assert_eq!(parse_retry_after("99999999999999999999999", now), Some(RETRY_AFTER_MAX));
        assert_eq!(parse_retry_after(&at(1_000_000), now), Some(RETRY_AFTER_MAX));
        for text in ["", "-1", "1.5", "soon"] {
            assert_eq!(parse_retry_after(text, now), None, "{text}");
        }
    }

    #[test]
    fn statuses_that_pass_are_retryable() {
        let retryable = |status| is_retryable(StatusCode::from_u16(status).expect("a status"));
        assert!([408, 425, 429, 500, 502, 503, 504, 507, 599].into_iter().all(retryable));
        assert!(![302, 400, 401, 404, 409, 501, 505].into_iter().any(retryable));
    }

    #[test]
    fn shortening_keeps_characters_whole() {
        assert_eq!(shorten("aöb", 2), "a…");
        assert_eq!(shorten("aöb", 4), "aöb");
    }
}
