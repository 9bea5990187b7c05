//! Errors as RFC 9457 problem documents, with stable codes.
//!
//! The one place that maps the runtime's kinds of error to status codes. A problem never shows a callback's
//! token, whatever the message it was made from contains.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rehydrate_runtime::{ErrorKind, RuntimeError, mask_tokens};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Seconds after which a client may try again what was refused for lack of room.
const RETRY_AFTER_S: &str = "2";

/// A problem document, `application/problem+json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:rehydrate:error:` and the code.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and what to do next, for people.
    pub detail: String,
    /// A stable code for programs, such as `instance.not-found`.
    pub code: String,
}

impl Problem {
    /// A problem with that status; `code` is stable, `detail` ends with the next step.
    pub fn new(status: StatusCode, code: &str, detail: impl AsRef<str>) -> Problem {
        Problem {
            type_uri: format!("urn:rehydrate:error:{code}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: mask_tokens(detail.as_ref()).into_owned(),
            code: code.to_owned(),
        }
    }

    /// 400.
    pub fn invalid(code: &str, detail: impl AsRef<str>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// The status as a type; 500 if the number is none.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The status for a kind of error.
fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Gone => StatusCode::GONE,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<RuntimeError> for Problem {
    fn from(error: RuntimeError) -> Self {
        Problem::new(status_of(error.kind), error.code, &error.message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status_code();
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(kind: ErrorKind) -> Response {
        Problem::from(RuntimeError::new(kind, "a.code", "what is wrong")).into_response()
    }

    #[test]
    fn every_kind_of_error_has_its_status() {
        let kinds = [
            (ErrorKind::Invalid, 400),
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::Gone, 410),
            (ErrorKind::TooLarge, 413),
            (ErrorKind::Refused, 422),
            (ErrorKind::Internal, 500),
            (ErrorKind::Unavailable, 503),
        ];
        for (kind, status) in kinds {
            assert_eq!(response(kind).status().as_u16(), status, "{kind:?}");
        }
    }

    #[test]
    fn a_problem_says_its_media_type_and_only_503_says_when_to_come_back() {
        let conflict = response(ErrorKind::Conflict);
        assert_eq!(conflict.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert!(!conflict.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(response(ErrorKind::Unavailable).headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn the_document_has_the_members_of_rfc_9457_and_the_code() {
        let problem = Problem::from(RuntimeError::new(ErrorKind::Gone, "instance.ended", "it has ended"));
        let json = serde_json::to_value(&problem).expect("json");
        let expected = serde_json::json!({
            "type": "urn:rehydrate:error:instance.ended", "title": "Gone", "status": 410,
            "detail": "it has ended", "code": "instance.ended",
        });
        assert_eq!(json, expected);
    }
}
