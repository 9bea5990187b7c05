//! Keys as bytes. Numbers are big-endian and signed ones have their sign bit flipped, so that the order of
//! the bytes is the order of the things: a scan of the database is a scan in order.

use crate::error::StoreError;
use crate::rows::{InstanceStateTag, RowIndexKeys, TimerRow, UnderWay};
use rehydrate_core::{EventId, InstanceKey, MessageId, RunNumber, TimerPurpose, Timestamp};

/// Bytes of `instance | run`.
pub(crate) const RUN_BYTES: usize = 20;
/// Bytes of `instance | run | number`: events and log lines.
pub(crate) const NUMBERED_BYTES: usize = RUN_BYTES + 8;
/// Bytes of `due | instance | run | op | purpose`.
pub(crate) const TIMER_BYTES: usize = 8 + NUMBERED_BYTES + 1;
/// Bytes of a message's id.
pub(crate) const MESSAGE_BYTES: usize = NUMBERED_BYTES + 5;
/// Bytes of `state | newest first | instance`.
pub(crate) const INDEX_BYTES: usize = 1 + 8 + 16;

/// `instance | run`.
pub(crate) fn run(key: InstanceKey, run: RunNumber) -> [u8; RUN_BYTES] {
    let mut bytes = [0; RUN_BYTES];
    bytes[..16].copy_from_slice(&key.0);
    bytes[16..].copy_from_slice(&run.0.to_be_bytes());
    bytes
}

/// `instance | run | number`.
pub(crate) fn numbered(key: InstanceKey, of: RunNumber, number: u64) -> [u8; NUMBERED_BYTES] {
    let mut bytes = [0; NUMBERED_BYTES];
    bytes[..RUN_BYTES].copy_from_slice(&run(key, of));
    bytes[RUN_BYTES..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The parts of `instance | run`.
pub(crate) fn parse_run(what: &str, bytes: &[u8]) -> Result<(InstanceKey, RunNumber), StoreError> {
    let mut parts = Parts { what, left: bytes };
    let parsed = (InstanceKey(parts.take()?), RunNumber(u32::from_be_bytes(parts.take()?)));
    parts.end()?;
    Ok(parsed)
}

/// The parts of a numbered key.
pub(crate) fn parse_numbered(what: &str, bytes: &[u8]) -> Result<(InstanceKey, RunNumber, u64), StoreError> {
    let mut parts = Parts { what, left: bytes };
    let parsed = (InstanceKey(parts.take()?), RunNumber(u32::from_be_bytes(parts.take()?)), parts.number()?);
    parts.end()?;
    Ok(parsed)
}

/// A point in time, in order.
pub(crate) fn time(at: Timestamp) -> [u8; 8] {
    (at.0 ^ i64::MIN).to_be_bytes()
}

fn parse_time(bytes: [u8; 8]) -> Timestamp {
    Timestamp(i64::from_be_bytes(bytes) ^ i64::MIN)
}

/// A timer; the key is the whole row.
pub(crate) fn timer(row: &TimerRow) -> [u8; TIMER_BYTES] {
    let mut bytes = [0; TIMER_BYTES];
    bytes[..8].copy_from_slice(&time(row.due));
    bytes[8..8 + NUMBERED_BYTES].copy_from_slice(&numbered(row.key, row.run, row.op.0));
    bytes[TIMER_BYTES - 1] = match row.purpose {
        TimerPurpose::Timer => 0,
        TimerPurpose::Retry => 1,
        TimerPurpose::ScheduleToClose => 2,
        TimerPurpose::CallbackExpiry => 3,
    };
    bytes
}

/// A timer from its key.
pub(crate) fn parse_timer(bytes: &[u8]) -> Result<TimerRow, StoreError> {
    let mut parts = Parts { what: "a timer's key", left: bytes };
    let due = parse_time(parts.take()?);
    let key = InstanceKey(parts.take()?);
    let run = RunNumber(u32::from_be_bytes(parts.take()?));
    let op = EventId(parts.number()?);
    let [purpose] = parts.take()?;
    let purpose = match purpose {
        0 => TimerPurpose::Timer,
        1 => TimerPurpose::Retry,
        2 => TimerPurpose::ScheduleToClose,
        3 => TimerPurpose::CallbackExpiry,
        _ => return Err(parts.damaged()),
    };
    parts.end()?;
    Ok(TimerRow { due, key, run, op, purpose })
}

/// What a run has under way, as a byte: a bit for each kind.
pub(crate) fn under_way(under_way: UnderWay) -> [u8; 1] {
    [u8::from(under_way.activities) | u8::from(under_way.guest) << 1]
}

/// What a run has under way, from its byte.
pub(crate) fn parse_under_way(bytes: &[u8]) -> Option<UnderWay> {
    match bytes {
        [bits @ 1..=3] => Some(UnderWay { activities: bits & 1 != 0, guest: bits & 2 != 0 }),
        _ => None,
    }
}

/// The byte of a state in the index.
pub(crate) fn state(tag: InstanceStateTag) -> u8 {
    match tag {
        InstanceStateTag::Running => 0,
        InstanceStateTag::Paused => 1,
        InstanceStateTag::Completed => 2,
        InstanceStateTag::Failed => 3,
        InstanceStateTag::Cancelled => 4,
        InstanceStateTag::Terminated => 5,
        InstanceStateTag::Suspended => 6,
    }
}

/// A point in time, in the opposite order.
pub(crate) fn newest_first(at: Timestamp) -> [u8; 8] {
    time(at).map(|byte| !byte)
}

/// An index entry: `state | created, newest first | instance`.
pub(crate) fn index(keys: RowIndexKeys, key: InstanceKey) -> [u8; INDEX_BYTES] {
    let mut bytes = [0; INDEX_BYTES];
    bytes[0] = state(keys.state);
    bytes[1..9].copy_from_slice(&newest_first(keys.created));
    bytes[9..].copy_from_slice(&key.0);
    bytes
}

/// The time and instance of an index entry.
pub(crate) fn parse_index(bytes: &[u8]) -> Result<(Timestamp, InstanceKey), StoreError> {
    let mut parts = Parts { what: "an index entry's key", left: bytes };
    let [_state] = parts.take()?;
    let created: [u8; 8] = parts.take()?;
    let key = InstanceKey(parts.take()?);
    parts.end()?;
    Ok((parse_time(created.map(|byte| !byte)), key))
}

/// Two texts as one key: the first one's length in front, so that no two pairs share a key.
pub(crate) fn pair(first: &str, second: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + first.len() + second.len());
    bytes.extend_from_slice(&wide(first.len()).to_be_bytes());
    bytes.extend_from_slice(first.as_bytes());
    bytes.extend_from_slice(second.as_bytes());
    bytes
}

/// The smallest key greater than this one.
pub(crate) fn just_after(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 1);
    bytes.extend_from_slice(key);
    bytes.push(0);
    bytes
}

/// `sender | run | event | part | is an answer`: the order in which a sender's messages were sent.
pub(crate) fn message(id: MessageId) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    bytes[..NUMBERED_BYTES].copy_from_slice(&numbered(id.sender, id.run, id.event.0));
    bytes[NUMBERED_BYTES..NUMBERED_BYTES + 4].copy_from_slice(&id.part.to_be_bytes());
    bytes[MESSAGE_BYTES - 1] = u8::from(id.is_answer);
    bytes
}

/// What the keys of an entity's values begin with.
pub(crate) fn entity_values(id: &str) -> Vec<u8> {
    pair(id, "")
}

/// A length as the number that is stored.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

struct Parts<'a> {
    what: &'a str,
    left: &'a [u8],
}

impl Parts<'_> {
    fn damaged(&self) -> StoreError {
        StoreError::Damaged { what: self.what.to_owned(), reason: "it is not such a key".to_owned() }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (taken, left) = self.left.split_first_chunk::<N>().ok_or_else(|| self.damaged())?;
        self.left = left;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u64, StoreError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn end(&self) -> Result<(), StoreError> {
        if self.left.is_empty() { Ok(()) } else { Err(self.damaged()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_times_are_in_the_order_of_times() {
        let times = [i64::MIN, -1_000_000_007, -1, 0, 1, 255, 256, i64::MAX].map(Timestamp);
        for pair in times.windows(2) {
            assert!(time(pair[0]) < time(pair[1]));
            assert!(newest_first(pair[0]) > newest_first(pair[1]));
        }
    }

    #[test]
    fn keys_of_a_wrong_length_or_purpose_are_damage_not_a_panic() {
        let row = TimerRow {
            due: Timestamp(-5),
            key: InstanceKey([7; 16]),
            run: RunNumber(3),
            op: EventId(9),
            purpose: TimerPurpose::CallbackExpiry,
        };
        let bytes = timer(&row);
        assert_eq!(parse_timer(&bytes), Ok(row));
        for length in 0..bytes.len() {
            assert!(matches!(parse_timer(&bytes[..length]), Err(StoreError::Damaged { .. })));
        }
        let mut unknown = bytes;
        unknown[TIMER_BYTES - 1] = 200;
        assert!(matches!(parse_timer(&unknown), Err(StoreError::Damaged { .. })));
        assert!(matches!(parse_timer(&just_after(&bytes)), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn pairs_of_texts_never_share_a_key() {
        assert_ne!(pair("ab", "c"), pair("a", "bc"));
    }
}
