//! What a redirect makes of a request. A redirect comes from outside: it may not carry credentials to
//! another origin, give up TLS, or name a secret.

use super::error::OutboundError;
use super::secrets::mentions_secret;
use super::target::parse_url;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use url::Url;

/// One request of a chain of redirects, with its secrets in place.
#[derive(Clone)]
pub(crate) struct Hop {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    pub body_has_secret: bool,
}

/// All that is sent to another origin. Any other header may be a credential under some name.
const KEPT_ACROSS_ORIGINS: [HeaderName; 8] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::CONTENT_LANGUAGE,
    header::USER_AGENT,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Whether the status asks for another request.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The request that follows `hop` when it was answered with `status` and `location`.
pub(crate) fn next_hop(hop: &Hop, status: StatusCode, location: &HeaderValue) -> Result<Hop, OutboundError> {
    let url = read_location(hop, location)?;
    let mut next = Hop { url, ..hop.clone() };
    if becomes_get(status, &hop.method) {
        next.method = Method::GET;
        next.body = None;
        next.body_has_secret = false;
        for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
            next.headers.remove(name);
        }
    }
    if next.url.origin() == hop.url.origin() {
        return Ok(next);
    }
    if next.body_has_secret {
        return Err(refused("it leads to another origin, and the body holds a secret"));
    }
    let all = std::mem::take(&mut next.headers);
    let kept = all.iter().filter(|(name, value)| KEPT_ACROSS_ORIGINS.contains(name) && !value.is_sensitive());
    next.headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(next)
}

fn read_location(hop: &Hop, location: &HeaderValue) -> Result<Url, OutboundError> {
    let location = location.to_str().map_err(|_| refused("its Location header is not visible ASCII"))?;
    let mut url = match hop.url.join(location) {
        Ok(url) => url,
        Err(_) => parse_url(location)?,
    };
    url.set_fragment(None);
    if hop.url.scheme() == "https" && url.scheme() == "http" {
        return Err(refused("it leads from https to http"));
    }
    if mentions_secret(url.as_str()) {
        return Err(refused("its Location header names a secret"));
    }
    Ok(url)
}

fn becomes_get(status: StatusCode, method: &Method) -> bool {
    match status {
        StatusCode::SEE_OTHER => *method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => *method == Method::POST,
        _ => false,
    }
}

fn refused(reason: &str) -> OutboundError {
    OutboundError::InvalidRequest {
        reason: format!("the redirect is not followed: {reason}; send the request to its final URL instead"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: Method, url: &str) -> Hop {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("test"));
        headers.insert("x-api-key", HeaderValue::from_static("y"));
        let url = parse_url(url).expect("a URL");
        Hop { method, url, headers, body: Some(Bytes::from_static(b"body")), body_has_secret: false }
    }

    fn follow(hop: &Hop, status: u16, location: &str) -> Result<Hop, OutboundError> {
        let status = StatusCode::from_u16(status).expect("a status");
        next_hop(hop, status, &HeaderValue::from_str(location).expect("a header"))
    }

    #[test]
    fn another_origin_gets_no_credentials() {
        let first = hop(Method::POST, "https://a.example/x");
        for location in ["https://b.example/", "https://a.example:444/", "//b.example/"] {
            let next = follow(&first, 307, location).expect(location);
            assert!(next.headers.get(header::AUTHORIZATION).is_none() && next.headers.get("x-api-key").is_none());
            assert!(next.headers.get(header::USER_AGENT).is_some() && next.body.is_some());
        }
        let same = follow(&first, 307, "../y?z").expect("same origin");
        assert_eq!(same.url.as_str(), "https://a.example/y?z");
        assert!(same.headers.get(header::AUTHORIZATION).is_some());
    }

    #[test]
    fn a_post_becomes_a_get_without_body_as_browsers_do() {
        let first = hop(Method::POST, "http://a.example/");
        for (status, method) in [(301, Method::GET), (302, Method::GET), (303, Method::GET), (308, Method::POST)] {
            let next = follow(&first, status, "/y").expect("a hop");
            assert_eq!((next.body.is_none(), next.method), (method == Method::GET, method), "{status}");
        }
        let put = follow(&hop(Method::PUT, "http://a.example/"), 302, "/y").expect("a hop");
        assert_eq!(put.method, Method::PUT);
    }

    #[test]
    fn redirects_that_would_give_something_away_are_refused() {
        let first = hop(Method::POST, "https://a.example/x");
        for location in ["http://a.example/", "https://a.example/?k={{secret:KEY}}", "https://[::1"] {
            assert!(follow(&first, 307, location).is_err(), "{location}");
        }
        let secret = Hop { body_has_secret: true, ..first };
        assert!(follow(&secret, 307, "https://b.example/").is_err());
        assert!(follow(&secret, 307, "/same").is_ok());
        assert!(follow(&secret, 303, "https://b.example/").is_ok());
    }
}
