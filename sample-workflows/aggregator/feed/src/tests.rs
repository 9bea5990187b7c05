//! The workflow with the real entity, in virtual time.

use super::*;
use aggregator::Sensor;
use rehydrate::testing::{Reply, TestHost};

const SECOND: Duration = Duration::from_secs(1);

/// A source that gives 1, 2, 3, ... and fails where it is told to.
fn host(fails: impl Fn(u64) -> bool + 'static) -> TestHost {
    let host = TestHost::new();
    host.entity::<Sensor>("sensor");
    let mut count = 0;
    host.activity("http", move |call| {
        assert_eq!(call.input["url"], "http://source.test/");
        count += 1;
        if fails(count) {
            return Reply::fail(SECOND, Failure::application("http.status-503", "not now"));
        }
        Reply::ok(SECOND, &json!({"status": 200, "headers": {}, "json": {"value": count}, "text": null}))
    });
    host
}

fn input() -> Feed {
    Feed { sensor: "boiler".to_owned(), source_url: "http://source.test/".to_owned(), interval_seconds: 9 }
}

fn summary(output: Value) -> Sensor {
    serde_json::from_value(output).expect("a summary")
}

#[test]
fn it_feeds_the_sensor_until_it_is_stopped() {
    let host = host(|_| false);
    host.signal(SECOND * 25, "stop", &());
    let seen = summary(host.run_all(feed, input()).expect("stopped"));
    assert_eq!((seen.count, seen.mean, seen.max), (3, 2.0, Some(3.0)));
    let latest = seen.latest.expect("a reading").at.expect("a time");
    assert_eq!(latest + SECOND * 4, host.now(), "readings have the time at which they were made");
}

#[test]
fn it_goes_on_in_new_runs_and_a_stop_is_never_lost() {
    let host = host(|_| false);
    host.signal(SECOND * (10 * 250 + 5), "stop", &());
    assert_eq!(summary(host.run_all(feed, input()).expect("stopped")).count, 251);
    assert_eq!(host.calls().len(), 251);
}

#[test]
fn a_reading_that_fails_is_logged_and_left_out() {
    let host = host(|n| n == 2);
    host.signal(SECOND * 25, "stop", &());
    let seen = summary(host.run_all(feed, input()).expect("stopped"));
    assert_eq!((seen.count, seen.mean), (2, 2.0));
    assert!(host.log()[0].1.contains("http.status-503"), "{:?}", host.log());
}

#[test]
fn an_instance_asked_to_cancel_ends() {
    let host = host(|_| false);
    host.cancel(SECOND * 15, "no longer needed");
    assert!(host.run_all(feed, input()).expect_err("cancelled").is_cancelled());
}
