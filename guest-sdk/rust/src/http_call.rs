//! HTTP requests and answers as values: the input and output of the host's built-in activity `http`, and of
//! `rehydrate::http` in activity components. Nothing is sent from here.

use crate::failure::Failure;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A request. Its JSON is the input of the activity `http`.
///
/// ```
/// use rehydrate::HttpRequest;
///
/// let request = HttpRequest::post("https://shop.example/orders")
///     .header("Accept", "application/json")
///     .json(&serde_json::json!({ "sku": 7 }))?
///     .success("2xx")
///     .success(409);
/// # Ok::<(), rehydrate::Failure>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct HttpRequest {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The absolute URL.
    pub url: String,
    /// Header names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body as JSON; sets the content type unless a header does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// The body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Which statuses are success; none given: all of 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<StatusPattern>,
}

/// One or more statuses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StatusPattern {
    /// Exactly this one.
    Code(u16),
    /// A class such as `2xx` or a range such as `200-299`.
    Pattern(String),
}

impl From<u16> for StatusPattern {
    fn from(code: u16) -> Self {
        StatusPattern::Code(code)
    }
}

impl From<&str> for StatusPattern {
    fn from(pattern: &str) -> Self {
        StatusPattern::Pattern(pattern.to_owned())
    }
}

impl StatusPattern {
    /// Whether that status is one of these. A pattern of another form matches nothing.
    pub fn matches(&self, status: u16) -> bool {
        match self {
            StatusPattern::Code(code) => *code == status,
            StatusPattern::Pattern(pattern) => match (pattern.strip_suffix("xx"), pattern.split_once('-')) {
                (Some(class), _) => class.parse() == Ok(status / 100),
                (None, Some((first, last))) => {
                    first.parse().is_ok_and(|first: u16| first <= status)
                        && last.parse().is_ok_and(|last: u16| status <= last)
                }
                (None, None) => pattern.parse() == Ok(status),
            },
        }
    }
}

impl HttpRequest {
    /// A request without headers or body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> HttpRequest {
        HttpRequest { method: method.into(), url: url.into(), ..HttpRequest::default() }
    }

    /// `GET`.
    pub fn get(url: impl Into<String>) -> HttpRequest {
        HttpRequest::new("GET", url)
    }

    /// `POST`.
    pub fn post(url: impl Into<String>) -> HttpRequest {
        HttpRequest::new("POST", url)
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Sets the body, as JSON. Fails for a value that JSON can not hold.
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Result<Self, Failure> {
        self.json = Some(serde_json::to_value(body).map_err(|error| Failure::encode("the request's body", &error))?);
        Ok(self)
    }

    /// Sets the body, as text.
    #[must_use]
    pub fn text(mut self, body: impl Into<String>) -> Self {
        self.text = Some(body.into());
        self
    }

    /// Adds a status, a class (`"2xx"`) or a range (`"200-299"`) that is success.
    #[must_use]
    pub fn success(mut self, status: impl Into<StatusPattern>) -> Self {
        self.success.push(status.into());
        self
    }
}

/// An answer. Its JSON is the output of the activity `http`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpResponse {
    /// The status, 100 to 999.
    pub status: u16,
    /// Header names, in lower case, and values.
    pub headers: BTreeMap<String, String>,
    /// The body, if it is JSON.
    pub json: Option<Value>,
    /// The body, if it is text and not JSON.
    pub text: Option<String>,
}

impl HttpResponse {
    /// The JSON body as a type of your own. Fails with code `sdk.decode`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let body = self.json.as_ref().unwrap_or(&Value::Null);
        T::deserialize(body).map_err(|error| Failure::decode("the answer's body", &error))
    }

    /// This answer, or a failure with code `http.status-<status>` if the status is none of `success` (none
    /// given: 200 to 299). Statuses 408, 429 and 500 and above are worth another attempt. The activity `http`
    /// has done this already.
    pub fn check(self, success: &[StatusPattern]) -> Result<HttpResponse, Failure> {
        let is_success = match success {
            [] => (200..300).contains(&self.status),
            patterns => patterns.iter().any(|pattern| pattern.matches(self.status)),
        };
        if is_success {
            return Ok(self);
        }
        let failure = Failure::application(format!("http.status-{}", self.status), "the answer is no success");
        let worth_another = matches!(self.status, 408 | 429) || self.status >= 500;
        Err(if worth_another { failure.retryable() } else { failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_written_as_the_activity_reads_it() {
        let request = HttpRequest::post("https://a.example/x").header("Accept", "*/*").json(&json!({"n": 1})).unwrap();
        let request = request.success("2xx").success(404);
        let expected = json!({
            "method": "POST", "url": "https://a.example/x", "headers": {"Accept": "*/*"},
            "json": {"n": 1}, "success": ["2xx", 404],
        });
        assert_eq!(serde_json::to_value(&request).unwrap(), expected);
        assert_eq!(serde_json::from_value::<HttpRequest>(expected).unwrap(), request);
    }

    #[test]
    fn a_status_is_checked_against_codes_classes_and_ranges() {
        let answer = |status| HttpResponse { status, ..HttpResponse::default() };
        let patterns = ["2xx".into(), "400-404".into(), "418".into(), 500.into()];
        for (status, success) in [(204, true), (302, false), (404, true), (405, false), (418, true), (500, true)] {
            assert_eq!(answer(status).check(&patterns).is_ok(), success, "{status}");
        }
        let failure = answer(429).check(&[]).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("http.status-429", true));
        assert!(!answer(404).check(&[]).unwrap_err().retryable);
    }

    #[test]
    fn an_answer_is_read_as_a_type() {
        let answer: HttpResponse =
            serde_json::from_value(json!({"status": 200, "headers": {}, "json": {"run_id": 7}, "text": null})).unwrap();
        assert_eq!(answer.read::<BTreeMap<String, u64>>().unwrap()["run_id"], 7);
        assert_eq!(answer.read::<u64>().unwrap_err().code, "sdk.decode");
    }
}
