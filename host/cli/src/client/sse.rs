//! Following an instance: server-sent events that survive a restart of the host.

use super::{Client, error_of};
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use rehydrate_http::{Problem, paths};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// The host sends something every 15 seconds; longer silence is a dead connection.
const SILENCE: Duration = Duration::from_secs(45);

/// How long a host that was there may be gone.
const GONE: Duration = Duration::from_secs(120);

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(500);

/// Most bytes of one event: its payload, escapes and all.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// A follower of an instance, from one run to the next where it continues as new.
pub struct Follow {
    client: Client,
    path: String,
    run: Option<u32>,
    from: u64,
    /// Where to begin in a run that goes on from the one followed.
    from_in_next_run: u64,
    last: Option<String>,
    stream: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    parser: Parser,
    seen_host: bool,
}

/// What a follower gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Followed {
    /// An event, as JSON.
    Event(String),
    /// The last run has ended.
    End,
}

/// What the host says when a run has ended.
#[derive(Deserialize)]
struct RunEnd {
    run: u32,
    /// The next run goes on.
    #[serde(default)]
    continued: bool,
}

impl Follow {
    /// Follows an instance from event `from` on.
    pub fn new(client: &Client, id: &str, run: Option<u32>, from: u64) -> Follow {
        Follow {
            client: client.clone(),
            path: format!("{}/events", paths::instance(id)),
            run,
            from,
            from_in_next_run: if from == NO_EVENT { NO_EVENT } else { 1 },
            last: None,
            stream: None,
            parser: Parser::default(),
            seen_host: false,
        }
    }

    /// The next event. A host that goes away is waited for, for two minutes.
    pub async fn next(&mut self) -> anyhow::Result<Followed> {
        let mut gone_since: Option<Instant> = None;
        loop {
            while let Some(message) = self.parser.next() {
                if let Some(followed) = self.take(message)? {
                    return Ok(followed);
                }
            }
            match self.receive().await {
                Ok(true) => gone_since = None,
                Ok(false) => {
                    // The host is stopping and let us go.
                    self.stream = None;
                    tokio::time::sleep(RETRY).await;
                }
                Err(lost) => {
                    self.stream = None;
                    let since = *gone_since.get_or_insert_with(Instant::now);
                    if !self.seen_host || !lost.may_come_back || since.elapsed() > GONE {
                        return Err(lost.error);
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn take(&mut self, message: Message) -> anyhow::Result<Option<Followed>> {
        if message.id.is_some() {
            self.last = message.id;
        }
        match message.event.as_str() {
            "end" => {
                let end: RunEnd =
                    serde_json::from_str(&message.data).context("the end of the run is not understood")?;
                if !end.continued {
                    return Ok(Some(Followed::End));
                }
                self.run = Some(end.run.saturating_add(1));
                self.from = self.from_in_next_run;
                (self.last, self.stream) = (None, None);
                Ok(None)
            }
            "error" => match serde_json::from_str::<Problem>(&message.data) {
                Ok(problem) => bail!("{} [{}]", problem.detail, problem.code),
                Err(_) => bail!("following the instance failed; look at the host's log"),
            },
            _ => Ok(Some(Followed::Event(message.data))),
        }
    }

    /// Receives more bytes; false if the stream ended.
    async fn receive(&mut self) -> Result<bool, Lost> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = self.connect().await?;
                self.seen_host = true;
                self.parser = Parser::default();
                self.stream.insert(stream)
            }
        };
        let broken = |error| Lost { error, may_come_back: true };
        match tokio::time::timeout(SILENCE, stream.next()).await {
            Err(_) => Err(broken(anyhow!("the host went silent; look at its log"))),
            Ok(None) => Ok(false),
            Ok(Some(Err(error))) => Err(broken(self.client.unreachable(error))),
            Ok(Some(Ok(bytes))) => {
                self.parser.push(&bytes).map_err(|error| Lost { error, may_come_back: false })?;
                Ok(true)
            }
        }
    }

    async fn connect(&self) -> Result<BoxStream<'static, reqwest::Result<Bytes>>, Lost> {
        let never = |error| Lost { error, may_come_back: false };
        let mut request = self.client.request(Method::GET, &self.path).map_err(never)?;
        request = request.query(&[("from", self.from)]);
        if let Some(run) = self.run {
            request = request.query(&[("run", run)]);
        }
        if let Some(last) = &self.last {
            request = request.header("last-event-id", last);
        }
        let failed = |error| Lost { error: self.client.unreachable(error), may_come_back: true };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.bytes_stream().boxed());
        }
        let text = response.text().await.unwrap_or_default();
        Err(Lost { error: error_of(status, &text), may_come_back: status == StatusCode::SERVICE_UNAVAILABLE })
    }
}

/// The connection is gone.
struct Lost {
    error: anyhow::Error,
    may_come_back: bool,
}

/// One server-sent event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Message {
    id: Option<String>,
    event: String,
    data: String,
}

/// Cuts a stream of bytes into events.
#[derive(Default)]
struct Parser {
    buffer: Vec<u8>,
    /// Up to here no empty line is.
    searched: usize,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.buffer.len() + bytes.len() > EVENT_BYTES_MAX {
            bail!("an event of the host is too large to show; read the history with --output json instead");
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole event; comments are passed over.
    fn next(&mut self) -> Option<Message> {
        loop {
            let unsearched = self.buffer.get(self.searched..)?;
            let Some(at) = unsearched.windows(2).position(|two| two == b"\n\n") else {
                self.searched = self.buffer.len().saturating_sub(1);
                return None;
            };
            let block: Vec<u8> = self.buffer.drain(..self.searched + at + 2).collect();
            self.searched = 0;
            if let Some(message) = parse(&String::from_utf8_lossy(&block)) {
                return Some(message);
            }
        }
    }
}

/// One event; none if there are only comments.
fn parse(block: &str) -> Option<Message> {
    let mut message = Message::default();
    let mut data: Vec<&str> = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => message.id = Some(value.to_owned()),
            "event" => message.event = value.to_owned(),
            "data" => data.push(value),
            _ => {}
        }
    }
    if data.is_empty() {
        return None;
    }
    message.data = data.join("\n");
    Some(message)
}

/// No history gets this long: who follows from here is only told of the end.
const NO_EVENT: u64 = 1 << 62;

/// Waits until a run, and those that go on from it, have ended.
pub async fn wait_for_end(client: &Client, id: &str, run: u32) -> anyhow::Result<()> {
    let mut follow = Follow::new(client, id, Some(run), NO_EVENT);
    loop {
        let followed = follow.next().await.context("while waiting for the instance")?;
        if followed == Followed::End {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_in_pieces(text: &str, size: usize) -> Vec<Message> {
        let mut parser = Parser::default();
        let mut messages = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            parser.push(piece).expect("small");
            messages.extend(std::iter::from_fn(|| parser.next()));
        }
        messages
    }

    #[test]
    fn events_are_the_same_however_the_bytes_arrive() {
        let text =
            ": hello\n\nid: 1\nevent: TimerFired\ndata: {\"a\":\"ä\"}\n\n:\n\ndata: x\ndata: y\n\nid: 2\ndata: unfin";
        let expected = [
            Message { id: Some("1".to_owned()), event: "TimerFired".to_owned(), data: "{\"a\":\"ä\"}".to_owned() },
            Message { id: None, event: String::new(), data: "x\ny".to_owned() },
        ];
        for size in [1, 2, 3, 7, text.len()] {
            assert_eq!(parse_in_pieces(text, size), expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused_before_it_fills_the_memory() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        let error = (0..100).find_map(|_| parser.push(&piece).err());
        assert!(error.is_some() && parser.buffer.len() <= EVENT_BYTES_MAX);
    }
}
