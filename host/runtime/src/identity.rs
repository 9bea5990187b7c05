//! How ids become keys, and the names that a deployment may have.

use crate::error::{ErrorKind, RuntimeError};
use rehydrate_core::{AttemptNumber, Digest, EventId, InstanceId, InstanceKey, RunNumber};
use sha2::{Digest as _, Sha256};

/// The key of an instance: the first half of its id's SHA-256.
pub fn instance_key(id: &str) -> InstanceKey {
    let sum: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let mut key = [0; 16];
    key.copy_from_slice(&sum[..16]);
    InstanceKey(key)
}

/// A checked id and its key.
pub fn checked_id(id: &str) -> Result<(InstanceId, InstanceKey), RuntimeError> {
    let id = InstanceId::new(id)
        .map_err(|error| RuntimeError::new(ErrorKind::Invalid, "instance.invalid-id", error.to_string()))?;
    let key = instance_key(id.as_str());
    Ok((id, key))
}

/// An id for whoever does not choose one.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The digest of some bytes.
pub fn digest(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

/// The key under which an external system may recognise an attempt that it is sent twice.
pub fn idempotency_key(instance: &str, run: RunNumber, op: EventId, attempt: AttemptNumber) -> String {
    format!("{instance}-{}-{op}-{}", run.0, attempt.0)
}

/// Longest name and version of a deployment, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Checks a deployment's name or version: letters, digits and `. _ - +`, for a URL and a file name alike.
pub fn check_name(what: &str, name: &str) -> Result<(), RuntimeError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.len() <= NAME_BYTES_MAX && name.chars().all(fine) {
        return Ok(());
    }
    let message = format!(
        "the {what} `{name}` is not allowed: give 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_`, `-` or `+`, \
         the first a letter or digit"
    );
    Err(RuntimeError::new(ErrorKind::Invalid, "deployment.invalid-name", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_urls_and_files() {
        for good in ["a", "job-with-callback", "1.0.0+build_7"] {
            assert!(check_name("name", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "-a", "a/b", "a b", "ä", &"a".repeat(129)] {
            assert!(check_name("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_keeps_its_parts_apart() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
