//! The attempts as the instance's status shows them. The status is set anew at every change, so what one reads over
//! HTTP is never behind what the workflow did. If the job has a kind, the entity `attempts` of that key is told too:
//! it has those of all jobs of the kind.

use rehydrate::{Context, EntityRef, Failure, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Characters of a message that are kept: it may come from outside, and the status is limited.
const MESSAGE_CHARS_MAX: usize = 300;

/// Where an attempt is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Begun; nothing was sent.
    New,
    /// The job is being submitted.
    Executing,
    /// The service took the job.
    WaitingForCallback,
    /// The service called back: done.
    CallbackSuccess,
    /// The service called back: failed.
    CallbackFailure,
    /// The job could not be submitted.
    ExecutionFailed,
    /// No callback came in time.
    TimedOut,
}

/// One attempt.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub attempt: u32,
    /// Where it is.
    pub state: State,
    /// When it began.
    pub started: Timestamp,
    /// Since when it is there.
    pub state_set: Timestamp,
    /// When it times out, once it was dispatched.
    pub timeout_due: Option<Timestamp>,
    /// Why it is there; empty if there is nothing to say.
    pub message: String,
    /// The service's number for it, once known.
    pub run_id: Option<u64>,
}

/// A change of an attempt, for the entity `attempts`.
#[derive(Serialize)]
struct Changed<'a> {
    instance: &'a str,
    run: u32,
    #[serde(flatten)]
    attempt: &'a Attempt,
}

/// All attempts so far.
pub struct Attempts {
    ctx: Context,
    list: Vec<Attempt>,
    all_of_kind: Option<EntityRef>,
}

impl Attempts {
    pub fn new(ctx: &Context, kind: Option<&str>) -> Attempts {
        let all_of_kind = kind.map(|kind| ctx.entity("attempts", kind));
        Attempts { ctx: ctx.clone(), list: Vec::new(), all_of_kind }
    }

    /// Adds an attempt in state `new`.
    pub fn begin(&mut self, number: u32) -> Result<Current<'_>, Failure> {
        let now = self.ctx.now();
        self.list.push(Attempt {
            attempt: number,
            state: State::New,
            started: now,
            state_set: now,
            timeout_due: None,
            message: String::new(),
            run_id: None,
        });
        self.publish()?;
        Ok(Current(self))
    }

    /// The latest attempt.
    pub fn current(&self) -> Option<&Attempt> {
        self.list.last()
    }

    pub fn into_list(self) -> Vec<Attempt> {
        self.list
    }

    fn publish(&self) -> Result<(), Failure> {
        if let (Some(all), Some(attempt)) = (&self.all_of_kind, self.current()) {
            let info = self.ctx.info();
            // Where that entity is not deployed this comes to nothing, and the job goes on.
            all.signal("changed", &Changed { instance: &info.instance_id, run: info.run, attempt })?;
        }
        self.ctx.set_status(&json!({ "attempts": self.list }))
    }

    fn change(&mut self, change: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = self.list.last_mut() {
            change(attempt);
        }
    }
}

/// The attempt under way.
pub struct Current<'a>(&'a mut Attempts);

impl Current<'_> {
    pub fn number(&self) -> u32 {
        self.0.current().map_or(0, |attempt| attempt.attempt)
    }

    /// The submission is under way; the time until `due` counts from now.
    pub fn dispatched(&mut self, due: Timestamp) -> Result<(), Failure> {
        self.0.change(|attempt| attempt.timeout_due = Some(due));
        self.set(State::Executing, "")
    }

    /// The service took the job.
    pub fn submitted(&mut self, run_id: Option<u64>) -> Result<(), Failure> {
        self.ran_as(run_id);
        self.set(State::WaitingForCallback, "")
    }

    /// The service's number, if it says one. Shown with the next change.
    pub fn ran_as(&mut self, run_id: Option<u64>) {
        self.0.change(|attempt| attempt.run_id = run_id.or(attempt.run_id));
    }

    pub fn set(&mut self, state: State, message: &str) -> Result<(), Failure> {
        let now = self.0.ctx.now();
        self.0.change(|attempt| {
            attempt.state = state;
            attempt.state_set = now;
        });
        self.note(message)
    }

    /// Another message, the same state.
    pub fn note(&mut self, message: &str) -> Result<(), Failure> {
        self.0.change(|attempt| attempt.message = message.chars().take(MESSAGE_CHARS_MAX).collect());
        self.0.publish()
    }
}
