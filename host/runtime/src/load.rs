//! Bringing an instance back from the store: its row, its events, and the state that they make.

use crate::catalog::internal;
use crate::error::RuntimeError;
use rehydrate_core::{Event, EventId, InstanceKey, InstanceState, RunNumber};
use rehydrate_store::{InstanceRow, Store};

/// Events read at once.
const PAGE: usize = 4096;

/// Events read without leaving the async thread to others. Most histories end before.
const SHORT: usize = 256;

/// An instance as the store has it.
pub struct Loaded {
    /// Its row.
    pub row: InstanceRow,
    /// All events of its current run.
    pub events: Vec<Event>,
    /// What they make.
    pub state: InstanceState,
}

/// Events of a run from `from` on, at most `limit`.
pub fn events(
    store: &dyn Store,
    key: InstanceKey,
    run: RunNumber,
    from: EventId,
    limit: usize,
) -> Result<Vec<Event>, RuntimeError> {
    let rows = store.events(key, run, from, limit)?;
    let decode = |(id, bytes): (EventId, Vec<u8>)| Event::decode(id, &bytes).map_err(|e| internal(&e.to_string()));
    rows.into_iter().map(decode).collect()
}

/// All events of a run. A long history is read where blocking is allowed.
pub fn history(store: &dyn Store, key: InstanceKey, run: RunNumber) -> Result<Vec<Event>, RuntimeError> {
    let first = events(store, key, run, EventId(1), SHORT)?;
    if first.len() < SHORT { Ok(first) } else { tokio::task::block_in_place(|| rest(store, key, run, first)) }
}

/// These events and all that follow them.
fn rest(store: &dyn Store, key: InstanceKey, run: RunNumber, mut all: Vec<Event>) -> Result<Vec<Event>, RuntimeError> {
    loop {
        let from = all.last().map_or(EventId(1), |event| event.id.next());
        let page = events(store, key, run, from, PAGE)?;
        let done = page.len() < PAGE;
        all.extend(page);
        if done {
            return Ok(all);
        }
    }
}

/// One event of a run.
pub fn event(store: &dyn Store, key: InstanceKey, run: RunNumber, id: EventId) -> Result<Option<Event>, RuntimeError> {
    let bytes = store.event(key, run, id)?;
    bytes.map(|bytes| Event::decode(id, &bytes).map_err(|error| internal(&error.to_string()))).transpose()
}

/// The state that a run's events make, keeping that many ended activities.
pub fn fold(events: &[Event], run: RunNumber, ended_activities_kept: usize) -> InstanceState {
    let mut state = InstanceState::new(run, ended_activities_kept);
    let mut effects = Vec::new();
    for event in events {
        state.apply(event, &mut effects);
        effects.clear();
    }
    state
}

/// The instance, if there is one.
pub fn instance(store: &dyn Store, key: InstanceKey) -> Result<Option<Loaded>, RuntimeError> {
    let Some(mut row) = store.instance(key)? else { return Ok(None) };
    let events = history(store, key, row.run)?;
    let run = row.run;
    let state = match events.len() < SHORT {
        true => fold(&events, run, 0),
        false => tokio::task::block_in_place(|| fold(&events, run, 0)),
    };
    if state.last < row.last_event {
        let text = format!("instance `{}` has {} events but its row says {}", row.id, state.last, row.last_event);
        return Err(internal(&text));
    }
    row.last_event = state.last;
    row.updated = row.updated.max(state.last_time);
    row.ran_through = ran_through(row.ran_through, &events);
    Ok(Some(Loaded { row, events, state }))
}

/// The inbound event through which the guest is known to have run: a turn that left commands was complete, so
/// their cause says more than the row where that is older.
pub fn ran_through(of_row: EventId, events: &[Event]) -> EventId {
    events.iter().map(|event| event.cause).fold(of_row, EventId::max)
}

/// Brings a stored row up to the last event of its run.
pub fn refresh(store: &dyn Store, key: InstanceKey, row: &mut InstanceRow) -> Result<(), RuntimeError> {
    if row.state.is_closed() {
        return Ok(());
    }
    if let Some((id, bytes)) = store.last_event(key, row.run)? {
        let last = Event::decode(id, &bytes).map_err(|error| internal(&error.to_string()))?;
        row.last_event = row.last_event.max(last.id);
        row.updated = row.updated.max(last.time);
    }
    Ok(())
}
