//! Sagas: steps that are undone, in reverse order, when the whole does not come to its end.
//!
//! A saga means nothing to the host: its steps and its compensations are ordinary operations, so it replays as
//! they do. It must never begin a step after a request to cancel, and never lose a failure.

use crate::context::Context;
use crate::failure::Failure;
use crate::host::Level;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;

/// The steps of one saga; made by [`Context::saga`].
///
/// A compensation may borrow what outlives the saga, such as the `Context` and the workflow's input, and must own
/// the rest. It runs at least once if the saga fails, so it must do no harm when it has run before.
pub struct Saga<'a> {
    ctx: Context,
    /// In the order in which they were registered.
    compensations: RefCell<Vec<Compensation<'a>>>,
}

struct Compensation<'a> {
    step: String,
    undo: Box<dyn Undo + 'a>,
}

/// What can be run, and run again; an `AsyncFn` alone can not be put in a list.
trait Undo {
    fn undo(&self) -> LocalBoxFuture<'_, Result<(), Failure>>;
}

struct OfStep<T, F> {
    output: T,
    undo: F,
}

impl<T: Clone, F: AsyncFn(T) -> Result<(), Failure>> Undo for OfStep<T, F> {
    fn undo(&self) -> LocalBoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { (self.undo)(self.output.clone()).await })
    }
}

struct Unconditional<F>(F);

impl<F: AsyncFn() -> Result<(), Failure>> Undo for Unconditional<F> {
    fn undo(&self) -> LocalBoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { (self.0)().await })
    }
}

impl Context {
    /// Runs a saga. If `body` fails, the steps it has done are undone, the last one first, and its failure is
    /// given; a request to cancel is such a failure, as it ends what `body` waits for.
    ///
    /// A compensation that fails does not keep the others from running. The failure then has the code
    /// `saga.compensation-failed` and kind `application`, also if the instance was asked to cancel, and the details
    /// `{"cause": failure, "undone": [step, ...], "failed": [{"step": step, "failure": failure}, ...]}`.
    /// Let the host retry what can be retried: `ctx.activity(...).retry(...)`.
    ///
    /// Nothing is undone if the workflow panics or is terminated, or if the saga's future is dropped, which is
    /// logged. So a time limit belongs inside the body.
    ///
    /// ```
    /// use rehydrate::testing::{Reply, TestHost};
    /// use rehydrate::{Context, Failure};
    /// use std::time::Duration;
    ///
    /// async fn book(ctx: Context, trip: String) -> Result<(), Failure> {
    ///     ctx.saga(async |saga| {
    ///         let flight: String = saga
    ///             .step("flight", ctx.activity("book-flight", &trip), |flight| ctx.activity("cancel-flight", &flight))
    ///             .await?;
    ///         ctx.activity::<()>("book-hotel", &(trip.as_str(), flight)).await
    ///     })
    ///     .await
    /// }
    ///
    /// let host = TestHost::new();
    /// host.activity("book-flight", |_| Reply::ok(Duration::ZERO, "LX 23"));
    /// host.activity("book-hotel", |_| Reply::fail(Duration::ZERO, Failure::application("full", "no room")));
    /// host.activity("cancel-flight", |call| {
    ///     assert_eq!(call.input, "LX 23");
    ///     Reply::ok(Duration::ZERO, &())
    /// });
    /// assert_eq!(host.run(book, "Rome".to_owned()).unwrap_err().code, "full");
    /// assert_eq!(host.calls().last().unwrap().name, "cancel-flight");
    /// ```
    pub async fn saga<'a, T>(&self, body: impl AsyncFnOnce(&Saga<'a>) -> Result<T, Failure>) -> Result<T, Failure> {
        let saga = Saga { ctx: self.clone(), compensations: RefCell::default() };
        match body(&saga).await {
            Ok(output) => {
                saga.compensations.borrow_mut().clear();
                Ok(output)
            }
            // It goes on in its next run: what was done stays done.
            Err(next) if next.is_continue_as_new() => {
                saga.compensations.borrow_mut().clear();
                Err(next)
            }
            Err(cause) => Err(saga.undo_all(cause).await),
        }
    }
}

impl<'a> Saga<'a> {
    /// Does a step, and registers `undo` with its output once it has succeeded.
    ///
    /// This is for an action that has no effect unless it succeeds. One that failed, timed out or was cancelled may
    /// have had its effect all the same, such as a charge whose answer was lost: register how to undo that with
    /// [`compensate`](Saga::compensate), before the action. The same holds for steps that run at once under
    /// `try_join!`: where one fails the others are dropped, and a step that is dropped registers nothing. `join!` waits
    /// for all.
    ///
    /// Errors: the action's; kind `cancelled`, without polling it, once the instance was asked to cancel.
    pub async fn step<T, F>(
        &self,
        name: &str,
        action: impl Future<Output = Result<T, Failure>>,
        undo: F,
    ) -> Result<T, Failure>
    where
        T: Clone + 'a,
        F: AsyncFn(T) -> Result<(), Failure> + 'a,
    {
        self.check_cancelled()?;
        let output = action.await?;
        self.register(name, OfStep { output: output.clone(), undo });
        Ok(output)
    }

    /// Registers `undo` at once: it runs if the saga fails later, whatever became of the step it belongs to. So it
    /// needs a key by which the effect is found, chosen by the workflow and given to the step, and must succeed
    /// where there is nothing to undo.
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # async fn flow(ctx: Context) -> Result<(), Failure> {
    /// let payment = ctx.uuid();
    /// ctx.saga(async |saga| {
    ///     saga.compensate("charge", || ctx.activity("refund", &payment))?;
    ///     ctx.activity::<()>("charge", &payment).await
    /// })
    /// .await
    /// # }
    /// ```
    ///
    /// Errors: kind `cancelled`, registering nothing, once the instance was asked to cancel; so use `?`.
    pub fn compensate<F>(&self, name: &str, undo: F) -> Result<(), Failure>
    where
        F: AsyncFn() -> Result<(), Failure> + 'a,
    {
        self.check_cancelled()?;
        self.register(name, Unconditional(undo));
        Ok(())
    }

    fn register(&self, step: &str, undo: impl Undo + 'a) {
        self.compensations.borrow_mut().push(Compensation { step: step.to_owned(), undo: Box::new(undo) });
    }

    fn check_cancelled(&self) -> Result<(), Failure> {
        self.ctx.cancel_requested().map_or(Ok(()), |reason| Err(Failure::cancelled(reason)))
    }

    /// Runs the compensations; gives the saga's failure.
    async fn undo_all(&self, cause: Failure) -> Failure {
        let (mut undone, mut failed) = (Vec::new(), Vec::new());
        loop {
            let next = self.compensations.borrow_mut().pop();
            let Some(compensation) = next else { break };
            match self.undo(&compensation).await {
                Ok(()) => undone.push(compensation.step),
                Err(failure) => failed.push((compensation.step, failure)),
            }
        }
        if failed.is_empty() { cause } else { not_undone(&cause, &undone, &failed) }
    }

    async fn undo(&self, compensation: &Compensation<'_>) -> Result<(), Failure> {
        let requested = self.ctx.cancel_requested().is_some();
        let outcome = compensation.undo.undo().await;
        // A request to cancel ends what is open, here the compensation. It comes once, and what begins after it
        // works.
        if outcome.is_err() && !requested && self.ctx.cancel_requested().is_some() {
            return compensation.undo.undo().await;
        }
        outcome
    }
}

fn not_undone(cause: &Failure, undone: &[String], failed: &[(String, Failure)]) -> Failure {
    let steps: Vec<&str> = failed.iter().map(|(step, _)| step.as_str()).collect();
    let failed: Vec<Value> = failed.iter().map(|(step, failure)| json!({ "step": step, "failure": failure })).collect();
    let message = format!("{cause}; what could not be undone: {}", steps.join(", "));
    let details = json!({ "cause": cause, "undone": undone, "failed": failed });
    Failure::application("saga.compensation-failed", message).with_details(details)
}

impl Drop for Saga<'_> {
    fn drop(&mut self) {
        let left = self.compensations.get_mut();
        if !left.is_empty() {
            let steps: Vec<&str> = left.iter().map(|compensation| compensation.step.as_str()).collect();
            let message = format!("a saga was dropped before its end; not undone: {}", steps.join(", "));
            self.ctx.log(Level::Error, message);
        }
    }
}

impl fmt::Debug for Saga<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compensations = self.compensations.borrow();
        let steps: Vec<&str> = compensations.iter().map(|compensation| compensation.step.as_str()).collect();
        f.debug_struct("Saga").field("steps", &steps).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "saga_tests.rs"]
mod tests;
