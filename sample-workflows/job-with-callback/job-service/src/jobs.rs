//! The runs and what happened to them: every transition is a method that is given the time.
//!
//! It does no I/O and reads no clock. A run goes PENDING, RUNNING, TERMINATED and never back; its result is
//! set once, by whichever of its end and its cancellation comes first.

use crate::behaviour::{Behaviour, Job, series};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The most runs that are kept; later submissions are refused.
pub const RUNS_MAX: usize = 100_000;
/// The most ledger entries that are kept; the oldest go first.
pub const LEDGER_MAX: usize = 1_000_000;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = u64;

/// A run's number, from 1.
pub type RunId = u64;

/// Where a run is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LifeCycle {
    /// Accepted.
    Pending,
    /// Under way.
    Running,
    /// Over; see the result.
    Terminated,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResultState {
    /// It did its work.
    Success,
    /// It did not.
    Failed,
    /// It was cancelled first.
    Canceled,
}

/// What one delivery of a webhook was answered.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WebhookAnswer {
    /// When the answer, or the failure to get one, came.
    pub at: Millis,
    /// Which body of the run this was, from 1 (`twice` posts two).
    pub delivery: usize,
    /// Which try of that body, from 1.
    pub attempt: u32,
    /// The HTTP status; none if there was no answer.
    pub status: Option<u16>,
    /// The answer's body, as JSON if it is JSON, else as text; or why there was no answer.
    pub body: Value,
}

/// One run of a job.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// The submission's idempotency token.
    pub token: Option<String>,
    /// The job as read.
    pub job: Job,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Whom to tell.
    pub callback_url: Option<String>,
    /// Where it is.
    pub life_cycle: LifeCycle,
    /// How it ended.
    pub result: Option<ResultState>,
    /// One sentence about its state.
    pub message: String,
    /// When it was accepted.
    pub start: Millis,
    /// When it ended.
    pub end: Option<Millis>,
    /// What its webhooks were answered.
    pub callbacks: Vec<WebhookAnswer>,
}

/// One webhook to deliver.
#[derive(Clone, PartialEq, Debug)]
pub struct Webhook {
    /// Where to.
    pub url: String,
    /// The exact bytes.
    pub body: String,
}

/// A request to run a job.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The job, as given.
    pub job: Value,
    /// Equal tokens give the same run.
    pub token: Option<String>,
    /// Whom to tell.
    pub callback_url: Option<String>,
}

/// What a submission leads to.
#[derive(Clone, PartialEq, Debug)]
pub enum Submitted {
    /// A new run; carry it out.
    New(RunId),
    /// The run that this token already has.
    Known(RunId),
    /// No run: answer this status.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Seconds for `Retry-After`.
        retry_after: Option<u32>,
    },
}

/// Which run is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// The run with this number.
    Run(RunId),
    /// The run of this token.
    Token(String),
}

/// What the caller got wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JobsError {
    /// The job can't be read.
    #[error(transparent)]
    Invalid(#[from] crate::behaviour::InvalidJob),
    /// No such run.
    #[error("there is no run {0}; list the runs with /api/2.1/jobs/runs/list")]
    NoRun(String),
    /// Full.
    #[error("{RUNS_MAX} runs are kept, which is the limit; start the service again")]
    Full,
}

/// All runs, in memory.
#[derive(Debug, Default)]
pub struct Jobs {
    runs: BTreeMap<RunId, Run>,
    by_token: HashMap<String, RunId>,
    submissions: HashMap<String, usize>,
    ledger: VecDeque<Value>,
}

impl Jobs {
    /// Accepts, recognises or refuses a submission.
    pub fn submit(&mut self, submission: Submission, now: Millis) -> Result<Submitted, JobsError> {
        let known = submission.token.as_ref().and_then(|token| self.by_token.get(token)).copied();
        if let Some(id) = known {
            self.record_submission(&submission, now, json!({ "run_id": id, "repeated": true }));
            return Ok(Submitted::Known(id));
        }
        if self.runs.len() >= RUNS_MAX {
            return Err(JobsError::Full);
        }
        let job = Job::read(&submission.job)?;
        let count = self.submissions.entry(series(&job.name, submission.token.as_deref())).or_default();
        let index = *count;
        *count += 1;
        let behaviour = job.behaviour(index).clone();
        if let Some(refused) = refusal(&behaviour, index) {
            self.record_submission(&submission, now, json!({ "status": refused.0, "retry_after": refused.1 }));
            return Ok(Submitted::Refused { status: refused.0, retry_after: refused.1 });
        }
        let id = self.runs.last_key_value().map_or(1, |(last, _)| last + 1);
        self.record_submission(&submission, now, json!({ "run_id": id }));
        if let Some(token) = &submission.token {
            self.by_token.insert(token.clone(), id);
        }
        self.runs.insert(id, Run::new(id, job, behaviour, submission, now));
        Ok(Submitted::New(id))
    }

    /// The run begins; false if it was cancelled before.
    pub fn begin(&mut self, id: RunId) -> bool {
        match self.runs.get_mut(&id) {
            Some(run) if run.life_cycle == LifeCycle::Pending => {
                run.life_cycle = LifeCycle::Running;
                run.message = "the job is running".to_owned();
                true
            }
            _ => false,
        }
    }

    /// The run's time is over. Gives the webhooks to deliver, in order: none for a cancelled run, save for
    /// `late`, whose webhook is already on its way.
    pub fn finish(&mut self, id: RunId, now: Millis) -> Vec<Webhook> {
        let Some(run) = self.runs.get_mut(&id) else { return Vec::new() };
        let cancelled = run.life_cycle == LifeCycle::Terminated;
        if cancelled && !matches!(run.behaviour, Behaviour::Late { .. }) {
            return Vec::new();
        }
        if !cancelled {
            run.end(run.planned_result(), now);
        }
        run.webhooks()
    }

    /// Cancels a run; one that is over stays as it is.
    pub fn cancel(&mut self, which: &Which, now: Millis) -> Result<RunId, JobsError> {
        let run = self.find_mut(which)?;
        let id = run.id;
        let was = run.life_cycle;
        if was != LifeCycle::Terminated {
            run.end(ResultState::Canceled, now);
        }
        let token = run.token.clone();
        self.record(json!({
            "at": now, "kind": "cancel", "run_id": id, "idempotency_token": token, "life_cycle_state": was,
        }));
        Ok(id)
    }

    /// Notes what a webhook was answered.
    pub fn answered(&mut self, id: RunId, answer: WebhookAnswer) {
        let mut entry = json!(answer);
        if let Some(fields) = entry.as_object_mut() {
            fields.insert("kind".to_owned(), json!("webhook"));
            fields.insert("run_id".to_owned(), json!(id));
        }
        self.record(entry);
        if let Some(run) = self.runs.get_mut(&id) {
            run.callbacks.push(answer);
        }
    }

    /// One run.
    pub fn get(&self, which: &Which) -> Result<&Run, JobsError> {
        let id = self.id(which);
        id.and_then(|id| self.runs.get(&id)).ok_or_else(|| JobsError::NoRun(which.shown()))
    }

    /// At most `limit` runs with a number below `before`, newest first.
    pub fn list(&self, before: Option<RunId>, limit: usize) -> Vec<&Run> {
        self.runs.range(..before.unwrap_or(RunId::MAX)).rev().take(limit).map(|(_, run)| run).collect()
    }

    /// Every submission, cancellation and webhook answer, oldest first; only those of one run if one is given.
    pub fn ledger(&self, run: Option<RunId>) -> Vec<&Value> {
        let of_run = |entry: &&Value| run.is_none_or(|id| entry.get("run_id") == Some(&json!(id)));
        self.ledger.iter().filter(of_run).collect()
    }

    fn id(&self, which: &Which) -> Option<RunId> {
        match which {
            Which::Run(id) => Some(*id),
            Which::Token(token) => self.by_token.get(token).copied(),
        }
    }

    fn find_mut(&mut self, which: &Which) -> Result<&mut Run, JobsError> {
        let id = self.id(which);
        id.and_then(|id| self.runs.get_mut(&id)).ok_or_else(|| JobsError::NoRun(which.shown()))
    }

    fn record_submission(&mut self, submission: &Submission, now: Millis, outcome: Value) {
        let mut entry = json!({
            "at": now,
            "kind": "submission",
            "job": submission.job,
            "idempotency_token": submission.token,
            "callback_url": submission.callback_url,
        });
        if let (Some(entry), Value::Object(outcome)) = (entry.as_object_mut(), outcome) {
            entry.extend(outcome);
        }
        self.record(entry);
    }

    fn record(&mut self, entry: Value) {
        if self.ledger.len() >= LEDGER_MAX {
            self.ledger.pop_front();
        }
        self.ledger.push_back(entry);
    }
}

/// The status and the `Retry-After` that a submission is refused with, if it is.
fn refusal(behaviour: &Behaviour, index: usize) -> Option<(u16, Option<u32>)> {
    match behaviour {
        Behaviour::Error500 => Some((500, None)),
        Behaviour::Error429 { retry_after_seconds, times } => {
            let refused = u32::try_from(index).is_ok_and(|index| index < *times);
            refused.then_some((429, Some(*retry_after_seconds)))
        }
        _ => None,
    }
}

impl Which {
    fn shown(&self) -> String {
        match self {
            Which::Run(id) => id.to_string(),
            Which::Token(token) => format!("with token `{token}`"),
        }
    }
}

impl Run {
    fn new(id: RunId, job: Job, behaviour: Behaviour, submission: Submission, now: Millis) -> Run {
        Run {
            id,
            token: submission.token,
            job,
            behaviour,
            callback_url: submission.callback_url,
            life_cycle: LifeCycle::Pending,
            result: None,
            message: "the job is accepted".to_owned(),
            start: now,
            end: None,
            callbacks: Vec::new(),
        }
    }

    /// The run as the API shows it.
    pub fn shown(&self) -> Value {
        json!({
            "run_id": self.id,
            "run_name": self.job.name,
            "state": {
                "life_cycle_state": self.life_cycle,
                "result_state": self.result,
                "state_message": self.message,
            },
            "idempotency_token": self.token,
            "start_time": self.start,
            "end_time": self.end,
            "callbacks": self.callbacks,
        })
    }

    fn end(&mut self, result: ResultState, now: Millis) {
        self.life_cycle = LifeCycle::Terminated;
        self.result = Some(result);
        self.end = Some(now);
        self.message = match (result, &self.behaviour) {
            (ResultState::Success, _) => "the job is done".to_owned(),
            (ResultState::Canceled, _) => "the job was cancelled".to_owned(),
            (ResultState::Failed, Behaviour::Failure { message } | Behaviour::Reject { message, .. }) => {
                message.clone()
            }
            (ResultState::Failed, _) => "the job failed".to_owned(),
        };
    }

    fn planned_result(&self) -> ResultState {
        match self.behaviour {
            Behaviour::Failure { .. } | Behaviour::Reject { .. } => ResultState::Failed,
            _ => ResultState::Success,
        }
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let Some(url) = &self.callback_url else { return Vec::new() };
        let to = |url: &str, body: String| Webhook { url: url.to_owned(), body };
        let done = || to(url, self.completion("the job is done").to_string());
        match &self.behaviour {
            Behaviour::Never | Behaviour::Error500 => Vec::new(),
            Behaviour::Twice => vec![done(), done()],
            Behaviour::TwiceDifferent => {
                vec![done(), to(url, self.completion("the job is done, told differently").to_string())]
            }
            Behaviour::Malformed { then_correct } => {
                let malformed = to(url, format!("{{\"run_id\": {}, \"state\": SUCC", self.id));
                if *then_correct { vec![malformed, done()] } else { vec![malformed] }
            }
            Behaviour::Failure { message } => {
                let body = json!({ "run_id": self.id, "state": "FAILED", "result": null, "message": message });
                vec![to(url, body.to_string())]
            }
            Behaviour::Reject { code, message, retryable } => {
                let details = json!({ "run_id": self.id });
                let body = json!({ "code": code, "message": message, "retryable": retryable, "details": details });
                vec![to(&format!("{url}/reject"), body.to_string())]
            }
            Behaviour::Success
            | Behaviour::Early
            | Behaviour::Late { .. }
            | Behaviour::Error429 { .. }
            | Behaviour::Slow { .. } => vec![done()],
        }
    }

    fn completion(&self, message: &str) -> Value {
        let result = self.job.result.clone().unwrap_or_else(|| json!({ "job": self.job.name, "run_id": self.id }));
        json!({ "run_id": self.id, "state": "SUCCESS", "result": result, "message": message })
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
