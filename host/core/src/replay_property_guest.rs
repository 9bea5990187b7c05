//! The workflow of the random worlds: it chooses each step by a hash of all it has seen.

use super::super::*;
use crate::child::ParentClose;
use crate::random::split_mix;
use crate::retry::RetryPolicy;

/// The guest.
pub struct Guest {
    mix: u64,
    steps_left: u32,
    ops: Vec<EventId>,
    wait: Option<(WaitMode, Vec<EventId>)>,
    /// All it was shown.
    pub seen: Vec<String>,
    /// The lock it has a handle to.
    lock: Option<EventId>,
    children: u64,
}

impl Guest {
    pub fn new(seed: u64) -> Guest {
        let steps_left = 20 + u32::try_from(seed % 50).unwrap();
        Guest { mix: seed, steps_left, ops: Vec::new(), wait: None, seen: Vec::new(), lock: None, children: 0 }
    }

    fn observe(&mut self, what: String) {
        for byte in what.bytes() {
            self.mix = (self.mix ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.seen.push(what);
    }

    fn choose(&mut self, below: u64) -> u64 {
        split_mix(&mut self.mix) % below
    }

    fn name(&mut self) -> String {
        ["go", "stop", "more"][usize::try_from(self.choose(3)).unwrap()].to_owned()
    }

    fn some_op(&mut self) -> Option<EventId> {
        let count = u64::try_from(self.ops.len()).unwrap();
        let place = (count > 0).then(|| self.choose(count))?;
        self.ops.get(usize::try_from(place).unwrap()).copied()
    }

    /// Runs until it has returned (true) or waits (false).
    pub fn run(&mut self, replay: &mut Replay) -> Result<bool, Stop> {
        loop {
            if let Some((_, ops)) = &self.wait {
                if !replay.unblock()? {
                    return Ok(false);
                }
                let settled = replay.settled_among(ops);
                self.wait = None;
                self.observe(format!("woken at {} by {settled:?}", replay.now().0));
            }
            if self.steps_left == 0 {
                if self.choose(5) == 0 {
                    replay.continue_as_new(self.mix.to_string(), self.mix.is_multiple_of(2))?;
                }
                replay.finish(self.result())?;
                return Ok(true);
            }
            self.steps_left -= 1;
            self.step(replay)?;
        }
    }

    fn result(&mut self) -> Outcome {
        match self.choose(3) {
            0 => Ok(self.mix.to_string()),
            1 => Err(Failure::cancelled("as asked")),
            _ => Err(Failure::new(FailureKind::Application, "x", self.mix.to_string())),
        }
    }

    fn step(&mut self, replay: &mut Replay) -> Result<(), Stop> {
        match self.choose(20) {
            0..=6 => self.begin(replay)?,
            7 => match self.some_op() {
                Some(op) => replay.cancel(op)?,
                None => replay.set_status(self.mix.to_string())?,
            },
            8 => {
                if let Some(op) = self.some_op() {
                    self.drop_handle(replay, op)?;
                }
            }
            9 | 10 => {
                if let Some(op) = self.some_op() {
                    let outcome = replay.read(op);
                    self.observe(format!("{op} is {outcome:?}"));
                }
            }
            11 => replay.set_status(format!("\"{}\"", self.mix))?,
            12 => {
                let change = self.name();
                let patched = replay.patched(change)?;
                self.observe(format!("patched {patched}"));
            }
            13 => {
                let (number, cancel) = (replay.random().next_u64(), replay.cancel_requested().map(str::to_owned));
                self.observe(format!("{number} at {} cancel {cancel:?}", replay.now().0));
            }
            _ => self.start_waiting(replay),
        }
        Ok(())
    }

    /// What the host does when a pending, or the handle to a lock, is dropped.
    fn drop_handle(&mut self, replay: &mut Replay, op: EventId) -> Result<(), Stop> {
        if self.lock.take_if(|lock| *lock == op).is_some() {
            replay.release_lock(op)?;
        } else {
            replay.cancel(op)?;
        }
        replay.release(op);
        self.ops.retain(|held| *held != op);
        Ok(())
    }

    fn begin(&mut self, replay: &mut Replay) -> Result<(), Stop> {
        let length = Nanos::from_secs(self.choose(90) + 1);
        let op = match self.choose(12) {
            0 | 1 => {
                let (input, options) = (self.mix.to_string(), self.options());
                replay.schedule_activity("work".to_owned(), input, options)?
            }
            2 => replay.start_timer(replay.now().after(length))?,
            3 => {
                let expires = (self.choose(2) == 0).then_some(length);
                let op = replay.create_callback("paid".to_owned(), expires)?;
                self.observe(format!("{:?}", replay.callback_origin(op)));
                op
            }
            4 => {
                let name = self.name();
                replay.next_signal(name)?
            }
            5 | 6 => self.start_child(replay)?,
            7 | 8 => self.ask_another(replay)?,
            9 => return replay.signal_entity(entity(self.choose(3)), self.name(), self.mix.to_string()),
            _ => match self.lock {
                Some(lock) => return self.drop_handle(replay, lock),
                None => {
                    let over = (0..=self.choose(3)).map(|_| entity(self.choose(3))).collect();
                    let op = replay.lock(over)?;
                    self.lock = Some(op);
                    op
                }
            },
        };
        self.ops.push(op);
        Ok(())
    }

    fn start_child(&mut self, replay: &mut Replay) -> Result<EventId, Stop> {
        self.children += 1;
        let (id, input) = (format!("child-{}", self.children), self.mix.to_string());
        let closes = [ParentClose::Terminate, ParentClose::RequestCancel, ParentClose::Abandon];
        let parent_close = closes[usize::try_from(self.choose(3)).unwrap()];
        let retry = self.options().retry;
        replay.start_child(id, "wild".to_owned(), input, ChildOptions { version: None, parent_close, retry })
    }

    fn ask_another(&mut self, replay: &mut Replay) -> Result<EventId, Stop> {
        let (to, text) = (format!("other-{}", self.choose(2)), self.mix.to_string());
        match self.choose(4) {
            0 => replay.start_detached(to, "wild".to_owned(), None, text),
            1 => replay.send_signal(to, self.name(), text),
            2 => replay.send_cancel(to, text),
            _ => replay.call_entity(entity(self.choose(3)), self.name(), text),
        }
    }

    fn options(&mut self) -> ActivityOptions {
        let retry = RetryPolicy {
            initial_interval: Nanos::from_secs(self.choose(5)),
            backoff_permille: 1500,
            maximum_interval: Nanos::from_secs(20),
            maximum_attempts: (self.choose(2) == 0).then_some(3),
            total_timeout: Some(Nanos::from_secs(120)),
            jitter_permille: 500,
            non_retryable: vec![],
        };
        ActivityOptions {
            schedule_to_close: (self.choose(2) == 0).then_some(Nanos::from_secs(40)),
            retry: (self.choose(3) > 0).then_some(retry),
            ..ActivityOptions::default()
        }
    }

    fn start_waiting(&mut self, replay: &mut Replay) {
        let ops: Vec<EventId> = (0..=self.choose(3)).filter_map(|_| self.some_op()).collect();
        if ops.is_empty() {
            return;
        }
        let mode = if self.choose(3) == 0 { WaitMode::All } else { WaitMode::Any };
        if replay.wait(mode, &ops) {
            let settled = replay.settled_among(&ops);
            self.observe(format!("not blocked: {settled:?}"));
        } else {
            self.wait = Some((mode, ops));
        }
    }
}

fn entity(key: u64) -> EntityId {
    EntityId::new("counter", &key.to_string()).unwrap()
}
