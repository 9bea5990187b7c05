//! The workflow against a shop that is a closure, in virtual time.

use super::*;
use rehydrate::FailureKind;
use rehydrate::testing::{Reply, TestHost};

const SECOND: Duration = Duration::from_secs(1);

/// A shop where everything takes a second; `refuses` says what it does not do.
fn shop(refuses: &'static [&'static str]) -> TestHost {
    let host = TestHost::new();
    for what in ["reserve", "release", "charge", "refund", "ship", "recall"] {
        host.activity(&format!("shop.{what}"), move |_| match refuses.contains(&what) {
            true => Reply::fail(SECOND, Failure::application(format!("no-{what}"), "the shop refused")),
            false => Reply::ok(SECOND, &()),
        });
    }
    host
}

fn run(host: &TestHost) -> Result<Output, Failure> {
    let input = json!({
        "shop_url": "http://shop.test", "sku": "teapot", "count": 2, "card": "visa-1", "cents": 4200, "address": "Bern",
    });
    host.run(order_saga, serde_json::from_value(input).expect("an input"))
}

fn calls(host: &TestHost) -> Vec<String> {
    host.calls().iter().map(|call| call.name.trim_start_matches("shop.").to_owned()).collect()
}

#[test]
fn an_order_that_works_is_shipped_under_one_name() {
    let host = shop(&[]);
    let order = run(&host).unwrap().order;
    assert_eq!(calls(&host), ["reserve", "charge", "ship"]);
    for call in host.calls() {
        assert_eq!((&call.input["order"], &call.input["shop_url"]), (&json!(order), &json!("http://shop.test")));
    }
    assert_eq!((&host.calls()[0].input["sku"], &host.calls()[0].input["count"]), (&json!("teapot"), &json!(2)));
    assert_eq!(host.statuses().last().unwrap().1, "shipped");
}

#[test]
fn whatever_step_fails_it_and_those_before_it_are_undone_in_reverse_order() {
    let cases: [(&'static [&'static str], &[&str]); 3] = [
        (&["reserve"], &["reserve", "release"]),
        (&["charge"], &["reserve", "charge", "refund", "release"]),
        (&["ship"], &["reserve", "charge", "ship", "recall", "refund", "release"]),
    ];
    for (refuses, expected) in cases {
        let host = shop(refuses);
        assert_eq!(run(&host).unwrap_err().code, format!("no-{}", refuses[0]));
        assert_eq!(calls(&host), expected);
    }
}

#[test]
fn an_order_cancelled_while_the_card_is_charged_gives_the_money_back() {
    let host = shop(&[]);
    host.cancel(SECOND * 3 / 2, "changed my mind");
    assert_eq!(run(&host).unwrap_err(), Failure::cancelled("changed my mind"));
    assert_eq!(calls(&host), ["reserve", "charge", "refund", "release"]);
}

#[test]
fn a_refund_that_fails_does_not_keep_the_goods_reserved_and_is_told() {
    let host = shop(&["ship", "refund"]);
    let failure = run(&host).unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Application, "saga.compensation-failed"));
    let details = failure.details.unwrap();
    assert_eq!((&details["cause"]["code"], &details["failed"][0]["step"]), (&json!("no-ship"), &json!("charge")));
    assert_eq!(details["undone"], json!(["ship", "reserve"]));
    assert_eq!(calls(&host).last().unwrap(), "release");
}
