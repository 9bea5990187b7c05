//! Reads values that a client may have encoded as JSON twice.

use serde::de::{DeserializeOwned, Deserializer, Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value from a client of Durable Functions: its client for Python sends, as the input of a start, as an event or as
/// the input of an entity's operation, a JSON string whose text is the JSON of the value. The host hands on what was
/// sent; this reads both forms, as the type of a workflow's or operation's input or of a signal.
///
/// A string whose text is a `T` is taken for that `T`; with types that have strings among their values, such as
/// [`Value`], a string `"1"` that was encoded once is therefore read as `1`. It is written as the value alone.
///
/// ```
/// use rehydrate::Unwrapped;
///
/// let twice: Unwrapped<u64> = serde_json::from_str(r#""17""#)?;
/// let once: Unwrapped<u64> = serde_json::from_str("17")?;
/// assert_eq!((twice.0, once.0), (17, 17));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Unwrapped<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Unwrapped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let inner = value.as_str().and_then(|text| serde_json::from_str(text).ok());
        inner.map_or_else(|| T::deserialize(value).map_err(D::Error::custom), Ok).map(Unwrapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned>(json: &str) -> Result<T, serde_json::Error> {
        serde_json::from_str::<Unwrapped<T>>(json).map(|read| read.0)
    }

    #[test]
    fn one_layer_of_encoding_is_taken_off_and_no_more() {
        assert_eq!(read::<Vec<u8>>(r#""[1, 2]""#).unwrap(), [1, 2]);
        assert_eq!(read::<Vec<u8>>("[1, 2]").unwrap(), [1, 2]);
        assert_eq!(read::<Option<u8>>(r#""null""#).unwrap(), None);
        assert_eq!(read::<String>(r#""\"text\"""#).unwrap(), "text");
        assert_eq!(read::<String>(r#""\"\\\"text\\\"\"""#).unwrap(), r#""text""#);
    }

    #[test]
    fn a_string_that_is_no_json_of_the_type_is_the_string() {
        assert_eq!(read::<String>(r#""text""#).unwrap(), "text");
        assert_eq!(read::<String>(r#""17""#).unwrap(), "17");
        assert_eq!(read::<Value>(r#""text""#).unwrap(), "text");
        let error = read::<u8>(r#""text""#).unwrap_err().to_string();
        assert!(error.contains("\"text\""), "{error}");
    }
}
