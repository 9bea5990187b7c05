//! Callback tokens: where a callback is, and a keyed MAC that says that we made it.
//!
//! `rhcb_` and base64url of: version, key id, instance key, run, event, HMAC-SHA-256 of all before. The MAC
//! is checked in constant time before anything is read; no index of tokens exists, so none can leak. The
//! keys lie in the data directory, readable by the owner only; the newest signs, all verify.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rehydrate_core::replay::CallbackOrigin;
use rehydrate_core::{EventId, InstanceKey, RunNumber};
use rehydrate_guest::CallbackUrls;
use sha2::Sha256;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// What every token starts with; it is what masking looks for.
pub const PREFIX: &str = "rhcb_";

const VERSION: u8 = 1;
const SIGNED_BYTES: usize = 1 + 4 + 16 + 4 + 8;
const MAC_BYTES: usize = 32;
const KEY_FILE: &str = "callback.keys";

/// Where a callback is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Locator {
    /// The instance.
    pub key: InstanceKey,
    /// The run.
    pub run: RunNumber,
    /// The event that created it.
    pub op: EventId,
}

/// The keys that sign tokens.
pub struct TokenKeys {
    keys: BTreeMap<u32, [u8; 32]>,
    current: u32,
}

impl TokenKeys {
    /// Reads the keys of a data directory, or makes the first one.
    pub fn open(data_dir: &Path) -> std::io::Result<TokenKeys> {
        let path = data_dir.join(KEY_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => TokenKeys::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(std::io::Error::other)?;
                write_key(&path, &key)?;
                Ok(TokenKeys { keys: BTreeMap::from([(1, key)]), current: 1 })
            }
            Err(error) => Err(error),
        }
    }

    /// A line a key: its id and 64 hex digits.
    fn parse(text: &str) -> std::io::Result<TokenKeys> {
        let damaged = || {
            let text =
                format!("{KEY_FILE} is not made of lines of a key id and 64 hex digits; restore it from a backup");
            std::io::Error::new(std::io::ErrorKind::InvalidData, text)
        };
        let mut keys = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (id, hex) = line.trim().split_once(' ').ok_or_else(damaged)?;
            let key = unhex(hex).ok_or_else(damaged)?;
            keys.insert(id.parse().map_err(|_| damaged())?, key);
        }
        let current = *keys.last_key_value().ok_or_else(damaged)?.0;
        Ok(TokenKeys { keys, current })
    }

    /// The key that signs new tokens.
    pub fn current(&self) -> u32 {
        self.current
    }

    fn mac(&self, key_id: u32, signed: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.keys.get(&key_id)?).ok()?;
        mac.update(signed);
        Some(mac)
    }

    /// The token of a callback. Without that key it is one that nothing accepts.
    pub fn token(&self, key_id: u32, at: Locator) -> String {
        let mut bytes = Vec::with_capacity(SIGNED_BYTES + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&key_id.to_be_bytes());
        bytes.extend_from_slice(&at.key.0);
        bytes.extend_from_slice(&at.run.0.to_be_bytes());
        bytes.extend_from_slice(&at.op.0.to_be_bytes());
        let mac = self.mac(key_id, &bytes).map(|mac| mac.finalize().into_bytes().to_vec());
        bytes.extend_from_slice(&mac.unwrap_or_else(|| vec![0; MAC_BYTES]));
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Where a token's callback is; none if we did not make it.
    pub fn locate(&self, token: &str) -> Option<Locator> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        if bytes.len() != SIGNED_BYTES + MAC_BYTES || bytes[0] != VERSION {
            return None;
        }
        let (signed, mac) = bytes.split_at(SIGNED_BYTES);
        let number = |range: std::ops::Range<usize>| signed[range].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let key_id = u32::try_from(number(1..5)).ok()?;
        self.mac(key_id, signed)?.verify_slice(mac).ok()?;
        let mut key = [0; 16];
        key.copy_from_slice(&signed[5..21]);
        let run = RunNumber(u32::try_from(number(21..25)).ok()?);
        Some(Locator { key: InstanceKey(key), run, op: EventId(number(25..33)) })
    }
}

fn write_key(path: &Path, key: &[u8; 32]) -> std::io::Result<()> {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = path.with_extension("draft");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "1 {hex}")?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    match path.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(key)
}

/// The URLs of one run's callbacks.
pub struct RunUrls {
    /// The keys.
    pub keys: Arc<TokenKeys>,
    /// The instance.
    pub key: InstanceKey,
    /// The run.
    pub run: RunNumber,
}

impl CallbackUrls for RunUrls {
    fn url(&self, origin: &CallbackOrigin, op: EventId) -> String {
        let token = self.keys.token(origin.key_id, Locator { key: self.key, run: self.run, op });
        format!("{}/callbacks/{token}", origin.base_url)
    }

    fn run(&self) -> RunNumber {
        self.run
    }
}

/// Masks every callback token in a text that is about to be shown.
pub fn mask_tokens(text: &str) -> Cow<'_, str> {
    if !text.contains(PREFIX) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(PREFIX) {
        let after = start + PREFIX.len();
        masked.push_str(&rest[..after]);
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let end = rest[after..].find(|c| !is_token(c)).map_or(rest.len(), |length| after + length);
        masked.push_str("***");
        rest = &rest[end..];
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator() -> Locator {
        Locator { key: InstanceKey([7; 16]), run: RunNumber(3), op: EventId(u64::MAX) }
    }

    fn keys() -> (tempfile::TempDir, TokenKeys) {
        let dir = tempfile::tempdir().unwrap();
        let keys = TokenKeys::open(dir.path()).unwrap();
        (dir, keys)
    }

    #[test]
    fn a_token_finds_its_callback_and_is_the_same_after_a_restart() {
        let (dir, keys) = keys();
        let token = keys.token(1, locator());
        let again = TokenKeys::open(dir.path()).unwrap();
        assert_eq!(again.token(1, locator()), token);
        assert_eq!(again.locate(&token), Some(locator()));
    }

    #[test]
    fn a_token_changed_in_any_place_is_refused() {
        let (_dir, keys) = keys();
        let token = keys.token(1, locator());
        for index in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(keys.locate(&forged), None, "{forged}");
        }
        assert_eq!(keys.locate(""), None);
        assert_eq!(keys.locate(PREFIX), None);
        assert_eq!(keys.locate(&keys.token(9, locator())), None, "a key that does not exist");
    }

    #[test]
    fn the_newest_key_signs_and_older_ones_still_verify() {
        let text = format!("1 {}\n2 {}\n", "ab".repeat(32), "cd".repeat(32));
        let keys = TokenKeys::parse(&text).unwrap();
        assert_eq!(keys.current(), 2);
        assert_eq!(keys.locate(&keys.token(1, locator())), Some(locator()));
        assert!(TokenKeys::parse("1 xyz").is_err());
        assert!(TokenKeys::parse("").is_err());
    }

    #[test]
    fn the_key_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, _keys) = keys();
        let mode = std::fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn tokens_are_masked_wherever_they_stand() {
        let text = r#"{"url":"http://h/callbacks/rhcb_ab-c_9","twice":"rhcb_x rhcb_"}"#;
        let masked = r#"{"url":"http://h/callbacks/rhcb_***","twice":"rhcb_*** rhcb_***"}"#;
        assert_eq!(mask_tokens(text), masked);
        assert_eq!(mask_tokens("nothing"), "nothing");
    }
}
