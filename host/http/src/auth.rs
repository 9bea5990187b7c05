//! Who may talk to the admin listener.
//!
//! On a loopback address everybody on this machine may, but no web page: a page that a browser shows must not
//! reach the host, neither by a request of its own (the `Origin` is checked) nor by a name that it points
//! at 127.0.0.1 (the `Host` is checked). On any other address a bearer token is required as well. The
//! token is kept as a digest only and compared in constant time.

use crate::problem::Problem;
use http::{HeaderMap, StatusCode, Uri, header};
use sha2::{Digest as _, Sha256};
use std::net::{IpAddr, SocketAddr};

/// Fewest characters of an admin token.
pub const TOKEN_CHARS_MIN: usize = 16;

/// The checks of one listener.
pub struct Guard {
    token: Option<[u8; 32]>,
    /// Names allowed in `Host`, in lower case, beside addresses and `localhost`.
    hosts: Vec<String>,
    loopback: bool,
}

impl Guard {
    /// For a listener at `local`. `hosts`: names under which it is reached, without ports.
    pub fn new(local: SocketAddr, token: Option<&str>, hosts: &[String]) -> Guard {
        Guard {
            token: token.map(|token| Sha256::digest(token).into()),
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            loopback: local.ip().is_loopback(),
        }
    }

    /// Checks `Host`, `Origin` and, unless `open`, the token.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap, open: bool) -> Result<(), Problem> {
        let host = self.check_host(uri, headers)?;
        check_origin(&host, headers)?;
        if open { Ok(()) } else { self.check_token(headers) }
    }

    /// The host that the request is for, `name[:port]` in lower case.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<String, Problem> {
        let refused = |host: &str| {
            let detail = format!(
                "the host `{host}` is not known here; use a loopback address, or add the name to \
                 `http.admin-hosts` in the configuration"
            );
            Problem::new(StatusCode::FORBIDDEN, "host.refused", detail)
        };
        let mut values = headers.get_all(header::HOST).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Problem::invalid("host.missing", "the request needs exactly one Host header"));
        };
        let host = value.to_str().map_err(|_| refused("?"))?.to_ascii_lowercase();
        // A request target in absolute form names the host a second time; both must be allowed.
        let target = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
        for host in [Some(&host), target.as_ref()].into_iter().flatten() {
            if !self.allows(host) {
                return Err(refused(host));
            }
        }
        Ok(host)
    }

    fn allows(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            // A page can't make its own name out of an address, so beyond loopback any address will do.
            Ok(ip) => !self.loopback || ip.is_loopback(),
            Err(_) => name == "localhost" || self.hosts.iter().any(|known| known == name),
        }
    }

    /// Whether a key in a URL is the token, as the clients of Durable Functions send theirs.
    pub fn allows_code(&self, code: Option<&str>) -> bool {
        let given: [u8; 32] = Sha256::digest(code.unwrap_or_default()).into();
        self.token.as_ref().is_some_and(|token| same(token, &given))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let given: [u8; 32] = Sha256::digest(given.unwrap_or_default()).into();
        if same(token, &given) {
            return Ok(());
        }
        let detail = "the admin token is missing or wrong; send `Authorization: Bearer TOKEN` \
                      (`--token-file` or REHYDRATE_TOKEN for the command line)";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "token.refused", detail))
    }
}

/// The token of an `Authorization: Bearer` value.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// Compares all bytes, wherever the first difference is.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

/// The host without its port; none if the port is not a number.
fn without_port(host: &str) -> Option<&str> {
    let after = host.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = host[after..].find(':') else { return Some(host) };
    let (name, port) = host.split_at(after + colon);
    port[1..].parse::<u16>().ok().map(|_| name)
}

/// A request that a web page made carries the page's origin: it must be this host itself.
fn check_origin(host: &str, headers: &HeaderMap) -> Result<(), Problem> {
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("?").to_ascii_lowercase();
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if own != Some(host) {
            let detail = format!("requests from pages of `{origin}` are refused; call the API from a program instead");
            return Err(Problem::new(StatusCode::FORBIDDEN, "origin.refused", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const TOKEN: &str = "0123456789abcdef";

    fn guard(local: &str, token: Option<&str>) -> Guard {
        Guard::new(local.parse().expect("an address"), token, &["Admin.example".to_owned()])
    }

    fn check(guard: &Guard, headers: &[(HeaderName, &str)], open: bool) -> Result<(), u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_str(value).expect("a value"));
        }
        guard.check(&Uri::from_static("/v1/instances"), &map, open).map_err(|problem| problem.status)
    }

    #[test]
    fn on_loopback_only_loopback_and_configured_hosts_are_known() {
        let guard = guard("127.0.0.1:7070", None);
        for host in ["127.0.0.1:7070", "localhost:7070", "LOCALHOST", "[::1]:7070", "127.9.9.9", "admin.example:443"] {
            assert_eq!(check(&guard, &[(header::HOST, host)], false), Ok(()), "{host}");
        }
        for host in ["evil.example:7070", "10.0.0.1", "localhost.evil.example", "localhost:", "localhost:x", "[::1", ""]
        {
            assert_eq!(check(&guard, &[(header::HOST, host)], false), Err(403), "{host}");
        }
    }

    #[test]
    fn a_request_without_exactly_one_host_is_a_400() {
        let guard = guard("127.0.0.1:7070", None);
        assert_eq!(check(&guard, &[], false), Err(400));
        let two = [(header::HOST, "localhost"), (header::HOST, "localhost")];
        assert_eq!(check(&guard, &two, false), Err(400));
    }

    #[test]
    fn the_host_of_an_absolute_target_counts_too() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        let guard = guard("127.0.0.1:7070", None);
        let uri = Uri::from_static("http://evil.example/v1/instances");
        assert_eq!(guard.check(&uri, &headers, false).map_err(|problem| problem.status), Err(403));
    }

    #[test]
    fn a_page_may_call_only_the_host_it_came_from() {
        let guard = guard("127.0.0.1:7070", None);
        let with = |origin| check(&guard, &[(header::HOST, "localhost:7070"), (header::ORIGIN, origin)], false);
        assert_eq!(with("http://localhost:7070"), Ok(()));
        for origin in ["http://localhost:8080", "https://evil.example", "null", "http://localhost:7070.evil.example"] {
            assert_eq!(with(origin), Err(403), "{origin}");
        }
    }

    #[test]
    fn the_token_is_required_wherever_one_is_set() {
        let guard = guard("0.0.0.0:7070", Some(TOKEN));
        let host = (header::HOST, "10.0.0.1:7070");
        let with = |value: &str| check(&guard, &[host.clone(), (header::AUTHORIZATION, value)], false);
        assert_eq!(with(&format!("Bearer {TOKEN}")), Ok(()));
        assert_eq!(with(&format!("bearer  {TOKEN} ")), Ok(()));
        for value in [TOKEN, "Bearer ", "Bearer 0123456789abcdeF", "Basic 0123456789abcdef"] {
            assert_eq!(with(value), Err(401), "{value}");
        }
        assert_eq!(check(&guard, std::slice::from_ref(&host), false), Err(401));
        assert_eq!(check(&guard, &[host], true), Ok(()), "probes need no token");
        assert!(guard.allows_code(Some(TOKEN)));
        assert!(!guard.allows_code(Some("0123456789abcdeF")) && !guard.allows_code(None));
    }
}
