//! Histories: read page by page, and followed as server-sent events.

use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::wait::SOON;
use rehydrate_blackbox::{Client, Host, history};
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// One server-sent event.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    id: Option<u64>,
    name: String,
    data: String,
}

/// A stream being read.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(client: &Client, id: &str, last_event_id: Option<u64>) -> Stream {
        let mut request = client.admin(Method::GET, &format!("/v1/instances/{id}/events"));
        if let Some(last) = last_event_id {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("the stream opens");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream { response, text: String::new() }
    }

    /// The next event; none at the end of the stream. Comments are skipped.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let sent = parse(block);
                self.text = rest.to_owned();
                if sent != Sent::default() {
                    return Some(sent);
                }
                continue;
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk.expect("the stream is whole")?).expect("UTF-8"));
        }
    }

    async fn rest(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(sent) = self.next().await {
            all.push(sent);
        }
        all
    }
}

fn parse(block: &str) -> Sent {
    let mut sent = Sent::default();
    for line in block.lines() {
        match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
            Some(("id", value)) => sent.id = value.parse().ok(),
            Some(("event", value)) => sent.name = value.to_owned(),
            Some(("data", value)) => sent.data.push_str(value),
            _ => {}
        }
    }
    sent
}

async fn waiting_instance(client: &Client) -> String {
    let id = client.started(GUESTS, &json!({ "do": "signal", "name": "go", "count": 3 })).await;
    client.waiting(&id, "signal").await;
    id
}

#[tokio::test]
async fn a_follower_sees_every_event_as_it_happens_and_then_the_end() {
    let client = Host::shared().await.client();
    let id = waiting_instance(&client).await;
    let mut stream = Stream::open(&client, &id, None).await;
    let mut seen = vec![stream.next().await.expect("the start"), stream.next().await.expect("the first wait")];
    for n in 0..3 {
        client.signal(&id, "go", &json!(n)).await.expect(202);
        let next = stream.next().await.expect("the stream is live");
        assert_eq!(next.name, "SignalReceived", "it comes while the instance still runs");
        seen.push(next);
        if n < 2 {
            seen.push(stream.next().await.expect("the next wait"));
        }
    }
    seen.extend(stream.rest().await);
    let end = seen.pop().expect("there is an end");
    assert_eq!(end.name, "end");
    let history = client.history(&id).await;
    let data: Vec<Value> = seen.iter().map(|sent| serde_json::from_str(&sent.data).expect("JSON")).collect();
    assert_eq!(data, history);
    assert_eq!(
        seen.iter().map(|sent| sent.id).collect::<Vec<_>>(),
        (1..=history.len() as u64).map(Some).collect::<Vec<_>>()
    );
    assert_eq!(seen.iter().map(|sent| sent.name.clone()).collect::<Vec<_>>(), history::names(&history));
}

#[tokio::test]
async fn a_follower_that_lost_its_connection_goes_on_after_the_last_event_it_saw() {
    let client = Host::shared().await.client();
    let id = waiting_instance(&client).await;
    let mut first = Stream::open(&client, &id, None).await;
    let last = first.next().await.and_then(|sent| sent.id).expect("an event with an id");
    drop(first);
    for n in 0..3 {
        client.signal(&id, "go", &json!(n)).await.expect(202);
    }
    client.over(&id).await;
    let rest = Stream::open(&client, &id, Some(last)).await.rest().await;
    let count = client.history(&id).await.len() as u64;
    let ids: Vec<u64> = rest.iter().filter_map(|sent| sent.id).collect();
    assert_eq!(ids, (last + 1..=count).collect::<Vec<_>>());
    assert_eq!(rest.last().map(|sent| sent.name.as_str()), Some("end"));
    // Nothing is left to be seen: only the end.
    assert_eq!(Stream::open(&client, &id, Some(count)).await.rest().await.len(), 1);
}

#[tokio::test]
async fn a_history_is_read_in_pages_without_gaps() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "sequence", "name": "echo", "count": 30 })).await;
    let status = client.over(&id).await;
    let history = client.history(&id).await;
    assert_eq!(history::check(&history), Ok(()));
    assert_eq!(status["last_event"], history.len());
    let mut pieces = Vec::new();
    let mut from = 1;
    while from <= history.len() {
        let path = format!("/v1/instances/{id}/history?from={from}&limit=7");
        let page = client.get(&path).await.expect(200).body;
        assert_eq!((&page["last"], &page["closed"]), (&json!(history.len()), &json!(true)));
        let events = page["events"].as_array().expect("events").clone();
        assert!((1..=7).contains(&events.len()));
        from += events.len();
        pieces.extend(events);
    }
    assert_eq!(pieces, history);
}

#[tokio::test]
async fn a_wrong_place_to_follow_from_is_400() {
    let client = Host::shared().await.client();
    let id = client.started(GUESTS, &json!({ "do": "echo", "value": 1 })).await;
    let request = client.admin(Method::GET, &format!("/v1/instances/{id}/events")).header("last-event-id", "x");
    assert_eq!(rehydrate_blackbox::client::answer(request).await.status, 400);
}

#[tokio::test]
async fn reading_beyond_the_end_tells_where_the_end_is() {
    let client = Host::shared().await.client();
    let id = crate::start::fresh_id("beyond");
    let request = json!({ "workflow": GUESTS, "id": id, "input": { "do": "echo", "value": 1 } });
    client.post("/v1/instances", &request).await.expect(202);
    client.over(&id).await;
    let last = client.history(&id).await.len();
    let page = client.get(&format!("/v1/instances/{id}/history?from=99")).await.expect(200).body;
    assert_eq!((&page["last"], &page["events"]), (&json!(last), &json!([])), "{page:#}");
}

#[tokio::test]
async fn the_log_of_a_run_that_never_was_is_404() {
    let client = Host::shared().await.client();
    let id = crate::start::fresh_id("no-run");
    let request = json!({ "workflow": GUESTS, "id": id, "input": { "do": "echo", "value": 1 } });
    client.post("/v1/instances", &request).await.expect(202);
    let answer = client.get(&format!("/v1/instances/{id}/log?run=9")).await;
    assert_eq!((answer.status, &answer.body["code"]), (404, &json!("run.not-found")));
}
