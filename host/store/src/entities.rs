//! What the store keeps of entities: a row each, and a row for each of their values.

use rehydrate_core::{EventId, Json, Message, RunNumber, Timestamp};
use serde::{Deserialize, Serialize};

/// An entity as it stands now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntityRow {
    /// Its id as text, `@name@key`.
    pub id: String,
    /// When it was first told something.
    pub created: Timestamp,
    /// When it last performed an operation.
    pub last_operation: Timestamp,
    /// The number of that operation; grows from operation to operation, also when the entity was deleted meanwhile.
    pub operation: u64,
    /// Who has locked it.
    pub lock: Option<LockHolder>,
    /// What it was told and can't do while it is locked, oldest first.
    pub waiting: Vec<Message>,
}

/// Who has locked an entity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockHolder {
    /// The instance.
    pub instance: String,
    /// Its run.
    pub run: RunNumber,
    /// The operation that asked for the lock.
    pub op: EventId,
}

/// The change of one entity, as part of a [`Batch`](crate::Batch).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityChange {
    /// Its id as text.
    pub id: String,
    /// The new row; none: the entity is no more.
    pub row: Option<EntityRow>,
    /// Values that are set, or with none removed.
    pub values: Vec<(String, Option<Json>)>,
}

/// Which entities to list. Every condition given must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntityQuery {
    /// Only entities of this name.
    pub name: Option<String>,
    /// Only those whose last operation was then or later.
    pub from: Option<Timestamp>,
    /// Only those whose last operation was then or earlier.
    pub to: Option<Timestamp>,
    /// Only what follows this id: the `next` of the page before.
    pub after: Option<String>,
    /// Rows on the page, at most; zero counts as one.
    pub limit: usize,
    /// Rows to look at for the page, at most; zero counts as one.
    pub scan_max: usize,
}

impl EntityQuery {
    /// Whether a row meets the conditions on its last operation.
    pub(crate) fn wants(&self, row: &EntityRow) -> bool {
        self.from.is_none_or(|from| row.last_operation >= from) && self.to.is_none_or(|to| row.last_operation <= to)
    }

    /// What every id begins with that the query is about; empty for all of them.
    pub(crate) fn prefix(&self) -> String {
        self.name.as_ref().map_or_else(String::new, |name| format!("@{name}@"))
    }
}

/// A page of the list of entities, in order of their ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntityPage {
    /// The entities.
    pub rows: Vec<EntityRow>,
    /// Where the next page begins; none if there is nothing more.
    pub next: Option<String>,
}
