//! The store on disk and the one in memory do the same random work and must give the same answers, also
//! after the one on disk was closed and opened again. They share no code but the checks of a batch.

use super::*;
use crate::{EntityChange, EntityQuery, EntityRow, ListQuery, MemoryStore, Purge, RowIndexKeys};
use rehydrate_core::random::Random;
use rehydrate_core::{Message, MessageBody, MessageId};

const INSTANCES: u64 = 6;
const STEPS: u64 = 400;
const ENTITIES: [&str; 4] = ["@a@", "@a@k", "@a@kk", "@b@k"];

/// Numbers for a test: small and repeatable.
struct Dice(Random);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    fn small(&mut self, end: u8) -> u8 {
        u8::try_from(self.below(u64::from(end))).unwrap()
    }

    fn time(&mut self) -> i64 {
        i64::try_from(self.below(40)).unwrap() - 20
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Drops an instance, or the run before the second.
fn random_purge(dice: &mut Dice, known: &dyn Store) -> Batch {
    let instance = 1 + dice.small(u8::try_from(INSTANCES).unwrap());
    let run = RunNumber(2);
    let last = known.last_event(key(instance), run).unwrap().map_or(EventId::NONE, |(id, _)| id);
    let purge = if dice.chance(50) { Purge::Instance } else { Purge::RunsBefore(run) };
    let previous = known.instance(key(instance)).unwrap().map(|row| row.index_keys());
    Batch { purge: Some(purge), previous, ..Batch::new(key(instance), run, last) }
}

fn random_batch(dice: &mut Dice, known: &dyn Store) -> Batch {
    if dice.chance(8) {
        return random_purge(dice, known);
    }
    let instance = 1 + dice.small(u8::try_from(INSTANCES).unwrap());
    let run = RunNumber(1 + u32::from(dice.small(2)));
    let last = known.events(key(instance), run, EventId(1), usize::MAX).unwrap().len();
    let last = u64::try_from(last).unwrap();
    let last = if dice.chance(15) { dice.below(last + 3) } else { last };
    let count = dice.below(4);
    let mut batch = Batch { run, ..events(instance, last, count) };
    if dice.chance(50) {
        let state = InstanceStateTag::ALL[usize::from(dice.small(6))];
        batch.row = Some(row(instance, state, dice.time()));
        batch.previous = known.instance(key(instance)).unwrap().map(|row| row.index_keys());
    }
    let timer = |dice: &mut Dice| TimerRow { run, ..timer(dice.time(), instance, dice.below(4)) };
    batch.put_timers = (0..dice.below(3)).map(|_| timer(dice)).collect();
    batch.drop_timers = (0..dice.below(3)).map(|_| timer(dice)).collect();
    batch.under_way = dice.chance(60).then(|| UnderWay { activities: dice.chance(40), guest: dice.chance(20) });
    batch.log = (0..dice.below(4)).map(|n| line(i64::try_from(n).unwrap())).collect();
    if dice.chance(20) {
        batch.dedup = Some(dedup(&dice.below(12).to_string(), instance, dice.time()));
    }
    batch.send = (0..dice.below(3)).map(|_| random_message(dice)).collect();
    batch.received = (0..dice.below(3)).map(|_| random_message(dice).id).collect();
    batch.entity = dice.chance(40).then(|| random_entity(dice));
    batch
}

fn random_message(dice: &mut Dice) -> Message {
    let id = MessageId {
        sender: key(dice.small(3)),
        run: RunNumber(u32::from(dice.small(2))),
        event: EventId(dice.below(3)),
        part: u32::from(dice.small(2)),
        is_answer: dice.chance(50),
    };
    let body = MessageBody::Signal { name: "go".to_owned(), payload: dice.below(99).to_string() };
    Message { id, from: "a".to_owned(), to: "b".to_owned(), reply_to: None, body }
}

fn random_entity(dice: &mut Dice) -> EntityChange {
    let id = ENTITIES[usize::from(dice.small(4))].to_owned();
    let (created, last_operation) = (Timestamp(dice.time()), Timestamp(dice.time()));
    let waiting = (0..dice.below(3)).map(|_| random_message(dice)).collect();
    let row = EntityRow { id: id.clone(), created, last_operation, operation: dice.below(9), lock: None, waiting };
    let value = |dice: &mut Dice| {
        (["", "k", "state"][usize::from(dice.small(3))].to_owned(), dice.chance(60).then(|| dice.below(99).to_string()))
    };
    let values = (0..dice.below(4)).map(|_| value(dice)).collect();
    EntityChange { id, row: dice.chance(80).then_some(row), values }
}

/// A commit of up to three batches of different instances: their rows' previous entries are then known.
fn random_commit(dice: &mut Dice, known: &dyn Store) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for _ in 0..1 + dice.below(3) {
        let batch = random_batch(dice, known);
        if batches.iter().all(|other| other.key != batch.key) {
            batches.push(batch);
        }
    }
    batches
}

fn random_query(dice: &mut Dice) -> ListQuery {
    let time = |dice: &mut Dice| dice.chance(30).then(|| Timestamp(dice.time()));
    ListQuery {
        states: (0..dice.below(4)).map(|_| InstanceStateTag::ALL[usize::from(dice.small(6))]).collect(),
        workflow: dice.chance(30).then(|| "odd".to_owned()),
        version: dice.chance(5).then(|| "2".to_owned()),
        digest: dice.chance(10).then(|| Digest([1 + dice.small(6); 32])),
        id_prefix: dice.chance(30).then(|| "instance-1".to_owned()),
        created_from: time(dice),
        created_to: time(dice),
        after: None,
        limit: 1 + usize::from(dice.small(4)),
        scan_max: 1 + usize::from(dice.small(6)),
    }
}

fn assert_same_lists(dice: &mut Dice, memory: &dyn Store, disk: &dyn Store) {
    let mut query = random_query(dice);
    loop {
        let page = memory.list(&query).unwrap();
        assert_eq!(disk.list(&query).unwrap(), page, "{query:?}");
        let Some(next) = page.next else { return };
        query.after = Some(next);
    }
}

fn assert_same(dice: &mut Dice, memory: &dyn Store, disk: &dyn Store) {
    for n in 1..=u8::try_from(INSTANCES).unwrap() {
        assert_eq!(memory.instance(key(n)).unwrap(), disk.instance(key(n)).unwrap());
        for run in [RunNumber(1), RunNumber(2)] {
            let events = |store: &dyn Store| store.events(key(n), run, EventId(1), usize::MAX).unwrap();
            assert_eq!(events(memory), events(disk));
            assert_eq!(memory.last_event(key(n), run).unwrap(), disk.last_event(key(n), run).unwrap());
            let log = |store: &dyn Store| store.log(key(n), run, 0, usize::MAX).unwrap();
            assert_eq!(log(memory), log(disk));
        }
    }
    let after = TimerRow { due: Timestamp(dice.time()), ..timer(0, dice.small(9), 2) };
    let timers = |store: &dyn Store| store.due_timers(Timestamp(10), Some(&after), 5).unwrap();
    assert_eq!(timers(memory), timers(disk));
    let all_timers = |store: &dyn Store| store.due_timers(Timestamp::MAX, None, usize::MAX).unwrap();
    assert_eq!(all_timers(memory), all_timers(disk));
    assert_eq!(memory.next_due(Some(&after)).unwrap(), disk.next_due(Some(&after)).unwrap());
    assert_eq!(memory.tasks(None, usize::MAX).unwrap(), disk.tasks(None, usize::MAX).unwrap());
    for n in 0..12 {
        let name = n.to_string();
        assert_eq!(memory.dedup("start", &name).unwrap(), disk.dedup("start", &name).unwrap());
    }
    assert_same_lists(dice, memory, disk);
    assert_same_model(dice, memory, disk);
}

/// Messages and entities.
fn assert_same_model(dice: &mut Dice, memory: &dyn Store, disk: &dyn Store) {
    let (after, limit) = (random_message(dice).id, 1 + usize::from(dice.small(5)));
    for after in [None, Some(after)] {
        assert_eq!(memory.outbox(after, limit).unwrap(), disk.outbox(after, limit).unwrap());
    }
    let all = memory.outbox(None, usize::MAX).unwrap();
    assert_eq!(disk.outbox(None, usize::MAX).unwrap(), all);
    for id in all.iter().map(|message| message.id).chain([after]) {
        assert_eq!(memory.was_received(id).unwrap(), disk.was_received(id).unwrap());
    }
    for id in ENTITIES {
        assert_eq!(memory.entity(id).unwrap(), disk.entity(id).unwrap());
        assert_eq!(memory.entity_values(id).unwrap(), disk.entity_values(id).unwrap());
    }
    let time = |dice: &mut Dice| dice.chance(30).then(|| Timestamp(dice.time()));
    let mut query = EntityQuery {
        name: dice.chance(40).then(|| "a".to_owned()),
        from: time(dice),
        to: time(dice),
        after: dice.chance(20).then(|| "@a@k".to_owned()),
        limit: usize::from(dice.small(4)),
        scan_max: usize::from(dice.small(4)),
    };
    loop {
        let page = memory.entities(&query).unwrap();
        assert_eq!(disk.entities(&query).unwrap(), page, "{query:?}");
        let Some(next) = page.next else { return };
        query.after = Some(next);
    }
}

/// Random work, told by its seed when it fails.
fn work(seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let memory = MemoryStore::with_log_bytes_kept(LOG_BYTES_KEPT);
    let mut disk = rocks(directory.path());
    let mut dice = Dice(Random::new(seed));
    let mut accepted = 0;
    for _ in 0..STEPS {
        let batches = random_commit(&mut dice, &memory);
        let results = memory.commit(&batches).unwrap();
        assert_eq!(disk.commit(&batches).unwrap(), results, "seed {seed}: {batches:?}");
        accepted += results.iter().filter(|result| result.is_ok()).count();
        if dice.chance(5) {
            let at = Timestamp(dice.time());
            let dropped = memory.drop_dedup_before(at, 2).unwrap();
            // Rows of the same time may go in any order; with no limit in reach both drop the same ones.
            let left = memory.drop_dedup_before(at, usize::MAX).unwrap();
            assert_eq!(disk.drop_dedup_before(at, usize::MAX).unwrap(), dropped + left);
        }
        if dice.chance(20) {
            let ids: Vec<MessageId> = (0..dice.below(9)).map(|_| random_message(&mut dice).id).collect();
            memory.drop_messages(&ids).unwrap();
            disk.drop_messages(&ids).unwrap();
        }
        if dice.chance(10) {
            assert_same(&mut dice, &memory, &disk);
        }
        if dice.chance(2) {
            drop(disk);
            disk = rocks(directory.path());
        }
    }
    assert_same(&mut dice, &memory, &disk);
    assert!(accepted > 100, "seed {seed} exercised little: {accepted} batches were accepted");
}

#[test]
fn both_stores_give_the_same_answers_to_the_same_random_work() {
    for seed in 1..=4 {
        work(seed);
    }
}

#[test]
fn a_row_that_keeps_its_entry_is_listed_after_its_previous_entry_was_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = rocks(directory.path());
    let row = row(1, InstanceStateTag::Running, 5);
    let previous = Some(RowIndexKeys { created: row.created, state: row.state });
    commit(&store, &[with_row(1, &row, None)]);
    commit(&store, &[Batch { previous, ..with_row(1, &row, None) }]);
    assert_eq!(store.list(&ListQuery::default()).unwrap().rows, [row]);
}
