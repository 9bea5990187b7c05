//! The public listener: callbacks, and nothing else.
//!
//! It is meant to be reached by anybody, so it tells as little as it can. Whoever has a callback's URL may
//! settle that one callback; a URL that is forged or unknown gets the same 404 as any other path, with no
//! difference in its text, and its body is dropped unread by us. Paths are never logged: they hold the secret.

use crate::body::{self, BodySize, BodyTime};
use crate::dto::{MessageTaken, Rejection, Taken};
use crate::problem::Problem;
use crate::server::{Bound, HttpLimits, Server};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use rehydrate_runtime::core::{Answer, Failure, FailureKind};
use rehydrate_runtime::{CallbackPost, ErrorKind, Runtime, RuntimeError};
use std::net::SocketAddr;
use std::time::Duration;

/// The most characters of a rejection's code.
const CODE_CHARS_MAX: usize = 256;

/// The running public server.
#[derive(Debug)]
pub struct PublicServer(Server);

impl PublicServer {
    /// Serves callbacks of that runtime.
    pub fn start(bound: Bound, runtime: Runtime, limits: HttpLimits) -> PublicServer {
        let time = BodyTime::of(&limits);
        PublicServer(Server::start(bound, limits, |_| routes(runtime, time)))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Stops accepting and waits for open requests, at most for `grace`; whether all ended.
    pub async fn drain(self, grace: Duration) -> bool {
        self.0.drain(grace).await
    }
}

#[derive(Clone)]
struct Public {
    runtime: Runtime,
    time: BodyTime,
}

/// All there is.
pub(crate) fn routes(runtime: Runtime, time: BodyTime) -> Router {
    let public = Public { runtime, time };
    Router::new()
        .route("/callbacks/{token}", post(complete))
        .route("/callbacks/{token}/reject", post(reject))
        .method_not_allowed_fallback(async || not_found())
        .fallback(async || not_found())
        .with_state(public)
}

/// One answer for everything that is not there.
fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here; check the URL")
}

async fn complete(State(public): State<Public>, token: Token, request: Request) -> Result<Response, Problem> {
    let limit = BodySize::payload(public.runtime.limits(), 0);
    let bytes = public.body(&token, request.into_body(), limit).await?;
    let value = body::json_text(&bytes)?;
    public.post(&token, CallbackPost::Complete(value), &bytes).await
}

async fn reject(State(public): State<Public>, token: Token, request: Request) -> Result<Response, Problem> {
    let limit = BodySize::payload(public.runtime.limits(), 0);
    let bytes = public.body(&token, request.into_body(), limit).await?;
    let failure = rejection(&bytes)?;
    public.post(&token, CallbackPost::Reject(failure), &bytes).await
}

/// The failure in a rejection's body.
fn rejection(bytes: &[u8]) -> Result<Failure, Problem> {
    body::json_text(bytes)?;
    let form: Rejection = body::parse(bytes)?;
    let chars = form.code.chars().count();
    if !(1..=CODE_CHARS_MAX).contains(&chars) {
        let detail = format!("`code` has {chars} characters; give 1 to {CODE_CHARS_MAX}");
        return Err(Problem::invalid("body.invalid", detail));
    }
    let failure = Failure::new(FailureKind::Application, &form.code, form.message);
    let details = form.details.map(|details| details.get().to_owned());
    Ok(Failure { details, retryable: form.retryable, ..failure })
}

/// The token in the path; whatever can't be one is not there.
struct Token(String);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Token {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(token)) => Ok(Token(token)),
            Err(_) => Err(not_found()),
        }
    }
}

impl Public {
    /// The body, if the token is one that this host made.
    async fn body(&self, token: &Token, body: Body, limit: BodySize) -> Result<bytes::Bytes, Problem> {
        if !self.runtime.callback_exists(&token.0) {
            body::drain(body).await;
            return Err(not_found());
        }
        body::read(body, limit, self.time).await
    }

    async fn post(&self, token: &Token, post: CallbackPost, bytes: &[u8]) -> Result<Response, Problem> {
        answered(self.runtime.callback(&token.0, post, bytes).await.map_err(shown)?)
    }
}

/// Strangers are told what they can act on: nothing of our insides.
fn shown(error: RuntimeError) -> Problem {
    match error.kind {
        ErrorKind::NotFound => not_found(),
        ErrorKind::Internal => {
            tracing::error!(code = error.code, message = %error.message, "a callback failed");
            let detail = "the callback could not be recorded; send it again";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        }
        ErrorKind::Unavailable => {
            tracing::warn!(code = error.code, message = %error.message, "a callback was turned away");
            let detail = "the host can't take it now; send it again later";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
        _ => Problem::from(error),
    }
}

fn answered(answer: Answer) -> Result<Response, Problem> {
    let taken = match answer {
        Answer::Accepted => Taken::Accepted,
        Answer::Duplicate => Taken::Duplicate,
        Answer::Conflict => {
            let detail = "this callback was settled before with something else; nothing was changed";
            return Err(Problem::new(StatusCode::CONFLICT, "callback.conflict", detail));
        }
        Answer::Gone | Answer::Ignored => {
            let detail =
                "nobody waits for this callback any more: it expired, was cancelled, or its instance has ended";
            return Err(Problem::new(StatusCode::GONE, "callback.gone", detail));
        }
        Answer::NotFound => return Err(not_found()),
    };
    Ok((StatusCode::ACCEPTED, Json(MessageTaken { status: taken })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_checked_strictly() {
        let full = br#"{"code":"card.declined","message":"no funds","retryable":true,"details":{"a":1e999}}"#;
        let failure = rejection(full).expect("a failure");
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("card.declined", "no funds"));
        assert!(failure.retryable);
        assert_eq!(failure.details.as_deref(), Some(r#"{"a":1e999}"#));
        assert!(!rejection(br#"{"code":"c","message":""}"#).expect("a failure").retryable);
        let long = format!(r#"{{"code":"{}","message":"m"}}"#, "c".repeat(257));
        let wrong = [
            "",
            "null",
            "[]",
            r#"{"code":"c"}"#,
            r#"{"message":"m"}"#,
            r#"{"code":"","message":"m"}"#,
            r#"{"code":1,"message":"m"}"#,
            r#"{"code":"c","message":"m","retry":true}"#,
            &long,
        ];
        for body in wrong {
            assert_eq!(rejection(body.as_bytes()).expect_err(body).status, 400, "{body}");
        }
    }

    #[test]
    fn every_answer_has_its_status() {
        let status = |answer| match answered(answer) {
            Ok(response) => response.status().as_u16(),
            Err(problem) => problem.status,
        };
        let answers = [
            (Answer::Accepted, 202),
            (Answer::Duplicate, 202),
            (Answer::Conflict, 409),
            (Answer::Gone, 410),
            (Answer::NotFound, 404),
        ];
        for (answer, expected) in answers {
            assert_eq!(status(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn an_unknown_token_and_an_unknown_path_read_the_same() {
        let unknown = RuntimeError::new(ErrorKind::NotFound, "callback.not-found", "no callback 7 of instance x");
        assert_eq!(shown(unknown), not_found());
    }

    #[test]
    fn strangers_learn_nothing_of_an_error_inside() {
        let inside = RuntimeError::new(ErrorKind::Internal, "store.failed", "the disk at some place is full");
        assert!(!shown(inside).detail.contains("disk"));
    }
}
