//! Finds the values of secrets in what comes back, and puts something else in their place.
//!
//! A service may echo what it was sent: raw, as a JSON string, percent-encoded or in base64. All of these
//! spellings are looked for. A service that transforms a secret in another way cannot be caught; secrets
//! are therefore bound to hosts in the first place.

use super::secrets::SecretValue;
use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// All but the unreserved characters of RFC 3986.
pub(crate) const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Masks secrets. Cheap to clone; without secrets it does nothing.
#[derive(Clone, Default)]
pub struct Masker {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    finder: AhoCorasick,
    /// By pattern: what was looked for, and the text that takes its place.
    patterns: Vec<(Vec<u8>, String)>,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masker([redacted])")
    }
}

impl Masker {
    /// A masker of these secrets, each with its name. None if the patterns are too many for a finder.
    pub(crate) fn new<'a>(secrets: impl Iterator<Item = (&'a str, &'a SecretValue)>) -> Option<Masker> {
        let mut patterns: Vec<(Vec<u8>, String)> = Vec::new();
        for (name, value) in secrets {
            for spelling in spellings(value.expose()) {
                if !patterns.iter().any(|(known, _)| known == spelling.as_bytes()) {
                    patterns.push((spelling.into_bytes(), format!("[secret:{name}]")));
                }
            }
        }
        if patterns.is_empty() {
            return Some(Masker::default());
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns.iter().map(|(pattern, _)| pattern))
            .ok()?;
        Some(Masker { inner: Some(Arc::new(Inner { finder, patterns })) })
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    /// The text with `[secret:NAME]` wherever a secret stood.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.inner {
            Some(inner) if inner.finder.is_match(text) => {
                let replacements: Vec<&str> = inner.patterns.iter().map(|(_, to)| to.as_str()).collect();
                Cow::Owned(inner.finder.replace_all(text, &replacements))
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// Masks strings, keys and numbers anywhere in the value. True if there was anything to mask.
    /// Recursive: for values that came from a parser with a depth limit.
    pub(crate) fn json(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => items.iter_mut().fold(false, |any, item| self.json(item) | any),
            Value::Object(map) => {
                let any = map.values_mut().fold(false, |any, item| self.json(item) | any);
                if !map.keys().any(|key| matches!(self.text(key), Cow::Owned(_))) {
                    return any;
                }
                *map = std::mem::take(map).into_iter().map(|(k, v)| (self.text(&k).into_owned(), v)).collect();
                true
            }
            Value::Number(number) => match self.text(&number.to_string()) {
                Cow::Owned(masked) => {
                    *value = Value::String(masked);
                    true
                }
                Cow::Borrowed(_) => false,
            },
            Value::Null | Value::Bool(_) => false,
        }
    }

    fn string(&self, text: &mut String) -> bool {
        let Cow::Owned(masked) = self.text(text) else { return false };
        *text = masked;
        true
    }

    /// Masks the values of headers, in place and with the same length.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if self.bytes(&mut bytes) {
                *value = HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static("[secret]"));
            }
        }
    }

    /// Overwrites secrets with asterisks, so that lengths stay true. True if there were any.
    pub(crate) fn bytes(&self, bytes: &mut [u8]) -> bool {
        let Some(inner) = &self.inner else { return false };
        let found: Vec<_> = inner.finder.find_iter(&*bytes).map(|m| m.range()).collect();
        for range in &found {
            bytes[range.clone()].fill(b'*');
        }
        !found.is_empty()
    }

    /// How many of the bytes are settled: what follows them may be, or belong to, a secret that goes on in
    /// the bytes to come. A short secret that may turn out to be the beginning of a longer one is not settled.
    pub(crate) fn settled(&self, bytes: &[u8]) -> usize {
        let Some(inner) = &self.inner else { return bytes.len() };
        let longest = inner.patterns.iter().map(|(pattern, _)| pattern.len() - 1).max().unwrap_or(0);
        let may_begin = |tail: &[u8]| inner.patterns.iter().any(|(p, _)| p.len() > tail.len() && p.starts_with(tail));
        let open = (1..=longest.min(bytes.len())).rev().find(|n| may_begin(&bytes[bytes.len() - n..])).unwrap_or(0);
        let settled = bytes.len() - open;
        let mut found = inner.finder.find_iter(bytes).map(|m| m.range());
        found.find(|range| range.end > settled).map_or(settled, |range| range.start.min(settled))
    }
}

/// The spellings in which a service may repeat a secret.
fn spellings(secret: &str) -> Vec<String> {
    let percent = utf8_percent_encode(secret, URL_ENCODED).to_string();
    vec![
        secret.to_owned(),
        json_escaped(secret),
        percent.replace("%20", "+"),
        lower_hex(&percent),
        percent,
        STANDARD.encode(secret),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
    ]
}

/// The text as it stands between the quotes of a JSON string.
pub(crate) fn json_escaped(text: &str) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Percent-encoding with lower-case digits, which some servers write.
fn lower_hex(percent: &str) -> String {
    let mut digits = 0;
    let lower = |c: char| {
        let is_digit = digits > 0;
        digits = if c == '%' { 2 } else { i32::max(digits - 1, 0) };
        if is_digit { c.to_ascii_lowercase() } else { c }
    };
    percent.chars().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "p&ss \"wörd\"/1";

    fn masker() -> Masker {
        let value = SecretValue::new(SECRET.to_owned());
        Masker::new([("KEY", &value)].into_iter()).expect("a masker")
    }

    #[test]
    fn every_spelling_of_a_secret_is_masked() {
        let masker = masker();
        for spelling in [
            SECRET.to_owned(),
            r#"p&ss \"wörd\"/1"#.to_owned(),
            "p%26ss%20%22w%C3%B6rd%22%2F1".to_owned(),
            "p%26ss%20%22w%c3%b6rd%22%2f1".to_owned(),
            "p%26ss+%22w%C3%B6rd%22%2F1".to_owned(),
            STANDARD.encode(SECRET),
        ] {
            assert_eq!(masker.text(&format!("<{spelling}>")), "<[secret:KEY]>", "{spelling}");
        }
        assert_eq!(masker.text("nothing here"), "nothing here");
    }

    #[test]
    fn json_is_masked_in_strings_keys_and_numbers() {
        let value = SecretValue::new("12345678".to_owned());
        let masker = Masker::new([("PIN", &value)].into_iter()).expect("a masker");
        let mut json = serde_json::json!({"a12345678": [{"n": 12345678, "s": "x12345678"}], "n": 1});
        assert!(masker.json(&mut json));
        assert_eq!(json, serde_json::json!({"a[secret:PIN]": [{"n": "[secret:PIN]", "s": "x[secret:PIN]"}], "n": 1}));
        assert!(!masker.json(&mut serde_json::json!({"n": 1})));
    }

    #[test]
    fn a_secret_cut_by_the_end_of_a_chunk_is_held_back() {
        let masker = masker();
        assert_eq!(masker.settled(b"body p&ss "), 5);
        assert_eq!(masker.settled(b"body p"), 5);
        assert_eq!(masker.settled(b"body"), 4);
        assert_eq!(masker.settled(SECRET.as_bytes()), SECRET.len());
    }

    #[test]
    fn a_secret_that_may_go_on_as_a_longer_one_is_held_back() {
        let (short, long) = ("password".to_owned(), "password-and-more".to_owned());
        let (short, long) = (SecretValue::new(short), SecretValue::new(long));
        let masker = Masker::new([("A", &short), ("B", &long)].into_iter()).expect("a masker");
        assert_eq!(masker.settled(b"x password"), 2);
        assert_eq!(masker.settled(b"x password-and"), 2);
        assert_eq!(masker.settled(b"x password!"), 11);
        assert_eq!(masker.text("x password-and-more"), "x [secret:B]");
    }

    #[test]
    fn a_masker_without_secrets_changes_nothing() {
        let masker = Masker::default();
        assert_eq!(masker.text("x"), "x");
        assert_eq!(masker.settled(b"x"), 1);
    }
}
