//! From one run to the next: continue-as-new, and rewind.

use super::process::Work;
use super::{Instances, Post, Reply, Resident};
use crate::catalog::{ComponentPin, internal};
use crate::error::{ErrorKind, RuntimeError};
use crate::turn::Turn;
use crate::{clock, load};
use rehydrate_core::rewind::rewound;
use rehydrate_core::{Effect, Event, EventBody, EventId, InstanceKey, InstanceState, Lifecycle};
use rehydrate_store::{InstanceRow, InstanceStateTag, LogLine, RowIndexKeys, UnderWay};
use std::sync::Arc;

/// A run that is about to begin.
struct NextRun {
    row: InstanceRow,
    /// What its history begins with.
    bodies: Vec<EventBody>,
    /// Keeps its component until the run is durable.
    _pin: Option<ComponentPin>,
}

impl Work {
    /// Whether the run has ended for the next one to go on.
    pub(super) fn is_continued(&self) -> bool {
        self.resident.state.lifecycle == Lifecycle::Continued
    }
}

impl Instances {
    /// Makes the end of the run and the begin of the next one durable as one. The new run's guest takes its first turn
    /// behind what is in the mailbox by now: a workflow that continues for ever can still be reached.
    pub(super) async fn continue_run(
        self: &Arc<Self>,
        key: InstanceKey,
        work: Box<Work>,
    ) -> Result<Box<Work>, RuntimeError> {
        let Work { mut resident, turn, told, failed, .. } = *work;
        let next = match failed {
            Some(error) => Err(error),
            None => self.first_events(key, &resident, &turn),
        };
        let committed = match next {
            Ok(next) => self.commit_next_run(key, &mut resident, turn, next).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok((resident, events)) => {
                told.into_iter().for_each(|told| told.tell(self, None));
                // Others have their turn: a workflow that continues for ever must not keep its place for ever.
                self.without_place(tokio::task::yield_now()).await;
                // When the host is to end, the run waits for its next start.
                if !self.admission.is_draining() {
                    self.post(key, Post::Begun);
                }
                let turn = Turn::new(key, resident.row.run, resident.stored_last, resident.stored);
                Ok(Work::new(resident, turn, events))
            }
            Err(error) => {
                tracing::warn!(?key, %error, "a run could not continue");
                told.into_iter().for_each(|told| told.tell(self, Some(&error)));
                Err(error)
            }
        }
    }

    /// The row of the next run, and what its history begins with.
    fn first_events(&self, key: InstanceKey, resident: &Resident, turn: &Turn) -> Result<NextRun, RuntimeError> {
        let last = turn.last_event().ok_or_else(|| internal("a run has continued without an event"))?;
        let (Some(carried), EventBody::InstanceContinued { input, newest }) =
            (resident.state.carried(last), &last.body)
        else {
            return Err(internal("a run that has not continued can't go on"));
        };
        let row = &resident.row;
        // A workflow that is not deployed any more goes on with what it has.
        let newest = newest.then(|| self.catalog.pinned_workflow(&row.workflow, None).ok()).flatten();
        let (version, digest, pin) = match newest {
            Some((newest, pin)) => (newest.version, newest.digest, Some(pin)),
            None => (row.version.clone(), row.digest, None),
        };
        let mut bodies = vec![EventBody::InstanceStarted {
            instance: row.id.clone(),
            workflow: row.workflow.clone(),
            version: version.clone(),
            digest,
            input: input.clone(),
            seed: crate::runtime::random_seed()?,
            lineage: Some(Box::new(carried.lineage)).filter(|lineage| **lineage != Default::default()),
        }];
        for signal in carried.signals {
            let event = match turn.event_of_id(signal) {
                Some(event) => Some(event.clone()),
                None => load::event(&*self.store, key, row.run, signal)?,
            };
            bodies.extend(event.map(|event| event.body));
        }
        bodies.extend(carried.cancel.map(|reason| EventBody::CancelRequested { reason }));
        let row = InstanceRow {
            run: row.run.next(),
            version,
            digest,
            state: InstanceStateTag::Running,
            updated: clock::now(),
            ran_through: EventId::NONE,
            custom_status: None,
            problem: None,
            ..row.clone()
        };
        Ok(NextRun { row, bodies, _pin: pin })
    }

    async fn commit_next_run(
        self: &Arc<Self>,
        key: InstanceKey,
        resident: &mut Resident,
        mut turn: Box<Turn>,
        next: NextRun,
    ) -> Result<(Box<Resident>, Vec<Event>), RuntimeError> {
        let NextRun { row, bodies, _pin } = next;
        let now = clock::now();
        let mut state = InstanceState::new(row.run, 0);
        let mut events: Vec<Event> = Vec::new();
        for body in bodies {
            let event = state.next_event(body, now);
            state.apply(&event, &mut Vec::new());
            events.push(event);
        }
        let row = InstanceRow { last_event: state.last, ..row };
        let mut next = new_run(row, state, resident.stored);
        let mut first = Turn::new(key, next.row.run, EventId::NONE, resident.stored);
        events.iter().for_each(|event| first.event(event.clone()));
        first.row_changed();
        let owed = UnderWay { activities: false, guest: true };
        first.under_way(owed);
        turn.under_way(UnderWay::default());
        let (then, _) = first.finish(Some(&next.row));
        let (mut batch, release) = turn.finish(Some(&resident.row));
        // The instance's row is that of its new run.
        batch.row = None;
        batch.then = Some(then);
        self.commit_batch(batch).await?;
        next.stored = Some(next.row.index_keys());
        next.stored_last = next.state.last;
        next.stored_under_way = Some(owed);
        self.release(key, release);
        self.retention.began(key, next.row.run);
        self.watchers.notify(key);
        Ok((next, events))
    }

    /// Lets an instance that has failed go on from before the failure.
    pub(super) async fn rewind(
        self: &Arc<Self>,
        key: InstanceKey,
        reason: &str,
        reply: Reply<()>,
    ) -> Option<Box<Resident>> {
        let mut work = match self.rewound(key, reason) {
            Ok(work) => work,
            Err(error) => {
                drop(reply.send(Err(error)));
                return None;
            }
        };
        work.told.push(super::process::Told::Done(reply));
        self.run_guest(key, &mut work).await;
        self.try_commit(key, work).await.0
    }

    fn rewound(&self, key: InstanceKey, reason: &str) -> Result<Box<Work>, RuntimeError> {
        let row = self.store.instance(key)?.ok_or_else(|| RuntimeError::no_instance("(unknown)"))?;
        let refused = |code, message: String| RuntimeError::new(ErrorKind::Conflict, code, message);
        if !row.state.is_closed() {
            let message = format!("instance `{}` has not ended, so there is nothing to rewind", row.id);
            return Err(refused("instance.running", message));
        }
        if row.state != InstanceStateTag::Failed {
            let message = format!("instance `{}` has ended without failing; only a failed one can be rewound", row.id);
            return Err(RuntimeError::new(ErrorKind::Gone, "instance.ended", message));
        }
        let now = clock::now();
        let history = load::history(&*self.store, key, row.run)?;
        let events = rewound(&history, row.run, now)
            .map_err(|error| refused("instance.not-rewound", format!("instance `{}`: {error}", row.id)))?;
        let stored = Some(row.index_keys());
        let run = row.run.next();
        let mut state = InstanceState::new(run, 0);
        let mut effects = Vec::new();
        events.iter().for_each(|event| state.apply(event, &mut effects));
        // What was sent for operations that are open is sent again; the rest has arrived, or is not wanted any more.
        effects.retain(|effect| match effect {
            Effect::Send(message) => message.reply_to.is_some_and(|to| state.is_asking(to)),
            _ => true,
        });
        let mut turn = Turn::new(key, run, EventId::NONE, stored);
        turn.effects(effects);
        events.iter().for_each(|event| turn.event(event.clone()));
        turn.row_changed();
        let text = format!("rewound from run {}: {reason}", row.run.0);
        turn.log([LogLine { time: now, level: 2, text }]);
        let ran_through = load::ran_through(EventId::NONE, &events);
        let row = InstanceRow {
            run,
            state: InstanceStateTag::Running,
            updated: now,
            ran_through,
            problem: None,
            custom_status: state.custom_status.clone(),
            ..row
        };
        Ok(Work::new(new_run(row, state, stored), turn, events))
    }
}

/// A run that is about to be written for the first time; `stored`: the index of its instance's row as it is.
pub(super) fn new_run(row: InstanceRow, state: InstanceState, stored: Option<RowIndexKeys>) -> Box<Resident> {
    let stored_under_way = Some(UnderWay::default());
    let stored_last = EventId::NONE;
    Box::new(Resident { row, state, guest: None, stored, stored_last, stored_under_way, dispatch: Vec::new() })
}
