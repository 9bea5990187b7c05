//! Who may be talked to: the allow-list and its decisions.
//!
//! Two questions are asked of every request. May this host be asked for at all? And, once resolved, may
//! this address be connected to? Only the second answer opens a connection. No I/O happens here.

use super::address::{AddressClass, canonical, classify, loopback_nets};
use super::error::{OutboundConfigError, OutboundError};
use super::target::{Target, TargetHost};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// The `[outbound]` table of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OutboundPolicy {
    /// Hosts that activities may send requests to. Each entry is one of the following, with `:port` if only
    /// that port is meant (an IPv6 address then stands in brackets):
    /// - `*`: every host, at public addresses
    /// - `*.example.com`: every host below that name, at public addresses
    /// - `api.example.com`: that host, also where it resolves to a loopback, private or link-local address
    /// - `localhost`: that name and the loopback addresses
    /// - `10.1.2.3`, `10.0.0.0/8`, `fd00::/8`: those addresses, under whatever name
    ///
    /// Metadata, multicast and reserved addresses are allowed only by an address or network that holds them.
    /// Default: `["*"]`. An empty list allows nothing.
    pub allow: Vec<String>,
    /// A PEM file with certificate authorities that are trusted beside the public ones.
    pub ca_file: Option<PathBuf>,
}

impl Default for OutboundPolicy {
    fn default() -> Self {
        OutboundPolicy { allow: vec!["*".to_owned()], ca_file: None }
    }
}

/// What one entry covers.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    AnyName,
    /// The suffix with its leading dot.
    Below(String),
    Name(String),
    Net(IpNet),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    pattern: Pattern,
    port: Option<u16>,
}

/// A parsed list of entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rules {
    entries: Vec<Entry>,
}

/// What the name of a host is worth before its addresses are known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Grant {
    /// In no entry.
    Nothing,
    /// By a wildcard: public addresses.
    Public,
    /// By its own name: private ones as well.
    Named,
}

impl Rules {
    /// Parses the entries of the list that is called `setting` in the configuration.
    pub(crate) fn parse(setting: &str, entries: &[String]) -> Result<Rules, OutboundConfigError> {
        let mut rules = Rules::default();
        for text in entries {
            let error = |reason: String| OutboundConfigError::Entry {
                setting: setting.to_owned(),
                entry: text.clone(),
                reason,
            };
            let entry = Entry::parse(text.trim()).map_err(error)?;
            if entry.pattern == Pattern::Name("localhost".to_owned()) {
                let loopback = loopback_nets().map(|net| Entry { pattern: Pattern::Net(net), port: entry.port });
                rules.entries.extend(loopback);
            }
            rules.entries.push(entry);
        }
        Ok(rules)
    }

    /// Whether the target is named here: by name, wildcard, or as an address. For lists that say where
    /// something may be sent, such as the hosts of a secret.
    pub(crate) fn names(&self, target: &Target) -> bool {
        match &target.host {
            TargetHost::Name(name) => self.grant(name, target.port) != Grant::Nothing,
            TargetHost::Ip(ip) => self.holds_address(*ip, target.port),
        }
    }

    /// The check before resolution. An address in the URL is decided here; a name that no entry could
    /// allow is not even looked up.
    pub(crate) fn check_target(&self, target: &Target) -> Result<(), OutboundError> {
        match &target.host {
            TargetHost::Ip(ip) => self.check_address(target, *ip),
            TargetHost::Name(name) if self.grant(name, target.port) != Grant::Nothing => Ok(()),
            TargetHost::Name(_) if self.has_net_for(target.port) => Ok(()),
            TargetHost::Name(_) => Err(not_listed(target)),
        }
    }

    /// The check after resolution: whether this address of the target may be connected to.
    pub(crate) fn check_address(&self, target: &Target, ip: IpAddr) -> Result<(), OutboundError> {
        let ip = canonical(ip);
        if self.holds_address(ip, target.port) {
            return Ok(());
        }
        let class = classify(ip);
        let grant = match &target.host {
            TargetHost::Name(name) => self.grant(name, target.port),
            TargetHost::Ip(_) => self.any_name(target.port),
        };
        match grant {
            Grant::Named if class.open_to_named_hosts() => Ok(()),
            Grant::Public if class == AddressClass::Public => Ok(()),
            Grant::Nothing if class == AddressClass::Public => Err(not_listed(target)),
            _ => Err(refused_address(target, ip, class)),
        }
    }

    fn on_port(&self, port: u16) -> impl Iterator<Item = &Pattern> {
        self.entries.iter().filter(move |e| e.port.is_none_or(|p| p == port)).map(|e| &e.pattern)
    }

    fn grant(&self, name: &str, port: u16) -> Grant {
        let worth = |pattern: &Pattern| match pattern {
            Pattern::Name(own) if own == name => Grant::Named,
            Pattern::Below(suffix) if name.ends_with(suffix.as_str()) => Grant::Public,
            Pattern::AnyName => Grant::Public,
            _ => Grant::Nothing,
        };
        self.on_port(port).map(worth).max().unwrap_or(Grant::Nothing)
    }

    fn any_name(&self, port: u16) -> Grant {
        let any = self.on_port(port).any(|pattern| *pattern == Pattern::AnyName);
        if any { Grant::Public } else { Grant::Nothing }
    }

    fn holds_address(&self, ip: IpAddr, port: u16) -> bool {
        self.on_port(port).any(|pattern| matches!(pattern, Pattern::Net(net) if net.contains(&ip)))
    }

    fn has_net_for(&self, port: u16) -> bool {
        self.on_port(port).any(|pattern| matches!(pattern, Pattern::Net(_)))
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Entry, String> {
        if text.contains("://") {
            return Err("it is a URL, only host and port are wanted".to_owned());
        }
        if let Some(net) = parse_net(text) {
            return Ok(Entry { pattern: Pattern::Net(net), port: None });
        }
        let (host, port) = split_port(text)?;
        if let Some(net) = parse_net(host) {
            return Ok(Entry { pattern: Pattern::Net(net), port });
        }
        if host.contains('/') {
            return Err("it is neither a network nor a host".to_owned());
        }
        Ok(Entry { pattern: parse_name(host)?, port })
    }
}

/// An address or network, IPv6 with or without brackets.
fn parse_net(text: &str) -> Option<IpNet> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let net = bare.parse::<IpNet>().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(unmap(net).trunc())
}

/// Addresses are compared in canonical form, so entries must have it too.
fn unmap(net: IpNet) -> IpNet {
    match (canonical(net.addr()), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(ip), Some(bits)) if net.addr().is_ipv6() => {
            IpNet::new(IpAddr::V4(ip), bits).unwrap_or_else(|_| IpAddr::V4(ip).into())
        }
        _ => net,
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let bracketed = text.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = text[bracketed..].rfind(':').map(|at| at + bracketed) else {
        return Ok((text, None));
    };
    match text[colon + 1..].parse::<u16>() {
        Ok(port) if port > 0 => Ok((&text[..colon], Some(port))),
        _ => Err("the port is not a number from 1 to 65535".to_owned()),
    }
}

fn parse_name(text: &str) -> Result<Pattern, String> {
    if text == "*" {
        return Ok(Pattern::AnyName);
    }
    let (below, name) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if name.is_empty() || name.contains('*') {
        return Err("a `*` may only stand alone or before the first dot".to_owned());
    }
    // The same reader as for URLs, so that both spell a name the same way.
    match url::Host::parse(name) {
        Ok(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_owned();
            Ok(if below { Pattern::Below(format!(".{name}")) } else { Pattern::Name(name) })
        }
        Ok(url::Host::Ipv4(ip)) if !below => Ok(Pattern::Net(IpAddr::V4(ip).into())),
        Ok(_) => Err("it is not a host name".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn not_listed(target: &Target) -> OutboundError {
    OutboundError::Refused {
        host: target.to_string(),
        reason: "no entry of the allow-list covers it".to_owned(),
        entry: target.entry(),
    }
}

fn refused_address(target: &Target, ip: IpAddr, class: AddressClass) -> OutboundError {
    let (reason, entry) = match &target.host {
        TargetHost::Ip(_) => (format!("it is {class}"), target.entry()),
        TargetHost::Name(_) if class.open_to_named_hosts() => (format!("it resolves to {ip}, {class}"), target.entry()),
        // Such an address is never opened by a name.
        TargetHost::Name(_) => {
            let literal = Target { host: TargetHost::Ip(ip), ..target.clone() };
            (format!("it resolves to {ip}, {class}"), literal.entry())
        }
    };
    OutboundError::Refused { host: target.to_string(), reason, entry }
}

#[cfg(test)]
mod tests {
    use super::super::target::parse_url;
    use super::*;

    fn rules(entries: &[&str]) -> Rules {
        let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        Rules::parse("outbound.allow", &entries).expect("entries")
    }

    fn target(url: &str) -> Target {
        Target::of_url(&parse_url(url).expect("a URL")).expect("a target")
    }

    /// Whether a request to `url`, whose host resolves to `ip`, is allowed.
    fn allowed(entries: &[&str], url: &str, ip: &str) -> bool {
        let (rules, target) = (rules(entries), target(url));
        rules.check_target(&target).is_ok() && rules.check_address(&target, ip.parse().expect("an address")).is_ok()
    }

    #[test]
    fn the_default_allows_public_addresses_only() {
        let default = OutboundPolicy::default();
        let default: Vec<&str> = default.allow.iter().map(String::as_str).collect();
        assert!(allowed(&default, "https://api.example.com/", "93.184.215.14"));
        assert!(allowed(&default, "https://8.8.8.8/", "8.8.8.8"));
        for ip in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1", "0.0.0.0"] {
            assert!(!allowed(&default, "https://api.example.com/", ip), "{ip}");
        }
        assert!(!allowed(&default, "http://localhost/", "127.0.0.1"));
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert!(!allowed(&[], "https://api.example.com/", "93.184.215.14"));
        assert!(!allowed(&[], "https://8.8.8.8/", "8.8.8.8"));
    }

    #[test]
    fn a_named_host_may_resolve_to_a_private_address_but_not_to_metadata() {
        assert!(allowed(&["db.corp.example"], "http://db.corp.example/", "10.1.2.3"));
        assert!(allowed(&["*", "db.corp.example"], "http://db.corp.example/", "10.1.2.3"));
        assert!(!allowed(&["db.corp.example"], "http://db.corp.example/", "169.254.169.254"));
        assert!(!allowed(&["db.corp.example"], "http://db.corp.example/", "0.0.0.0"));
        assert!(!allowed(&["*.corp.example"], "http://db.corp.example/", "10.1.2.3"));
        assert!(allowed(&["*.corp.example", "10.0.0.0/8"], "http://db.corp.example/", "10.1.2.3"));
    }

    #[test]
    fn a_wildcard_covers_names_below_and_not_beside() {
        assert!(allowed(&["*.example.com"], "https://a.b.example.com/", "8.8.8.8"));
        for url in ["https://example.com/", "https://badexample.com/", "https://example.com.evil.example/"] {
            assert!(!allowed(&["*.example.com"], url, "8.8.8.8"), "{url}");
        }
    }

    #[test]
    fn an_entry_with_a_port_is_for_that_port() {
        assert!(allowed(&["localhost:8080"], "http://localhost:8080/", "127.0.0.1"));
        assert!(allowed(&["localhost:8080"], "http://127.0.0.1:8080/", "127.0.0.1"));
        assert!(allowed(&["[::1]:8080"], "http://[::1]:8080/", "::1"));
        assert!(!allowed(&["localhost:8080"], "http://localhost:8081/", "127.0.0.1"));
        assert!(!allowed(&["*:443"], "http://api.example.com/", "8.8.8.8"));
        assert!(allowed(&["*:443"], "https://api.example.com/", "8.8.8.8"));
    }

    #[test]
    fn metadata_is_opened_by_its_address_or_network() {
        assert!(allowed(&["169.254.169.254"], "http://169.254.169.254/latest", "169.254.169.254"));
        assert!(allowed(&["169.254.0.0/16"], "http://metadata.internal/", "169.254.169.254"));
        assert!(!allowed(&["*"], "http://169.254.169.254/latest", "169.254.169.254"));
    }

    #[test]
    fn ipv4_mapped_forms_are_compared_as_ipv4() {
        assert!(allowed(&["127.0.0.1"], "http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"));
        assert!(allowed(&["::ffff:127.0.0.1"], "http://127.0.0.1/", "127.0.0.1"));
        assert!(!allowed(&["*"], "http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"));
    }

    #[test]
    fn a_name_that_nothing_covers_is_not_looked_up() {
        let error = rules(&["api.example.com"]).check_target(&target("https://other.example/")).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "other.example:443 is refused: no entry of the allow-list covers it; to allow it, add \
             `other.example:443` to `outbound.allow` in the configuration"
        );
    }

    #[test]
    fn entries_that_are_not_understood_are_named() {
        for entry in ["https://a.example", "a.example:99999", "a*.example", "*.", "", "10.0.0.0/40", "a b", "a/b"] {
            let error = Rules::parse("outbound.allow", &[entry.to_owned()]).expect_err(entry);
            assert!(error.to_string().starts_with(&format!("`{entry}` in outbound.allow")), "{error}");
        }
    }

    #[test]
    fn the_configuration_refuses_unknown_keys() {
        let policy: OutboundPolicy =
            serde_json::from_str(r#"{"allow":["localhost"],"ca-file":"/x"}"#).expect("a policy");
        assert_eq!(policy.allow, ["localhost"]);
        assert!(serde_json::from_str::<OutboundPolicy>(r#"{"deny":[]}"#).is_err());
    }
}
