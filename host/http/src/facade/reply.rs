//! Answers of the facade: the document of URLs to manage an instance, and errors.

use super::Asked;
use crate::paths::segment;
use crate::problem::Problem;
use crate::show;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rehydrate_runtime::core::Timestamp;
use rehydrate_runtime::{ErrorKind, RuntimeError};
use serde::Serialize;
use serde_json::value::RawValue;

/// An error: its status, and what the body says; no message is no body.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: Option<String>,
    exception: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception_type: Option<String>,
}

impl Refusal {
    /// With that status and message.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, message: Some(show::text(&message.into())), exception: None }
    }

    /// 400; the clients show the exception's message.
    pub fn bad(message: impl Into<String>) -> Refusal {
        let message = show::text(&message.into());
        let exception = Some(message.clone());
        Refusal { status: StatusCode::BAD_REQUEST, message: Some(message), exception }
    }

    /// A status without a body.
    pub fn empty(status: StatusCode) -> Refusal {
        Refusal { status, message: None, exception: None }
    }

    /// No such path, or not with that method.
    pub fn nothing_here() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "there is no such operation in this API")
    }
}

impl From<RuntimeError> for Refusal {
    fn from(error: RuntimeError) -> Self {
        match error.kind {
            ErrorKind::Invalid | ErrorKind::Refused => Refusal::bad(error.message),
            ErrorKind::NotFound => Refusal::empty(StatusCode::NOT_FOUND),
            ErrorKind::Gone => Refusal::new(StatusCode::GONE, error.message),
            ErrorKind::Conflict => Refusal::new(StatusCode::CONFLICT, error.message),
            ErrorKind::TooLarge => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error.message),
            ErrorKind::Unavailable => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.message),
            ErrorKind::Internal => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.message),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        match problem.status_code() {
            StatusCode::BAD_REQUEST => Refusal::bad(problem.detail),
            status => Refusal::new(status, problem.detail),
        }
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, message, exception } = refusal;
        let Some(message) = message else { return status.into_response() };
        let exception_type = exception.is_some().then(|| "System.ArgumentException".to_owned());
        (status, Json(ErrorBody { message, exception_message: exception, exception_type })).into_response()
    }
}

/// Where an instance can be managed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    id: String,
    status_query_get_uri: String,
    send_event_post_uri: String,
    terminate_post_uri: String,
    rewind_post_uri: String,
    purge_history_delete_uri: String,
    restart_post_uri: String,
    suspend_post_uri: String,
    resume_post_uri: String,
}

impl CheckStatus {
    /// Of that instance, for whoever asked.
    pub fn of(id: &str, base: &str, common: &str) -> CheckStatus {
        let at = format!("{base}/instances/{}", segment(id));
        let plain = |path: &str| format!("{at}{path}?{common}");
        let with_reason = |path: &str| format!("{at}{path}?reason={{text}}&{common}");
        CheckStatus {
            id: id.to_owned(),
            status_query_get_uri: plain(""),
            send_event_post_uri: plain("/raiseEvent/{eventName}"),
            terminate_post_uri: with_reason("/terminate"),
            rewind_post_uri: with_reason("/rewind"),
            purge_history_delete_uri: plain(""),
            restart_post_uri: plain("/restart"),
            suspend_post_uri: with_reason("/suspend"),
            resume_post_uri: with_reason("/resume"),
        }
    }
}

impl CheckStatus {
    /// Where its status is.
    pub fn status(&self) -> &str {
        &self.status_query_get_uri
    }
}

/// 202 with the URLs of an instance.
pub fn accepted(id: &str, asked: &Asked) -> Response {
    let document = CheckStatus::of(id, &asked.base, &asked.query.common());
    let location = HeaderValue::from_str(&document.status_query_get_uri).ok();
    let mut response = (StatusCode::ACCEPTED, Json(document)).into_response();
    come_back(&mut response, location, "10");
    response
}

/// Says where to ask again, and after how many seconds.
pub fn come_back(response: &mut Response, location: Option<HeaderValue>, seconds: &'static str) {
    let headers = response.headers_mut();
    headers.extend(location.map(|location| (header::LOCATION, location)));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
}

/// Text as a JSON string.
pub fn as_string(text: &str) -> Box<RawValue> {
    let quoted = serde_json::Value::from(show::text(text)).to_string();
    RawValue::from_string(quoted).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A point in time, in whole seconds.
pub fn seconds(at: Timestamp) -> String {
    show::time_with_digits(at, 0)
}

/// A point in time, as exactly as the clients read it.
pub fn micros(at: Timestamp) -> String {
    show::time_with_digits(at, 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urls_keep_their_braces_and_carry_what_the_caller_sent() {
        let document = CheckStatus::of("a b", "http://h/x", "taskHub=T&code=c");
        assert_eq!(document.send_event_post_uri, "http://h/x/instances/a%20b/raiseEvent/{eventName}?taskHub=T&code=c");
        assert_eq!(document.terminate_post_uri, "http://h/x/instances/a%20b/terminate?reason={text}&taskHub=T&code=c");
        assert_eq!(document.status(), "http://h/x/instances/a%20b?taskHub=T&code=c");
    }

    #[test]
    fn times_have_whole_seconds() {
        assert_eq!(seconds(Timestamp(1_769_860_800_999_000_000)), "2026-01-31T12:00:00Z");
        assert_eq!(micros(Timestamp(1_769_860_800_999_000_000)), "2026-01-31T12:00:00.999000Z");
    }

    #[test]
    fn a_400_carries_the_message_where_the_clients_look_for_it() {
        let refusal = Refusal::from(RuntimeError::new(ErrorKind::Invalid, "x", "no such id"));
        assert_eq!((refusal.status, refusal.exception.as_deref()), (StatusCode::BAD_REQUEST, Some("no such id")));
    }
}
