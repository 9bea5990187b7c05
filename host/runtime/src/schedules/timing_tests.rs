//! Cron expressions, zones and intervals, at the days on which clocks are set.

use super::*;
use rehydrate_core::Nanos;
use rehydrate_store::{CatchUp, Overlap};

pub fn spec(cron: &str, zone: &str) -> ScheduleSpec {
    ScheduleSpec {
        cron: cron.to_owned(),
        time_zone: zone.to_owned(),
        workflow: "w".to_owned(),
        version: None,
        input: "null".to_owned(),
        overlap: Overlap::Skip,
        catch_up: CatchUp::All,
        catch_up_window: Nanos::from_secs(60),
        jitter: Nanos(0),
        start: None,
        end: None,
        remaining_runs: None,
    }
}

pub fn at(text: &str) -> Timestamp {
    let at: jiff::Timestamp = text.parse().expect("a time");
    Timestamp(i64::try_from(at.as_nanosecond()).expect("a time of this age"))
}

fn timing(cron: &str, zone: &str) -> Timing {
    Timing::parse(&spec(cron, zone)).expect(cron)
}

/// The first due times later than that, as in ids.
fn due(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    timing(cron, zone).following(at(after)).take(count).map(in_id).collect()
}

#[test]
fn expressions_have_five_fields_or_six_names_and_nicknames() {
    let after = "2026-01-30T23:59:59.5Z";
    assert_eq!(due("0 2 * * *", "UTC", after, 2), ["2026-01-31T02:00:00Z", "2026-02-01T02:00:00Z"]);
    assert_eq!(due("*/20 * * * * *", "UTC", after, 2), ["2026-01-31T00:00:00Z", "2026-01-31T00:00:20Z"]);
    assert_eq!(due("30 8 * feb mon-fri", "UTC", after, 1), ["2026-02-02T08:30:00Z"]);
    assert_eq!(due("@hourly", "UTC", after, 1), ["2026-01-31T00:00:00Z"]);
    assert_eq!(due("@DAILY", "UTC", after, 1), ["2026-01-31T00:00:00Z"]);
    assert_eq!(due("@weekly", "UTC", after, 1), ["2026-02-01T00:00:00Z"]);
    assert_eq!(due("@monthly", "UTC", after, 1), ["2026-02-01T00:00:00Z"]);
    assert_eq!(due("@yearly", "UTC", after, 1), ["2027-01-01T00:00:00Z"]);
    assert_eq!(due("  0  2\t* * 7 ", "UTC", after, 1), ["2026-02-01T02:00:00Z"]);
}

#[test]
fn special_days_are_the_last_the_nth_and_the_nearest_weekday() {
    let after = "2026-02-01T00:00:00Z";
    assert_eq!(due("0 0 L * *", "UTC", after, 2), ["2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]);
    assert_eq!(due("0 0 * * fri#2", "UTC", after, 1), ["2026-02-13T00:00:00Z"]);
    assert_eq!(due("0 0 * * fri#L", "UTC", after, 1), ["2026-02-27T00:00:00Z"]);
    // The 15th is a Sunday.
    assert_eq!(due("0 0 15W * *", "UTC", after, 1), ["2026-02-16T00:00:00Z"]);
    assert_eq!(due("0 0 29 2 *", "UTC", after, 1), ["2028-02-29T00:00:00Z"]);
}

#[test]
fn if_both_days_are_restricted_either_is_enough_unless_a_plus_says_both() {
    let after = "2026-02-01T00:00:00Z";
    assert_eq!(due("0 0 10 * mon", "UTC", after, 3), ["02", "09", "10"].map(|d| format!("2026-02-{d}T00:00:00Z")));
    assert_eq!(due("0 0 13 * +fri", "UTC", after, 2), ["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z"]);
}

#[test]
fn an_expression_is_read_in_its_time_zone() {
    let after = "2026-06-30T12:00:00Z";
    assert_eq!(due("0 2 1 * *", "Europe/Stockholm", after, 1), ["2026-07-01T00:00:00Z"]);
    assert_eq!(due("0 2 1 * *", "Asia/Kathmandu", after, 1), ["2026-06-30T20:15:00Z"]);
    assert_eq!(due("0 2 1 * *", "america/new_york", after, 1), ["2026-07-01T06:00:00Z"]);
}

#[test]
fn a_fixed_time_in_a_gap_is_due_once_right_after_it() {
    // 02:00 to 03:00 does not exist in Stockholm on 2026-03-29.
    let days = due("30 2 * * *", "Europe/Stockholm", "2026-03-28T00:00:00Z", 3);
    assert_eq!(days, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    // One beside the gap keeps its time.
    let days = due("30 1 * * *", "Europe/Stockholm", "2026-03-28T12:00:00Z", 2);
    assert_eq!(days, ["2026-03-29T00:30:00Z", "2026-03-29T23:30:00Z"]);
}

#[test]
fn other_expressions_leave_a_gap_out() {
    let hours = due("0 * * * *", "Europe/Stockholm", "2026-03-29T00:00:00Z", 3);
    assert_eq!(hours, ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T03:00:00Z"]);
    let halves = due("*/30 2 * * *", "Europe/Stockholm", "2026-03-28T12:00:00Z", 2);
    assert_eq!(halves, ["2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"]);
}

#[test]
fn a_fixed_time_that_comes_twice_is_due_once_and_others_both_times() {
    // 02:00 to 03:00 comes twice in Stockholm on 2026-10-25.
    let days = due("30 2 * * *", "Europe/Stockholm", "2026-10-24T12:00:00Z", 2);
    assert_eq!(days, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let hours = due("0 * * * *", "Europe/Stockholm", "2026-10-24T23:30:00Z", 3);
    assert_eq!(hours, ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]);
}

#[test]
fn due_times_always_move_forward_also_where_clocks_are_set() {
    // Half an hour, a midnight that does not exist, a day that does not, and the usual.
    let zones = [
        ("Australia/Lord_Howe", "2026-04-04T10:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T10:00:00Z"),
        ("America/Santiago", "2026-09-05T20:00:00Z"),
        ("Pacific/Apia", "2011-12-29T20:00:00Z"),
        ("America/New_York", "2026-11-01T00:00:00Z"),
        ("Europe/London", "2026-03-28T20:00:00Z"),
    ];
    for (zone, from) in zones {
        for cron in ["*/7 * * * *", "0 0 * * *", "30 2 * * *", "15,45 1,2 * * *", "0 0,12 * * *", "59 59 23 * * *"] {
            let timing = timing(cron, zone);
            let mut after = at(from);
            for due in timing.following(after).take(200) {
                assert!(due > after, "{cron} in {zone} after {}", in_id(after));
                // Whatever lies between finds the same.
                let between = Timestamp(after.0 + (due.0 - after.0) / 2);
                assert_eq!(timing.next_after(between), Some(due), "{cron} in {zone} after {}", in_id(between));
                after = due;
            }
        }
    }
}

#[test]
fn an_interval_is_counted_from_the_epoch_or_from_the_start() {
    let after = "2026-01-31T00:00:01Z";
    assert_eq!(due("every 90s", "UTC", after, 2), ["2026-01-31T00:01:30Z", "2026-01-31T00:03:00Z"]);
    assert_eq!(due("every 1h 30m", "UTC", after, 1), ["2026-01-31T01:30:00Z"]);
    let started = ScheduleSpec { start: Some(at("2026-01-31T00:00:07Z")), ..spec("every 1m", "UTC") };
    let timing = Timing::parse(&started).expect("an interval");
    let due: Vec<String> = timing.following(at(after)).take(2).map(in_id).collect();
    assert_eq!(due, ["2026-01-31T00:00:07Z", "2026-01-31T00:01:07Z"]);
}

#[test]
fn start_and_end_belong_to_the_time_in_which_it_is_due() {
    let (start, end) = (Some(at("2026-01-02T00:00:00Z")), Some(at("2026-01-03T00:00:00Z")));
    let timing = Timing::parse(&ScheduleSpec { start, end, ..spec("@daily", "UTC") }).expect("a schedule");
    let due: Vec<String> = timing.following(at("2025-01-01T00:00:00Z")).map(in_id).collect();
    assert_eq!(due, ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]);
}

#[test]
fn what_is_never_due_is_found_out_at_once() {
    let begun = std::time::Instant::now();
    for cron in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 32W * *"] {
        let next = Timing::parse(&spec(cron, "Europe/Stockholm"))
            .ok()
            .and_then(|timing| timing.next_after(at("2026-01-01T00:00:00Z")));
        assert_eq!(next, None, "{cron}");
    }
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    // Beyond the last point in time that the host can name.
    assert_eq!(timing("@yearly", "UTC").next_after(Timestamp::MAX), None);
    assert_eq!(timing("every 1s", "UTC").next_after(Timestamp::MAX), None);
    assert!(timing("@yearly", "UTC").next_after(Timestamp(i64::MIN)).is_some());
}

#[test]
fn what_is_no_expression_or_zone_is_refused_in_words_and_never_panics() {
    let wrong = [
        "",
        " ",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "a b c d e",
        "@reboot",
        "@",
        "*/0 * * * *",
        "5-1 * * * *",
        "1-2-3 * * * *",
        "0/5 * * * *",
        "- * * * *",
        ", * * * *",
        "1,,2 * * * *",
        "* * * * +,",
        "* * L-1 * *",
        "* * W * *",
        "* * * * #",
        "* * * * 1#6",
        "* * * * +",
        "99999999999999999999 * * * *",
        "é * * * *",
        "* * * * +é",
        "ſ * * * *",
        "every",
        "every ",
        "every 0s",
        "every 500ms",
        "every 1.5s",
        "every -5m",
        "every 1 month",
        "every 9999999999999999h",
        "every x",
    ];
    for cron in wrong {
        let error = Timing::parse(&spec(cron, "UTC")).map(drop).expect_err(cron);
        assert_eq!(error.code, "schedule.invalid-cron", "{cron}");
        assert!(error.message.contains("0 2 * * mon-fri"), "{error}");
    }
    let long = format!("{} * * * *", "1,".repeat(200));
    assert!(Timing::parse(&spec(&long, "UTC")).map(drop).expect_err("too long").message.contains("the limit is 256"));
    for zone in ["", "Mars/Olympus", "../etc/passwd", "Europe/Stockholm\0"] {
        let error = Timing::parse(&spec("@daily", zone)).map(drop).expect_err(zone);
        assert_eq!(error.code, "schedule.invalid-time-zone", "{zone}");
    }
}

#[test]
fn any_text_is_taken_or_refused_without_a_panic() {
    let mut random = rehydrate_core::random::Random::new(7);
    let parts = [
        "*", "/", "-", ",", "#", "L", "W", "?", "+", "@", " ", " ", " ", " ", "0", "5", "59", "MON", "feb", "é", "7",
        "every ",
    ];
    for _ in 0..20_000 {
        let below = |random: &mut rehydrate_core::random::Random, end: usize| {
            usize::try_from(random.next_u64()).unwrap_or(0) % end
        };
        let length = below(&mut random, 16);
        let text: String = (0..length).map(|_| parts[below(&mut random, parts.len())]).collect();
        if let Ok(timing) = Timing::parse(&spec(&text, "Europe/Stockholm")) {
            let after = at("2026-01-01T00:00:00Z");
            assert!(timing.next_after(after).is_none_or(|due| due > after), "{text}");
        }
    }
}

#[test]
fn jitter_delays_each_due_time_by_its_own_part_and_stays_the_same() {
    let jitter = Nanos::from_secs(60);
    let timing = Timing::parse(&ScheduleSpec { jitter, ..spec("@hourly", "UTC") }).expect("a schedule");
    let due: Vec<Timestamp> = timing.following(at("2026-01-01T00:00:00Z")).take(100).collect();
    let delays: Vec<u64> = due.iter().map(|due| timing.made_at("a", *due).since(*due).0).collect();
    assert!(delays.iter().all(|delay| *delay <= jitter.0));
    assert!(delays.iter().any(|delay| *delay > jitter.0 / 2) && delays.iter().any(|delay| *delay < jitter.0 / 2));
    assert_eq!(delays, due.iter().map(|due| timing.made_at("a", *due).since(*due).0).collect::<Vec<_>>());
    assert_ne!(timing.made_at("b", due[0]), timing.made_at("a", due[0]));
}
