//! The entity by itself.

use super::*;
use rehydrate::testing::{Sent, TestHost};
use serde_json::json;
use std::time::Duration;

fn host() -> TestHost {
    let host = TestHost::new();
    host.entity::<Sensor>("sensor");
    host
}

fn record(host: &TestHost, value: f64, at: Option<&str>) {
    host.call_entity::<()>("sensor", "boiler", "record", &json!({"value": value, "at": at})).expect("a reading");
}

fn summary(host: &TestHost) -> Sensor {
    host.call_entity("sensor", "boiler", "summary", &()).expect("a summary")
}

#[test]
fn readings_from_anywhere_become_one_summary() {
    let host = host();
    record(&host, 20.0, None);
    host.signal_entity(Duration::ZERO, "sensor", "boiler", "record_all", &json!([{"value": 10.0}, {"value": 30.0}]));
    record(&host, 40.0, None);
    let seen = summary(&host);
    assert_eq!((seen.count, seen.mean, seen.min, seen.max), (4, 25.0, Some(10.0), Some(40.0)));
    assert_eq!(host.entity_state("sensor", "boiler").expect("a state")["count"], 4);
    assert_eq!(host.entity_state("sensor", "other"), None);
}

#[test]
fn the_latest_reading_is_the_one_with_the_latest_time() {
    let host = host();
    record(&host, 1.0, Some("2026-01-01T10:00:00Z"));
    record(&host, 2.0, Some("2026-01-01T09:00:00Z"));
    let seen = summary(&host);
    assert_eq!((seen.count, seen.latest.expect("a reading").value), (2, 1.0));
}

#[test]
fn one_alarm_is_sent_until_the_value_falls_again() {
    let host = host();
    let alarm = json!({"above": 90.0, "notify": "watchman"});
    host.call_entity::<()>("sensor", "boiler", "set_alarm", &alarm).expect("an alarm");
    for value in [80.0, 95.0, 99.0, 85.0, 91.0] {
        record(&host, value, None);
    }
    let alarm = |sent| match sent {
        Sent::Signal { instance, name, payload } => {
            assert_eq!((instance.as_str(), name.as_str(), &payload["sensor"]), ("watchman", "alarm", &json!("boiler")));
            payload["reading"]["value"].as_f64().expect("a value")
        }
        other => panic!("{other:?}"),
    };
    let values: Vec<f64> = host.sent().into_iter().map(alarm).collect();
    assert_eq!(values, [95.0, 91.0]);
}

#[test]
fn a_reset_gives_what_there_was_and_begins_anew() {
    let host = host();
    record(&host, 20.0, None);
    assert_eq!(host.call_entity::<Sensor>("sensor", "boiler", "reset", &()).expect("the old one").count, 1);
    assert_eq!(summary(&host), Sensor::default());
}

#[test]
fn a_reading_that_is_none_changes_nothing() {
    let host = host();
    record(&host, 20.0, None);
    let readings = json!([{"value": 1.0}, {"value": "hot"}]);
    let failure = host.call_entity::<()>("sensor", "boiler", "record_all", &readings).expect_err("no number");
    assert_eq!(failure.code, "sdk.decode");
    assert_eq!(summary(&host).count, 1);
}
