//! Reading a request's body: never more than a limit, never longer than a time.
//!
//! hyper has no limit on either. A body that is refused is still read (and dropped) up to a bound, because
//! closing a connection with unread bytes makes the kernel reset it, and the client would lose our answer.

use crate::problem::Problem;
use crate::server::HttpLimits;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use rehydrate_runtime::core::Limits;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a refused body is still read, and how many bytes of it.
const DRAIN: Duration = Duration::from_secs(2);
const DRAIN_BYTES: usize = 256 << 20;

/// How long a body may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyTime {
    /// Without a byte.
    pub idle: Duration,
    /// In all.
    pub total: Duration,
}

impl BodyTime {
    /// The limits for bodies of ordinary size.
    pub fn of(limits: &HttpLimits) -> BodyTime {
        BodyTime { idle: limits.body_idle, total: limits.body_total }
    }
}

/// How large a body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodySize {
    /// The most bytes.
    pub bytes: usize,
    /// The setting that says so.
    pub setting: &'static str,
}

impl BodySize {
    /// A payload, with so many bytes around it.
    pub fn payload(limits: &Limits, form_bytes: usize) -> BodySize {
        BodySize { bytes: limits.payload_bytes.saturating_add(form_bytes), setting: "limits.payload-bytes" }
    }
}

/// Reads a body of at most `limit` bytes. 413 if it is larger (at once if it says so itself), 408 if it takes too
/// long, 400 if the connection breaks.
pub async fn read(mut body: Body, limit: BodySize, time: BodyTime) -> Result<Bytes, Problem> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit.bytes {
        drain(body).await;
        return Err(too_large(limit));
    }
    let end = Instant::now() + time.total;
    let mut bytes = BytesMut::with_capacity(announced);
    loop {
        let until = end.min(Instant::now() + time.idle);
        let frame = match timeout_at(until, body.frame()).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit.bytes {
            drain(body).await;
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&data);
    }
}

/// Reads and drops what comes, for a short time, so that the peer can read our answer.
pub async fn drain(mut body: Body) {
    let end = Instant::now() + DRAIN;
    let mut left = DRAIN_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(end, body.frame()).await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(len) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Reads a JSON document of a known shape; 400 names the place that does not fit.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let detail = format!("the body does not fit this request: {error}; see /openapi.json for its shape");
        Problem::invalid("body.invalid", detail)
    })
}

/// Checks that bytes are one JSON value in UTF-8, and gives them as text. It is not parsed any further: depth
/// and size of numbers are the reader's business.
pub fn json_text(bytes: &[u8]) -> Result<String, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::invalid("body.empty", "the body is empty; send a JSON value, or `null` for none"));
    }
    let not_json = |error: &dyn std::fmt::Display| {
        Problem::invalid("body.not-json", format!("the body is not JSON in UTF-8: {error}; nothing was recorded"))
    };
    let text = std::str::from_utf8(bytes).map_err(|error| not_json(&error))?;
    serde_json::from_str::<&serde_json::value::RawValue>(text).map_err(|error| not_json(&error))?;
    Ok(text.to_owned())
}

fn too_large(BodySize { bytes, setting }: BodySize) -> Problem {
    let detail = format!("the body has more than {bytes} bytes; send less, or raise `{setting}` in the configuration");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body.too-large", detail)
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body.timeout", "the body did not arrive in time; send it again")
}

fn broken(error: &axum::Error) -> Problem {
    Problem::invalid("body.broken", format!("the body ended early: {error}; send it again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt as _, stream};
    use std::convert::Infallible;

    const TIME: BodyTime = BodyTime { idle: Duration::from_millis(50), total: Duration::from_secs(60) };

    const FIVE: BodySize = BodySize { bytes: 5, setting: "limits.some-bytes" };

    fn chunked(chunks: &[&'static str]) -> Body {
        Body::from_stream(stream::iter(chunks.to_vec()).map(Ok::<_, Infallible>))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read_whole() {
        assert_eq!(read(Body::from("12345"), FIVE, TIME).await.expect("fits"), "12345");
        assert_eq!(read(chunked(&["12", "", "345"]), FIVE, TIME).await.expect("fits"), "12345");
    }

    #[tokio::test]
    async fn a_larger_body_is_a_413_whether_it_says_its_length_or_not() {
        for body in [Body::from("123456"), chunked(&["123", "456"])] {
            let problem = read(body, FIVE, TIME).await.expect_err("too large");
            assert_eq!(problem.status, 413);
            assert!(problem.detail.contains("`limits.some-bytes`"), "the setting is named: {}", problem.detail);
        }
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_a_408() {
        let stalled = stream::iter(["12"]).map(Ok::<_, Infallible>).chain(stream::pending());
        assert_eq!(read(Body::from_stream(stalled), FIVE, TIME).await.expect_err("stalled").status, 408);
    }

    #[test]
    fn only_one_json_value_in_utf8_is_json_text() {
        for good in ["null", " {\"a\":1e999}\n", "[[[]]]", "\"\\ud800\""] {
            assert_eq!(json_text(good.as_bytes()).expect(good), good);
        }
        let bad: [&[u8]; 7] = [b"", b" \n", b"{", b"1 2", b"nul", b"\"\xff\"", b"\xef\xbb\xbf1"];
        for bytes in bad {
            assert_eq!(json_text(bytes).expect_err("not JSON").status, 400, "{bytes:?}");
        }
    }
}
