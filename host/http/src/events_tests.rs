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
            lineage: None,
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
        EventBody::InstanceStopped { failure },
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
        "type":"InstanceStarted","instance":"i","workflow":"job","version":"1","digest":"0101010101010101010101010101010101010101010101010101010101010101","input":{"z":1,"a":[1e999]}}
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
        "type":"InstanceStopped","failure":{"kind":"application","code":"a.code","message":"why","details":null,"retryable":false}}"#]].assert_eq(&own.join("\n"));
}

#[test]
fn the_type_is_the_name_of_the_event() {
    for body in all() {
        let name = body.name();
        assert!(shown(body).contains(&format!(r#""type":"{name}""#)), "{name}");
    }
}
