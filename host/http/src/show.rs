//! How the values of an instance are shown: JSON exactly as it was given, without callback tokens.
//!
//! Payloads are never parsed into a tree: order of members and digits of numbers stay as the workflow wrote
//! them, and text nested a million levels deep costs no stack. Every string goes through the masking of
//! tokens, also when it is spelled with escapes. White space between tokens is dropped, so that a payload
//! is one line.

use rehydrate_runtime::core::{Nanos, Timestamp};
use rehydrate_runtime::mask_tokens;
use serde_json::value::RawValue;

/// A text for people, without callback tokens.
pub fn text(text: &str) -> String {
    mask_tokens(text).into_owned()
}

/// A payload without callback tokens. Text that is not JSON (which the host lets nobody store) is shown as a
/// JSON string.
pub fn json(payload: &str) -> Box<RawValue> {
    RawValue::from_string(mask_strings(payload)).unwrap_or_else(|_| as_string(payload))
}

fn as_string(payload: &str) -> Box<RawValue> {
    let quoted = serde_json::to_string(&mask_tokens(payload)).unwrap_or_default();
    RawValue::from_string(quoted).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Copies JSON text, with white space dropped and each string literal masked.
fn mask_strings(payload: &str) -> String {
    let mut out = String::with_capacity(payload.len());
    let mut rest = payload;
    while let Some(at) = rest.find(['"', ' ', '\t', '\r', '\n']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if !rest.starts_with('"') {
            rest = &rest[1..];
            continue;
        }
        let (literal, after) = rest.split_at(literal_len(rest));
        push_masked(&mut out, literal);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Bytes of the string literal that `text` begins with, both quotes counted; all of it if it never ends.
fn literal_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn push_masked(out: &mut String, literal: &str) {
    // A literal that can't be read (a lone surrogate) can't spell a token as a whole; mask what is there.
    let Ok(content) = serde_json::from_str::<String>(literal) else {
        return out.push_str(&mask_tokens(literal));
    };
    let masked = mask_tokens(&content);
    if masked == content {
        return out.push_str(literal);
    }
    out.push_str(&serde_json::to_string(&masked).unwrap_or_else(|_| "\"\"".to_owned()));
}

/// A point in time as RFC 3339 in UTC with nine digits of nanoseconds.
pub fn time(at: Timestamp) -> String {
    time_with_digits(at, 9)
}

/// A point in time as RFC 3339 in UTC with so many digits of the second, at most 9; what lies below them is cut off.
pub fn time_with_digits(at: Timestamp, digits: usize) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.0)) {
        Ok(at) => format!("{at:.digits$}"),
        // Every i64 of nanoseconds lies between the years 1677 and 2262, which jiff covers.
        Err(_) => at.0.to_string(),
    }
}

/// A point in time to the millisecond, for sentences.
pub fn time_in_words(at: Timestamp) -> String {
    time_with_digits(at, 3)
}

/// Reads an RFC 3339 time; out of the host's range saturates.
pub fn parse_time(text: &str) -> Result<Timestamp, jiff::Error> {
    let at: jiff::Timestamp = text.parse()?;
    let nanos = at.as_nanosecond();
    Ok(Timestamp(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })))
}

/// A length of time in milliseconds, with a fraction if it has one.
pub fn millis(length: Nanos) -> f64 {
    let nanos = std::time::Duration::from(length);
    nanos.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payload: &str) -> String {
        json(payload).get().to_owned()
    }

    #[test]
    fn a_payload_keeps_its_order_and_every_digit() {
        let payload = r#"{"z":1,"a":123456789012345678901234567890,"m":1e999,"s":"x \" y\\"}"#;
        assert_eq!(shown(payload), payload);
    }

    #[test]
    fn white_space_between_tokens_is_dropped_and_inside_strings_kept() {
        assert_eq!(shown("{ \"a b\" :\r\n\t[ 1 , \"c  d\" ] }"), r#"{"a b":[1,"c  d"]}"#);
    }

    #[test]
    fn a_token_is_masked_wherever_it_stands_and_however_it_is_spelled() {
        assert_eq!(text("call http://h/callbacks/rhcb_AbC-_9 now"), "call http://h/callbacks/rhcb_*** now");
        let payload = r#"{"rhcb_key1":["x rhcb_abc/reject",{"\u0072hcb_abc":"\u0072hcb\u005fab\u0063\n"}]}"#;
        assert_eq!(shown(payload), r#"{"rhcb_***":["x rhcb_***/reject",{"rhcb_***":"rhcb_***\n"}]}"#);
    }

    #[test]
    fn a_deeply_nested_payload_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
        assert_eq!(shown(&deep).len(), deep.len());
    }

    #[test]
    fn text_that_is_not_json_is_shown_as_a_string() {
        for text in ["", "{", "\"open", "{\"a\":}", "\"\\"] {
            assert!(serde_json::from_str::<String>(&shown(text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_lone_surrogate_is_shown_as_it_is() {
        assert_eq!(shown(r#"["\ud800"]"#), r#"["\ud800"]"#);
    }

    #[test]
    fn times_have_nine_digits_and_come_back() {
        for nanos in [i64::MIN, -1, 0, 1_700_000_000_123_456_789, i64::MAX] {
            let shown = time(Timestamp(nanos));
            assert_eq!(parse_time(&shown).expect("a time"), Timestamp(nanos), "{shown}");
        }
        assert_eq!(time(Timestamp(1_700_000_000_000_000_000)), "2023-11-14T22:13:20.000000000Z");
        assert!(parse_time("yesterday").is_err());
    }
}
