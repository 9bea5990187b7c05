//! The event format, byte by byte. A change here breaks every stored history: never update the golden
//! bytes of a released format, raise [`EVENT_FORMAT`] instead.

use super::*;
use crate::failure::FailureKind;
use crate::random::Random;
use expect_test::{Expect, expect};
use samples::{VARIANTS, options, samples, samples_of_format_1, tag};
use std::collections::BTreeSet;

#[path = "event_samples.rs"]
mod samples;

/// What format 1 stored of its samples. It never changes: a build that can't read it has lost its users' histories.
const EVENTS_V1: &str = include_str!("../tests/corpus/events-v1.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn golden() -> Expect {
    expect![[r#"
        InstanceStarted
          02d00f0000076f726465722d37066f726465727305312e322e30abababababababababababababababababababababababab
          abababababababab077b226e223a317dffffffffffffffffff0100
        ActivityScheduled
          02a01f010106636861726765035b315d01010180b09dc2df01000180dea0cb05018094ebdc03d00f80d0dbc3f40201050064
          020d636172642d6465636c696e6564000103677075
        ActivityScheduled
          02f02e01010663686172676500000000000000
        ActivityAttemptFailed
          02c03e0002ac02028080d0e2c6bfce972f010f687474702e7374617475732d3530330e7370c3a4746520416e74776f727401
          097b22747279223a317d010180d88ee16ffeffffffffffffffff01
        ActivityCompleted
          02904e0003ac02028080d0e2c6bfce972f027b7d
        ActivityFailed
          02e05d0004ac0202018080d0e2c6bfce972f010f687474702e7374617475732d3530330e7370c3a4746520416e74776f7274
          01097b22747279223a317d010180d88ee16f
        ActivityFailed
          02b06d0004ac020200020963616e63656c6c6564026e6f000000
        TimerStarted
          02807d040501
        TimerFired
          02d08c010006ac02
        CallbackCreated
          02a09c0105070470616964018080d0e2c6bfce972f1168747470733a2f2f612e6578616d706c6503
        CallbackCreated
          02f0ab0105070470616964000000
        CallbackSettled
          02c0bb010008ac020004747275650101010101010101010101010101010101010101010101010101010101010101
        CallbackSettled
          0290cb010008ac0201010f687474702e7374617475732d3530330e7370c3a4746520416e74776f727401097b22747279223a
          317d010180d88ee16f0202020202020202020202020202020202020202020202020202020202020202
        CallbackExpired
          02e0da010009ac02
        SignalAwaited
          02b0ea01070a07617070726f7665
        SignalReceived
          0280fa01000b07617070726f7665013101036d2d31
        SignalReceived
          02d08902000b07617070726f7665013100
        OperationCancelled
          02a09902090cac02
        StatusSet
          02f0a802090d092268616c6677617922
        ChangePatched
          02c0b8020a0e076e65772d746178
        CancelRequested
          0290c802000f0f6368616e676564206d79206d696e64
        InstanceCompleted
          02e0d7020b10046e756c6c
        InstanceFailed
          02b0e7020b11010f687474702e7374617475732d3530330e7370c3a4746520416e74776f727401097b22747279223a317d01
          0180d88ee16f
        InstanceCancelled
          0280f7020c12020963616e63656c6c65640861736b656420746f000000
        InstanceTerminated
          02d08603001305737475636b
        InstanceStopped
          02a09603001405106c696d69742e7475726e2d627974657308746f6f206d756368000000
        InstanceStarted
          02f0a50300000870617263656c2d370770617263656c730132cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
          cdcdcdcdcdcdcd046e756c6c010101076f726465722d3703ac020204010102036d2d3100
        InstanceStarted
          02c0b50300000870617263656c2d370770617263656c730132cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
          cdcdcdcdcdcdcd046e756c6c010100000000
        ChildStarted
          0290c5030e150870617263656c2d370770617263656c73035b315d01013201018094ebdc03d00f80d0dbc3f4020105006402
          0d636172642d6465636c696e656400
        ChildStarted
          02e0d4030f150870617263656c2d370770617263656c73035b315d000200
        ChildStarted
          02b0e4030f150870617263656c2d370770617263656c73035b315d000000
        ChildAttemptFailed
          0280f4030016ac0202010f687474702e7374617475732d3530330e7370c3a4746520416e74776f727401097b22747279223a
          317d010180d88ee16ffeffffffffffffffff01
        StartSent
          02d083041017056c61746572077265706f727473010131027b7d
        StartSent
          02a093041117056c61746572077265706f7274730000
        SignalSent
          02f0a2041118076f726465722d3802676f0131
        CancelSent
          02c0b2041219076f726465722d3806656e6f756768
        EntityCalled
          0290c204121a07636f756e7465720161036164640131
        EntitySignalled
          02e0d104131b07636f756e7465720161036164640131
        LockRequested
          02b0e104131c0207636f756e7465720007636f756e7465720161
        LockGranted
          0280f104001dac0201
        LockReleased
          02d08005141eac02
        ReplyReceived
          02a09005001fac0200035b325d
        ReplyReceived
          02f09f05001fac0201010f687474702e7374617475732d3530330e7370c3a4746520416e74776f727401097b22747279223a
          317d010180d88ee16f
        InstanceSuspended
          02c0af05002006726570616972
        InstanceResumed
          0290bf050021087265706169726564
        InstanceContinued
          02e0ce051722077b226e223a327d01
        InstanceContinued
          02b0de051722013000
        EventLeftOut
          0280ee0500230e41637469766974794661696c6564
    "#]]
}

/// Long text in lines that fit, each a little to the right.
fn wrapped(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(100).map(|line| format!("  {}\n", line.iter().collect::<String>())).collect()
}

#[test]
fn the_bytes_of_every_event_are_the_golden_ones() {
    let all = samples();
    let lines: String = all.iter().map(|e| format!("{}\n{}", e.body.name(), wrapped(&hex(&e.encode())))).collect();
    golden().assert_eq(&lines);
}

/// The names and bytes in a golden text.
fn stored(golden: &str) -> Vec<(&str, Vec<u8>)> {
    let mut stored: Vec<(&str, String)> = Vec::new();
    for line in golden.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match stored.last_mut() {
            Some((_, bytes)) if line.chars().all(|c| c.is_ascii_hexdigit()) => bytes.push_str(line),
            _ => stored.push((line, String::new())),
        }
    }
    stored.into_iter().map(|(name, bytes)| (name, unhex(&bytes))).collect()
}

#[test]
fn the_golden_bytes_give_the_events_back() {
    let golden = golden();
    let stored = stored(golden.data());
    assert_eq!(stored.len(), samples().len());
    for ((name, bytes), event) in stored.into_iter().zip(samples()) {
        assert_eq!(name, event.body.name());
        assert_eq!(Event::decode(event.id, &bytes), Ok(event));
    }
}

#[test]
fn the_bytes_of_format_1_give_the_same_events_none_with_a_lineage() {
    let stored = stored(EVENTS_V1);
    assert_eq!(stored.len(), samples_of_format_1());
    for ((name, bytes), event) in stored.into_iter().zip(samples()) {
        assert_eq!((name, bytes[0]), (event.body.name(), FORMAT_WITHOUT_LINEAGE));
        assert_eq!(Event::decode(event.id, &bytes), Ok(event.clone()), "{name}");
        if let EventBody::InstanceStarted { lineage, .. } = event.body {
            assert_eq!(lineage, None);
        }
    }
}

#[test]
fn bytes_of_format_1_that_are_cut_short_or_too_long_are_damaged() {
    for (name, mut bytes) in stored(EVENTS_V1) {
        for length in 0..bytes.len() {
            let cut = Event::decode(EventId(4), &bytes[..length]);
            assert!(matches!(cut, Err(DecodeError::Damaged { .. })), "{name} cut to {length}: {cut:?}");
        }
        bytes.push(0);
        let reason = "bytes are left over".to_owned();
        assert_eq!(Event::decode(EventId(4), &bytes), Err(DecodeError::Damaged { id: EventId(4), reason }), "{name}");
    }
}

#[test]
fn the_samples_have_every_variant_at_its_place() {
    let seen: BTreeSet<u8> = samples().iter().map(|event| tag(&event.body)).collect();
    assert_eq!(seen, (0..VARIANTS).collect());
    let names: BTreeSet<&str> = samples().iter().map(|event| event.body.name()).collect();
    assert_eq!(names.len(), usize::from(VARIANTS), "every variant has a name of its own");
    for event in samples() {
        // Time and cause come first; alone they tell where the variant's byte is.
        let before = postcard::to_stdvec(&(event.time, event.cause)).unwrap();
        assert_eq!(event.encode()[1 + before.len()], tag(&event.body), "{}", event.body.name());
    }
}

#[test]
fn an_event_is_a_command_or_inbound_and_the_last_ones_are_named() {
    let list = |which: fn(&EventBody) -> bool| {
        let names: BTreeSet<&str> = samples().iter().filter(|e| which(&e.body)).map(|e| e.body.name()).collect();
        names.into_iter().map(|name| format!("{name}\n")).collect::<String>()
    };
    let commands = expect![[r#"
        ActivityScheduled
        CallbackCreated
        CancelSent
        ChangePatched
        ChildStarted
        EntityCalled
        EntitySignalled
        InstanceCancelled
        InstanceCompleted
        InstanceContinued
        InstanceFailed
        LockReleased
        LockRequested
        OperationCancelled
        SignalAwaited
        SignalSent
        StartSent
        StatusSet
        TimerStarted
    "#]];
    commands.assert_eq(&list(EventBody::is_command));
    let terminal = expect![[r#"
        InstanceCancelled
        InstanceCompleted
        InstanceContinued
        InstanceFailed
        InstanceStopped
        InstanceTerminated
    "#]];
    terminal.assert_eq(&list(EventBody::is_terminal));
}

#[test]
fn bytes_cut_short_at_any_length_are_damaged() {
    for event in samples() {
        let bytes = event.encode();
        for length in 0..bytes.len() {
            let cut = Event::decode(event.id, &bytes[..length]);
            assert!(matches!(cut, Err(DecodeError::Damaged { .. })), "{} cut to {length}: {cut:?}", event.body.name());
        }
    }
}

#[test]
fn bytes_left_over_are_damage() {
    for event in samples() {
        let mut bytes = event.encode();
        bytes.push(0);
        let reason = "bytes are left over".to_owned();
        assert_eq!(Event::decode(event.id, &bytes), Err(DecodeError::Damaged { id: event.id, reason }));
    }
}

#[test]
fn a_changed_byte_is_another_event_or_damage_but_never_a_panic() {
    for event in samples() {
        let good = event.encode();
        for place in 1..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[place] ^= 1 << bit;
                match Event::decode(event.id, &bytes) {
                    Ok(other) => assert_ne!(other, event, "{} byte {place} bit {bit}", event.body.name()),
                    Err(DecodeError::Damaged { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

#[test]
fn garbage_is_never_a_panic() {
    let mut random = Random::new(11);
    for _ in 0..200_000 {
        let mut bytes = vec![0; usize::try_from(random.next_u64() % 80).unwrap()];
        random.fill(&mut bytes);
        if let Some(format) = bytes.first_mut() {
            *format = if *format % 2 == 0 { EVENT_FORMAT } else { FORMAT_WITHOUT_LINEAGE };
        }
        if let Ok(event) = Event::decode(EventId(1), &bytes) {
            // What could be read can be written, and reads as the same.
            assert_eq!(Event::decode(EventId(1), &event.encode()), Ok(event));
        }
    }
}

#[test]
fn a_length_beyond_the_bytes_is_damage_and_reserves_nothing() {
    // SignalAwaited (variant 10) whose name claims 2^63 bytes, at time 0 and cause 0.
    let mut bytes = vec![EVENT_FORMAT, 0, 0, 10];
    bytes.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]);
    assert!(matches!(Event::decode(EventId(4), &bytes), Err(DecodeError::Damaged { .. })));
}

#[test]
fn every_other_format_byte_is_refused_by_name() {
    let mut bytes = samples()[0].encode();
    for format in EVENT_FORMAT + 1..=u8::MAX {
        bytes[0] = format;
        let refused = Event::decode(EventId(9), &bytes);
        assert_eq!(refused, Err(DecodeError::NewerFormat { id: EventId(9), found: format }));
    }
    bytes[0] = 0;
    assert!(matches!(Event::decode(EventId(9), &bytes), Err(DecodeError::Damaged { .. })));
}

#[test]
fn decode_errors_name_the_event_and_the_next_step() {
    let text = |bytes: &[u8]| Event::decode(EventId(17), bytes).unwrap_err().to_string();
    expect!["event 17 can't be read: it is empty; the store is damaged, restore it from a backup"]
        .assert_eq(&text(&[]));
    expect!["event 17 has format 3, this build reads up to 2; start the newer build that wrote it"]
        .assert_eq(&text(&[3, 1]));
    expect!["event 17 can't be read: no build has written its format; the store is damaged, restore it from a backup"]
        .assert_eq(&text(&[0, 1]));
    expect!["event 17 can't be read: Serde Deserialization Error; the store is damaged, restore it from a backup"]
        .assert_eq(&text(&[2, 0, 0, 99]));
}

#[test]
fn commands_are_described_in_one_line_each() {
    let commands = samples().into_iter().filter(|event| event.body.is_command());
    let lines: String = commands.map(|event| wrapped(&event.body.describe()).split_off(2)).collect();
    expect![[r#"
        ActivityScheduled `charge` with input [1] and options schedule-to-start 1ns, start-to-close 60s, hea
          rtbeat 1.5s, retry (initial-interval 1s, backoff-permille 2000, maximum-interval 100s, maximum-attem
          pts 5, jitter-permille 100, non-retryable ["card-declined", ""]), queue `gpu`
        ActivityScheduled `charge` with input  and no options
        TimerStarted with deadline -1 ns
        CallbackCreated `paid` expiring at 1700000000000000000 ns
        CallbackCreated `paid` that never expires
        SignalAwaited `approve`
        OperationCancelled of event 300
        StatusSet to "halfway"
        ChangePatched `new-tax`
        InstanceCompleted with output null
        InstanceFailed: http.status-503 (timed-out): späte Antwort
        InstanceCancelled: cancelled (cancelled): asked to
        ChildStarted `parcel-7` of workflow `parcels` with input [1] and ChildOptions { version: Some("2"), 
          parent_close: RequestCancel, retry: Some(RetryPolicy { initial_interval: Nanos(1000000000), backoff_
          permille: 2000, maximum_interval: Nanos(100000000000), maximum_attempts: Some(5), total_timeout: Non
          e, jitter_permille: 100, non_retryable: ["card-declined", ""] }) }
        ChildStarted `parcel-7` of workflow `parcels` with input [1] and ChildOptions { version: None, paren
          t_close: Abandon, retry: None }
        ChildStarted `parcel-7` of workflow `parcels` with input [1] and ChildOptions { version: None, paren
          t_close: Terminate, retry: None }
        StartSent `later` of workflow `reports` (1) with input {}
        StartSent `later` of workflow `reports` (newest) with input 
        SignalSent `go` to `order-8` with 1
        CancelSent to `order-8`: enough
        EntityCalled `add` of `@counter@a` with input 1
        EntitySignalled `add` of `@counter@a` with input 1
        LockRequested over @counter@, @counter@a
        LockReleased of event 300
        InstanceContinued with input {"n":2} and the newest version
        InstanceContinued with input 0 and its own version
    "#]]
    .assert_eq(&lines);
}

#[test]
fn a_long_payload_is_shortened_between_characters() {
    let status = "ä".repeat(200);
    let described = EventBody::StatusSet { status }.describe();
    assert_eq!(described, format!("StatusSet to {}… (400 bytes)", "ä".repeat(120)));
}

#[test]
fn the_size_of_a_command_counts_every_text_the_guest_chose() {
    let options = ActivityOptions { queue: Some("q".repeat(100)), ..options() };
    let scheduled = |name: &str, input: &str, options: &ActivityOptions| EventBody::ActivityScheduled {
        name: name.to_owned(),
        input: input.to_owned(),
        options: options.clone(),
    };
    let small = scheduled("a", "", &ActivityOptions::default()).len_bytes();
    assert_eq!(scheduled("a", &"x".repeat(50), &ActivityOptions::default()).len_bytes(), small + 50);
    // The queue's 100 bytes, and two codes: 13 bytes and none, with 8 for each.
    assert_eq!(scheduled("a", "", &options).len_bytes(), small + 100 + 13 + 2 * 8);
    let text = "y".repeat(1_000);
    let commands = [
        EventBody::CallbackCreated { name: text.clone(), expires: None, base_url: String::new(), key_id: 1 },
        EventBody::SignalAwaited { name: text.clone() },
        EventBody::StatusSet { status: text.clone() },
        EventBody::ChangePatched { change: text.clone() },
        EventBody::InstanceCompleted { output: text.clone() },
        EventBody::InstanceFailed { failure: Failure::new(FailureKind::Application, "", text.clone()) },
        EventBody::InstanceCancelled { failure: Failure::cancelled(&text) },
    ];
    for command in commands {
        assert!(command.len_bytes() >= 1_000, "{}", command.name());
    }
}
