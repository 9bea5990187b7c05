//! Secrets: named in the configuration, put in at send, bound to the hosts they are meant for.
//!
//! A request says `{{secret:NAME}}` where the value shall stand; histories, inputs and logs hold only that.
//! A value must never be in an error, in `Debug` output or in what an activity returns.

use super::error::{OutboundConfigError, OutboundError};
use super::mask::{Masker, URL_ENCODED, json_escaped};
use super::policy::Rules;
use super::target::{Target, TargetHost};
use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A `[secrets.NAME]` table of the configuration. Exactly one of `env` and `file` is given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecretConfig {
    /// The environment variable that holds the value.
    pub env: Option<String>,
    /// The file that holds the value; a line break at its end is left out.
    pub file: Option<PathBuf>,
    /// Where it may be sent; entries as in `outbound.allow`. At least one.
    pub hosts: Vec<String>,
    /// Whether it may be sent without TLS to another host than this machine. Default: no.
    pub plain_http: bool,
}

/// The value of a secret. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// Wraps a value.
    pub fn new(value: String) -> SecretValue {
        SecretValue(value)
    }

    /// The value, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue([redacted])")
    }
}

#[derive(Clone, Debug)]
struct Secret {
    value: SecretValue,
    hosts: Rules,
    plain_http: bool,
}

/// All secrets of the configuration, read once at start.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    by_name: BTreeMap<String, Secret>,
    masker: Masker,
}

/// Where in a request a secret is put, which decides how it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A header value or a text body: as it is.
    Verbatim,
    /// JSON text, inside a string.
    Json,
    /// The path or query of a URL.
    Url,
}

/// Shorter values would be found, and masked, all over ordinary text.
const VALUE_BYTES_MIN: usize = 8;
const VALUE_BYTES_MAX: usize = 64 << 10;
const OPEN: &str = "{{secret:";
const CLOSE: &str = "}}";

impl Secrets {
    /// Reads the secrets from the environment and from files.
    pub fn load(configs: &BTreeMap<String, SecretConfig>) -> Result<Secrets, OutboundConfigError> {
        Secrets::load_with(configs, |variable| std::env::var(variable).ok())
    }

    /// The same with another environment.
    pub fn load_with(
        configs: &BTreeMap<String, SecretConfig>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Secrets, OutboundConfigError> {
        let mut by_name = BTreeMap::new();
        for (name, config) in configs {
            by_name.insert(name.clone(), load_one(name, config, &env)?);
        }
        let values = by_name.iter().map(|(name, secret)| (name.as_str(), &secret.value));
        let masker = Masker::new(values).ok_or_else(|| OutboundConfigError::Secret {
            name: by_name.keys().cloned().collect::<Vec<_>>().join("`, `"),
            reason: "they are too many and too long together; configure fewer".to_owned(),
        })?;
        Ok(Secrets { by_name, masker })
    }

    /// What masks these secrets.
    pub fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Puts the secrets that `text` names in their places. Borrowed if it names none.
    pub(crate) fn expand<'a>(&self, text: &'a str, place: Place, to: &Target) -> Result<Cow<'a, str>, OutboundError> {
        if !text.contains(OPEN) {
            return Ok(Cow::Borrowed(text));
        }
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(OPEN) {
            expanded.push_str(&rest[..at]);
            let after = &rest[at + OPEN.len()..];
            let (name, tail) = after.split_once(CLOSE).ok_or_else(unclosed)?;
            let value = self.lookup(name, to)?.expose();
            match place {
                Place::Verbatim => expanded.push_str(value),
                Place::Json => expanded.push_str(&json_escaped(value)),
                Place::Url => expanded.extend(utf8_percent_encode(value, URL_ENCODED)),
            }
            rest = tail;
        }
        expanded.push_str(rest);
        Ok(Cow::Owned(expanded))
    }

    fn lookup(&self, name: &str, to: &Target) -> Result<&SecretValue, OutboundError> {
        if !is_name(name) {
            return Err(unclosed());
        }
        let refuse = |reason: String| OutboundError::Secret { reason };
        let secret = self.by_name.get(name).ok_or_else(|| {
            refuse(format!(
                "there is no secret `{name}`; add `[secrets.{name}]` with `env` or `file`, and `hosts`, to the \
                 configuration"
            ))
        })?;
        if !secret.hosts.names(to) {
            return Err(refuse(format!(
                "secret `{name}` is not for {to}; if it is meant to go there, add `{}` to `secrets.{name}.hosts`",
                to.entry()
            )));
        }
        if !to.https && !secret.plain_http && !is_this_machine(to) {
            return Err(refuse(format!(
                "secret `{name}` is not sent to {to} without TLS; use https, or set `secrets.{name}.plain-http = true`"
            )));
        }
        Ok(&secret.value)
    }
}

/// Whether the text names a secret, or tries to.
pub(crate) fn mentions_secret(text: &str) -> bool {
    text.contains(OPEN)
}

fn load_one(
    name: &str,
    config: &SecretConfig,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Secret, OutboundConfigError> {
    let error = |reason: String| OutboundConfigError::Secret { name: name.to_owned(), reason };
    if !is_name(name) {
        return Err(error("a name has 1 to 64 letters, digits, `_`, `-` or `.`; rename it".to_owned()));
    }
    let value = match (&config.env, &config.file) {
        (Some(variable), None) => {
            env(variable).ok_or_else(|| error(format!("the environment variable {variable} is not set; set it")))?
        }
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|e| error(format!("{}: {e}", path.display())))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        _ => return Err(error("give exactly one of `env` and `file`".to_owned())),
    };
    if !(VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&value.len()) {
        return Err(error(format!(
            "its value has {} bytes; {VALUE_BYTES_MIN} to {VALUE_BYTES_MAX} can be masked reliably",
            value.len()
        )));
    }
    if config.hosts.is_empty() {
        return Err(error("`hosts` is empty; name the hosts it may be sent to".to_owned()));
    }
    let hosts = Rules::parse(&format!("secrets.{name}.hosts"), &config.hosts)?;
    Ok(Secret { value: SecretValue::new(value), hosts, plain_http: config.plain_http })
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn is_this_machine(target: &Target) -> bool {
    match &target.host {
        TargetHost::Name(name) => name == "localhost",
        TargetHost::Ip(ip) => ip.is_loopback(),
    }
}

fn unclosed() -> OutboundError {
    OutboundError::Secret {
        reason: format!("`{OPEN}` is not followed by a name and `{CLOSE}`; write {OPEN}NAME{CLOSE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::parse_url;
    use super::*;

    fn config(hosts: &[&str]) -> SecretConfig {
        let hosts = hosts.iter().map(|h| (*h).to_owned()).collect();
        SecretConfig { env: Some("VAR".to_owned()), hosts, ..SecretConfig::default() }
    }

    fn load(config: SecretConfig, value: &str) -> Result<Secrets, OutboundConfigError> {
        Secrets::load_with(&BTreeMap::from([("KEY".to_owned(), config)]), |_| Some(value.to_owned()))
    }

    fn target(url: &str) -> Target {
        Target::of_url(&parse_url(url).expect("a URL")).expect("a target")
    }

    #[test]
    fn a_secret_goes_only_to_its_hosts() {
        let secrets = load(config(&["api.example.com"]), "s3cr3t-value").expect("secrets");
        let put =
            |url: &str| secrets.expand("Bearer {{secret:KEY}}!", Place::Verbatim, &target(url)).map(Cow::into_owned);
        assert_eq!(put("https://api.example.com/").expect("expanded"), "Bearer s3cr3t-value!");
        for url in ["https://other.example.com/", "https://api.example.com.evil.example/", "http://api.example.com/"] {
            let error = put(url).expect_err(url);
            assert_eq!(error.code(), "outbound.secret");
            assert!(!error.is_retryable() && !error.to_string().contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_unless_the_secret_says_so() {
        let local = load(config(&["localhost"]), "s3cr3t-value").expect("secrets");
        assert!(local.expand("{{secret:KEY}}", Place::Verbatim, &target("http://127.0.0.1:1/")).is_ok());
        let plain = SecretConfig { plain_http: true, ..config(&["api.example.com"]) };
        let plain = load(plain, "s3cr3t-value").expect("secrets");
        assert!(plain.expand("{{secret:KEY}}", Place::Verbatim, &target("http://api.example.com/")).is_ok());
    }

    #[test]
    fn a_value_is_written_for_its_place() {
        let secrets = load(config(&["a.example"]), "a\"b&c/ dé").expect("secrets");
        let put = |place| secrets.expand("<{{secret:KEY}}>", place, &target("https://a.example/")).expect("expanded");
        assert_eq!(put(Place::Verbatim), "<a\"b&c/ dé>");
        assert_eq!(put(Place::Json), r#"<a\"b&c/ dé>"#);
        assert_eq!(put(Place::Url), "<a%22b%26c%2F%20d%C3%A9>");
    }

    #[test]
    fn a_value_that_looks_like_a_template_is_not_expanded_again() {
        let secrets = load(config(&["a.example"]), "{{secret:KEY}}").expect("secrets");
        let put = secrets.expand("{{secret:KEY}}", Place::Verbatim, &target("https://a.example/"));
        assert_eq!(put.expect("expanded"), "{{secret:KEY}}");
    }

    #[test]
    fn unknown_and_malformed_names_are_clear_failures() {
        let secrets = load(config(&["a.example"]), "s3cr3t-value").expect("secrets");
        for text in ["{{secret:OTHER}}", "{{secret:KEY", "{{secret: KEY}}", "{{secret:}}"] {
            let error = secrets.expand(text, Place::Verbatim, &target("https://a.example/")).expect_err(text);
            assert!(!error.is_retryable(), "{error}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_kept_is_refused_at_start() {
        assert!(load(config(&[]), "s3cr3t-value").is_err());
        let short = load(config(&["a.example"]), "short").expect_err("too short");
        assert!(!short.to_string().contains("short"), "{short}");
        assert!(load(SecretConfig { file: Some("/x".into()), ..config(&["a.example"]) }, "s3cr3t-value").is_err());
        let unset = Secrets::load_with(&BTreeMap::from([("KEY".to_owned(), config(&["a.example"]))]), |_| None);
        assert!(unset.expect_err("unset").to_string().contains("VAR"));
    }

    #[test]
    fn debug_output_shows_no_value() {
        let secrets = load(config(&["a.example"]), "s3cr3t-value").expect("secrets");
        assert!(!format!("{secrets:?}").contains("s3cr3t"));
    }
}
