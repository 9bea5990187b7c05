//! Following a history: server-sent events that go on where the client left off.
//!
//! A reader's place is the id of the last event it got, so a broken connection loses nothing. The stream reads
//! from the history and is only woken by changes: it can be slow, or miss a wake-up's reason, without missing
//! an event. It ends after the run's last event, or when the server drains.

use crate::events;
use crate::problem::Problem;
use crate::server::Draining;
use axum::response::sse;
use futures::{Stream, stream};
use rehydrate_runtime::core::{EventBody, EventId, RunNumber};
use rehydrate_runtime::{Changes, Runtime};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

/// Events read at once.
const PAGE: usize = 16;

/// Silence after which a comment shows that the connection lives.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// One reader.
struct Follower {
    runtime: Runtime,
    id: String,
    run: RunNumber,
    /// The next event to send.
    next: EventId,
    changes: Changes,
    draining: Draining,
    ready: VecDeque<sse::Event>,
    ended: bool,
}

/// The stream of a run's events from `from` on. An error now is an answer; an error later is an `error` event.
pub async fn follow(
    runtime: Runtime,
    id: String,
    run: Option<RunNumber>,
    from: EventId,
    draining: Draining,
) -> Result<impl Stream<Item = Result<sse::Event, Infallible>> + use<>, Problem> {
    // Before the first read, so that nothing between the two is missed.
    let changes = runtime.changed(&id);
    // A start of another run under this id must not change what is followed.
    let run = runtime.history(&id, run, from, 1).await?.run;
    let follower = Follower { runtime, id, run, next: from, changes, draining, ready: VecDeque::new(), ended: false };
    Ok(stream::unfold(follower, async |mut follower| {
        let event = follower.next_event().await?;
        Some((Ok(event), follower))
    }))
}

impl Follower {
    async fn next_event(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            if self.read().await {
                continue;
            }
            tokio::select! {
                () = self.changes.next() => {}
                () = self.draining.begun() => self.ended = true,
            }
        }
    }

    /// Reads what there is; whether that was anything.
    async fn read(&mut self) -> bool {
        let page = match self.runtime.history(&self.id, Some(self.run), self.next, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                self.end_with("error", &Problem::from(error));
                return true;
            }
        };
        for event in &page.events {
            self.next = event.id.next();
            let json = encode(&events::Event::from(event));
            let sent = sse::Event::default().id(event.id.to_string()).event(event.body.name()).data(json);
            self.ready.push_back(sent);
        }
        if page.closed && self.next > page.last {
            let end = serde_json::json!({ "run": self.run.0, "last": page.last.0, "continued": self.is_continued(page.last).await });
            self.end_with("end", &end);
            return true;
        }
        !page.events.is_empty()
    }

    /// Whether the run with that last event goes on in the next one.
    async fn is_continued(&self, last: EventId) -> bool {
        let page = self.runtime.history(&self.id, Some(self.run), last, 1).await;
        let last = page.ok().and_then(|page| page.events.into_iter().next());
        last.is_some_and(|event| matches!(event.body, EventBody::InstanceContinued { .. }))
    }

    fn end_with(&mut self, name: &str, data: &impl serde::Serialize) {
        self.ready.push_back(sse::Event::default().event(name).data(encode(data)));
        self.ended = true;
    }
}

fn encode(value: &impl serde::Serialize) -> String {
    // Numbers, strings and checked JSON text: nothing that can't be written.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// The first event to send to a reader that has seen `last`, or asks for `from`.
pub fn first(last_event_id: Option<&http::HeaderValue>, from: Option<u64>) -> Result<EventId, Problem> {
    let Some(value) = last_event_id else { return Ok(EventId(from.unwrap_or(1).max(1))) };
    let last = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    match last {
        Some(last) => Ok(EventId(last).next()),
        None => Err(Problem::invalid(
            "last-event-id.invalid",
            "the Last-Event-ID is not the id of an event; leave it out to follow from the start",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_reader_goes_on_after_the_event_it_has_seen() {
        let seen = HeaderValue::from_static("41");
        assert_eq!(first(Some(&seen), Some(7)), Ok(EventId(42)));
        assert_eq!(first(None, Some(7)), Ok(EventId(7)));
        assert_eq!(first(None, Some(0)), Ok(EventId(1)));
        assert_eq!(first(None, None), Ok(EventId(1)));
        for wrong in ["x", "-1", ""] {
            assert_eq!(first(Some(&HeaderValue::from_static(wrong)), None).expect_err(wrong).status, 400);
        }
    }
}
