//! Delivers webhooks: one POST after the other, again while the receiver is away.
//!
//! A delivery ends with the first answer that is neither 429 nor 5xx, or when its time is used up. It never
//! follows redirects, and never reads more than a bounded part of an answer.

use crate::jobs::Webhook;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The most bytes of an answer that are kept.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How long, and how often, a delivery is tried.
#[derive(Clone, Copy, Debug)]
pub struct RetryLimits {
    /// The delay after the first failed try; it doubles.
    pub first_delay: Duration,
    /// The longest delay.
    pub delay_max: Duration,
    /// No try starts later than this after the first.
    pub total: Duration,
    /// The longest one try may take.
    pub try_timeout: Duration,
}

impl Default for RetryLimits {
    fn default() -> Self {
        RetryLimits {
            first_delay: Duration::from_millis(100),
            delay_max: Duration::from_secs(2),
            total: Duration::from_secs(60),
            try_timeout: Duration::from_secs(10),
        }
    }
}

/// The answer to one try.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Which try, from 1.
    pub attempt: u32,
    /// The status; none if there was no answer.
    pub status: Option<u16>,
    /// The body, or why there was no answer.
    pub body: Value,
}

impl Answer {
    fn is_final(&self) -> bool {
        self.status.is_some_and(|status| status != 429 && status < 500)
    }
}

/// Sends webhooks.
#[derive(Clone, Debug)]
pub struct Sender {
    client: reqwest::Client,
    limits: RetryLimits,
}

impl Sender {
    /// A sender with those limits.
    pub fn new(limits: RetryLimits) -> reqwest::Result<Sender> {
        // Someone else in this process may have installed one already; either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(limits.try_timeout)
            .no_proxy()
            .build()?;
        Ok(Sender { client, limits })
    }

    /// Delivers one webhook and says what every try was answered.
    pub async fn deliver(&self, webhook: &Webhook, mut answered: impl FnMut(Answer)) {
        let begun = Instant::now();
        let mut delay = self.limits.first_delay;
        for attempt in 1.. {
            let answer = self.post(webhook, attempt).await;
            let over = answer.is_final() || begun.elapsed() + delay > self.limits.total;
            answered(answer);
            if over {
                return;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(self.limits.delay_max);
        }
    }

    async fn post(&self, webhook: &Webhook, attempt: u32) -> Answer {
        let sent = self.client.post(&webhook.url).header("content-type", "application/json").body(webhook.body.clone());
        match sent.send().await {
            Ok(response) => {
                let status = Some(response.status().as_u16());
                Answer { attempt, status, body: read(response).await }
            }
            Err(error) => Answer { attempt, status: None, body: Value::String(reason(&error)) },
        }
    }
}

/// What a client error says, with its causes but without the URL: it may be a secret.
fn reason(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut words = if error.is_timeout() { "timed out".to_owned() } else { "not delivered".to_owned() };
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

async fn read(mut response: reqwest::Response) -> Value {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if bytes.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
}
