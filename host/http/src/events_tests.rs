//! Every kind of event as JSON.

use super::*;
use expect_test::expect;
use rehydrate_runtime::core::{AttemptNumber, Digest, EventId, FailureKind, Nanos, Timestamp};

const T0: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// One event of every kind.
fn all() -> Vec<EventBody> {
    let op = EventId(2);
    let attempt = AttemptNumber(1);
    let failure = core::Failure::new(FailureKind::Application, "a.code", "why");
    let json = || r#"{ "z": 1, "a": [1e999] }"#.to_owned();
    let digest = Digest([1; 32]);
    let retry = core::RetryPolicy {
        initial_interval: Nanos::from_millis(100),
        backoff_permille: 2000,
        maximum_interval: Nanos::from_secs(10),
        maximum_attempts: Some(3),
        total_timeout: None,
        jitter_permille: 100,
        non_retryable: vec!["a.code".to_owned()],
    };
    let options = core::ActivityOptions {
        start_to_close: Some(Nanos(1_500_000)),
        retry: Some(retry),
        ..core::ActivityOptions::default()
    };
    vec![
        EventBody::InstanceStarted {
            instance: "i".to_owned(),
            workflow: "job".to_owned(),
            version: "1".to_owned(),
            digest,
            input: json(),
            seed: 7,
            lineage: Some(Box::new(core::Lineage {
                parent: Some(core::Parent {
                    instance: "p".to_owned(),
                    run: core::RunNumber(4),
                    reply_to: core::ReplyTo { op, part: 1 },
                }),
                rewound_from: Some(core::RunNumber(2)),
                ..core::Lineage::default()
            })),
        },
        EventBody::ActivityScheduled { name: "submit".to_owned(), input: json(), options },
        EventBody::ActivityAttemptFailed { op, attempt, started: T0, failure: failure.clone(), next_attempt: T0 },
        EventBody::ActivityCompleted { op, attempt, started: T0, output: json() },
        EventBody::ActivityFailed { op, attempt, started: None, failure: failure.clone() },
        EventBody::TimerStarted { deadline: T0 },
        EventBody::TimerFired { op },
        EventBody::CallbackCreated {
            name: "done".to_owned(),
            expires: Some(T0),
            base_url: "http://127.0.0.1:7071".to_owned(),
            key_id: 1,
        },
        EventBody::CallbackSettled { op, outcome: Ok(json()), digest },
        EventBody::CallbackSettled { op, outcome: Err(failure.clone()), digest },
        EventBody::CallbackExpired { op },
        EventBody::SignalAwaited { name: "go".to_owned() },
        EventBody::SignalReceived { name: "go".to_owned(), payload: json(), message_id: Some("m".to_owned()) },
        EventBody::OperationCancelled { op },
        EventBody::StatusSet { status: json() },
        EventBody::ChangePatched { change: "c".to_owned() },
        EventBody::CancelRequested { reason: "r".to_owned() },
        EventBody::InstanceCompleted { output: json() },
        EventBody::InstanceFailed { failure: failure.clone() },
        EventBody::InstanceCancelled { failure: failure.clone() },
        EventBody::InstanceTerminated { reason: "r".to_owned() },
        EventBody::InstanceStopped { failure: failure.clone() },
    ]
    .into_iter()
    .chain(of_others(failure))
    .collect()
}

/// What has to do with other instances, and with other runs.
fn of_others(failure: core::Failure) -> Vec<EventBody> {
    let op = EventId(2);
    let text = |text: &str| text.to_owned();
    let json = || r#"{"z":1}"#.to_owned();
    let entity = core::EntityId { name: text("counter"), key: text("k") };
    let options = core::ChildOptions { version: Some(text("1")), ..core::ChildOptions::default() };
    vec![
        EventBody::ChildStarted { id: text("c"), workflow: text("job"), input: json(), options },
        EventBody::ChildAttemptFailed { op, attempt: AttemptNumber(1), failure: failure.clone(), next_attempt: T0 },
        EventBody::StartSent { id: text("d"), workflow: text("job"), version: None, input: json() },
        EventBody::SignalSent { instance: text("d"), name: text("go"), payload: json() },
        EventBody::CancelSent { instance: text("d"), reason: text("r") },
        EventBody::EntityCalled { entity: entity.clone(), operation: text("add"), input: json() },
        EventBody::EntitySignalled { entity: entity.clone(), operation: text("add"), input: json() },
        EventBody::LockRequested { entities: vec![entity] },
        EventBody::LockGranted { op, left: 0 },
        EventBody::LockReleased { op },
        EventBody::ReplyReceived { op, outcome: Ok(json()) },
        EventBody::ReplyReceived { op, outcome: Err(failure) },
        EventBody::InstanceSuspended { reason: text("r") },
        EventBody::InstanceResumed { reason: text("r") },
        EventBody::InstanceContinued { input: json(), newest: true },
        EventBody::EventLeftOut { was: text("ActivityFailed") },
    ]
}

fn shown(body: EventBody) -> String {
    let event = core::Event { id: EventId(3), time: T0, cause: EventId(1), body };
    serde_json::to_string(&Event::from(&event)).expect("json")
}

#[test]
fn every_event_is_one_line_of_json() {
    let lines: Vec<String> = all().into_iter().map(shown).collect();
    let common = r#"{"id":3,"time":"2023-11-14T22:13:20.000000000Z","cause":1,"#;
    let own: Vec<&str> = lines.iter().map(|line| line.strip_prefix(common).expect("id, time and cause")).collect();
    expect![[r#"
        "type":"InstanceStarted","instance":"i","workflow":"job","version":"1","digest":"0101010101010101010101010101010101010101010101010101010101010101","input":{"z":1,"a":[1e999]},"parent":"p","rewound_from":2}
        "type":"ActivityScheduled","name":"submit","input":{"z":1,"a":[1e999]},"options":{"start_to_close_ms":1.5,"retry":{"initial_interval_ms":100.0,"backoff_permille":2000,"maximum_interval_ms":10000.0,"maximum_attempts":3,"jitter_permille":100,"non_retryable":["a.code"]}}}
        "type":"ActivityAttemptFailed","op":2,"attempt":1,"started":"2023-11-14T22:13:20.000000000Z","failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false},"next_attempt":"2023-11-14T22:13:20.000000000Z"}
        "type":"ActivityCompleted","op":2,"attempt":1,"started":"2023-11-14T22:13:20.000000000Z","output":{"z":1,"a":[1e999]}}
        "type":"ActivityFailed","op":2,"attempt":1,"started":null,"failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false}}
        "type":"TimerStarted","deadline":"2023-11-14T22:13:20.000000000Z"}
        "type":"TimerFired","op":2}
        "type":"CallbackCreated","name":"done","expires":"2023-11-14T22:13:20.000000000Z","base_url":"http://127.0.0.1:7071","key_id":1}
        "type":"CallbackSettled","op":2,"output":{"z":1,"a":[1e999]},"digest":"0101010101010101010101010101010101010101010101010101010101010101"}
        "type":"CallbackSettled","op":2,"failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false},"digest":"0101010101010101010101010101010101010101010101010101010101010101"}
        "type":"CallbackExpired","op":2}
        "type":"SignalAwaited","name":"go"}
        "type":"SignalReceived","name":"go","payload":{"z":1,"a":[1e999]},"message_id":"m"}
        "type":"OperationCancelled","op":2}
        "type":"StatusSet","status":{"z":1,"a":[1e999]}}
        "type":"ChangePatched","change":"c"}
        "type":"CancelRequested","reason":"r"}
        "type":"InstanceCompleted","output":{"z":1,"a":[1e999]}}
        "type":"InstanceFailed","failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false}}
        "type":"InstanceCancelled","failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false}}
        "type":"InstanceTerminated","reason":"r"}
        "type":"InstanceStopped","failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false}}
        "type":"ChildStarted","instance":"c","workflow":"job","version":"1","input":{"z":1},"parent_close":"terminate"}
        "type":"ChildAttemptFailed","op":2,"attempt":1,"failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false},"next_attempt":"2023-11-14T22:13:20.000000000Z"}
        "type":"StartSent","instance":"d","workflow":"job","version":null,"input":{"z":1}}
        "type":"SignalSent","instance":"d","name":"go","payload":{"z":1}}
        "type":"CancelSent","instance":"d","reason":"r"}
        "type":"EntityCalled","entity":"@counter@k","operation":"add","input":{"z":1}}
        "type":"EntitySignalled","entity":"@counter@k","operation":"add","input":{"z":1}}
        "type":"LockRequested","entities":["@counter@k"]}
        "type":"LockGranted","op":2,"left":0}
        "type":"LockReleased","op":2}
        "type":"ReplyReceived","op":2,"output":{"z":1}}
        "type":"ReplyReceived","op":2,"failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false}}
        "type":"InstanceSuspended","reason":"r"}
        "type":"InstanceResumed","reason":"r"}
        "type":"InstanceContinued","input":{"z":1},"newest_version":true}
        "type":"EventLeftOut","was":"ActivityFailed"}"#]].assert_eq(&own.join("\n"));
}

#[test]
fn the_type_is_the_name_of_the_event() {
    for body in all() {
        let name = body.name();
        assert!(shown(body).contains(&format!(r#""type":"{name}""#)), "{name}");
    }
}
