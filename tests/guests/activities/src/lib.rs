//! Activities for the black-box tests: some that work, some that misbehave, each in one way.

use rehydrate::{ActivityContext, Attempt, Failure, HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Gives its input back.
#[rehydrate::activity]
fn echo(value: Value) -> Result<Value, Failure> {
    Ok(value)
}

/// Gives the attempt under way.
#[rehydrate::activity]
fn attempt(ctx: ActivityContext, _input: Value) -> Result<Attempt, Failure> {
    Ok(ctx.attempt().clone())
}

/// The input of [`fail`].
#[derive(Deserialize)]
struct Fail {
    failure: Failure,
    /// The attempt that succeeds; none: none does.
    succeed_at: Option<u32>,
}

/// Fails as told, until the attempt that succeeds; gives that attempt's number.
#[rehydrate::activity]
fn fail(ctx: ActivityContext, input: Fail) -> Result<u32, Failure> {
    let attempt = ctx.attempt().attempt;
    match input.succeed_at {
        Some(succeed_at) if attempt >= succeed_at => Ok(attempt),
        _ => Err(input.failure),
    }
}

/// The input of [`sleep`] and [`heartbeat`].
#[derive(Deserialize)]
struct Millis {
    ms: u64,
}

/// Takes that long.
#[rehydrate::activity]
fn sleep(input: Millis) -> Result<u64, Failure> {
    std::thread::sleep(Duration::from_millis(input.ms));
    Ok(input.ms)
}

/// The input of [`http_get`] and [`ask`].
#[derive(Deserialize)]
struct HttpGet {
    url: String,
}

/// Fetches a URL over wasi:http; any status is an answer.
#[rehydrate::activity]
async fn http_get(input: HttpGet) -> Result<HttpResponse, Failure> {
    fetch(input.url).await
}

async fn fetch(url: String) -> Result<HttpResponse, Failure> {
    let request = HttpRequest::get(url);
    #[cfg(target_family = "wasm")]
    return rehydrate::http::send(&request).await;
    #[cfg(not(target_family = "wasm"))]
    return Err(Failure::rejected("native", format!("{} is fetched only in a component", request.url)));
}

/// Asks a URL whether it may succeed: below status 400 it gives the answer's body, else it fails, for good, with that
/// body as message.
#[rehydrate::activity]
async fn ask(input: HttpGet) -> Result<Value, Failure> {
    let answer = fetch(input.url).await?;
    let body = answer.json.unwrap_or_else(|| answer.text.unwrap_or_default().into());
    if answer.status < 400 {
        return Ok(body);
    }
    let message = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    Err(Failure::application("ask.refused", message))
}

/// What [`heartbeat`] gives when it was told to end.
#[derive(Serialize)]
struct Beats {
    beats: u64,
}

/// Beats, with that pause between two beats, until it is told to end.
#[rehydrate::activity]
fn heartbeat(ctx: ActivityContext, input: Millis) -> Result<Beats, Failure> {
    let mut beats = 0;
    while ctx.heartbeat_with(&beats)? {
        beats += 1;
        std::thread::sleep(Duration::from_millis(input.ms));
    }
    Ok(Beats { beats })
}

/// Panics with that message.
#[rehydrate::activity]
fn panic(message: String) -> Result<(), Failure> {
    panic!("{message}")
}

/// What [`tally`] is to do after it counted.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Then {
    Return,
    Panic,
    Sleep,
}

/// Counts the attempts that this instance of the component has run, and then returns the count, panics, or sleeps
/// for a minute.
#[rehydrate::activity]
fn tally(then: Then) -> Result<u32, Failure> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    match then {
        Then::Return => Ok(count),
        Then::Panic => panic!("attempt {count} was told to"),
        Then::Sleep => {
            std::thread::sleep(Duration::from_secs(60));
            Ok(count)
        }
    }
}

/// Uses the CPU for ever.
#[rehydrate::activity]
fn loop_forever(_input: Value) -> Result<(), Failure> {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Takes memory until there is none.
#[rehydrate::activity]
fn eat_memory(_input: Value) -> Result<usize, Failure> {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; 1 << 20]));
        if eaten.len() == usize::MAX {
            return Ok(eaten.len());
        }
    }
}

/// Gives that many bytes of text.
#[rehydrate::activity]
fn big_output(bytes: usize) -> Result<String, Failure> {
    Ok("x".repeat(bytes))
}

rehydrate::activities!(
    echo,
    attempt,
    fail,
    sleep,
    http_get,
    ask,
    heartbeat,
    panic,
    tally,
    loop_forever,
    eat_memory,
    big_output,
);
