//! One request, and what its answer means: success, a failure for good, or one worth another attempt.

use rehydrate::{Failure, HttpRequest, HttpResponse};
use serde::Deserialize;

/// Sends a request; an answer that is no success is a failure.
pub async fn call(request: HttpRequest) -> Result<HttpResponse, Failure> {
    success(send(&request).await?)
}

#[cfg(target_family = "wasm")]
async fn send(request: &HttpRequest) -> Result<HttpResponse, Failure> {
    rehydrate::http::send(request).await
}

/// Only a component has wasi:http; unit tests end before anything is sent.
#[cfg(not(target_family = "wasm"))]
async fn send(request: &HttpRequest) -> Result<HttpResponse, Failure> {
    Err(Failure::rejected("native", format!("{} is requested only in a component", request.url)))
}

/// What a server says when it refuses, if it says it in this form.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

/// A refusal in words of the server keeps them; whether another attempt may help, its status says.
fn success(answer: HttpResponse) -> Result<HttpResponse, Failure> {
    let refusal = answer.read::<Refusal>().ok();
    answer.check(&[]).map_err(|failure| match refusal {
        Some(refusal) => Failure { code: refusal.code, message: refusal.message, ..failure },
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(status: u16, json: serde_json::Value) -> Result<HttpResponse, Failure> {
        success(HttpResponse { status, json: Some(json), ..HttpResponse::default() })
    }

    #[test]
    fn a_refusal_keeps_the_words_of_the_server() {
        let failure = outcome(402, json!({"code": "card-declined", "message": "no money"})).unwrap_err();
        assert_eq!(failure, Failure::application("card-declined", "no money"));
    }

    #[test]
    fn an_error_of_the_server_is_worth_another_attempt() {
        let failure = outcome(503, json!({"code": "full", "message": "come back later"})).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("full", true));
        let failure = outcome(500, json!("an error page")).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("http.status-500", true));
    }

    #[test]
    fn a_success_that_looks_like_a_refusal_is_one_all_the_same() {
        assert!(outcome(200, json!({"code": "x", "message": "y"})).is_ok());
    }
}
