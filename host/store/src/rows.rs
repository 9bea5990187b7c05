//! What the store keeps, as plain data: the change of one instance, and the rows it consists of.
//!
//! Serialized rows are a contract with the disk: fields and variants only ever grow at the end, behind
//! the version byte that the codec puts in front. Nothing here knows a database.

use crate::entities::EntityChange;
use crate::error::CommitError;
use rehydrate_core::{
    Digest, Divergence, EventId, InstanceKey, Json, Message, MessageId, RunNumber, TimerPurpose, Timestamp,
};
use serde::{Deserialize, Serialize};

/// One instance's change: written whole or not at all. Its rows touch only this instance's keys.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// Whose change it is.
    pub key: InstanceKey,
    /// Which run its events and log lines belong to.
    pub run: RunNumber,
    /// The last event already stored for this instance and run; [`EventId::NONE`] for a new run. If the
    /// store has another one, nothing of this batch is written ([`crate::CommitError::Conflict`]).
    pub expected_last: EventId,
    /// New events as bytes, oldest first, with ids gapless from `expected_last` + 1.
    pub events: Vec<(EventId, Vec<u8>)>,
    /// The new row, in place of the old one; none leaves the old one as it is.
    pub row: Option<InstanceRow>,
    /// The index keys of the row that `row` replaces; none for a new instance. Lets the store drop stale
    /// index entries without reading the old row.
    pub previous: Option<RowIndexKeys>,
    /// Timers to keep.
    pub put_timers: Vec<TimerRow>,
    /// Timers to drop; dropping one that is not there does nothing. Drops are applied before puts.
    pub drop_timers: Vec<TimerRow>,
    /// What the run has under way from now on, in place of what was stored; none leaves that as it is.
    pub under_way: Option<UnderWay>,
    /// Lines for the instance's log.
    pub log: Vec<LogLine>,
    /// The idempotency key of the request that caused this, and what it created.
    pub dedup: Option<DedupRow>,
    /// Messages to others, kept until they were received.
    pub send: Vec<Message>,
    /// Messages that were received: they are known from now on, until they are forgotten with their sender's row.
    pub received: Vec<MessageId>,
    /// What changes of the entity that this is about.
    pub entity: Option<EntityChange>,
    /// The begin of the next run of the same instance, written with this or not at all.
    pub then: Option<Box<Batch>>,
    /// What is dropped for good; before anything else of this batch is written.
    pub purge: Option<Purge>,
}

/// What a batch drops for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purge {
    /// The instance: all its runs with their logs, and its row. [`Batch::previous`] and [`Batch::drop_timers`] name
    /// what hangs on it elsewhere; the batch writes nothing. Idempotency keys that name the instance stay.
    Instance,
    /// The runs before this one, which is the batch's own or an earlier one: their events and logs.
    RunsBefore(RunNumber),
}

impl Purge {
    /// The first run that stays; none if none does.
    pub(crate) fn until(self) -> Option<RunNumber> {
        match self {
            Purge::Instance => None,
            Purge::RunsBefore(run) => Some(run),
        }
    }

    /// Whether it drops that run.
    pub(crate) fn drops(self, run: RunNumber) -> bool {
        self.until().is_none_or(|until| run < until)
    }
}

impl Batch {
    /// An empty change of a run whose last stored event is `expected_last`.
    pub fn new(key: InstanceKey, run: RunNumber, expected_last: EventId) -> Batch {
        Batch {
            key,
            run,
            expected_last,
            events: Vec::new(),
            row: None,
            previous: None,
            put_timers: Vec::new(),
            drop_timers: Vec::new(),
            under_way: None,
            log: Vec::new(),
            dedup: None,
            send: Vec::new(),
            received: Vec::new(),
            entity: None,
            then: None,
            purge: None,
        }
    }

    /// The last event of the run once this is written.
    pub fn last_event(&self) -> EventId {
        self.events.last().map_or(self.expected_last, |(id, _)| *id)
    }

    /// Roughly the bytes it writes: what queues and groups are limited by.
    pub fn len_bytes(&self) -> usize {
        const BATCH: usize = 64;
        const ROW: usize = 64;
        let events: usize = self.events.iter().map(|(_, bytes)| ROW + bytes.len()).sum();
        let log: usize = self.log.iter().map(LogLine::len_bytes).sum();
        let row = self.row.as_ref().map_or(0, InstanceRow::len_bytes);
        let purge = usize::from(self.purge.is_some());
        let keys = self.put_timers.len() + self.drop_timers.len() + usize::from(self.under_way.is_some()) + purge;
        let dedup = self.dedup.as_ref().map_or(0, |row| ROW + row.scope.len() + row.key.len());
        let send: usize = self.send.iter().map(|message| ROW + message_len_bytes(message)).sum();
        let values = self.entity.iter().flat_map(|entity| &entity.values);
        let entity: usize = values.map(|(key, value)| ROW + key.len() + value.as_ref().map_or(0, String::len)).sum();
        let then = self.then.as_ref().map_or(0, |then| then.len_bytes());
        BATCH + events + log + row + (keys + self.received.len()) * ROW + dedup + send + entity + then
    }
}

/// Roughly the bytes of what a message carries.
fn message_len_bytes(message: &Message) -> usize {
    use rehydrate_core::MessageBody;
    let body = match &message.body {
        MessageBody::Start(start) => start.workflow.len() + start.input.len(),
        MessageBody::Signal { payload, .. } => payload.len(),
        MessageBody::Reply { outcome: Ok(output), .. } => output.len(),
        MessageBody::Reply { outcome: Err(failure), .. } => failure.len_bytes(),
        MessageBody::Operation { operation, input } => operation.len() + input.len(),
        MessageBody::Cancel { reason, .. } | MessageBody::Terminate { reason, .. } => reason.len(),
        MessageBody::Lock | MessageBody::Unlock { .. } => 0,
    };
    message.from.len() + message.to.len() + body
}

/// How an instance stands, as far as lists and admission need to know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum InstanceStateTag {
    /// It runs or waits.
    Running,
    /// It can't go on until somebody does something about its problem.
    Paused,
    /// It returned an output.
    Completed,
    /// It returned a failure, or the host stopped it.
    Failed,
    /// It ended because it was asked to.
    Cancelled,
    /// It was terminated.
    Terminated,
    /// It was suspended, and runs again when it is resumed.
    Suspended,
}

impl InstanceStateTag {
    /// Every state.
    pub const ALL: [InstanceStateTag; 7] = [
        InstanceStateTag::Running,
        InstanceStateTag::Paused,
        InstanceStateTag::Completed,
        InstanceStateTag::Failed,
        InstanceStateTag::Cancelled,
        InstanceStateTag::Terminated,
        InstanceStateTag::Suspended,
    ];

    /// Those in which something can follow.
    pub const OPEN: [InstanceStateTag; 3] =
        [InstanceStateTag::Running, InstanceStateTag::Paused, InstanceStateTag::Suspended];

    /// Whether nothing can follow in this run.
    pub fn is_closed(self) -> bool {
        !InstanceStateTag::OPEN.contains(&self)
    }
}

/// An instance as it stands now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceRow {
    /// Its id, as the user knows it.
    pub id: String,
    /// Its current run.
    pub run: RunNumber,
    /// The deployment's name.
    pub workflow: String,
    /// The deployment's version.
    pub version: String,
    /// The component it is pinned to.
    pub digest: Digest,
    /// How it stands.
    pub state: InstanceStateTag,
    /// When the current run was created, or the first of the runs that it goes on from, by continue-as-new or rewind.
    pub created: Timestamp,
    /// When the last event that this row knows of was recorded. Events may have come since: a row is written
    /// when something changes that they don't tell, not with each of them.
    pub updated: Timestamp,
    /// The last event that this row knows of.
    pub last_event: EventId,
    /// The inbound event through which the guest is known to have run; a command of the guest that was caused
    /// by a later one says so as well.
    pub ran_through: EventId,
    /// The status that the guest set.
    pub custom_status: Option<Json>,
    /// Why it is paused, or what stopped it.
    pub problem: Option<Problem>,
}

impl InstanceRow {
    /// What its index entries are made of; goes into [`Batch::previous`] when it is replaced.
    pub fn index_keys(&self) -> RowIndexKeys {
        RowIndexKeys { created: self.created, state: self.state }
    }

    fn len_bytes(&self) -> usize {
        const FIXED: usize = 128;
        let status = self.custom_status.as_ref().map_or(0, String::len);
        let problem = self.problem.as_ref().map_or(0, |problem| problem.code.len() + problem.message.len());
        FIXED + self.id.len() + self.workflow.len() + self.version.len() + status + problem
    }
}

/// Why an instance is paused, or what stopped it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// A stable code for machines.
    pub code: String,
    /// One sentence for a person, ending with the next step.
    pub message: String,
    /// Where the workflow left its history, if that is the problem.
    pub divergence: Option<Divergence>,
}

/// What the index entries of an instance's row are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowIndexKeys {
    /// When the row's run was created.
    pub created: Timestamp,
    /// The row's state.
    pub state: InstanceStateTag,
}

/// A point in time at which an instance wants to be woken. The order of rows is the order they are due in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimerRow {
    /// When.
    pub due: Timestamp,
    /// Which instance.
    pub key: InstanceKey,
    /// Which of its runs.
    pub run: RunNumber,
    /// The operation that waits.
    pub op: EventId,
    /// What for.
    pub purpose: TimerPurpose,
}

/// What a run has under way that a restart of the host must take up. Which activities and attempts these are,
/// the run's events say: a row for each of them would be written and dropped at every step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnderWay {
    /// Activities that have not ended.
    pub activities: bool,
    /// A turn that the guest has still to take.
    pub guest: bool,
}

impl UnderWay {
    /// Whether there is nothing to take up.
    pub fn is_nothing(self) -> bool {
        self == UnderWay::default()
    }
}

/// A run that has something under way: what recovery finds. The order of rows is the order of its scan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskRow {
    /// Which instance.
    pub key: InstanceKey,
    /// Which of its runs.
    pub run: RunNumber,
    /// What.
    pub under_way: UnderWay,
}

/// A line of an instance's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written, in the workflow's time.
    pub time: Timestamp,
    /// How urgent it is; the runtime gives the numbers their meaning.
    pub level: u8,
    /// What it says.
    pub text: String,
}

impl LogLine {
    /// The bytes it counts for against the limit of the log: its text and 16 for the rest.
    pub fn len_bytes(&self) -> usize {
        const OVERHEAD: usize = 16;
        OVERHEAD + self.text.len()
    }
}

/// What a request with an idempotency key created. A second one of the same scope and key is refused
/// until the first is dropped ([`crate::CommitError::Duplicate`]).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DedupRow {
    /// The kind of request, so that keys of different kinds don't meet.
    pub scope: String,
    /// The key, as the caller gave it.
    pub key: String,
    /// The digest of the request, to tell a repetition from another request under the same key.
    pub fingerprint: Digest,
    /// What it created.
    pub instance: InstanceKey,
    /// Which run it created.
    pub run: RunNumber,
    /// When, for [`crate::Store::drop_dedup_before`].
    pub at: Timestamp,
}

/// What a component is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ComponentKind {
    /// It runs as instances.
    Workflow,
    /// It runs as activities.
    Activity,
    /// It runs as entities.
    Entity,
}

/// A deployment: a name and version that stand for one component.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeploymentRow {
    /// Its name.
    pub name: String,
    /// Its version; a name and version are bound to one digest for ever.
    pub version: String,
    /// The component.
    pub digest: Digest,
    /// What the component is.
    pub kind: ComponentKind,
    /// The activities it offers.
    pub activities: Vec<String>,
    /// What it imports.
    pub imports: Vec<String>,
    /// The component's size.
    pub bytes: u64,
    /// When it was deployed.
    pub created: Timestamp,
    /// Its place in the order of deployments, from 1; the newest has the largest. Assigned by the store,
    /// whatever is given.
    pub order: u64,
}

/// What became of a deployment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutDeployment {
    /// It is new.
    Created,
    /// The name and version already stand for the same digest; nothing was written.
    Same,
    /// The name and version already stand for this other digest; nothing was written.
    Different(Digest),
}

/// Which instances to list. Every condition given must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListQuery {
    /// Only these states; empty means all.
    pub states: Vec<InstanceStateTag>,
    /// Only instances of this workflow.
    pub workflow: Option<String>,
    /// Only instances of this version of their workflow.
    pub version: Option<String>,
    /// Only instances that are pinned to this component.
    pub digest: Option<Digest>,
    /// Only instances whose id starts with this.
    pub id_prefix: Option<String>,
    /// Only instances created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Only instances created at this time or earlier.
    pub created_to: Option<Timestamp>,
    /// Only what follows this in the list: the `next` of the page before.
    pub after: Option<Cursor>,
    /// Rows on the page, at most; zero counts as one.
    pub limit: usize,
    /// Rows to look at for the page, at most; zero counts as one. A page that stops here may be empty and
    /// still carry a cursor to go on from.
    pub scan_max: usize,
}

impl Default for ListQuery {
    fn default() -> Self {
        ListQuery {
            states: Vec::new(),
            workflow: None,
            version: None,
            digest: None,
            id_prefix: None,
            created_from: None,
            created_to: None,
            after: None,
            limit: 100,
            scan_max: 10_000,
        }
    }
}

impl ListQuery {
    /// Whether a row meets the conditions on workflow, component and id, which no index knows.
    pub(crate) fn wants(&self, row: &InstanceRow) -> bool {
        self.workflow.as_ref().is_none_or(|workflow| *workflow == row.workflow)
            && self.version.as_ref().is_none_or(|version| *version == row.version)
            && self.digest.is_none_or(|digest| digest == row.digest)
            && self.id_prefix.as_ref().is_none_or(|prefix| row.id.starts_with(prefix.as_str()))
    }
}

/// A place in the list of instances, which is ordered from the newest to the oldest and, among those
/// created at the same time, by key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// When the instance before this place was created.
    pub created: Timestamp,
    /// That instance.
    pub key: InstanceKey,
}

/// A page of the list of instances.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListPage {
    /// The instances, newest first.
    pub rows: Vec<InstanceRow>,
    /// Where the next page begins; none if there is nothing more.
    pub next: Option<Cursor>,
}

impl Batch {
    /// Checks what every store relies on: ids without a gap, and rows of this instance only.
    pub(crate) fn check(&self) -> Result<(), CommitError> {
        let malformed = |reason: String| CommitError::Malformed { key: self.key, run: self.run, reason };
        let mut last = self.expected_last;
        for (id, _) in &self.events {
            if *id != last.next() || *id == last {
                return Err(malformed(format!("event {id} follows event {last}")));
            }
            last = *id;
        }
        self.check_purge().map_err(|reason| malformed(reason.to_owned()))?;
        let mut timers = self.put_timers.iter().chain(&self.drop_timers).map(|row| row.key);
        let foreign = timers.find(|key| *key != self.key);
        if let Some(key) = foreign {
            return Err(malformed(format!("it has a row of instance {key:?}")));
        }
        match &self.then {
            Some(then) if then.key != self.key || then.run == self.run => {
                Err(malformed("what follows it is no other run of its instance".to_owned()))
            }
            Some(then) => then.check(),
            None => Ok(()),
        }
    }
}

impl Batch {
    /// A purge of the instance writes nothing, and one of runs leaves the batch's own.
    fn check_purge(&self) -> Result<(), &'static str> {
        let writes = !self.events.is_empty()
            || self.row.is_some()
            || !self.put_timers.is_empty()
            || self.under_way.is_some()
            || !self.log.is_empty()
            || self.dedup.is_some();
        match self.purge {
            Some(Purge::Instance) if writes => Err("it purges the instance and writes to it"),
            Some(Purge::RunsBefore(run)) if run > self.run => Err("it purges its own run"),
            _ => Ok(()),
        }
    }
}

/// Down to how many bytes a log is trimmed once it has more than `kept`: some way below, so that the next
/// lines don't trim again.
pub(crate) fn log_trim_target(kept: usize) -> usize {
    kept - kept / 4
}
