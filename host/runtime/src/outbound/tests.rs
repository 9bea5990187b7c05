//! The outbound client against real servers on this machine. Nothing here sleeps: time limits are short,
//! and servers that shall be late never answer.

use super::*;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rehydrate_core::{Failure, FailureKind, Nanos};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

const SECRET: &str = "s3cr3t/välue \"1\"";
const HEADER_SECRET: &str = "header-s3cr3t";

/// A request as a server saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: String,
    version: http::Version,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }
}

/// A body in parts, which may fall silent instead of ending.
struct Parts {
    parts: VecDeque<Bytes>,
    then_silent: bool,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.parts.pop_front() {
            Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
            None if self.then_silent => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

type ServerBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;
type Handler = Arc<dyn Fn(&Seen) -> Option<Response<ServerBody>> + Send + Sync>;

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Option<Response<ServerBody>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Some(response.body(Full::new(body.into()).boxed_unsync()).expect("a response"))
}

fn reply_in_parts(parts: &[&str], then_silent: bool) -> Option<Response<ServerBody>> {
    let parts = parts.iter().map(|part| Bytes::copy_from_slice(part.as_bytes())).collect();
    Some(Response::new(Parts { parts, then_silent }.boxed_unsync()))
}

/// A server on this machine; ends with the test's runtime.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// `handler` gives the response, or none to stay silent.
    async fn start(handler: impl Fn(&Seen) -> Option<Response<ServerBody>> + Send + Sync + 'static) -> Server {
        Server::start_with_tls(handler, None).await
    }

    async fn start_with_tls(
        handler: impl Fn(&Seen) -> Option<Response<ServerBody>> + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (seen, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let server = Server { port, seen: Arc::clone(&seen), connections: Arc::clone(&connections) };
        let handler: Handler = Arc::new(handler);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (handler, seen, tls) = (Arc::clone(&handler), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, handler, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, handler, seen).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn entry(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Handler,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, all) = (Arc::clone(&handler), Arc::clone(&seen));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            let seen = Seen {
                method: parts.method,
                uri: parts.uri.to_string(),
                headers: parts.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
                version: parts.version,
            };
            all.lock().expect("not poisoned").push(seen.clone());
            match handler(&seen) {
                Some(response) => Ok::<_, Infallible>(response),
                None => std::future::pending().await,
            }
        }
    });
    // A client that goes away is part of the tests.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
}

fn policy(allow: &[&str]) -> OutboundPolicy {
    OutboundPolicy { allow: allow.iter().map(|entry| (*entry).to_owned()).collect(), ca_file: None }
}

fn client(allow: &[&str]) -> OutboundClient {
    client_with(allow, OutboundLimits::default())
}

fn client_with(allow: &[&str], limits: OutboundLimits) -> OutboundClient {
    OutboundClient::new(&policy(allow), Secrets::default(), limits).expect("a client")
}

/// A client for this machine with the secrets KEY and TOKEN, which are for `host` only.
fn client_with_secrets(host: &str) -> OutboundClient {
    let config = |variable: &str| SecretConfig {
        env: Some(variable.to_owned()),
        hosts: vec![host.to_owned()],
        ..SecretConfig::default()
    };
    let configs = BTreeMap::from([("KEY".to_owned(), config("key")), ("TOKEN".to_owned(), config("token"))]);
    let env = |variable: &str| Some(if variable == "key" { SECRET } else { HEADER_SECRET }.to_owned());
    let secrets = Secrets::load_with(&configs, env).expect("secrets");
    OutboundClient::new(&policy(&["localhost"]), secrets, OutboundLimits::default()).expect("a client")
}

async fn run(client: &OutboundClient, input: Value) -> Result<Value, Failure> {
    let output = run_http_activity(client, &input.to_string(), "i-1/1/2/3").await?;
    Ok(serde_json::from_str(&output).expect("the output is JSON"))
}

async fn fail(client: &OutboundClient, input: Value) -> Failure {
    match run(client, input.clone()).await {
        Ok(output) => panic!("{input} succeeded: {output}"),
        Err(failure) => failure,
    }
}

fn details(failure: &Failure) -> Value {
    serde_json::from_str(failure.details.as_deref().expect("details")).expect("JSON")
}

fn assert_no_secret(text: &str) {
    for part in ["s3cr3t", "välue", "v\\u00e4lue", "v%C3%A4lue"] {
        assert!(!text.contains(part), "`{part}` in {text}");
    }
}

async fn hello() -> Server {
    Server::start(|_| reply(200, &[("content-type", "application/json; charset=utf-8")], r#"{"hello":1}"#)).await
}

#[tokio::test]
async fn loopback_is_refused_before_any_connection_unless_allowed() {
    let server = hello().await;
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"] {
        let url = format!("http://{host}:{}/", server.port);
        let failure = fail(&client(&["*"]), json!({ "url": url })).await;
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Rejected, "outbound.refused"), "{host}");
        assert!(!failure.retryable && failure.message.contains("outbound.allow"), "{failure}");
    }
    assert_eq!(server.connections(), 0);
    for (entry, host) in [("localhost", "localhost"), ("localhost", "127.0.0.1"), ("127.0.0.0/8", "127.1")] {
        let output = run(&client(&[entry]), json!({ "url": format!("http://{host}:{}/", server.port) })).await;
        assert_eq!(output.expect(host)["json"], json!({"hello": 1}));
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_loopback_is_refused_after_resolution() {
    let server = hello().await;
    let request = |client: OutboundClient| async move {
        let uri = format!("http://localhost:{}/", server.port);
        let body = Full::new(Bytes::new()).map_err(|e| match e {}).boxed_unsync();
        client.send(Request::get(uri).body(body).expect("a request"), SendOptions::default()).await
    };
    let error = request(client(&["*"])).await.expect_err("refused");
    assert!(error.to_string().contains("a loopback address"), "{error}");
    assert_eq!(error.code(), "outbound.refused");
}

#[tokio::test]
async fn a_redirect_is_checked_like_any_request() {
    let inner = hello().await;
    let to = format!("http://localhost:{}/secret", inner.port);
    let outer = Server::start(move |_| reply(302, &[("location", &to)], "")).await;
    let failure = fail(&client(&[&outer.entry()]), json!({ "url": outer.url("/") })).await;
    assert_eq!(failure.code, "outbound.refused");
    assert!(failure.message.starts_with(&format!("after a redirect from {}", outer.entry())), "{failure}");
    assert_eq!(inner.connections(), 0);

    let output = run(&client(&["localhost"]), json!({ "url": outer.url("/") })).await.expect("followed");
    assert_eq!(output["json"], json!({"hello": 1}));
    let not_followed = json!({ "url": outer.url("/"), "follow_redirects": false, "success": ["3xx"] });
    assert_eq!(run(&client(&["localhost"]), not_followed).await.expect("a redirect")["status"], 302);
}

#[tokio::test]
async fn redirects_without_end_are_given_up() {
    let server = Server::start(|_| reply(307, &[("location", "/again")], "")).await;
    let failure = fail(&client(&["localhost"]), json!({ "url": server.url("/") })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("http.too-many-redirects", false));
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn a_redirect_to_another_origin_carries_no_credentials_and_no_secret() {
    let other = hello().await;
    let to = other.url("/other");
    let first = Server::start(move |_| reply(307, &[("location", &to)], "")).await;
    let client = client_with_secrets(&first.entry());
    let headers = json!({"authorization": "Bearer {{secret:TOKEN}}", "x-api-key": "plain"});
    let input = json!({ "url": first.url("/"), "method": "POST", "headers": headers, "text": "body" });
    run(&client, input).await.expect("followed");
    let seen = other.seen().remove(0);
    assert_eq!((seen.header("authorization"), seen.header("x-api-key")), (None, None));
    assert_eq!((seen.method, seen.body.as_str()), (Method::POST, "body"));

    let input = json!({ "url": first.url("/"), "method": "POST", "json": {"key": "{{secret:KEY}}"} });
    let failure = fail(&client, input).await;
    assert!(failure.message.contains("the body holds a secret") && !failure.retryable, "{failure}");
    assert_eq!(other.seen().len(), 1);
}

#[tokio::test]
async fn the_service_gets_the_secret_and_the_history_does_not() {
    let server = Server::start(|seen| {
        let echo = json!({ "body": seen.body, "uri": seen.uri, "plain": SECRET, SECRET: 1 });
        let authorization = seen.header("authorization").unwrap_or_default();
        reply(200, &[("content-type", "application/json"), ("x-echo", authorization)], echo.to_string())
    })
    .await;
    let client = client_with_secrets("localhost");
    let input = json!({
        "method": "POST",
        "url": server.url("/bot{{secret:KEY}}/send?key=%7B%7Bsecret%3AKEY%7D%7D&x={{secret:KEY}}"),
        "headers": {"authorization": "Bearer {{secret:TOKEN}}"},
        "json": {"key": "<{{secret:KEY}}>"},
    });
    let output = run(&client, input).await.expect("a success");
    let seen = server.seen().remove(0);
    assert_eq!(
        seen.uri,
        "/bots3cr3t%2Fv%C3%A4lue%20%221%22/send?key=s3cr3t%2Fv%C3%A4lue%20%221%22&x=s3cr3t%2Fv%C3%A4lue%20%221%22"
    );
    assert_eq!(serde_json::from_str::<Value>(&seen.body).expect("JSON"), json!({"key": format!("<{SECRET}>")}));
    assert_eq!(seen.header("authorization"), Some("Bearer header-s3cr3t"));
    assert_no_secret(&output.to_string());
    assert_eq!(output["headers"]["x-echo"], "Bearer [secret:TOKEN]");
    assert_eq!(output["json"]["plain"], "[secret:KEY]");
    assert_eq!(output["json"]["body"], r#"{"key":"<[secret:KEY]>"}"#);
}

#[tokio::test]
async fn a_secret_echoed_in_an_error_is_masked_there_too() {
    let server = Server::start(|seen| reply(500, &[("x-echo", HEADER_SECRET)], format!("bad key {}", seen.body))).await;
    let input = json!({ "method": "POST", "url": server.url("/"), "text": "{{secret:KEY}}" });
    let failure = fail(&client_with_secrets("localhost"), input).await;
    assert_eq!(server.seen()[0].body, SECRET);
    assert_no_secret(&format!("{failure:?}"));
    assert!(failure.message.ends_with("bad key [secret:KEY]"), "{failure}");
    assert_eq!(details(&failure)["headers"]["x-echo"], "[secret:TOKEN]");
}

#[tokio::test]
async fn a_secret_is_not_sent_to_another_host() {
    let server = hello().await;
    let client = client_with_secrets("api.example.com");
    for input in [
        json!({ "url": server.url("/?k={{secret:KEY}}") }),
        json!({ "url": server.url("/"), "headers": {"authorization": "{{secret:TOKEN}}"} }),
        json!({ "url": server.url("/"), "method": "POST", "json": ["{{secret:KEY}}"] }),
        json!({ "url": server.url("/"), "method": "POST", "text": "{{secret:NONE}}" }),
    ] {
        let failure = fail(&client, input).await;
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Rejected, "outbound.secret"));
        assert!(!failure.retryable);
        assert_no_secret(&format!("{failure:?}"));
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_component_gets_secrets_put_in_and_its_stream_masked() {
    let server = Server::start(|seen| {
        let parts = ["a ", "s3cr3t/vä", "lue \"1\" b header-", "s3cr3t", " head"];
        let mut response = reply_in_parts(&parts, false)?;
        response.headers_mut().insert("x-echo", seen.headers.get("authorization")?.clone());
        Some(response)
    })
    .await;
    let client = client_with_secrets("localhost");
    let body = Full::new(Bytes::from_static(b"{{secret:KEY}}")).map_err(|e| match e {}).boxed_unsync();
    let request = Request::post(server.url("/?k={{secret:TOKEN}}"))
        .header("authorization", "Bearer {{secret:TOKEN}}")
        .header("accept-encoding", "gzip")
        .header("host", "other.example")
        .body(body)
        .expect("a request");
    let response = client.send(request, SendOptions::default()).await.expect("a response");
    let masked = "*".repeat(HEADER_SECRET.len());
    assert_eq!(response.headers()["x-echo"], format!("Bearer {masked}").as_str());
    let text = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(text, format!("a {} b {masked} head", "*".repeat(SECRET.len())));
    let seen = server.seen().remove(0);
    assert_eq!(seen.header("authorization"), Some("Bearer header-s3cr3t"));
    assert_eq!((seen.uri.as_str(), seen.body.as_str()), ("/?k=header-s3cr3t", "{{secret:KEY}}"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.header("host"), Some(server.entry().as_str()));
}

#[tokio::test]
async fn a_response_that_is_too_large_fails_with_the_limit_named() {
    let big = "x".repeat(5000);
    let whole = big.clone();
    let server = Server::start(move |seen| match seen.uri.as_str() {
        "/whole" => reply(200, &[], whole.clone()),
        "/parts" => reply_in_parts(&[&big[..600], &big[..600]], true),
        _ => reply(200, &[("x-big", &"y".repeat(20_000))], ""),
    })
    .await;
    let limits = OutboundLimits { response_bytes: 1000, header_bytes: 8192, ..OutboundLimits::default() };
    let client = client_with(&["localhost"], limits);
    for (path, name) in [("/whole", "response-bytes"), ("/parts", "response-bytes"), ("/headers", "header-bytes")] {
        let failure = fail(&client, json!({ "url": server.url(path) })).await;
        assert_eq!((failure.code.as_str(), failure.retryable), ("outbound.too-large", false), "{failure}");
        assert!(failure.message.contains(&format!("outbound.limits.{name}")), "{failure}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_not_sent() {
    let server = hello().await;
    let limits = OutboundLimits { request_bytes: 1000, header_bytes: 8192, ..OutboundLimits::default() };
    let client = client_with(&["localhost"], limits);
    let body = json!({ "method": "POST", "url": server.url("/"), "text": "x".repeat(1001) });
    let headers = json!({ "url": server.url("/"), "headers": {"x-big": "y".repeat(9000)} });
    for (input, name) in [(body, "request-bytes"), (headers, "header-bytes")] {
        let failure = fail(&client, input).await;
        assert_eq!(failure.code, "outbound.too-large", "{failure}");
        assert!(failure.message.contains(&format!("outbound.limits.{name}")), "{failure}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn every_wait_has_its_time_limit() {
    let server = Server::start(|seen| if seen.uri == "/silent" { None } else { reply_in_parts(&["part"], true) }).await;
    // The backlog takes the connection, and nobody ever answers the TLS hello.
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let deaf = format!("https://127.0.0.1:{}/", deaf.local_addr().expect("an address").port());
    let short = |change: fn(&mut OutboundLimits)| {
        let mut limits = OutboundLimits::default();
        change(&mut limits);
        client_with(&["localhost"], limits)
    };
    for (client, url, part) in [
        (short(|l| l.first_byte_timeout_ms = 50), server.url("/silent"), "first-byte-timeout-ms"),
        (short(|l| l.between_bytes_timeout_ms = 50), server.url("/parts"), "between-bytes-timeout-ms"),
        (short(|l| l.total_timeout_ms = 50), server.url("/parts"), "total-timeout-ms"),
        (short(|l| l.total_timeout_ms = 50), server.url("/silent"), "total-timeout-ms"),
        (short(|l| l.connect_timeout_ms = 50), deaf, "connect-timeout-ms"),
    ] {
        let failure = fail(&client, json!({ "url": url })).await;
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::TimedOut, "outbound.timeout"), "{failure}");
        assert!(failure.retryable && failure.message.contains(part), "{failure}");
    }
}

#[tokio::test]
async fn a_caller_may_shorten_a_time_limit() {
    let server = Server::start(|_| None).await;
    let body = Full::new(Bytes::new()).map_err(|e| match e {}).boxed_unsync();
    let options = SendOptions { first_byte: Some(std::time::Duration::from_millis(20)), ..SendOptions::default() };
    let request = Request::get(server.url("/")).body(body).expect("a request");
    let error = client(&["localhost"]).send(request, options).await.expect_err("late");
    assert!(matches!(error, OutboundError::Timeout { phase: Phase::FirstByte, .. }), "{error}");
}

#[tokio::test]
async fn a_service_that_is_down_or_breaks_off_is_worth_another_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let failure = fail(&client(&["localhost"]), json!({ "url": format!("http://127.0.0.1:{port}/") })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("outbound.connect", true), "{failure}");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream)
        }
    });
    let failure = fail(&client(&["localhost"]), json!({ "url": format!("http://127.0.0.1:{port}/") })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("outbound.broken", true), "{failure}");

    // Too long for DNS, so that the answer does not depend on a network.
    let unknown = format!("http://{}.invalid/", "a".repeat(64));
    let failure = fail(&client(&["*"]), json!({ "url": unknown })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("outbound.dns", true), "{failure}");
}

#[tokio::test]
async fn a_request_says_who_asks_and_for_which_attempt() {
    let server = hello().await;
    let client = client(&["localhost"]);
    run(&client, json!({ "url": server.url("/a?b=c#d") })).await.expect("a success");
    let own = json!({"Idempotency-Key": "mine", "user-agent": "me", "content-type": "application/x-own"});
    let input = json!({ "method": "put", "url": server.url("/"), "headers": own, "json": null });
    run(&client, input).await.expect("a success");
    let seen = server.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].uri.as_str()), ("GET", "/a?b=c"));
    assert_eq!(seen[0].header("idempotency-key"), Some("i-1/1/2/3"));
    assert_eq!(seen[0].header("user-agent"), Some(concat!("rehydrate/", env!("CARGO_PKG_VERSION"))));
    assert_eq!((seen[1].method.as_str(), seen[1].body.as_str()), ("PUT", "null"));
    assert_eq!(seen[1].header("idempotency-key"), Some("mine"));
    assert_eq!(seen[1].header("content-type"), Some("application/x-own"));
    assert_eq!(server.connections(), 1, "the connection is kept and used again");
}

#[tokio::test]
async fn numbers_keep_their_digits_both_ways() {
    let exact = r#"{"big":123456789012345678901234567890,"fine":0.10,"u":18446744073709551615}"#;
    let server =
        Server::start(|seen| reply(200, &[("content-type", "application/problem+json")], seen.body.clone())).await;
    let input = format!(r#"{{"method":"POST","url":"{}","json":{exact}}}"#, server.url("/"));
    let output = run_http_activity(&client(&["localhost"]), &input, "key").await.expect("a success");
    assert_eq!(server.seen()[0].body, exact);
    assert_eq!(server.seen()[0].header("content-type"), Some("application/json"));
    assert!(output.contains(&format!(r#""json":{exact}"#)), "{output}");
}

#[tokio::test]
async fn a_body_is_json_text_or_refused() {
    let server = Server::start(|seen| match seen.uri.as_str() {
        "/broken" => reply(200, &[("content-type", "application/json")], "{oops"),
        "/text" => reply(200, &[("content-type", "text/plain")], "{}"),
        "/bytes" => reply(200, &[("content-type", "image/png")], vec![0x89, 0x50, 0xff]),
        _ => reply(204, &[], ""),
    })
    .await;
    let client = client(&["localhost"]);
    for (path, text) in [("/broken", "{oops"), ("/text", "{}"), ("/none", "")] {
        let output = run(&client, json!({ "url": server.url(path) })).await.expect(path);
        assert_eq!((&output["json"], &output["text"]), (&Value::Null, &json!(text)), "{path}");
    }
    let failure = fail(&client, json!({ "url": server.url("/bytes") })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("http.not-text", false));
    assert!(failure.message.contains("image/png"), "{failure}");
}

#[tokio::test]
async fn a_status_that_is_no_success_is_a_structured_failure() {
    let server = Server::start(|seen| match seen.uri.as_str() {
        "/500" => reply(500, &[("x-request-id", "r1")], format!("boom\n  again {}", "x".repeat(100_000))),
        "/429" => reply(429, &[("retry-after", "7")], ""),
        "/503" => reply(503, &[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], ""),
        _ => reply(404, &[], vec![0xff, 0xfe]),
    })
    .await;
    let client = client(&["localhost"]);
    let failure = fail(&client, json!({ "url": server.url("/500") })).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Application, "http.status-500"));
    let start = format!("GET {} answered 500 Internal Server Error: boom again xxx", server.entry());
    assert!(failure.message.starts_with(&start) && failure.message.len() < 400, "{failure}");
    assert!(failure.retryable && failure.retry_after.is_none());
    let details = details(&failure);
    assert_eq!((&details["status"], &details["headers"]["x-request-id"]), (&json!(500), &json!("r1")));
    assert!(details["body"].as_str().is_some_and(|body| body.starts_with("boom\n") && body.len() < 5000));

    let failure = fail(&client, json!({ "url": server.url("/429") })).await;
    assert_eq!((failure.retryable, failure.retry_after), (true, Some(Nanos::from_secs(7))));
    let failure = fail(&client, json!({ "url": server.url("/503") })).await;
    assert_eq!((failure.retryable, failure.retry_after), (true, Some(Nanos::from_secs(86_400))));
    let failure = fail(&client, json!({ "url": server.url("/404") })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("http.status-404", false));
    let output = run(&client, json!({ "url": server.url("/429"), "success": ["2xx", 429] })).await;
    assert_eq!(output.expect("listed as success")["status"], StatusCode::TOO_MANY_REQUESTS.as_u16());
}

/// A server certificate for localhost, and the file that makes a client trust it.
fn certificate() -> (tokio_rustls::TlsAcceptor, tempfile::NamedTempFile) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), certified.cert.pem()).expect("written");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()).into();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(config).into(), file)
}

#[tokio::test]
async fn https_needs_a_certificate_that_is_trusted_for_the_name() {
    let (acceptor, ca_file) = certificate();
    let server = Server::start_with_tls(|_| reply(200, &[], "over TLS"), Some(acceptor)).await;
    let url = format!("https://localhost:{}/", server.port);

    let failure = fail(&client(&["localhost"]), json!({ "url": url })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("outbound.tls", false), "{failure}");

    let trusting = OutboundPolicy { ca_file: Some(ca_file.path().to_owned()), ..policy(&["localhost"]) };
    let trusting = OutboundClient::new(&trusting, Secrets::default(), OutboundLimits::default()).expect("a client");
    let output = run(&trusting, json!({ "url": url })).await.expect("a success");
    assert_eq!(output["text"], "over TLS");
    assert_eq!(server.seen()[0].version, http::Version::HTTP_2);

    let other_name = format!("https://127.0.0.1:{}/", server.port);
    let failure = fail(&trusting, json!({ "url": other_name })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("outbound.tls", false), "{failure}");
}

#[tokio::test]
async fn a_service_that_does_not_speak_tls_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let failure = fail(&client(&["localhost"]), json!({ "url": format!("https://127.0.0.1:{port}/") })).await;
    assert_eq!((failure.code.as_str(), failure.retryable), ("outbound.tls", true), "{failure}");
}

#[tokio::test]
async fn a_tunnel_is_never_opened() {
    let body = Full::new(Bytes::new()).map_err(|e| match e {}).boxed_unsync();
    let request = Request::builder().method(Method::CONNECT).uri("http://127.0.0.1:1/").header(header::HOST, "x");
    let error = client(&["localhost"]).send(request.body(body).expect("a request"), SendOptions::default()).await;
    assert_eq!(error.expect_err("refused").code(), "outbound.invalid-request");
}

#[test]
fn limits_and_files_that_cannot_work_are_refused_at_start() {
    let start = |limits: OutboundLimits, ca_file: Option<&str>| {
        let policy = OutboundPolicy { ca_file: ca_file.map(Into::into), ..OutboundPolicy::default() };
        OutboundClient::new(&policy, Secrets::default(), limits).map(|_| ()).map_err(|e| e.to_string())
    };
    let limits = OutboundLimits::default;
    let tiny = start(OutboundLimits { header_bytes: 100, ..limits() }, None).expect_err("too small");
    assert!(tiny.contains("outbound.limits.header-bytes"), "{tiny}");
    assert!(start(OutboundLimits { total_timeout_ms: 0, ..limits() }, None).is_err());
    assert!(start(limits(), Some("/nonexistent.pem")).expect_err("no file").contains("/nonexistent.pem"));
    assert!(start(limits(), Some("/dev/null")).expect_err("empty").contains("no certificate"));
    assert_eq!(start(limits(), None), Ok(()));
}

#[test]
fn the_client_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<OutboundClient>();
}
