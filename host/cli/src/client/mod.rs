//! The API's client: requests with limits in time, answers as the host gave them, errors with the next step.

mod sse;

pub use sse::{Follow, Followed, wait_for_end};

use crate::args::ClientArgs;
use crate::config;
use anyhow::{Context as _, anyhow, bail};
use rehydrate_http::Problem;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(10);

/// How long an ordinary answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// How long the host may take to compile, or to replay a long history.
pub const LONG_ANSWER: Duration = Duration::from_secs(900);

/// A host's API.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

/// An error that the host answered with.
#[derive(Debug)]
pub struct Refusal {
    /// A stable code for programs.
    pub code: String,
    /// What is wrong and what to do next.
    pub detail: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]", self.detail, self.code)
    }
}

impl std::error::Error for Refusal {}

/// A good answer.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its JSON, as the host sent it.
    pub text: String,
}

impl Answer {
    /// The answer as a type.
    pub fn parse<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.text)
            .context("the host's answer is not understood; use the `rehydrate` of the host's version")
    }
}

impl Client {
    /// A client of the host that the arguments name.
    pub fn new(args: &ClientArgs) -> anyhow::Result<Client> {
        let token = config::token(std::env::var("REHYDRATE_TOKEN").ok(), args.token_file.as_deref())?;
        Client::of(&args.url, token)
    }

    /// A client of the host at `url`.
    pub fn of(url: &str, token: Option<String>) -> anyhow::Result<Client> {
        let next = "give one such as http://127.0.0.1:7070 by --url";
        let mut base = Url::parse(url).with_context(|| format!("`{url}` is no URL; {next}"))?;
        if !matches!(base.scheme(), "http" | "https") {
            bail!("`{url}` is no URL of a host; {next}");
        }
        // Without it the last part of the path would be replaced by what is joined to it.
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Client { http: http_client(&base)?, base, token })
    }

    /// A request; `path` begins with a slash.
    pub fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.base.join(path.trim_start_matches('/')).context("the path is no part of a URL")?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// GETs a path.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, path)?.query(query), ANSWER).await
    }

    /// POSTs JSON text to a path.
    pub async fn post(&self, path: &str, json: String) -> anyhow::Result<Answer> {
        self.send(with_json(self.request(Method::POST, path)?, json), ANSWER).await
    }

    /// Sends a request and reads its answer; an answer that is an error becomes one.
    pub async fn send(&self, request: RequestBuilder, limit: Duration) -> anyhow::Result<Answer> {
        let failed = |error| self.unreachable(error);
        let response = request.timeout(limit).send().await.map_err(failed)?;
        answer_of(response).await
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let at = self.base.as_str().trim_end_matches('/');
        unreachable(&error, &format!("the host at {at}"), "start one with `rehydrate serve`, or name another by --url")
    }
}

/// Puts JSON text in a request.
pub fn with_json(request: RequestBuilder, json: String) -> RequestBuilder {
    request.header("content-type", "application/json").body(json)
}

/// Posts to a callback's URL, as an external system would.
pub async fn post_callback(url: Url, json: String) -> anyhow::Result<Answer> {
    let next = "check that the public listener is reached by this URL";
    let request = with_json(http_client(&url)?.post(url), json);
    // Not the URL itself: it is a secret.
    let failed = |error: reqwest::Error| unreachable(&error.without_url(), "the callback's host", next);
    answer_of(request.timeout(ANSWER).send().await.map_err(failed)?).await
}

fn unreachable(error: &reqwest::Error, what: &str, next: &str) -> anyhow::Error {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        reason = error.to_string();
        source = error.source();
    }
    if error.is_timeout() {
        return anyhow!("{what} did not answer in time; try again, or look at its log");
    }
    anyhow!("{what} can't be reached: {reason}; {next}")
}

fn http_client(url: &Url) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("rehydrate/", env!("CARGO_PKG_VERSION")));
    // A proxy that is configured for the network knows nothing of this machine.
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let builder = if local { builder.no_proxy() } else { builder };
    builder.build().context("the HTTP client can't be set up; check that this machine has CA certificates")
}

async fn answer_of(response: reqwest::Response) -> anyhow::Result<Answer> {
    let status = response.status();
    let text = response.text().await.context("the host's answer broke off; try again")?;
    if status.is_success() {
        return Ok(Answer { status, text });
    }
    Err(error_of(status, &text))
}

/// The error that an answer stands for.
fn error_of(status: StatusCode, text: &str) -> anyhow::Error {
    match serde_json::from_str::<Problem>(text) {
        Ok(Problem { code, detail, .. }) => Refusal { code, detail }.into(),
        Err(_) => anyhow!("the answer was {status} and is not one of a Rehydrate host; check --url"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_code_and_another_answer_names_the_url() {
        let problem =
            r#"{"type":"urn:rehydrate:error:a.b","title":"Gone","status":410,"detail":"it ended","code":"a.b"}"#;
        assert_eq!(error_of(StatusCode::GONE, problem).to_string(), "it ended [a.b]");
        assert!(error_of(StatusCode::BAD_GATEWAY, "<html>").to_string().contains("--url"));
    }

    #[test]
    fn paths_are_joined_below_the_base() {
        let url = |base: &str| {
            let client = Client::of(base, None).expect("a client");
            let request = client.request(Method::GET, "/v1/instances/a%2Fb").expect("a request");
            request.build().expect("a request").url().to_string()
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        assert_eq!(url("http://127.0.0.1:7070"), "http://127.0.0.1:7070/v1/instances/a%2Fb");
        assert_eq!(url("http://h.example/rehydrate"), "http://h.example/rehydrate/v1/instances/a%2Fb");
        for wrong in ["h.example", "ftp://h.example", ""] {
            let error = Client::of(wrong, None).map(drop).expect_err(wrong);
            assert!(error.to_string().contains("--url"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_host_that_is_not_there_is_an_error_with_the_next_step() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let client = Client::of(&format!("http://{free}"), None).expect("a client");
        let error = client.get("/v1/health", &[]).await.map(drop).expect_err("nobody listens").to_string();
        assert!(error.contains("rehydrate serve") && error.contains(&free.to_string()), "{error}");
    }
}
