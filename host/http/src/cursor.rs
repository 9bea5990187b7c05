//! The cursor of a listing: where the last page ended, as opaque text.
//!
//! Clients must not read or make it; a version byte lets its content change.

use crate::problem::Problem;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rehydrate_runtime::core::{InstanceKey, Timestamp};
use rehydrate_runtime::store::Cursor;

const VERSION: u8 = 1;
const LEN_BYTES: usize = 1 + 8 + 16;

/// The cursor as base64url text.
pub fn encode(cursor: &Cursor) -> String {
    let mut bytes = [0; LEN_BYTES];
    bytes[0] = VERSION;
    bytes[1..9].copy_from_slice(&cursor.created.0.to_be_bytes());
    bytes[9..].copy_from_slice(&cursor.key.0);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The cursor from text that a client gave; anything that [`encode`] did not make is a 400.
pub fn decode(text: &str) -> Result<Cursor, Problem> {
    let bad = || {
        Problem::invalid("cursor.invalid", "the cursor is not one of this host; list from the start, without `cursor`")
    };
    let bytes: [u8; LEN_BYTES] = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?.try_into().map_err(|_| bad())?;
    let (&[VERSION], rest) = bytes.split_at(1) else { return Err(bad()) };
    let (created, key) = rest.split_at(8);
    let created = i64::from_be_bytes(created.try_into().map_err(|_| bad())?);
    let key: [u8; 16] = key.try_into().map_err(|_| bad())?;
    Ok(Cursor { created: Timestamp(created), key: InstanceKey(key) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        for created in [i64::MIN, -1, 0, 1_700_000_000_000_000_000, i64::MAX] {
            let cursor = Cursor { created: Timestamp(created), key: InstanceKey([0xfe; 16]) };
            let back = decode(&encode(&cursor)).expect("a cursor");
            assert_eq!((back.created, back.key), (cursor.created, cursor.key));
        }
    }

    #[test]
    fn other_text_is_a_400_and_never_a_panic() {
        let of_the_future = URL_SAFE_NO_PAD.encode([2; LEN_BYTES]);
        for text in ["", "a", "====", "ää", "AQ", of_the_future.as_str()] {
            let problem = decode(text).expect_err(text);
            assert_eq!((problem.status, problem.code.as_str()), (400, "cursor.invalid"));
        }
    }
}
