//! kill -9 at random moments under a load of children, messages between instances, entities, locks, continue-as-new
//! and rewinds: no message is lost or doubled.
//!
//! Clients drive one piece of work after the other and keep the books of what must come of it. A killer kills the
//! host at random moments and starts it again on the same data. At the end the books are compared with the host's.
//!
//! `REHYDRATE_CRASH_MODEL_ROUNDS` sets the number of kills, `REHYDRATE_CRASH_SEED` the moments.

use crate::crash::{Dice, PATIENCE, UPTIME_MAX_MS, setting};
use jiff::Timestamp;
use rehydrate_blackbox::client::{is_over, try_answer};
use rehydrate_blackbox::host::{ENTITIES, GUESTS};
use rehydrate_blackbox::sink::{Received, Reply};
use rehydrate_blackbox::{Answer, Client, Host, HostSettings, Sink, eventually, history, within};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const ROUNDS: u64 = 40;
/// Clients at work at once.
const CLIENTS: usize = 14;
/// Pieces of work that may be begun per kill.
const BEGUN_PER_ROUND: usize = 24;
const ACCOUNTS: usize = 5;
const BALANCE: i64 = 1_000_000;
const COUNTERS: usize = 3;
const CALLS: u64 = 4;
const SIGNALS: u64 = 4;

/// A piece of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A parent whose child fails at first and is started again.
    RetriedChild,
    /// A parent with three children at once, two generations deep.
    Family,
    /// A parent that ends before its child.
    LeftChild,
    /// An instance that is started by another and signalled by others.
    Signals,
    /// A workflow that calls a counter.
    Calls,
    /// A workflow that signals a counter.
    EntitySignal,
    /// Somebody outside who signals and calls counters.
    FromOutside,
    /// A transfer under a lock.
    Transfer,
    /// The same, terminated while it holds the lock.
    TerminatedTransfer,
    /// A workflow that takes one signal in each of its runs.
    Continued,
    /// A workflow that fails and is rewound.
    Rewound,
}

const KINDS: [Kind; 11] = [
    Kind::RetriedChild,
    Kind::Family,
    Kind::LeftChild,
    Kind::Signals,
    Kind::Calls,
    Kind::EntitySignal,
    Kind::FromOutside,
    Kind::Transfer,
    Kind::TerminatedTransfer,
    Kind::Continued,
    Kind::Rewound,
];

/// How an instance must have ended.
#[derive(Clone, PartialEq, Debug)]
enum End {
    /// Completed with that output.
    Output(Value),
    /// Completed, whatever its output.
    Completed,
    /// In that state.
    State(&'static str),
}

/// What must hold at the end.
#[derive(Default)]
struct Books {
    ends: BTreeMap<String, End>,
    /// Runs that instances must have come to.
    runs: BTreeMap<String, u64>,
    /// What was moved from and to each account.
    moved: [i64; ACCOUNTS],
    /// What was added to each counter by workflows.
    added: [i64; COUNTERS],
    /// Additions to the counter for those outside: acknowledged, and perhaps made without an answer.
    outside: [i64; 2],
    /// What calls from outside were told, each a sum that no other can have seen.
    sums: Vec<i64>,
}

struct Load {
    client: Client,
    sink: Sink,
    /// Instances whose activity may succeed by now.
    mended: Arc<Mutex<BTreeSet<String>>>,
    books: Mutex<Books>,
    stop: AtomicBool,
    next: AtomicUsize,
    allowed: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

fn takes(count: u64) -> Value {
    json!({ "do": "signal", "name": "go", "count": count })
}

fn counter(n: usize) -> String {
    format!("counter-{n}")
}

fn account(n: usize) -> String {
    format!("account-{n}")
}

/// Sends a request until it is answered with `wanted`. A request that got no answer may have been taken, so that one of
/// `taken_before` answers its repetition. Gives how many got no answer.
pub async fn until(
    what: &str,
    wanted: u16,
    taken_before: &[u16],
    request: impl Fn() -> RequestBuilder,
) -> (Answer, i64) {
    let mut unanswered = 0;
    within(PATIENCE, what, async || match try_answer(request()).await {
        Ok(answer) if answer.status == wanted => Ok((answer, unanswered)),
        Ok(answer) if unanswered > 0 && taken_before.contains(&answer.status) => Ok((answer, unanswered)),
        Ok(answer) if answer.status == 503 => Err(format!("{answer:?}")),
        Ok(answer) => panic!("{what}: {answer:?}"),
        Err(error) => {
            unanswered += 1;
            Err(format!("{error:?}"))
        }
    })
    .await
}

impl Load {
    async fn run(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            if self.next.load(Ordering::SeqCst) >= self.allowed.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            }
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            self.drive(number, KINDS[number % KINDS.len()]).await;
        }
    }

    async fn drive(&self, number: usize, kind: Kind) {
        let id = format!("model-{number}");
        match kind {
            Kind::RetriedChild => self.retried_child(&id).await,
            Kind::Family => self.family(&id).await,
            Kind::LeftChild => self.left_child(&id, number).await,
            Kind::Signals => self.signals(&id).await,
            Kind::Calls | Kind::EntitySignal => self.counted(&id, number, kind).await,
            Kind::FromOutside => self.drive_from_outside().await,
            Kind::Transfer | Kind::TerminatedTransfer => self.transfer(&id, number, kind).await,
            Kind::Continued => self.continued(&id).await,
            Kind::Rewound => self.rewound(&id).await,
        }
    }

    /// Starts an instance and writes down how it must end.
    async fn start(&self, id: &str, input: &Value, end: End) {
        self.expect(id, end);
        let body = json!({ "workflow": GUESTS, "id": id, "input": input });
        let request = || self.client.admin(Method::POST, "/v1/instances").header("idempotency-key", id).json(&body);
        until(&format!("instance {id} is started"), 202, &[], request).await;
    }

    fn expect(&self, id: &str, end: End) {
        let before = locked(&self.books).ends.insert(id.to_owned(), end);
        assert!(before.is_none(), "{id} is used once");
    }

    /// The status of an instance once `done` holds of it, whatever happens to the host meanwhile.
    async fn status_when(&self, id: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        within(PATIENCE, &format!("{id} {what}"), async || {
            match try_answer(self.client.admin(Method::GET, &format!("/v1/instances/{id}"))).await {
                Ok(answer) if answer.status == 200 && done(&answer.body) => Ok(answer.body),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    async fn over(&self, id: &str) -> Value {
        self.status_when(id, "is over", |status| is_over(&status["state"])).await
    }

    async fn signal(&self, id: &str, name: &str, key: &str, payload: &Value) {
        let path = format!("/v1/instances/{id}/signals/{name}");
        let request = || self.client.admin(Method::POST, &path).header("idempotency-key", key).json(payload);
        until(&format!("signal {key} is taken"), 202, &[410], request).await;
    }

    async fn retried_child(&self, id: &str) {
        let work =
            json!({ "do": "activity", "name": "ask", "input": { "url": format!("{}/flaky/{id}", self.sink.url()) } });
        let child = format!("{id}-c");
        let retry = json!({ "initial_ms": 5, "attempts": 9 });
        let input = json!({ "do": "child", "workflow": GUESTS, "id": child, "input": work, "retry": retry });
        self.expect(&child, End::Completed);
        self.start(id, &input, End::Output(json!({ "ok": "well" }))).await;
    }

    async fn family(&self, id: &str) {
        let children =
            json!({ "do": "children", "workflow": GUESTS, "count": 2, "input": { "do": "echo", "value": id } });
        let input = json!({ "do": "children", "workflow": GUESTS, "count": 3, "input": children });
        self.start(id, &input, End::Output(json!([[id, id], [id, id], [id, id]]))).await;
    }

    async fn left_child(&self, id: &str, number: usize) {
        let (policy, child_ends) =
            [("terminate", "terminated"), ("request_cancel", "cancelled")][number / KINDS.len() % 2];
        let (how, ends) = [("return", "completed"), ("fail", "failed")][number / KINDS.len() / 2 % 2];
        let child = format!("{id}-c");
        let input = json!({
            "do": "child_then_fail", "workflow": GUESTS, "id": child, "input": takes(1), "parent_close": policy, "how": how,
        });
        self.expect(&child, End::State(child_ends));
        self.start(id, &input, End::State(ends)).await;
        self.signal(id, "go", &format!("{id}-go"), &json!(null)).await;
    }

    async fn signals(&self, id: &str) {
        let target = format!("{id}-t");
        let input = json!({ "do": "detached", "workflow": GUESTS, "id": target, "input": takes(2 * SIGNALS) });
        self.start(id, &input, End::Output(json!({ "ok": null }))).await;
        self.over(id).await;
        self.expect(&target, End::Completed);
        let sends = json!({ "do": "send_signals", "to": target, "name": "go", "count": SIGNALS });
        let outcomes = End::Output(Value::Array(vec![json!({ "ok": null }); usize::try_from(SIGNALS).expect("few")]));
        let senders = [format!("{id}-s0"), format!("{id}-s1")];
        tokio::join!(self.start(&senders[0], &sends, outcomes.clone()), self.start(&senders[1], &sends, outcomes));
    }

    async fn counted(&self, id: &str, number: usize, kind: Kind) {
        let at = number / KINDS.len() % COUNTERS;
        let mut input = json!({ "name": ENTITIES, "key": counter(at), "op": "add", "input": 1, "count": CALLS });
        input["do"] = json!(if kind == Kind::Calls { "entity_calls" } else { "entity_signal" });
        let added = if kind == Kind::Calls { i64::try_from(CALLS).expect("few") } else { 1 };
        locked(&self.books).added[at] += added;
        self.start(id, &input, End::Completed).await;
    }

    async fn drive_from_outside(&self) {
        for what in ["signal", "call"] {
            let path = format!("/v1/entities/{ENTITIES}/outside/{what}/add");
            let wanted = if what == "call" { 200 } else { 202 };
            let request = || self.client.admin(Method::POST, &path).json(&json!(1));
            let (answer, unanswered) = until("an entity is told something", wanted, &[], request).await;
            let mut books = locked(&self.books);
            books.outside[0] += 1;
            books.outside[1] += unanswered;
            books.sums.extend(answer.body["output"].as_i64());
        }
    }

    async fn transfer(&self, id: &str, number: usize, kind: Kind) {
        let round = number / KINDS.len();
        let from = round % ACCOUNTS;
        let to = (from + 1 + round / ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS;
        let amount = i64::try_from(1 + number % 50).expect("small");
        let mut input = json!({ "do": "locked_transfer", "from": account(from), "to": account(to), "amount": amount });
        {
            let mut books = locked(&self.books);
            books.moved[from] -= amount;
            books.moved[to] += amount;
        }
        if kind == Kind::Transfer {
            return self.start(id, &input, End::Completed).await;
        }
        input["then"] = json!("wait");
        self.start(id, &input, End::State("terminated")).await;
        self.status_when(id, "has moved the money", |status| status["custom_status"] == "moved").await;
        let path = format!("/v1/instances/{id}/terminate");
        until(&format!("{id} is terminated"), 202, &[410], || self.client.admin(Method::POST, &path)).await;
    }

    async fn continued(&self, id: &str) {
        let input = json!({ "do": "continue", "left": SIGNALS - 1, "take": "go" });
        let taken: Vec<u64> = (0..SIGNALS).collect();
        locked(&self.books).runs.insert(id.to_owned(), SIGNALS);
        self.start(id, &input, End::Output(json!({ "run": SIGNALS, "taken": taken }))).await;
        for n in 0..SIGNALS {
            self.signal(id, "go", &format!("{id}-{n}"), &json!(n)).await;
        }
    }

    async fn rewound(&self, id: &str) {
        let url = format!("{}/mended/{id}", self.sink.url());
        let input = json!({ "do": "rewindable", "activity": "ask", "count": 2, "input": { "url": url } });
        locked(&self.books).runs.insert(id.to_owned(), 2);
        self.start(id, &input, End::Output(json!(["well", "well"]))).await;
        self.status_when(id, "has failed", |status| status["state"] == "failed").await;
        locked(&self.mended).insert(id.to_owned());
        let path = format!("/v1/instances/{id}/rewind");
        until(&format!("{id} is rewound"), 202, &[409, 410], || self.client.admin(Method::POST, &path)).await;
    }
}

/// Refuses the first request at each `/flaky/` path, and all at a `/mended/` path until it is mended.
async fn sink(mended: Arc<Mutex<BTreeSet<String>>>) -> Sink {
    let asked = Mutex::new(BTreeSet::new());
    Sink::answering(move |received: &Received| {
        let fine = match received.path.strip_prefix("/mended/") {
            Some(id) => locked(&mended).contains(id),
            None => !locked(&asked).insert(received.path.clone()),
        };
        Reply::json(if fine { 200 } else { 500 }, &json!("well"))
    })
    .await
}

#[tokio::test]
async fn no_message_is_lost_or_doubled_by_kills_at_random_moments() {
    let rounds = setting("REHYDRATE_CRASH_MODEL_ROUNDS", ROUNDS);
    let seed = setting("REHYDRATE_CRASH_SEED", u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs())).max(1);
    println!("{rounds} kills, REHYDRATE_CRASH_SEED={seed}");
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    for n in 0..ACCOUNTS {
        client.entity_gave(&account(n), "set", &json!(BALANCE)).await;
    }
    let mended: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let load = Load {
        client,
        sink: sink(mended.clone()).await,
        mended,
        books: Mutex::default(),
        stop: AtomicBool::new(false),
        next: AtomicUsize::new(0),
        allowed: AtomicUsize::new(BEGUN_PER_ROUND),
    };
    let clients = futures::future::join_all((0..CLIENTS).map(|_| load.run()));
    let killer = async {
        let host = kill_at_random(host, &load, rounds, Dice(seed)).await;
        load.stop.store(true, Ordering::SeqCst);
        host
    };
    let (host, _) = tokio::join!(killer, clients);
    let Load { client, books, .. } = load;
    let books = books.into_inner().expect("no holder panics");
    println!("{} instances", books.ends.len());
    assert!(books.ends.len() >= CLIENTS, "there was load: {}", books.ends.len());
    check_instances(&client, &books).await;
    check_entities(&client, &books).await;
    drop(host);
}

async fn kill_at_random(mut host: Host, load: &Load, rounds: u64, mut dice: Dice) -> Host {
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(dice.below(UPTIME_MAX_MS))).await;
        host.kill();
        load.allowed.fetch_add(BEGUN_PER_ROUND, Ordering::SeqCst);
        host = tokio::task::spawn_blocking(move || {
            host.restart();
            host
        })
        .await
        .expect("the host starts again");
    }
    host
}

/// Every instance has ended as it had to, nothing else goes on, and no message is under way.
async fn check_instances(client: &Client, books: &Books) {
    for (id, end) in &books.ends {
        let status = client.status_within(PATIENCE, id, "is over", |status| is_over(&status["state"])).await;
        match end {
            End::Output(output) => assert_eq!(&status["output"], output, "{status:#}"),
            End::Completed => assert_eq!(status["state"], "completed", "{status:#}"),
            End::State(state) => assert_eq!(status["state"], *state, "{status:#}"),
        }
        if let Some(run) = books.runs.get(id) {
            assert_eq!(&status["run"], run, "{status:#}");
        }
        let history = client.history(id).await;
        if status["run"] == 1 {
            assert_eq!(history::check(&history), Ok(()), "{id}: {history:#?}");
        }
        check_settled_once(id, &history);
        if id.ends_with("-t") {
            check_signals(id, &status["output"]);
        }
    }
    for state in ["running", "suspended", "paused"] {
        // Children without an id of their own too.
        eventually(&format!("no instance is {state}"), async || {
            let page = client.get(&format!("/v1/instances?state={state}")).await.expect(200).body;
            if page["instances"] == json!([]) { Ok(()) } else { Err(format!("{page:#}")) }
        })
        .await;
    }
    eventually("no message is under way", async || {
        let stats = client.get("/v1/stats").await.expect(200).body;
        if stats["messages_under_way"] == 0 { Ok(()) } else { Err(stats) }
    })
    .await;
}

/// Two senders' signals, each sender's once and in order.
fn check_signals(id: &str, taken: &Value) {
    let taken: Vec<u64> = taken.as_array().expect("payloads").iter().filter_map(Value::as_u64).collect();
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    let expected: Vec<u64> = (0..SIGNALS).flat_map(|n| [n, n]).collect();
    assert_eq!(sorted, expected, "{id} took {taken:?}");
    // With two like senders the k-th occurrences of all payloads are in order if each sender's are.
    for nth in 0..2 {
        let places: Vec<usize> = (0..SIGNALS)
            .map(|n| {
                taken.iter().enumerate().filter(|(_, it)| **it == n).map(|(at, _)| at).nth(nth).unwrap_or_default()
            })
            .collect();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{id} took {taken:?}");
    }
}

/// No operation has two outcomes.
pub fn check_settled_once(id: &str, history: &[Value]) {
    const ENDS: [&str; 4] = ["ActivityCompleted", "ActivityFailed", "ReplyReceived", "OperationCancelled"];
    let mut settled = BTreeSet::new();
    for event in history.iter().filter(|event| ENDS.contains(&history::name(event))) {
        let op = event["op"].as_u64().expect("an outcome names its operation");
        assert!(settled.insert(op), "{id}: operation {op} has two outcomes: {history:#?}");
    }
}

/// Counters and accounts have what the books say, and no entity is locked or has anything waiting.
async fn check_entities(client: &Client, books: &Books) {
    let page = client.get("/v1/entities?limit=500").await.expect(200).body;
    let all = page["entities"].as_array().expect("a page has entities");
    assert_eq!(all.len(), ACCOUNTS + COUNTERS + 1, "{page:#}");
    let free = all.iter().all(|it| it["locked_by"].is_null() && it["waiting"] == 0);
    assert!(free, "{page:#}");
    let state =
        async |key: &str| client.entity(key).await.expect(200).body["values"]["state"].as_i64().expect("a number");
    for n in 0..COUNTERS {
        assert_eq!(state(&counter(n)).await, books.added[n], "{}", counter(n));
    }
    for n in 0..ACCOUNTS {
        assert_eq!(state(&account(n)).await, BALANCE + books.moved[n], "{}", account(n));
    }
    let [acknowledged, unanswered] = books.outside;
    let outside = state("outside").await;
    let expected = acknowledged..=acknowledged + unanswered;
    assert!(expected.contains(&outside), "{outside} is not in {expected:?}");
    let distinct: BTreeSet<&i64> = books.sums.iter().collect();
    assert_eq!(distinct.len(), books.sums.len(), "two calls saw the same sum");
}
