//! kill -9 at random moments under load, checked against a ledger kept outside the host.
//!
//! Clients start instances, post callbacks and send signals, and write into the ledger what was acknowledged to
//! them and nothing else. A killer kills the host at random moments and starts it again on the same data. At
//! the end every promise is checked: what was acknowledged is there, once; no timer was early; no history has
//! a gap.
//!
//! `REHYDRATE_CRASH_ROUNDS` sets the number of kills, `REHYDRATE_CRASH_SEED` the moments, so that a failing run
//! can be tried again under like conditions.

use jiff::Timestamp;
use rehydrate_blackbox::client::{answer, is_over, try_answer};
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::{Answer, Client, Host, HostSettings, Sink, history, within};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 100;
/// Clients at work at once; each drives one instance after the other.
const CLIENTS: usize = 12;
/// Instances that may be started per kill: checking them all must not take longer than the kills.
const STARTS_PER_ROUND: usize = 60;
/// The longest the host runs between two kills.
pub const UPTIME_MAX_MS: u64 = 250;
/// For how long one request is repeated: longer than all kills together.
pub const PATIENCE: Duration = Duration::from_secs(900);
const SLEEP_MS: u64 = 150;
const SIGNALS: u64 = 3;
const ACTIVITIES: u64 = 3;

/// What one instance does, and what it must end with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Callback,
    Signal,
    Sleep,
    Sequence,
}

const KINDS: [Kind; 4] = [Kind::Callback, Kind::Signal, Kind::Sleep, Kind::Sequence];

/// What was acknowledged about one instance.
#[derive(Clone, Debug)]
struct Promised {
    kind: Kind,
    /// The body that a callback was answered 202 for.
    callback: Option<Value>,
    /// The keys of the signals that were answered 202.
    signals: Vec<String>,
    /// When its start was first asked for, by the clock of this machine.
    asked: Timestamp,
}

/// Numbers that look random and come from a seed.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

struct Load {
    client: Client,
    sink: Sink,
    /// Everything that was acknowledged, by instance.
    ledger: Mutex<BTreeMap<String, Promised>>,
    stop: AtomicBool,
    next: AtomicUsize,
    /// How many instances may have been started by now.
    allowed: AtomicUsize,
}

impl Load {
    /// Drives one instance after the other until it is told to stop.
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
        let id = format!("crash-{number}");
        let input = match kind {
            Kind::Callback => json!({
                "do": "callback", "name": "c", "expires_ms": null, "register_url": format!("{}/{id}", self.sink.url()),
            }),
            Kind::Signal => json!({ "do": "signal", "name": "go", "count": SIGNALS }),
            Kind::Sleep => json!({ "do": "sleep", "ms": SLEEP_MS }),
            Kind::Sequence => json!({ "do": "sequence", "name": "echo", "count": ACTIVITIES }),
        };
        self.start(&id, &input, kind).await;
        match kind {
            Kind::Callback => self.call_back(&id, number).await,
            Kind::Signal => self.send_signals(&id).await,
            Kind::Sleep | Kind::Sequence => {}
        }
    }

    /// Starts the instance; the key makes it safe to ask until there is an answer.
    async fn start(&self, id: &str, input: &Value, kind: Kind) {
        let body = json!({ "workflow": GUESTS, "id": id, "input": input });
        let request = || self.client.admin(Method::POST, "/v1/instances").header("idempotency-key", id).json(&body);
        let asked = Timestamp::now();
        acknowledged(&format!("instance {id} is started"), request).await;
        let promised = Promised { kind, callback: None, signals: Vec::new(), asked };
        let before = self.ledger().insert(id.to_owned(), promised);
        assert!(before.is_none(), "{id} is started once");
    }

    async fn call_back(&self, id: &str, number: usize) {
        let path = format!("/{id}");
        let url = within(PATIENCE, &format!("{id} hands out its URL"), async || {
            let received = self.sink.received_at(&path);
            received.first().and_then(|one| one.body["url"].as_str().map(str::to_owned)).ok_or("nothing yet")
        })
        .await;
        let body = json!({ "answer": number });
        let request = || self.client.post_bytes(&url, body.to_string());
        acknowledged(&format!("the callback of {id} is taken"), request).await;
        self.promised(id, |promised| promised.callback = Some(body.clone()));
    }

    async fn send_signals(&self, id: &str) {
        for n in 0..SIGNALS {
            let key = format!("{id}-{n}");
            let path = format!("/v1/instances/{id}/signals/go");
            let request = || self.client.admin(Method::POST, &path).header("idempotency-key", &key).json(&n);
            acknowledged(&format!("signal {key} is taken"), request).await;
            self.promised(id, |promised| promised.signals.push(key.clone()));
        }
    }

    fn promised(&self, id: &str, note: impl FnOnce(&mut Promised)) {
        if let Some(promised) = self.ledger().get_mut(id) {
            note(promised);
        }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Promised>> {
        self.ledger.lock().expect("no holder of the ledger panics")
    }
}

/// Sends a request again and again until it is answered 202. Only a host that is down, or says 503, excuses
/// another answer: the last event of an instance may also have been recorded just before the answer got lost,
/// which a repeated signal to it shows as 410.
async fn acknowledged(what: &str, request: impl Fn() -> RequestBuilder) -> Answer {
    let mut repeated = false;
    within(PATIENCE, what, async || {
        let outcome = try_answer(request()).await;
        let retry = match outcome {
            Ok(answer) if answer.status == 202 || (repeated && answer.status == 410) => return Ok(answer),
            Ok(answer) if answer.status == 503 => format!("{answer:?}"),
            Ok(answer) => panic!("{what}: {answer:?}"),
            Err(error) => format!("{error:?}"),
        };
        repeated = true;
        Err(retry)
    })
    .await
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_doubled_by_kills_at_random_moments() {
    let rounds = setting("REHYDRATE_CRASH_ROUNDS", ROUNDS);
    let seed = setting("REHYDRATE_CRASH_SEED", u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs())).max(1);
    println!("{rounds} kills, REHYDRATE_CRASH_SEED={seed}");
    let host = Host::with_guests(HostSettings::default()).await;
    let load = Load {
        client: host.client(),
        sink: Sink::start().await,
        ledger: Mutex::default(),
        stop: AtomicBool::new(false),
        next: AtomicUsize::new(0),
        allowed: AtomicUsize::new(STARTS_PER_ROUND),
    };
    let clients = futures::future::join_all((0..CLIENTS).map(|_| load.run()));
    let killer = async {
        let host = kill_at_random(host, &load, rounds, Dice(seed)).await;
        load.stop.store(true, Ordering::SeqCst);
        host
    };
    let (host, _) = tokio::join!(killer, clients);
    let ledger = load.ledger().clone();
    println!("{} instances were started", ledger.len());
    assert!(ledger.len() >= CLIENTS, "there was load: {}", ledger.len());
    for (id, promised) in &ledger {
        check(&load.client, id, promised).await;
    }
    check_nothing_else(&load.client, &ledger).await;
    drop(host);
}

/// Kills and restarts, and after each restart looks for what was acknowledged last.
async fn kill_at_random(mut host: Host, load: &Load, rounds: u64, mut dice: Dice) -> Host {
    let mut seen = BTreeSet::new();
    for round in 0..rounds {
        let moment = Instant::now() + Duration::from_millis(dice.below(UPTIME_MAX_MS));
        tokio::time::sleep_until(moment.into()).await;
        host.kill();
        load.allowed.fetch_add(STARTS_PER_ROUND, Ordering::SeqCst);
        let acknowledged: Vec<String> = load.ledger().keys().filter(|id| !seen.contains(*id)).cloned().collect();
        host = tokio::task::spawn_blocking(move || {
            host.restart();
            host
        })
        .await
        .expect("the host starts again");
        for id in acknowledged {
            let answer = answer(load.client.admin(Method::GET, &format!("/v1/instances/{id}"))).await;
            assert_eq!(answer.status, 200, "{id} was acknowledged before kill {round}: {answer:?}");
            seen.insert(id);
        }
    }
    host
}

/// Checks every promise about one instance, once it is over.
async fn check(client: &Client, id: &str, promised: &Promised) {
    let status = client.status_within(PATIENCE, id, "is over", |status| is_over(&status["state"])).await;
    assert_eq!(status["state"], "completed", "{status:#}");
    let history = client.history(id).await;
    assert_eq!(history::check(&history), Ok(()), "{id}: {history:#?}");
    assert_eq!(status["run"], 1, "{id} was started once");
    check_settled_once(id, &history);
    match promised.kind {
        Kind::Callback => {
            assert_eq!(Some(&status["output"]), promised.callback.as_ref(), "{id}");
            assert_eq!(history::count(&history, "CallbackSettled"), 1, "{id}: {history:#?}");
        }
        Kind::Signal => {
            assert_eq!(status["output"], json!((0..SIGNALS).collect::<Vec<_>>()), "{id}");
            let received = history.iter().filter(|event| history::name(event) == "SignalReceived");
            let keys: Vec<String> =
                received.map(|event| event["message_id"].as_str().unwrap_or_default().to_owned()).collect();
            assert_eq!(keys, promised.signals, "{id}");
        }
        Kind::Sleep => {
            let event = |name: &str| history.iter().find(|event| history::name(event) == name).expect("a timer event");
            let due = time(&event("TimerStarted")["deadline"]);
            let fired = time(&event("TimerFired")["time"]);
            assert!(fired >= due, "{id} fired at {fired}, due {due}");
            let length = Duration::from_millis(SLEEP_MS);
            assert!(fired >= promised.asked + length, "{id} fired at {fired}, asked for at {}", promised.asked);
        }
        Kind::Sequence => assert_eq!(status["output"], json!((0..ACTIVITIES).collect::<Vec<_>>()), "{id}"),
    }
}

fn time(text: &Value) -> Timestamp {
    text.as_str().and_then(|text| text.parse().ok()).expect("a time")
}

/// No operation has two outcomes.
fn check_settled_once(id: &str, history: &[Value]) {
    const ENDS: [&str; 6] = [
        "ActivityCompleted",
        "ActivityFailed",
        "TimerFired",
        "CallbackSettled",
        "CallbackExpired",
        "OperationCancelled",
    ];
    let mut settled = BTreeSet::new();
    for event in history.iter().filter(|event| ENDS.contains(&history::name(event))) {
        let op = event["op"].as_u64().expect("an outcome names its operation");
        assert!(settled.insert(op), "{id}: operation {op} has two outcomes: {history:#?}");
    }
}

/// The host has no instance that nobody asked for.
async fn check_nothing_else(client: &Client, ledger: &BTreeMap<String, Promised>) {
    let mut path = "/v1/instances?id_prefix=crash-&limit=500".to_owned();
    let mut found = BTreeSet::new();
    loop {
        let page = client.get(&path).await.expect(200).body;
        for one in page["instances"].as_array().expect("a page has instances") {
            let id = one["id"].as_str().expect("an id").to_owned();
            assert!(found.insert(id.clone()), "{id} is listed once");
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/instances?id_prefix=crash-&limit=500&cursor={cursor}");
    }
    let asked: BTreeSet<String> = ledger.keys().cloned().collect();
    assert_eq!(found, asked, "the list and the ledger agree");
}
