//! What every store must do with messages, entities, and a run that goes on in the next one.

use super::conformance::conformance;
use super::*;
use crate::{CommitError, EntityChange, EntityPage, EntityQuery, EntityRow, LockHolder, MemoryStore};
use InstanceStateTag::{Completed, Running};
use rehydrate_core::{Message, MessageBody, MessageId, ReplyTo};

fn id(sender: u8, run: u32, event: u64, part: u32) -> MessageId {
    MessageId { sender: key(sender), run: RunNumber(run), event: EventId(event), part, is_answer: false }
}

fn answer_to(id: MessageId) -> MessageId {
    MessageId { is_answer: true, ..id }
}

fn message(id: MessageId) -> Message {
    let body = MessageBody::Signal { name: "go".to_owned(), payload: format!("{:?}", id.event) };
    let reply_to = Some(ReplyTo { op: id.event, part: 0 });
    Message { id, from: "sender".to_owned(), to: "receiver".to_owned(), reply_to, body }
}

fn sends(sender: u8, ids: &[MessageId]) -> Batch {
    Batch { send: ids.iter().copied().map(message).collect(), ..Batch::new(key(sender), RUN, EventId::NONE) }
}

fn receives(receiver: u8, ids: &[MessageId]) -> Batch {
    Batch { received: ids.to_vec(), ..Batch::new(key(receiver), RUN, EventId::NONE) }
}

fn under_way(store: &dyn Store) -> Vec<MessageId> {
    store.outbox(None, usize::MAX).unwrap().into_iter().map(|message| message.id).collect()
}

fn entity(id: &str, at: i64) -> EntityRow {
    let (created, last_operation) = (Timestamp(1), Timestamp(at));
    EntityRow { id: id.to_owned(), created, last_operation, operation: 3, lock: None, waiting: Vec::new() }
}

fn changes(row: EntityRow, values: &[(&str, Option<&str>)]) -> Batch {
    let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
    let change = EntityChange { id: row.id.clone(), row: Some(row), values };
    Batch { entity: Some(change), ..Batch::new(key(9), RunNumber(0), EventId::NONE) }
}

fn keep(store: &dyn Store, id: &str, at: i64) {
    commit(store, &[changes(entity(id, at), &[])]);
}

fn values(store: &dyn Store, id: &str) -> Vec<(String, String)> {
    store.entity_values(id).unwrap().into_iter().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn query() -> EntityQuery {
    EntityQuery { limit: 100, scan_max: 100, ..EntityQuery::default() }
}

fn ids(page: &EntityPage) -> Vec<&str> {
    page.rows.iter().map(|row| row.id.as_str()).collect()
}

conformance! {
    fn messages_are_read_in_the_order_in_which_each_sender_sent_them(store: &dyn Store) {
        let sent = [
            id(1, 1, 2, 1), answer_to(id(1, 1, 2, 1)), id(1, 1, 2, 2), id(1, 1, 300, 1), id(1, 2, 1, 1), id(2, 1, 1, 1),
        ];
        commit(store, &[sends(2, &sent[5..])]);
        commit(store, &[sends(1, &[sent[4], sent[0], sent[3]]), sends(3, &[sent[2], sent[1]])]);
        assert_eq!(under_way(store), sent);
        assert_eq!(store.outbox(None, 1).unwrap(), [message(sent[0])], "a message comes back whole");
        for (index, after) in sent.iter().enumerate() {
            let page = store.outbox(Some(*after), 2).unwrap();
            let expected: Vec<Message> = sent[index + 1..].iter().take(2).copied().map(message).collect();
            assert_eq!(page, expected);
        }
        // What follows an id need not be there itself.
        assert_eq!(store.outbox(Some(id(1, 1, 9, 9)), 1).unwrap(), [message(sent[3])]);
    }

    fn a_received_message_is_known_until_it_is_forgotten_with_its_sending(store: &dyn Store) {
        let (first, second) = (id(1, 1, 2, 1), id(1, 1, 3, 1));
        commit(store, &[sends(1, &[first, second])]);
        assert!(!store.was_received(first).unwrap());
        commit(store, &[receives(2, &[first, answer_to(second)])]);
        assert!(store.was_received(first).unwrap());
        assert!(store.was_received(answer_to(second)).unwrap());
        assert!(!store.was_received(second).unwrap(), "an answer is not what it answers");
        assert!(!store.was_received(answer_to(first)).unwrap());
        assert_eq!(under_way(store), [first, second], "received is not forgotten");
        store.drop_messages(&[first, id(7, 7, 7, 7)]).unwrap();
        assert!(!store.was_received(first).unwrap());
        assert!(store.was_received(answer_to(second)).unwrap());
        assert_eq!(under_way(store), [second]);
        store.drop_messages(&[]).unwrap();
        assert_eq!(under_way(store), [second]);
    }

    fn a_message_may_be_sent_and_another_received_in_one_batch(store: &dyn Store) {
        let (question, answer) = (id(1, 1, 2, 1), answer_to(id(1, 1, 2, 1)));
        commit(store, &[sends(1, &[question])]);
        let answers = Batch { received: vec![question], ..sends(2, &[answer]) };
        commit(store, &[answers]);
        assert_eq!(under_way(store), [question, answer]);
        assert!(store.was_received(question).unwrap() && !store.was_received(answer).unwrap());
    }

    fn a_refused_batch_sends_receives_and_keeps_nothing(store: &dyn Store) {
        commit(store, &[events(1, 0, 2)]);
        let refused = Batch {
            received: vec![id(5, 1, 1, 1)],
            send: vec![message(id(1, 1, 2, 1))],
            entity: changes(entity("@a@k", 5), &[("state", Some("1"))]).entity,
            ..events(1, 0, 1)
        };
        let results = store.commit(&[refused]).unwrap();
        assert!(matches!(results[..], [Err(CommitError::Conflict { .. })]), "{results:?}");
        assert!(under_way(store).is_empty() && !store.was_received(id(5, 1, 1, 1)).unwrap());
        assert_eq!((store.entity("@a@k").unwrap(), values(store, "@a@k")), (None, Vec::new()));
    }

    fn an_entity_is_its_row_and_its_values(store: &dyn Store) {
        let locked = EntityRow {
            lock: Some(LockHolder { instance: "holder".to_owned(), run: RunNumber(2), op: EventId(4) }),
            waiting: vec![message(id(1, 1, 2, 1)), message(id(2, 1, 9, 1))],
            ..entity("@a@k", 5)
        };
        commit(store, &[changes(locked.clone(), &[("state", Some("1")), ("", Some("null")), ("ü", Some("[]"))])]);
        assert_eq!(store.entity("@a@k").unwrap(), Some(locked));
        assert_eq!(values(store, "@a@k"), pairs(&[("", "null"), ("state", "1"), ("ü", "[]")]));
        commit(store, &[changes(entity("@a@k", 6), &[("state", Some("2")), ("ü", None), ("never", None)])]);
        assert_eq!(store.entity("@a@k").unwrap(), Some(entity("@a@k", 6)));
        assert_eq!(values(store, "@a@k"), pairs(&[("", "null"), ("state", "2")]));
        let gone = EntityChange {
            id: "@a@k".to_owned(),
            row: None,
            values: vec![(String::new(), None), ("state".to_owned(), None)],
        };
        commit(store, &[Batch { entity: Some(gone), ..Batch::new(key(9), RunNumber(0), EventId::NONE) }]);
        assert_eq!((store.entity("@a@k").unwrap(), values(store, "@a@k")), (None, Vec::new()));
    }

    fn the_values_of_one_entity_are_never_anothers(store: &dyn Store) {
        // Each id is the beginning of another, or its end could be the beginning of a value's key.
        for id in ["@a@", "@a@k", "@a@k@", "@a@kk", "@aa@k"] {
            commit(store, &[changes(entity(id, 1), &[("k", Some(&format!("\"{id}\"")))])]);
        }
        for id in ["@a@", "@a@k", "@a@k@", "@a@kk", "@aa@k"] {
            assert_eq!(values(store, id), pairs(&[("k", &format!("\"{id}\""))]));
        }
        assert_eq!(values(store, "@a@x"), Vec::new());
    }

    fn entities_are_listed_in_order_of_their_ids_in_pages(store: &dyn Store) {
        for (id, at) in [("@b@2", 30), ("@a@1", 10), ("@b@", 20), ("@b@10", 5), ("@bb@1", 40), ("@b@ü", 50)] {
            keep(store, id, at);
        }
        let all = ["@a@1", "@b@", "@b@10", "@b@2", "@b@ü", "@bb@1"];
        assert_eq!(ids(&store.entities(&query()).unwrap()), all);
        let of_b = EntityQuery { name: Some("b".to_owned()), ..query() };
        assert_eq!(ids(&store.entities(&of_b).unwrap()), all[1..5]);
        let (from, to) = (Some(Timestamp(10)), Some(Timestamp(30)));
        assert_eq!(ids(&store.entities(&EntityQuery { from, to, ..query() }).unwrap()), ["@a@1", "@b@", "@b@2"]);
        for limit in 0..=7 {
            let mut query = EntityQuery { limit, ..query() };
            let mut seen = Vec::new();
            loop {
                let page = store.entities(&query).unwrap();
                assert!(page.rows.len() <= limit.max(1), "a page of {limit}");
                seen.extend(page.rows.into_iter().map(|row| row.id));
                let Some(next) = page.next else { break };
                query.after = Some(next);
            }
            assert_eq!(seen, all, "in pages of {limit}");
        }
    }

    fn a_page_of_entities_ends_where_its_scan_does(store: &dyn Store) {
        for n in 1..=5 {
            keep(store, &format!("@a@{n}"), n);
        }
        let mut query = EntityQuery { from: Some(Timestamp(5)), scan_max: 2, ..query() };
        for next in ["@a@2", "@a@4"] {
            let page = store.entities(&query).unwrap();
            assert_eq!((ids(&page), page.next.as_deref()), (Vec::new(), Some(next)));
            query.after = page.next;
        }
        let page = store.entities(&query).unwrap();
        assert_eq!((ids(&page), page.next.as_deref()), (vec!["@a@5"], None));
        // A cursor behind everything, or in front of it, or of another name.
        let name = Some("a".to_owned());
        let after = |after: &str| EntityQuery { name: name.clone(), after: Some(after.to_owned()), ..self::query() };
        assert_eq!(store.entities(&after("@z@")).unwrap(), EntityPage::default());
        assert_eq!(ids(&store.entities(&after("")).unwrap()).len(), 5);
        assert_eq!(ids(&store.entities(&after("@A@")).unwrap()).len(), 5);
    }

    fn the_end_of_a_run_and_the_begin_of_the_next_are_one_batch(store: &dyn Store) {
        let first = row(1, Running, 5);
        commit(store, &[Batch { put_timers: vec![timer(9, 1, 1)], ..with_row(1, &first, None) }, events(1, 0, 2)]);
        let second = InstanceRow { run: RunNumber(2), ..first.clone() };
        let mut then = Batch { run: RunNumber(2), ..events(1, 0, 3) };
        then.row = Some(second.clone());
        then.previous = Some(first.index_keys());
        then.under_way = Some(ACTIVITIES);
        then.put_timers = vec![TimerRow { run: RunNumber(2), ..timer(8, 1, 1) }];
        then.send = vec![message(id(1, 2, 1, 1))];
        let ends = Batch { drop_timers: vec![timer(9, 1, 1)], then: Some(Box::new(then.clone())), ..events(1, 2, 1) };
        commit(store, &[ends]);
        assert_eq!(store.last_event(key(1), RUN).unwrap().map(|(id, _)| id), Some(EventId(3)));
        assert_eq!(store.last_event(key(1), RunNumber(2)).unwrap().map(|(id, _)| id), Some(EventId(3)));
        assert_eq!(store.instance(key(1)).unwrap(), Some(second));
        assert_eq!(store.due_timers(Timestamp::MAX, None, 9).unwrap(), then.put_timers);
        assert_eq!(store.tasks(None, 9).unwrap().len(), 1);
        assert_eq!(under_way(store), [id(1, 2, 1, 1)]);
        // The next batch of either run is conditional on what was written.
        assert!(store.commit(&[Batch { run: RunNumber(2), ..events(1, 0, 1) }]).unwrap()[0].is_err());
        commit(store, &[Batch { run: RunNumber(2), ..events(1, 3, 1) }]);
    }

    fn of_two_runs_in_one_batch_neither_is_written_if_one_is_refused(store: &dyn Store) {
        commit(store, &[events(1, 0, 2), Batch { run: RunNumber(2), ..events(1, 0, 1) }]);
        let then = |run: u32, last: u64| Some(Box::new(Batch { run: RunNumber(run), ..events(1, last, 1) }));
        for batch in [
            Batch { then: then(2, 0), ..events(1, 2, 1) },
            Batch { then: then(3, 0), ..events(1, 1, 1) },
        ] {
            let results = store.commit(&[batch]).unwrap();
            assert!(matches!(results[..], [Err(CommitError::Conflict { .. })]), "{results:?}");
        }
        let foreign = Some(Box::new(events(2, 0, 1)));
        for batch in [
            Batch { then: then(1, 3), ..events(1, 2, 1) },
            Batch { then: foreign, ..events(1, 2, 1) },
        ] {
            let results = store.commit(&[batch]).unwrap();
            assert!(matches!(results[..], [Err(CommitError::Malformed { .. })]), "{results:?}");
        }
        let last = |run| store.last_event(key(1), RunNumber(run)).unwrap().map(|(id, _)| id.0);
        assert_eq!([1, 2, 3].map(last), [Some(2), Some(1), None]);
        assert!(event_ids(store, 2).is_empty());
    }

    fn an_instance_that_went_on_is_listed_once(store: &dyn Store) {
        let first = row(1, Running, 5);
        commit(store, &[with_row(1, &first, None)]);
        let second = InstanceRow { run: RunNumber(2), state: Completed, ..first.clone() };
        let then = Batch { run: RunNumber(2), ..with_row(1, &second, Some(&first)) };
        commit(store, &[Batch { then: Some(Box::new(then)), ..events(1, 0, 1) }]);
        let listed = store.list(&crate::ListQuery { limit: 9, scan_max: 9, ..crate::ListQuery::default() }).unwrap();
        assert_eq!(listed.rows, [second]);
    }
}
