//! A page of clean text: lines and fields.

use crate::output;
use std::fmt::Write as _;

/// Most characters of a payload.
const PAYLOAD_CHARS: usize = 2_000;

/// Collects lines; writing to a string cannot fail.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// Adds a line, or several, that far to the right.
    pub fn line(&mut self, depth: usize, text: &str) {
        let indent = "  ".repeat(depth);
        for line in output::clean(text).lines() {
            let _ = writeln!(self.0, "{indent}{line}");
        }
    }

    /// Adds a line with a name in front.
    pub fn field(&mut self, name: &str, text: &str) {
        self.line(0, &format!("{name:<9} {text}"));
    }

    /// All of it.
    pub fn text(self) -> String {
        self.0
    }
}

/// A payload, not longer than people read.
pub fn payload(json: &str) -> String {
    output::brief(json, PAYLOAD_CHARS)
}
