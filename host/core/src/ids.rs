//! The names of things: every id is a type of its own, so that none can stand for another.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest instance id, in characters.
pub const INSTANCE_ID_CHARS_MAX: usize = 256;

/// An instance's id as the user knows it: 1 to 256 characters, none of `/ \ # ?` nor a control
/// character, and no `@` in front.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
pub struct InstanceId(String);

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        InstanceId::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a text is not an instance id.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidInstanceId {
    /// Nothing was given.
    #[error("the instance id is empty; give 1 to {INSTANCE_ID_CHARS_MAX} characters")]
    Empty,
    /// Too long.
    #[error("the instance id has {chars} characters; the limit is {INSTANCE_ID_CHARS_MAX}")]
    TooLong {
        /// How many characters it has.
        chars: usize,
    },
    /// `@` is kept for entities.
    #[error("the instance id starts with `@`, which is reserved; choose another first character")]
    Reserved,
    /// `.` and `..` are removed from the path of a URL by whoever sends it, so such an instance could not be named.
    #[error("the instance id is `{found}`, which no URL can name; choose another")]
    Dots {
        /// The id.
        found: String,
    },
    /// A character that has a meaning in URLs or can't be shown.
    #[error("the instance id has the character {found:?}; `/`, `\\`, `#`, `?` and control characters are not allowed")]
    Character {
        /// The first such character.
        found: char,
    },
}

impl InstanceId {
    /// Checks a text and makes it an id.
    pub fn new(text: &str) -> Result<Self, InvalidInstanceId> {
        let chars = text.chars().count();
        if chars == 0 {
            return Err(InvalidInstanceId::Empty);
        }
        if chars > INSTANCE_ID_CHARS_MAX {
            return Err(InvalidInstanceId::TooLong { chars });
        }
        if text.starts_with('@') {
            return Err(InvalidInstanceId::Reserved);
        }
        if matches!(text, "." | "..") {
            return Err(InvalidInstanceId::Dots { found: text.to_owned() });
        }
        match text.chars().find(|c| matches!(c, '/' | '\\' | '#' | '?') || c.is_control()) {
            Some(found) => Err(InvalidInstanceId::Character { found }),
            None => Ok(InstanceId(text.to_owned())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An instance's key in the store: the first 16 bytes of the SHA-256 of its id, made by the runtime.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceKey(pub [u8; 16]);

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

/// One generation of an instance, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct RunNumber(pub u32);

impl RunNumber {
    /// The first run.
    pub const FIRST: RunNumber = RunNumber(1);

    /// The run after this one.
    pub fn next(self) -> RunNumber {
        RunNumber(self.0.saturating_add(1))
    }
}

/// An event's place in the history of its run: gapless from 1. Zero means "before the first".
/// An operation is known by the id of the event that began it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct EventId(pub u64);

impl EventId {
    /// Before the first event.
    pub const NONE: EventId = EventId(0);

    /// The id after this one.
    pub fn next(self) -> EventId {
        EventId(self.0.saturating_add(1))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An attempt of an activity, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct AttemptNumber(pub u32);

impl AttemptNumber {
    /// The first attempt.
    pub const FIRST: AttemptNumber = AttemptNumber(1);

    /// The attempt after this one.
    pub fn next(self) -> AttemptNumber {
        AttemptNumber(self.0.saturating_add(1))
    }
}

/// The SHA-256 of a component's bytes, or of a callback's body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

fn fmt_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_refused_for_each_reason_by_name() {
        assert_eq!(InstanceId::new(""), Err(InvalidInstanceId::Empty));
        assert_eq!(InstanceId::new("@entity"), Err(InvalidInstanceId::Reserved));
        for dots in [".", ".."] {
            assert_eq!(InstanceId::new(dots), Err(InvalidInstanceId::Dots { found: dots.to_owned() }));
        }
        assert!(InstanceId::new("...").is_ok());
        assert_eq!(InstanceId::new("a/b"), Err(InvalidInstanceId::Character { found: '/' }));
        assert_eq!(InstanceId::new("a\u{7}"), Err(InvalidInstanceId::Character { found: '\u{7}' }));
        assert_eq!(InstanceId::new(&"ä".repeat(257)), Err(InvalidInstanceId::TooLong { chars: 257 }));
        assert!(InstanceId::new(&"ä".repeat(256)).is_ok());
    }

    #[test]
    fn a_digest_reads_as_hex() {
        assert_eq!(Digest([0xab; 32]).to_string(), "ab".repeat(32));
    }
}
