//! The body of a response: limited in size and in the time between its parts, and masked.

use super::error::{OutboundError, Phase};
use super::mask::Masker;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A response's body. It ends with an error when it grows over its limit or falls silent.
#[derive(Debug)]
pub struct ResponseBody {
    inner: Incoming,
    host: String,
    limit: u64,
    setting: &'static str,
    left: u64,
    masker: Masker,
    /// Bytes, not yet masked, held back because a secret may begin in them.
    held: BytesMut,
    trailers: Option<Frame<Bytes>>,
    silence: Option<(Duration, Pin<Box<Sleep>>)>,
    /// The network has no more; what was held has been given out.
    ended: bool,
    /// The last frame or an error has been given out.
    done: bool,
}

/// How a [`ResponseBody`] is bounded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyBounds {
    pub bytes: u64,
    /// The limit's name.
    pub setting: &'static str,
    pub between: Option<Duration>,
}

impl ResponseBody {
    pub(crate) fn new(inner: Incoming, host: String, bounds: BodyBounds, masker: Masker) -> ResponseBody {
        let silence = bounds.between.map(|length| (length, Box::pin(tokio::time::sleep(length))));
        ResponseBody {
            inner,
            host,
            limit: bounds.bytes,
            setting: bounds.setting,
            left: bounds.bytes,
            masker,
            held: BytesMut::new(),
            trailers: None,
            silence,
            ended: false,
            done: false,
        }
    }

    fn too_large(&self) -> OutboundError {
        let host = self.host.clone();
        OutboundError::TooLarge { host, what: "the response's body", limit: self.limit, setting: self.setting }
    }

    fn broken(&self, error: &hyper::Error) -> OutboundError {
        let reason = self.masker.text(&super::client::chain(error)).into_owned();
        OutboundError::Broken { host: self.host.clone(), reason }
    }

    /// The next frame as it comes from the network, counted and timed.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        let Poll::Ready(next) = Pin::new(&mut self.inner).poll_frame(cx) else {
            return self.poll_silence(cx);
        };
        if let Some((length, sleep)) = &mut self.silence {
            sleep.as_mut().reset(Instant::now() + *length);
        }
        let frame = match next {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(self.broken(&error)))),
            Some(Ok(frame)) => frame,
        };
        let size = frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        match self.left.checked_sub(size) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(self.too_large()))),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        let Some((length, sleep)) = &mut self.silence else { return Poll::Pending };
        ready!(sleep.as_mut().poll(cx));
        let (host, after) = (self.host.clone(), *length);
        Poll::Ready(Some(Err(OutboundError::Timeout { host, phase: Phase::BetweenBytes, after })))
    }

    /// Adds data to what is held, and gives out what can no longer be part of an unfinished secret.
    fn mask(&mut self, data: &[u8]) -> Bytes {
        self.held.extend_from_slice(data);
        let mut settled = self.held.split_to(self.masker.settled(&self.held));
        self.masker.bytes(&mut settled);
        settled.freeze()
    }

    /// All that is held, when nothing follows.
    fn flush(&mut self) -> Frame<Bytes> {
        let mut rest = self.held.split();
        self.masker.bytes(&mut rest);
        Frame::data(rest.freeze())
    }

    fn poll_masked(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            let mut frame = match ready!(self.poll_inner(cx)) {
                None if self.held.is_empty() => return Poll::Ready(None),
                None => {
                    self.ended = true;
                    return Poll::Ready(Some(Ok(self.flush())));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
            };
            if let Some(trailers) = frame.trailers_mut() {
                self.masker.headers(trailers);
                if self.held.is_empty() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                self.trailers = Some(frame);
                return Poll::Ready(Some(Ok(self.flush())));
            }
            let Ok(data) = frame.into_data() else { continue };
            let data = self.mask(&data);
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        // A length that is announced and too large need not be read first.
        if self.inner.size_hint().lower() > self.left {
            self.done = true;
            return Poll::Ready(Some(Err(self.too_large())));
        }
        let polled = if self.masker.is_empty() { self.poll_inner(cx) } else { self.poll_masked(cx) };
        self.done = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.done || (self.held.is_empty() && self.trailers.is_none() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // Masking keeps lengths, but what is held is no longer in the inner hint.
        if self.masker.is_empty() { self.inner.size_hint() } else { SizeHint::default() }
    }
}
