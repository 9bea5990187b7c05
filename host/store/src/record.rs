//! The events of one batch as one record: what is written together is kept together, which halves the work of a
//! turn that records what happened and what the guest did about it.
//!
//! A record's key has the id of its first event. A record of one event is that event's bytes. A record of more
//! begins with a zero, which no event begins with, and each event follows behind its length.

use crate::error::StoreError;
use rehydrate_core::EventId;

/// What a record of several events begins with.
const SEVERAL: u8 = 0;

/// Bytes of a length: 32 bits, big-endian.
const LENGTH_BYTES: usize = 4;

/// The record of a batch's events; none for no events.
pub(crate) fn join(events: &[(EventId, Vec<u8>)]) -> Result<Option<(EventId, Vec<u8>)>, StoreError> {
    match events {
        [] => Ok(None),
        // An event that could be taken for several goes behind a length as well.
        [(id, bytes)] if bytes.first().is_some_and(|first| *first != SEVERAL) => Ok(Some((*id, bytes.clone()))),
        [(first, _), ..] => {
            let length = events.iter().map(|(_, bytes)| LENGTH_BYTES + bytes.len()).sum::<usize>();
            let mut record = Vec::with_capacity(1 + length);
            record.push(SEVERAL);
            for (id, bytes) in events {
                let too_long = |_| StoreError::Write {
                    what: format!("event {id}"),
                    reason: format!("it has {} bytes, which no record can hold", bytes.len()),
                };
                record.extend_from_slice(&u32::try_from(bytes.len()).map_err(too_long)?.to_be_bytes());
                record.extend_from_slice(bytes);
            }
            Ok(Some((*first, record)))
        }
    }
}

/// The events of the record whose first event is `first`.
pub(crate) fn split(first: EventId, record: &[u8]) -> Result<Vec<(EventId, &[u8])>, StoreError> {
    let Some((SEVERAL, mut rest)) = record.split_first().map(|(kind, rest)| (*kind, rest)) else {
        return Ok(vec![(first, record)]);
    };
    let mut events = Vec::new();
    let mut id = first;
    while !rest.is_empty() {
        let (bytes, after) = take(rest).ok_or_else(|| StoreError::Damaged {
            what: format!("the record of event {first}"),
            reason: format!("it ends within event {id}"),
        })?;
        events.push((id, bytes));
        rest = after;
        id = id.next();
    }
    Ok(events)
}

fn take(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(all: &[&[u8]]) -> Vec<(EventId, Vec<u8>)> {
        (7..).map(EventId).zip(all.iter().map(|bytes| bytes.to_vec())).collect()
    }

    #[test]
    fn a_record_gives_back_the_events_it_was_made_of() {
        for all in [&[&[1_u8, 2][..]][..], &[&[0]], &[&[]], &[&[1], &[], &[0, 0, 0, 0, 9], &[5; 300]]] {
            let events = events(all);
            let (first, record) = join(&events).unwrap().unwrap();
            let split = split(first, &record).unwrap();
            assert_eq!(split, events.iter().map(|(id, bytes)| (*id, &bytes[..])).collect::<Vec<_>>());
        }
        assert_eq!(join(&[]), Ok(None));
        assert_eq!(join(&events(&[&[1, 2]])).unwrap().unwrap().1, [1, 2], "one event is its own record");
    }

    #[test]
    fn a_record_that_is_cut_is_damage_not_a_panic() {
        let (first, record) = join(&events(&[&[1, 2, 3], &[4]])).unwrap().unwrap();
        let whole = [1, 1 + 4 + 3, record.len()];
        for length in 1..record.len() {
            assert_eq!(split(first, &record[..length]).is_ok(), whole.contains(&length), "{length}");
        }
    }
}
