//! Paths of the API, for the `Location` header and for clients. Ids go in percent-encoded.

use std::fmt::Write as _;

/// One segment of a path: everything but RFC 3986's unreserved characters is percent-encoded.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    // `.` and `..` would be taken for steps in the tree.
    if matches!(out.as_str(), "." | "..") { out.replace('.', "%2E") } else { out }
}

/// `/v1/instances/{id}`
pub fn instance(id: &str) -> String {
    format!("/v1/instances/{}", segment(id))
}

/// `/v1/entities/{name}/{key}`
pub fn entity(name: &str, key: &str) -> String {
    format!("/v1/entities/{}/{}", segment(name), segment(key))
}

/// `/v1/components/{name}/{version}`
pub fn component(name: &str, version: &str) -> String {
    format!("/v1/components/{}/{}", segment(name), segment(version))
}

/// `/v1/schedules/{name}`
pub fn schedule(name: &str) -> String {
    format!("/v1/schedules/{}", segment(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_with_a_meaning_in_urls_are_encoded() {
        assert_eq!(instance("order 7/ä?%"), "/v1/instances/order%207%2F%C3%A4%3F%25");
        assert_eq!(component("job", "1.0.0-rc.1"), "/v1/components/job/1.0.0-rc.1");
        assert_eq!(instance(".."), "/v1/instances/%2E%2E");
    }
}
