//! Listing instances: filters and pages.

use crate::start::fresh_id;
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::{Client, Host};
use serde_json::{Value, json};

/// Instances with ids of one prefix: `count` that complete, and then as many that wait.
async fn family(client: &Client, count: usize) -> String {
    let prefix = fresh_id("family");
    for n in 0..count {
        client.start(GUESTS, &format!("{prefix}-done-{n}"), &json!({ "do": "echo", "value": n })).await.expect(202);
    }
    for n in 0..count {
        let input = json!({ "do": "signal", "name": "go", "count": 1 });
        client.start(GUESTS, &format!("{prefix}-open-{n}"), &input).await.expect(202);
    }
    for n in 0..count {
        client.over(&format!("{prefix}-done-{n}")).await;
    }
    prefix
}

/// All pages, one after the other.
async fn pages(client: &Client, query: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut path = format!("/v1/instances?{query}");
    loop {
        let answer = client.get(&path).await.expect(200);
        pages.push(answer.body["instances"].as_array().expect("a page has instances").clone());
        let Some(cursor) = answer.body["next_cursor"].as_str() else { return pages };
        path = format!("/v1/instances?{query}&cursor={cursor}");
        assert!(pages.len() < 1000, "the pages end");
    }
}

async fn ids(client: &Client, query: &str) -> Vec<String> {
    let pages = pages(client, query).await;
    pages.iter().flatten().map(|one| one["id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn every_instance_is_on_exactly_one_page_newest_first() {
    let client = Host::shared().await.client();
    let prefix = family(&client, 6).await;
    let pages = pages(&client, &format!("id_prefix={prefix}&limit=5")).await;
    assert!(pages.iter().all(|page| page.len() <= 5));
    let all: Vec<&Value> = pages.iter().flatten().collect();
    let mut expected: Vec<String> = (0..6).map(|n| format!("{prefix}-done-{n}")).collect();
    expected.extend((0..6).map(|n| format!("{prefix}-open-{n}")));
    expected.reverse();
    assert_eq!(all.iter().map(|one| one["id"].as_str().unwrap_or_default()).collect::<Vec<_>>(), expected);
    let created: Vec<&str> = all.iter().filter_map(|one| one["created"].as_str()).collect();
    assert!(created.is_sorted_by(|newer, older| newer >= older), "{created:?}");
}

#[tokio::test]
async fn an_instance_started_between_two_pages_moves_no_other() {
    let client = Host::shared().await.client();
    let prefix = family(&client, 3).await;
    let query = format!("id_prefix={prefix}&limit=2");
    let first = client.get(&format!("/v1/instances?{query}")).await.expect(200);
    client.start(GUESTS, &format!("{prefix}-new"), &json!({ "do": "echo", "value": 1 })).await.expect(202);
    let cursor = first.body["next_cursor"].as_str().expect("there is more").to_owned();
    let second = client.get(&format!("/v1/instances?{query}&cursor={cursor}")).await.expect(200);
    let ids = second.body["instances"].as_array().expect("a page has instances");
    let ids: Vec<&str> = ids.iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(ids, [format!("{prefix}-open-0"), format!("{prefix}-done-2")]);
}

#[tokio::test]
async fn filters_hold_together() {
    let client = Host::shared().await.client();
    let prefix = family(&client, 2).await;
    let open = ids(&client, &format!("id_prefix={prefix}&state=running")).await;
    assert_eq!(open, [format!("{prefix}-open-1"), format!("{prefix}-open-0")]);
    let done = ids(&client, &format!("id_prefix={prefix}-done&state=completed,failed&workflow={GUESTS}")).await;
    assert_eq!(done, [format!("{prefix}-done-1"), format!("{prefix}-done-0")]);
    assert!(ids(&client, &format!("id_prefix={prefix}&workflow=nothing")).await.is_empty());
    assert!(ids(&client, &format!("id_prefix={prefix}&created_to=2020-01-01T00:00:00Z")).await.is_empty());
    assert_eq!(ids(&client, &format!("id_prefix={prefix}&created_from=2020-01-01T00:00:00Z")).await.len(), 4);
}

#[tokio::test]
async fn a_wrong_filter_is_400_and_says_which() {
    let client = Host::shared().await.client();
    for (query, named) in [("state=asleep", "asleep"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("stat=x", "stat")]
    {
        let answer = client.get(&format!("/v1/instances?{query}")).await.expect(400);
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains(named)), "{query}: {answer:?}");
    }
}
