//! The HTTP client itself: one pool of connections for all activities, one request at a time through it.
//!
//! It follows no redirect: who sends the request decides, and each hop comes back here to be checked.

use super::body::{BodyBounds, ResponseBody};
use super::connector::{CheckedConnector, tls_config};
use super::error::{OutboundConfigError, OutboundError, Phase};
use super::mask::Masker;
use super::policy::{OutboundPolicy, Rules};
use super::secrets::{Place, Secrets, mentions_secret};
use super::target::Target;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// The body of a request: bytes of any origin.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// The `[outbound.limits]` table of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OutboundLimits {
    /// Bytes of a request's body.
    pub request_bytes: u64,
    /// Bytes of a response's body that the `http` activity takes.
    pub response_bytes: u64,
    /// Bytes of a response's body that a component may read with wasi:http.
    pub component_response_bytes: u64,
    /// Bytes of the headers of a request, and of a response. At least 8192.
    pub header_bytes: u32,
    /// Redirects that the `http` activity follows.
    pub redirects: u32,
    /// Milliseconds for resolution, TCP and TLS.
    pub connect_timeout_ms: u64,
    /// Milliseconds from the connection to the end of the response's headers.
    pub first_byte_timeout_ms: u64,
    /// Milliseconds of silence within a response's body.
    pub between_bytes_timeout_ms: u64,
    /// Milliseconds for one `http` activity in all.
    pub total_timeout_ms: u64,
}

impl Default for OutboundLimits {
    fn default() -> Self {
        OutboundLimits {
            request_bytes: 16 << 20,
            response_bytes: 1 << 20,
            component_response_bytes: 64 << 20,
            header_bytes: 64 << 10,
            redirects: 5,
            connect_timeout_ms: 10_000,
            first_byte_timeout_ms: 60_000,
            between_bytes_timeout_ms: 60_000,
            total_timeout_ms: 120_000,
        }
    }
}

impl OutboundLimits {
    fn check(&self) -> Result<(), OutboundConfigError> {
        if self.header_bytes < 8192 {
            let found = u64::from(self.header_bytes);
            return Err(OutboundConfigError::Limit { name: "header-bytes", found, reason: "it must be at least 8192" });
        }
        for (name, found) in [
            ("connect-timeout-ms", self.connect_timeout_ms),
            ("first-byte-timeout-ms", self.first_byte_timeout_ms),
            ("between-bytes-timeout-ms", self.between_bytes_timeout_ms),
            ("total-timeout-ms", self.total_timeout_ms),
        ] {
            if found == 0 {
                return Err(OutboundConfigError::Limit { name, found, reason: "it must be at least 1" });
            }
        }
        Ok(())
    }
}

/// The bounds of one request. A caller may shorten the configured ones, never lengthen them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendOptions {
    /// For resolution, TCP and TLS.
    pub connect: Option<Duration>,
    /// From the connection to the end of the response's headers.
    pub first_byte: Option<Duration>,
    /// Silence within the response's body.
    pub between_bytes: Option<Duration>,
}

/// The outbound client. Cheap to clone.
#[derive(Clone)]
pub struct OutboundClient {
    http: Client<CheckedConnector, RequestBody>,
    rules: Arc<Rules>,
    secrets: Arc<Secrets>,
    limits: Arc<OutboundLimits>,
}

impl std::fmt::Debug for OutboundClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundClient").field("rules", &self.rules).field("limits", &self.limits).finish()
    }
}

/// Idle connections kept per host and for how long.
const IDLE_PER_HOST: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(60);
const MAX_HEADERS: usize = 256;

impl OutboundClient {
    /// Sets the client up; reads the file with certificate authorities, connects to nothing.
    pub fn new(
        policy: &OutboundPolicy,
        secrets: Secrets,
        limits: OutboundLimits,
    ) -> Result<OutboundClient, OutboundConfigError> {
        limits.check()?;
        let rules = Arc::new(Rules::parse("outbound.allow", &policy.allow)?);
        let tls = tls_config(policy.ca_file.as_deref())?;
        let connect = Duration::from_millis(limits.connect_timeout_ms);
        let connector = CheckedConnector::new(Arc::clone(&rules), tls, connect);
        let header_bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
        let http = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(header_bytes)
            .http1_max_headers(MAX_HEADERS)
            .http2_max_header_list_size(limits.header_bytes)
            .http2_adaptive_window(true)
            .build(connector);
        Ok(OutboundClient { http, rules, secrets: Arc::new(secrets), limits: Arc::new(limits) })
    }

    /// Sends a request of a component: puts secrets into its URL and headers, checks it, and masks
    /// secrets in what comes back. A redirect is returned like any other response.
    ///
    /// The URI must be absolute. Headers that belong to the connection (`Host`, `Connection`,
    /// `Transfer-Encoding` and the like) are left out.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        options: SendOptions,
    ) -> Result<Response<ResponseBody>, OutboundError> {
        let sent = self.send_unmasked_errors(request, options).await;
        sent.map_err(|error| error.map_reason(|reason| self.masker().text(reason).into_owned()))
    }

    async fn send_unmasked_errors(
        &self,
        request: Request<RequestBody>,
        options: SendOptions,
    ) -> Result<Response<ResponseBody>, OutboundError> {
        let (target, _) = Target::of_uri(request.uri())?;
        let request = self.expand_request(request, &target)?;
        let response = self.exchange(request, options).await?;
        let bounds = BodyBounds {
            bytes: self.limits.component_response_bytes,
            setting: "component-response-bytes",
            between: Some(shorter(options.between_bytes, self.limits.between_bytes_timeout_ms)),
        };
        let (mut parts, body) = response.into_parts();
        self.masker().headers(&mut parts.headers);
        Ok(Response::from_parts(parts, ResponseBody::new(body, target.to_string(), bounds, self.masker().clone())))
    }

    /// The limits that hold.
    pub fn limits(&self) -> &OutboundLimits {
        &self.limits
    }

    /// What masks the configured secrets, for texts that come from elsewhere.
    pub fn masker(&self) -> &Masker {
        self.secrets.masker()
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn expand_request(
        &self,
        request: Request<RequestBody>,
        target: &Target,
    ) -> Result<Request<RequestBody>, OutboundError> {
        let (mut parts, body) = request.into_parts();
        let mut any = mentions_in_uri(&parts.uri);
        parts.uri = self.expand_uri(&parts.uri, target)?;
        for (name, value) in parts.headers.iter_mut() {
            let Ok(text) = value.to_str() else { continue };
            if mentions_secret(text) {
                *value = self.expand_header(name, text, target)?;
                any = true;
            }
        }
        // What is compressed cannot be masked.
        if any {
            parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Ok(Request::from_parts(parts, body))
    }

    /// Puts secrets into path and query. A template may stand there percent-encoded.
    pub(crate) fn expand_uri(&self, uri: &Uri, target: &Target) -> Result<Uri, OutboundError> {
        if !mentions_in_uri(uri) {
            return Ok(uri.clone());
        }
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let path = ENCODED_OPEN.iter().fold(path.to_owned(), |path, open| path.replace(open, "{{secret:"));
        let path = path.replace("%7D%7D", "}}");
        let path = self.secrets.expand(&path, Place::Url, target)?;
        let mut parts = uri.clone().into_parts();
        let invalid = || OutboundError::InvalidRequest {
            reason: "the URL is not valid with its secrets in place; check where they stand".to_owned(),
        };
        parts.path_and_query = Some(path.parse().map_err(|_| invalid())?);
        Uri::from_parts(parts).map_err(|_| invalid())
    }

    /// A header value with its secrets in place, marked so that it is neither shown nor indexed.
    pub(crate) fn expand_header(
        &self,
        name: &HeaderName,
        text: &str,
        target: &Target,
    ) -> Result<HeaderValue, OutboundError> {
        let expanded = self.secrets.expand(text, Place::Verbatim, target)?;
        let mut value = HeaderValue::from_str(&expanded).map_err(|_| OutboundError::InvalidRequest {
            reason: format!("the value of header `{name}` has characters that no header may have; use visible ASCII"),
        })?;
        value.set_sensitive(mentions_secret(text));
        Ok(value)
    }

    /// Checks and sends one request as it is.
    pub(crate) async fn exchange(
        &self,
        request: Request<RequestBody>,
        options: SendOptions,
    ) -> Result<Response<Incoming>, OutboundError> {
        let (target, uri) = Target::of_uri(request.uri())?;
        self.rules.check_target(&target)?;
        let mut request = self.prepare(request, uri, &target)?;
        let host = target.to_string();

        let mut captured = capture_connection(&mut request);
        let mut response = pin!(self.http.request(request));
        let connect = shorter(options.connect, self.limits.connect_timeout_ms);
        let late = |phase, after| OutboundError::Timeout { host: host.clone(), phase, after };
        tokio::select! {
            biased;
            early = &mut response => return early.map_err(|e| self.translate(&e, &host)),
            _ = captured.wait_for_connection_metadata() => {}
            () = tokio::time::sleep(connect) => return Err(late(Phase::Connect, connect)),
        }
        let first_byte = shorter(options.first_byte, self.limits.first_byte_timeout_ms);
        match tokio::time::timeout(first_byte, response).await {
            Ok(response) => response.map_err(|e| self.translate(&e, &host)),
            Err(_) => Err(late(Phase::FirstByte, first_byte)),
        }
    }

    /// The request in the form that is sent: checked URI, no connection headers, bounded body.
    fn prepare(
        &self,
        request: Request<RequestBody>,
        uri: Uri,
        target: &Target,
    ) -> Result<Request<RequestBody>, OutboundError> {
        let (parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            let reason = "the method CONNECT opens tunnels past the policy; use another method".to_owned();
            return Err(OutboundError::InvalidRequest { reason });
        }
        let mut headers = parts.headers;
        for name in CONNECTION_HEADERS {
            headers.remove(name);
        }
        let header_bytes = header_bytes(&headers).saturating_add(uri.to_string().len());
        if header_bytes > usize::try_from(self.limits.header_bytes).unwrap_or(usize::MAX) {
            return Err(self.headers_too_large(target.to_string(), "the request's headers and URL"));
        }
        let limit = usize::try_from(self.limits.request_bytes).unwrap_or(usize::MAX);
        let mut request = Request::new(Limited::new(body, limit).boxed_unsync());
        *request.method_mut() = parts.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        *request.version_mut() = Version::HTTP_11;
        Ok(request)
    }

    fn headers_too_large(&self, host: String, what: &'static str) -> OutboundError {
        OutboundError::TooLarge { host, what, limit: self.limits.header_bytes.into(), setting: "header-bytes" }
    }

    /// hyper's errors in our words. Those of the connector come through as they are.
    fn translate(&self, error: &hyper_util::client::legacy::Error, host: &str) -> OutboundError {
        if let Some(own) = find::<OutboundError>(error) {
            return own.clone();
        }
        let host = host.to_owned();
        if find::<LengthLimitError>(error).is_some() {
            let limit = self.limits.request_bytes;
            return OutboundError::TooLarge { host, what: "the request's body", limit, setting: "request-bytes" };
        }
        if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse_too_large) {
            return self.headers_too_large(host, "the response's headers");
        }
        OutboundError::Broken { host, reason: chain(error) }
    }
}

/// Headers that speak about the connection, which is hyper's to manage, or that would name another host
/// than the one that was checked.
pub(crate) const CONNECTION_HEADERS: [HeaderName; 10] = [
    header::HOST,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// `{{secret:` as URL parsers and form encoders write it.
const ENCODED_OPEN: [&str; 2] = ["%7B%7Bsecret:", "%7B%7Bsecret%3A"];

fn mentions_in_uri(uri: &Uri) -> bool {
    let path = uri.path_and_query().map_or("", |p| p.as_str());
    mentions_secret(path) || ENCODED_OPEN.iter().any(|open| path.contains(open))
}

fn header_bytes(headers: &HeaderMap) -> usize {
    // As on the wire: a colon, a space and a line break.
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// The shorter of what the caller wants and what is configured.
fn shorter(wanted: Option<Duration>, configured_ms: u64) -> Duration {
    let configured = Duration::from_millis(configured_ms);
    wanted.map_or(configured, |wanted| wanted.min(configured))
}

/// The first error of type `E` in the chain of causes.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
