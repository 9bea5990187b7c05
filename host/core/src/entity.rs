//! Entities: how they are named, and the locks that a workflow takes over several of them.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | – | `LockRequested` | asking for the first entity | send `Lock` to it |
//! | asking for entity n | `LockGranted`, more to come | asking for entity n+1 | send `Lock` to it |
//! | asking for the last | `LockGranted` | held | none: the operation has settled |
//! | asking | `ReplyReceived` with a failure | settled | send `Unlock` to those asked |
//! | asking, held | `LockReleased`, `OperationCancelled`, end of the run (and asking: `CancelRequested`) | released | send `Unlock` to those asked |
//!
//! Entities are asked one after another, always in the order of their ids: so two workflows never wait for each other.
//! `Unlock` follows `Lock` from the same sender, so it never overtakes it, and no lock is left behind.

use crate::ids::EventId;
use crate::instance::Effect;
use crate::message::{MessageBody, Outgoing, ReplyTo};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest key of an entity, in characters.
pub const ENTITY_KEY_CHARS_MAX: usize = 200;

/// The longest name of an entity, in characters.
pub const ENTITY_NAME_CHARS_MAX: usize = 128;

/// Entities that one lock may hold.
pub const LOCKED_ENTITIES_MAX: usize = 100;

/// An entity: the name of its component's deployment, and a key. Written `@name@key`, which no instance id can be.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct EntityId {
    /// The deployment's name.
    pub name: String,
    /// Which of them.
    pub key: String,
}

/// Why a name and key are no entity.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidEntityId {
    /// The name can't be a deployment's.
    #[error(
        "the entity name `{0}` is not allowed: give 1 to {ENTITY_NAME_CHARS_MAX} letters, digits, `.`, `_`, `-` or `+`"
    )]
    Name(String),
    /// The key is too long.
    #[error("the entity key has {0} characters; the limit is {ENTITY_KEY_CHARS_MAX}")]
    KeyTooLong(usize),
    /// The key can't be named in a URL.
    #[error("the entity key has the character {0:?}; `/`, `\\`, `#`, `?` and control characters are not allowed")]
    KeyCharacter(char),
}

impl EntityId {
    /// Checks a name and a key, which may be empty.
    pub fn new(name: &str, key: &str) -> Result<EntityId, InvalidEntityId> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
        if name.is_empty() || name.len() > ENTITY_NAME_CHARS_MAX || !name.chars().all(fine) {
            return Err(InvalidEntityId::Name(name.chars().take(ENTITY_NAME_CHARS_MAX).collect()));
        }
        let chars = key.chars().count();
        if chars > ENTITY_KEY_CHARS_MAX {
            return Err(InvalidEntityId::KeyTooLong(chars));
        }
        if let Some(found) = key.chars().find(|c| matches!(c, '/' | '\\' | '#' | '?') || c.is_control()) {
            return Err(InvalidEntityId::KeyCharacter(found));
        }
        Ok(EntityId { name: name.to_owned(), key: key.to_owned() })
    }

    /// The entity that a text `@name@key` names.
    pub fn parse(text: &str) -> Option<EntityId> {
        let (name, key) = text.strip_prefix('@')?.split_once('@')?;
        EntityId::new(name, key).ok()
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}@{}", self.name, self.key)
    }
}

/// A lock, asked for or held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockState {
    /// Over which entities, in the order in which they are asked.
    pub entities: Vec<EntityId>,
    /// How many of them were granted.
    pub granted: usize,
    /// When it was asked for.
    pub since: Timestamp,
}

impl LockState {
    /// As it is when it is asked for.
    pub fn requested(entities: &[EntityId], at: Timestamp) -> LockState {
        LockState { entities: entities.to_vec(), granted: 0, since: at }
    }

    /// The message to the next entity; none if all were granted.
    pub fn ask_next(&self, op: EventId, event: EventId) -> Option<Effect> {
        let entity = self.entities.get(self.granted)?;
        let part = u32::try_from(self.granted).unwrap_or(u32::MAX);
        let (to, reply_to) = (entity.to_string(), Some(ReplyTo { op, part }));
        Some(Effect::Send(Box::new(Outgoing { event, to, reply_to, body: MessageBody::Lock })))
    }

    /// Whether a reply is about the entity that was asked last.
    pub fn is_asking(&self, to: ReplyTo) -> bool {
        usize::try_from(to.part).is_ok_and(|part| part == self.granted) && self.granted < self.entities.len()
    }

    /// How many are still to be granted after the next one.
    pub fn left_after_next(&self) -> u32 {
        u32::try_from(self.entities.len().saturating_sub(self.granted).saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// What must be done when it is given up, in whatever way, because of `event`: all that were asked are told.
    pub fn release(&self, op: EventId, event: EventId, effects: &mut Vec<Effect>) {
        let asked = self.granted.saturating_add(1).min(self.entities.len());
        for entity in self.entities.iter().take(asked) {
            let (to, body) = (entity.to_string(), MessageBody::Unlock { op });
            effects.push(Effect::Send(Box::new(Outgoing { event, to, reply_to: None, body })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventBody};
    use crate::ids::RunNumber;
    use crate::instance::InstanceState;

    /// Folds events, given with their causes, and gives the messages that each led to.
    fn sent(bodies: Vec<(u64, EventBody)>) -> Vec<Vec<(String, MessageBody)>> {
        let mut state = InstanceState::new(RunNumber::FIRST, 0);
        let fold = |(cause, body)| {
            let event = Event { cause: EventId(cause), ..state.next_event(body, Timestamp(1)) };
            let mut effects = Vec::new();
            state.apply(&event, &mut effects);
            let sent = effects.into_iter().filter_map(|effect| match effect {
                Effect::Send(message) => Some((message.to, message.body)),
                _ => None,
            });
            sent.collect()
        };
        bodies.into_iter().map(fold).collect()
    }

    #[test]
    fn a_lock_that_was_granted_before_the_guest_could_know_is_given_back_with_its_request() {
        let entities = ["a", "b"].map(|key| EntityId::new("account", key).unwrap()).to_vec();
        let op = EventId(1);
        let granted = |left| (0, EventBody::LockGranted { op, left });
        let history = vec![
            (0, EventBody::LockRequested { entities }),
            granted(1),
            granted(0),
            // The guest gave it up because of something that came before the grant.
            (0, EventBody::OperationCancelled { op }),
            (3, EventBody::InstanceCompleted { output: "1".to_owned() }),
        ];
        let unlock = |key: &str| (format!("@account@{key}"), MessageBody::Unlock { op });
        let lock = |key: &str| (format!("@account@{key}"), MessageBody::Lock);
        let expected = [vec![lock("a")], vec![lock("b")], vec![], vec![unlock("a"), unlock("b")], Vec::new()];
        assert_eq!(sent(history), expected);
    }

    #[test]
    fn an_entity_id_is_written_so_that_no_instance_id_can_be_it() {
        let id = EntityId::new("counter", "a@b").unwrap();
        assert_eq!(id.to_string(), "@counter@a@b");
        assert_eq!(EntityId::parse("@counter@a@b"), Some(id));
        assert!(crate::InstanceId::new("@counter@a").is_err());
        assert_eq!(EntityId::parse("counter@a"), None);
        assert_eq!(EntityId::parse("@@a"), None);
        assert!(EntityId::new("counter", "").is_ok(), "an empty key is a key");
        assert_eq!(EntityId::new("counter", "a/b"), Err(InvalidEntityId::KeyCharacter('/')));
        assert_eq!(EntityId::new("counter", &"x".repeat(201)), Err(InvalidEntityId::KeyTooLong(201)));
        assert_eq!(EntityId::new("a b", ""), Err(InvalidEntityId::Name("a b".to_owned())));
    }
}
