//! What a workflow can do. Every method is one request to the host, answered from history on replay.

use crate::activity_call::ActivityCall;
use crate::child_call::ChildCall;
use crate::delivery::{Delivery, InstanceRef};
use crate::entity_ref::{EntityId, EntityRef, Lock};
use crate::failure::Failure;
use crate::host::{self, CallbackHandle, Info, Level};
use crate::http_call::{HttpRequest, HttpResponse};
use crate::operation::{All, Callback, HostReactor, Operation, Timeout, encode, start_timer};
use crate::reactor::{Reactor, Stalled};
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// A workflow's view of its host. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    reactor: HostReactor,
}

impl Context {
    pub(crate) fn new() -> Context {
        Context { reactor: Reactor::new() }
    }

    /// Runs a workflow's body to its end.
    pub(crate) fn run<F: Future>(&self, body: F) -> Result<F::Output, Failure> {
        self.reactor.block_on(body).map_err(|Stalled| {
            Failure::application(
                "sdk.deadlock",
                "the workflow waits, but for nothing that a durable operation can bring: \
                 await only futures made by its `Context`, and combinations of them",
            )
        })
    }

    /// The activity `name` with that input: the built-in `http`, or one of a deployed activity component.
    /// `T` is what its output is read as.
    pub fn activity<T>(&self, name: &str, input: &(impl Serialize + ?Sized)) -> ActivityCall<T> {
        let what = || format!("the input of activity `{name}`");
        let input = serde_json::to_string(input).map_err(|error| Failure::encode(&what(), &error));
        ActivityCall::new(&self.reactor, name, input)
    }

    /// An HTTP request, made by the host's built-in activity `http` under its outbound policy.
    pub fn http(&self, request: HttpRequest) -> ActivityCall<HttpResponse> {
        self.activity("http", &request)
    }

    /// The outcomes of all of these, in their given order, successes and failures alike. Activities are
    /// scheduled at once. It wakes the workflow once for the whole fan-out, where `join_all` of many single
    /// operations wakes it for each.
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # async fn flow(ctx: Context) -> Result<(), Failure> {
    /// let pages = ctx.all((0..10_000).map(|page| ctx.activity::<String>("fetch", &page))).await;
    /// let pages = pages.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// # Ok(()) }
    /// ```
    pub fn all<T>(&self, operations: impl IntoIterator<Item = impl Into<Operation<T>>>) -> All<T> {
        All::new(&self.reactor, operations.into_iter().map(Into::into))
    }

    /// A new callback. `name` is shown in the instance's status; `T` is what the body posted is read as.
    pub fn callback<T>(&self, name: &str) -> Callback<T> {
        Callback::new(&self.reactor, name, CallbackHandle::open(name, None))
    }

    /// A new callback that fails, with kind `timed-out`, when `expires` has passed since now.
    pub fn callback_within<T>(&self, name: &str, expires: Duration) -> Callback<T> {
        Callback::new(&self.reactor, name, CallbackHandle::open(name, Some(expires)))
    }

    /// A durable timer, counted from now. An error is the instance being asked to cancel.
    pub fn sleep(&self, length: Duration) -> Operation<()> {
        self.sleep_until(self.now() + length)
    }

    /// A durable timer that settles not before `deadline`.
    pub fn sleep_until(&self, deadline: Timestamp) -> Operation<()> {
        start_timer(&self.reactor, deadline)
    }

    /// That future, or [`Elapsed`](crate::Elapsed) when `length` has passed since now. What is late is
    /// dropped, which cancels what it waits for; pass `&mut future` to keep it.
    pub fn timeout<F: Future>(&self, length: Duration, future: F) -> Timeout<F> {
        self.timeout_at(self.now() + length, future)
    }

    /// As [`timeout`](Context::timeout), with the point in time.
    pub fn timeout_at<F: Future>(&self, deadline: Timestamp, future: F) -> Timeout<F> {
        Timeout::new(&self.reactor, deadline, future)
    }

    /// The payload of the next signal of that name. Signals wait in order until they are taken; dropping this
    /// before its payload was read gives the signal back.
    pub fn signal<T>(&self, name: &str) -> Operation<T> {
        Operation::signal(&self.reactor, name)
    }

    /// A child workflow with that input; `T` is what its output is read as. See [`ChildCall`].
    pub fn child<T>(&self, workflow: &str, input: &(impl Serialize + ?Sized)) -> ChildCall<T> {
        ChildCall::new(&self.reactor, workflow, encode(input, format_args!("the input of child workflow `{workflow}`")))
    }

    /// Starts an instance that goes on by itself, of the newest version of the workflow; of another one, or under a
    /// random id: [`ChildCall::detach`]. What it gives tells that the start is recorded, and may be ignored.
    pub fn start_detached(&self, workflow: &str, id: &str, input: &(impl Serialize + ?Sized)) -> Delivery {
        self.child::<()>(workflow, input).id(id).detach()
    }

    /// Another instance, to be sent signals or asked to cancel.
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # async fn flow(ctx: Context) -> Result<(), Failure> {
    /// ctx.instance("order-7").signal("paid", &125).await?;
    /// ctx.instance("order-8").cancel("out of stock"); // Whether it arrives is of no interest.
    /// # Ok(()) }
    /// ```
    pub fn instance(&self, id: &str) -> InstanceRef {
        InstanceRef::new(&self.reactor, id)
    }

    /// An entity: the name of its component's deployment, and a key.
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # async fn flow(ctx: Context) -> Result<(), Failure> {
    /// let stock = ctx.entity("stock", "bolts");
    /// stock.signal("add", &100)?;
    /// let left: i64 = stock.call("take", &7).await?;
    /// # Ok(()) }
    /// ```
    pub fn entity(&self, name: impl Into<String>, key: impl Into<String>) -> EntityRef {
        EntityRef::new(&self.reactor, EntityId::new(name, key))
    }

    /// The lock over several entities: until the guard is dropped they perform operations of this workflow only.
    /// Dropped while it is asked for, it is given up. One at a time, over at least one: the host stops a workflow that
    /// asks for a second one, as two such workflows could wait for each other for ever.
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # async fn flow(ctx: Context) -> Result<(), Failure> {
    /// let (from, to) = (ctx.entity("account", "ann"), ctx.entity("account", "bob"));
    /// let lock = ctx.lock([&from, &to]).await?;
    /// from.call::<i64>("withdraw", &50).await?;
    /// to.call::<i64>("deposit", &50).await?;
    /// drop(lock);
    /// # Ok(()) }
    /// ```
    pub fn lock(&self, entities: impl IntoIterator<Item = impl Borrow<EntityRef>>) -> Lock {
        Lock::ask(&self.reactor, entities)
    }

    /// Goes on in a new run of this instance, with that input and the newest version of the workflow, once the body
    /// returns; what the body returns is not used. Signals that were not taken go with it, operations that are open are
    /// given up. What this gives is for the body to return at once:
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # use std::time::Duration;
    /// #[rehydrate::workflow]
    /// async fn every_hour(ctx: Context, hours: u64) -> Result<(), Failure> {
    ///     ctx.activity::<()>("sweep", &hours).await?;
    ///     ctx.sleep(Duration::from_secs(3600)).await?;
    ///     ctx.continue_as_new(&(hours + 1))
    /// }
    /// ```
    ///
    /// It is never `Ok`: an error that [is no failure](Failure::is_continue_as_new), or for an input that JSON can not
    /// hold a failure with code `sdk.encode`.
    pub fn continue_as_new<T>(&self, input: &(impl Serialize + ?Sized)) -> Result<T, Failure> {
        continue_as(input, true)
    }

    /// As [`continue_as_new`](Context::continue_as_new), with this run's version of the workflow.
    pub fn continue_as_new_same_version<T>(&self, input: &(impl Serialize + ?Sized)) -> Result<T, Failure> {
        continue_as(input, false)
    }

    /// The time of the event being applied. It stands still between waits.
    pub fn now(&self) -> Timestamp {
        host::now()
    }

    /// 64 random bits, the same ones on replay.
    pub fn random_u64(&self) -> u64 {
        host::random_u64()
    }

    /// A random UUID (version 4), the same one on replay.
    pub fn uuid(&self) -> String {
        host::uuid()
    }

    /// Who is running.
    pub fn info(&self) -> Info {
        host::info()
    }

    /// Sets the custom status, shown with the instance. Fails only for a value that JSON can not hold.
    pub fn set_status(&self, status: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        let status = serde_json::to_string(status).map_err(|error| Failure::encode("the status", &error))?;
        host::set_status(&status);
        Ok(())
    }

    /// Writes a line to the instance's log. Silent on replay. `println!` and `eprintln!` go there too.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        host::log(level, message.as_ref());
    }

    /// The reason, once the instance was asked to cancel. All operations open at that moment have failed with
    /// kind `cancelled`; operations begun later work as ever, to undo what was done.
    pub fn cancel_requested(&self) -> Option<String> {
        host::cancel_requested()
    }

    /// Whether the change with this id is in force for this run; see the contract's `control.patched`.
    ///
    /// ```no_run
    /// # use rehydrate::{Context, Failure};
    /// # async fn flow(ctx: Context) -> Result<(), Failure> {
    /// if ctx.patched("check-stock-first") {
    ///     ctx.activity::<()>("check-stock", &()).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn patched(&self, change_id: &str) -> bool {
        host::patched(change_id)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}

fn continue_as<T>(input: &(impl Serialize + ?Sized), newest_version: bool) -> Result<T, Failure> {
    host::continue_as_new(&encode(input, "the input of the next run")?, newest_version);
    Err(Failure::continued_as_new())
}

/// The body of the exported `run`: reads the input, runs the workflow, writes the output.
pub(crate) fn run_workflow<I, O, E, F>(input: &str, workflow: impl FnOnce(Context, I) -> F) -> Result<String, Failure>
where
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Failure>,
    F: Future<Output = Result<O, E>>,
{
    let input = serde_json::from_str(input).map_err(|error| Failure::decode("the workflow's input", &error))?;
    let ctx = Context::new();
    let output = ctx.run(workflow(ctx.clone(), input))?.map_err(Into::into)?;
    serde_json::to_string(&output).map_err(|error| Failure::encode("the workflow's output", &error))
}
