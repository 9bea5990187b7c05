//! Where a request goes: the one reading of a URL that policy, secrets, resolution and connection share.
//!
//! The `url` crate reads as browsers do, so `http://0x7f.1/`, `http://2130706433/` and
//! `http://[::ffff:127.0.0.1]/` are the addresses they stand for before anything is decided.

use super::address::canonical;
use super::error::OutboundError;
use http::Uri;
use std::fmt;
use std::net::IpAddr;
use url::Url;

/// A host as requested.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum TargetHost {
    /// Lower case, in ASCII, without a final dot.
    Name(String),
    /// IPv4 also where IPv4-mapped IPv6 was written.
    Ip(IpAddr),
}

/// Scheme, host and port of a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    pub(crate) host: TargetHost,
    pub(crate) port: u16,
    pub(crate) https: bool,
}

impl Target {
    /// Reads a URL. Refused: other schemes than http and https, a user name or password, no host.
    pub fn of_url(url: &Url) -> Result<Target, OutboundError> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(invalid(format!("the scheme `{other}` is not http or https"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("the URL has a user name or password; send an Authorization header instead"));
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => TargetHost::Name(name.trim_end_matches('.').to_ascii_lowercase()),
            Some(url::Host::Ipv4(ip)) => TargetHost::Ip(IpAddr::V4(ip)),
            Some(url::Host::Ipv6(ip)) => TargetHost::Ip(canonical(IpAddr::V6(ip))),
            None => return Err(invalid("the URL has no host")),
        };
        if host == TargetHost::Name(String::new()) {
            return Err(invalid("the URL has no host"));
        }
        let port = url.port_or_known_default().unwrap_or(if https { 443 } else { 80 });
        if port == 0 {
            return Err(invalid("port 0 cannot be connected to"));
        }
        Ok(Target { host, port, https })
    }

    /// Reads the URL of a request, and gives it back in the form that is sent.
    pub(crate) fn of_uri(uri: &Uri) -> Result<(Target, Uri), OutboundError> {
        let mut url = parse_url(&uri.to_string())?;
        let target = Target::of_url(&url)?;
        url.set_fragment(None);
        let canonical = Uri::try_from(url.as_str()).map_err(|e| invalid(format!("the URL is not valid: {e}")))?;
        Ok((target, canonical))
    }

    /// What to write into `outbound.allow` for exactly this.
    pub(crate) fn entry(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            TargetHost::Name(name) => write!(f, "{name}:{}", self.port),
            TargetHost::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            TargetHost::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
        }
    }
}

/// Parses a URL; the error does not repeat it, since it may hold what should not be shown.
pub(crate) fn parse_url(text: &str) -> Result<Url, OutboundError> {
    Url::parse(text).map_err(|e| invalid(format!("the URL is not valid: {e}; write it as https://host/path")))
}

fn invalid(reason: impl Into<String>) -> OutboundError {
    OutboundError::InvalidRequest { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, OutboundError> {
        Target::of_url(&parse_url(text)?)
    }

    #[test]
    fn odd_spellings_of_an_address_are_the_address() {
        for text in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://127.0.0.1./",
            "http://１２７.0.0.1/",
        ] {
            let target = target(text).expect(text);
            assert_eq!(target.host, TargetHost::Ip("127.0.0.1".parse().expect("an address")), "{text}");
        }
    }

    #[test]
    fn a_uri_is_sent_in_the_form_that_was_checked() {
        let (target, uri) = Target::of_uri(&Uri::from_static("http://0x7f.1:8080/a?b")).expect("a target");
        assert_eq!(target.to_string(), "127.0.0.1:8080");
        assert_eq!(uri.to_string(), "http://127.0.0.1:8080/a?b");
    }

    #[test]
    fn names_lose_case_and_the_final_dot() {
        assert_eq!(target("https://API.Example.COM./x").expect("a target").to_string(), "api.example.com:443");
    }

    #[test]
    fn other_schemes_credentials_and_missing_hosts_are_refused() {
        for text in
            ["ftp://a.example/", "file:///etc/passwd", "http://u:p@a.example/", "http://a.example:0/", "data:,x"]
        {
            let error = target(text).expect_err(text);
            assert_eq!(error.code(), "outbound.invalid-request", "{text}");
        }
    }
}
