//! What a workflow does with others, in tests: children, messages to other instances, and the next run of itself.

use super::{Reply, State, TestHost};
use crate::child_call::{ChildOptions, ParentClose};
use crate::context::Context;
use crate::entity_ref::EntityId;
use crate::failure::Failure;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// An instance that the workflow started.
#[derive(Clone, PartialEq, Debug)]
pub struct Child {
    /// Its workflow.
    pub workflow: String,
    /// Its instance id.
    pub id: String,
    /// Its input.
    pub input: Value,
    /// The version asked for; none: the newest.
    pub version: Option<String>,
    /// What becomes of it without its parent.
    pub parent_close: ParentClose,
    /// How it is retried. The test host retries nothing: a closure answers for all attempts.
    pub retry: Option<RetryPolicy>,
    /// Whether it goes on by itself.
    pub detached: bool,
    /// Whether the workflow gave it up, or ended, before it had ended.
    pub given_up: bool,
    /// When it was started.
    pub at: Timestamp,
}

impl Child {
    pub(super) fn new(workflow: &str, id: &str, input: &str, options: &ChildOptions, at: Timestamp) -> Child {
        Child {
            workflow: workflow.to_owned(),
            id: id.to_owned(),
            input: serde_json::from_str(input).expect("the SDK writes JSON"),
            version: options.version.clone(),
            parent_close: options.parent_close,
            retry: options.retry.clone(),
            detached: false,
            given_up: false,
            at,
        }
    }
}

/// Something that was sent by the workflow, or by an entity.
#[derive(Clone, PartialEq, Debug)]
pub enum Sent {
    /// A signal to an instance.
    Signal {
        /// To whom.
        instance: String,
        /// The signal's name.
        name: String,
        /// What it carries.
        payload: Value,
    },
    /// A request to cancel.
    Cancel {
        /// To whom.
        instance: String,
        /// Why.
        reason: String,
    },
    /// An operation for an entity to perform, whether the test gave one or not.
    Operation {
        /// Which entity.
        entity: EntityId,
        /// The operation's name.
        operation: String,
        /// Its input.
        input: Value,
        /// Whether an answer is wanted.
        is_call: bool,
    },
}

/// The next run that a workflow asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Continued {
    /// Its input.
    pub input: Value,
    /// Whether it has the newest version of the workflow; else this run's.
    pub newest_version: bool,
}

impl TestHost {
    /// What a child of that workflow does. A call of one that has no closure fails with kind `not-found`. The closure
    /// may run the real workflow on a test host of its own.
    pub fn child(&self, workflow: &str, handler: impl FnMut(&Child) -> Reply + 'static) {
        self.0.borrow_mut().child_handlers.insert(workflow.to_owned(), Rc::new(RefCell::new(handler)));
    }

    /// Says that there is no such instance: what is sent to it fails with kind `not-found`. Anything sent to another
    /// one arrives.
    pub fn no_instance(&self, id: &str) {
        self.0.borrow_mut().missing.insert(id.to_owned());
    }

    /// The instances that were started, children and detached ones.
    pub fn children(&self) -> Vec<Child> {
        self.0.borrow().children.iter().map(|(_, child)| child.clone()).collect()
    }

    /// What was sent to other instances and to entities.
    pub fn sent(&self) -> Vec<Sent> {
        self.0.borrow().sent.clone()
    }

    /// The next run that the workflow asked for, if the last [`run`](TestHost::run) ended so.
    pub fn continued(&self) -> Option<Continued> {
        self.0.borrow().continued.clone()
    }

    /// Runs a workflow, and each further run that it asks for, until one does not; gives what that one gave. Panics if
    /// the next run's input is not one of the workflow.
    pub fn run_all<I, O, E, F>(&self, workflow: impl Fn(Context, I) -> F, input: I) -> Result<O, Failure>
    where
        I: DeserializeOwned,
        E: Into<Failure>,
        F: Future<Output = Result<O, E>>,
    {
        let mut outcome = self.run(&workflow, input);
        while let Some(next) = self.continued() {
            let input = serde_json::from_value(next.input).expect("the next run's input is one of this workflow");
            outcome = self.run(&workflow, input);
        }
        outcome
    }
}

impl State {
    /// Marks the children whose operations are among these: the workflow gave them up.
    pub(super) fn give_up_children(&mut self, operations: &[u64]) {
        for (operation, child) in &mut self.children {
            child.given_up |= operation.is_some_and(|operation| operations.contains(&operation));
        }
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
