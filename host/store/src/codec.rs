//! Rows as bytes: a version byte and postcard. Bytes that are not a row are an error that names the row,
//! never a panic.

use crate::error::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of the row format that this build writes.
pub(crate) const ROW_FORMAT: u8 = 1;

/// A row's bytes.
pub(crate) fn encode<T: Serialize>(what: &str, row: &T) -> Result<Vec<u8>, StoreError> {
    // Rows are plain data that postcard can write; should that ever change, nothing half-written may pass.
    postcard::to_extend(row, vec![ROW_FORMAT])
        .map_err(|e| StoreError::Write { what: what.to_owned(), reason: e.to_string() })
}

/// A row from its bytes; `what` names it in errors.
pub(crate) fn decode<T: DeserializeOwned>(what: impl Fn() -> String, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |reason: &str| StoreError::Damaged { what: what(), reason: reason.to_owned() };
    let (format, rest) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
    if *format != ROW_FORMAT {
        return Err(StoreError::NewerFormat { what: what(), found: *format, reads: ROW_FORMAT });
    }
    let (row, left) = postcard::take_from_bytes(rest).map_err(|e| damaged(&e.to_string()))?;
    if left.is_empty() { Ok(row) } else { Err(damaged("bytes are left over")) }
}
