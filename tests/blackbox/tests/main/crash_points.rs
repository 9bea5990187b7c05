//! The host ends after its first write, its second, its third, …, each time before anybody learns of that write: work
//! that was interrupted there still comes to its right end.
//!
//! Each scenario is driven from its beginning again and again, on a fresh copy of the same data, with a host that aborts
//! one write later each time and is then started again, until a round comes to its end without a crash. Clients do
//! what clients must do: what was not answered they ask for again.

use crate::crash_model::{check_settled_once, until};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use rehydrate_blackbox::client::{is_over, try_answer};
use rehydrate_blackbox::host::{ENTITIES, GUESTS};
use rehydrate_blackbox::sink::{Received, Reply};
use rehydrate_blackbox::{Answer, Client, Host, HostSettings, Sink, eventually, history};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::OnceCell;

/// Rounds of one scenario that are driven at once: they mostly wait.
const AT_ONCE: usize = 4;
/// More writes than any scenario takes.
const WRITES_MAX: usize = 150;
/// What a shell says of a process that aborted: 128 and SIGABRT.
const ABORTED: i32 = 134;

/// One pass through a scenario.
struct Round {
    client: Client,
    sink: Sink,
    /// Whether `/mended` is answered well by now.
    mended: Arc<AtomicBool>,
}

/// A host that was stopped with everything deployed, for all rounds to copy its data.
async fn template() -> &'static Host {
    static TEMPLATE: OnceCell<Host> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(async || {
            let mut host = Host::with_guests(HostSettings::default()).await;
            assert_eq!(host.stop(), 0);
            host
        })
        .await
}

/// Drives a scenario with a crash at each of its writes, of which there must be as many at least.
async fn with_a_crash_after_every_write(writes_min: usize, scenario: impl AsyncFn(&Round)) {
    let template = template().await;
    let mut crashes = 0;
    for first in (1..WRITES_MAX).step_by(AT_ONCE) {
        let rounds = (first..first + AT_ONCE).map(|write| round(template, write, &scenario));
        let crashed = join_all(rounds).await;
        crashes += crashed.iter().filter(|crashed| **crashed).count();
        if crashed.last() == Some(&false) {
            println!("{crashes} crashes");
            assert!(crashes >= writes_min, "only {crashes} crashes");
            return;
        }
    }
    panic!("still a crash after {WRITES_MAX} writes");
}

/// Drives a scenario to its end; whether the host crashed on the way.
async fn round(template: &'static Host, write: usize, scenario: &impl AsyncFn(&Round)) -> bool {
    let environment = vec![("REHYDRATE_ABORT_AFTER_WRITES".to_owned(), write.to_string())];
    let settings = HostSettings { environment, ..HostSettings::default() };
    let mut host = blocking(move || Host::start_on_copy_of(template, settings)).await;
    let mended: Arc<AtomicBool> = Arc::default();
    let round = Round { client: host.client(), sink: sink(mended.clone()).await, mended };
    let done = AtomicBool::new(false);
    let drive = async {
        scenario(&round).await;
        done.store(true, Ordering::SeqCst);
    };
    let watch = async {
        let ended =
            eventually(&format!("the host ends at write {write}, or the scenario does"), async || match host.ended() {
                None if !done.load(Ordering::SeqCst) => Err("neither has"),
                ended => Ok(ended),
            })
            .await;
        let Some(code) = ended else { return (host, false) };
        assert_eq!(code, ABORTED, "{}", host.log_end());
        let again = move || {
            host.restart_with(HostSettings::default());
            host
        };
        (blocking(again).await, true)
    };
    let ((), (host, crashed)) = tokio::join!(drive, watch);
    drop(host);
    crashed
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the host starts")
}

/// Refuses the first request at `/flaky`, and all at `/mended` until that is mended.
async fn sink(mended: Arc<AtomicBool>) -> Sink {
    let asked = Mutex::new(BTreeSet::new());
    Sink::answering(move |received: &Received| {
        let fine = match &*received.path {
            "/mended" => mended.load(Ordering::SeqCst),
            "/flaky" => !asked.lock().expect("no holder panics").insert(received.path.clone()),
            _ => true,
        };
        Reply::json(if fine { 200 } else { 500 }, &json!("well"))
    })
    .await
}

fn takes(name: &str, count: u64) -> Value {
    json!({ "do": "signal", "name": name, "count": count })
}

impl Round {
    /// An answer to a GET, whatever happens to the host meanwhile.
    async fn get(&self, path: &str) -> Answer {
        eventually(&format!("{path} is answered"), async || try_answer(self.client.admin(Method::GET, path)).await)
            .await
    }

    /// A POST that may be sent again; gives how often it got no answer.
    async fn post(&self, path: &str, wanted: u16, taken_before: &[u16], body: &Value) -> (Answer, i64) {
        let request = || self.client.admin(Method::POST, path).json(body);
        until(path, wanted, taken_before, request).await
    }

    async fn start(&self, id: &str, input: &Value) {
        self.keyed(&format!("{id} is started"), id, || {
            let body = json!({ "workflow": GUESTS, "id": id, "input": input });
            self.client.admin(Method::POST, "/v1/instances").json(&body)
        })
        .await;
    }

    /// A signal that must reach an instance that is there; its last may have ended it.
    async fn signal(&self, id: &str, name: &str, payload: &Value) {
        self.keyed(&format!("{id} is signalled"), &format!("{id}-{name}-{payload}"), || {
            self.client.admin(Method::POST, &format!("/v1/instances/{id}/signals/{name}")).json(payload)
        })
        .await;
    }

    async fn keyed(&self, what: &str, key: &str, request: impl Fn() -> RequestBuilder) {
        until(what, 202, &[410], || request().header("idempotency-key", key)).await;
    }

    /// Tells an instance something that has no key.
    async fn tell(&self, id: &str, what: &str, taken_before: &[u16]) {
        self.post(&format!("/v1/instances/{id}/{what}"), 202, taken_before, &json!({})).await;
    }

    async fn status_when(&self, id: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{id} {what}"), async || {
            let answer = self.get(&format!("/v1/instances/{id}")).await;
            if answer.status == 200 && done(&answer.body) { Ok(answer.body) } else { Err(format!("{answer:?}")) }
        })
        .await
    }

    async fn waits(&self, id: &str) {
        self.status_when(id, "waits", |status| {
            status["waiting_for"].as_array().is_some_and(|waits| waits.iter().any(|wait| wait["kind"] == "signal"))
        })
        .await;
    }

    async fn history(&self, id: &str, run: u64) -> Vec<Value> {
        let page = self.get(&format!("/v1/instances/{id}/history?limit=1000&run={run}")).await.expect(200).body;
        page["events"].as_array().expect("a page has events").clone()
    }

    /// Waits until an instance has ended, which must be in that state and run, and checks the histories of all its runs.
    async fn ends(&self, id: &str, state: &str, run: u64) -> Value {
        let status = self.status_when(id, "is over", |status| is_over(&status["state"])).await;
        assert_eq!((&status["state"], &status["run"]), (&json!(state), &json!(run)), "{status:#}");
        for run in 1..=run {
            let history = self.history(id, run).await;
            assert_eq!(history::check(&history), Ok(()), "run {run} of {id}: {history:#?}");
            check_settled_once(id, &history);
        }
        status
    }

    async fn completes(&self, id: &str, output: &Value) {
        let status = self.ends(id, "completed", 1).await;
        assert_eq!(&status["output"], output, "{status:#}");
    }

    /// Nothing goes on, nothing is under way, and there are so many instances.
    async fn is_at_rest(&self, instances: usize) {
        for state in ["running", "suspended", "paused"] {
            eventually(&format!("no instance is {state}"), async || {
                let page = self.get(&format!("/v1/instances?state={state}")).await.expect(200).body;
                if page["instances"] == json!([]) { Ok(()) } else { Err(page) }
            })
            .await;
        }
        eventually("nothing is under way", async || {
            let stats = self.get("/v1/stats").await.expect(200).body;
            let rests = stats["messages_under_way"] == 0 && stats["attempts_under_way"] == 0;
            if rests { Ok(()) } else { Err(stats) }
        })
        .await;
        assert_eq!(self.listed("").await.len(), instances);
    }

    /// Instances whose id begins so, by id.
    async fn listed(&self, prefix: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/instances?limit=500&id_prefix={prefix}")).await.expect(200).body;
        let mut instances = page["instances"].as_array().expect("a page has instances").clone();
        instances.sort_by_key(|instance| instance["id"].as_str().map(str::to_owned));
        instances
    }

    /// The number that an entity holds; it must be free.
    async fn number(&self, key: &str) -> i64 {
        let entity = self.get(&format!("/v1/entities/{ENTITIES}/{key}")).await.expect(200).body;
        assert!(entity["locked_by"].is_null() && entity["waiting"] == 0, "{entity:#}");
        entity["values"]["state"].as_i64().unwrap_or_else(|| panic!("{entity:#}"))
    }
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_a_family_whole() {
    with_a_crash_after_every_write(15, async |round: &Round| {
        let ask = json!({ "url": format!("{}/flaky", round.sink.url()) });
        let work = json!({ "do": "activity", "name": "ask", "input": ask });
        let retry = json!({ "initial_ms": 5, "attempts": 9 });
        let parent = json!({ "do": "child", "workflow": GUESTS, "id": "child", "input": work, "retry": retry });
        round.start("parent", &parent).await;
        round.completes("parent", &json!({ "ok": "well" })).await;
        let child = round.status_when("child", "is over", |status| is_over(&status["state"])).await;
        let run = child["run"].as_u64().expect("a number");
        // A crash may come between the refusal and its record: then the attempt is made again, and succeeds.
        assert!(run == 1 || run == 2, "{child:#}");
        round.ends("child", "completed", run).await;
        let start = json!({ "do": "detached", "workflow": GUESTS, "id": "target", "input": takes("go", 2) });
        round.start("starter", &start).await;
        round.completes("starter", &json!({ "ok": null })).await;
        round.start("sender", &json!({ "do": "send_signals", "to": "target", "name": "go", "count": 2 })).await;
        round.completes("sender", &json!([{ "ok": null }, { "ok": null }])).await;
        round.completes("target", &json!([0, 1])).await;
        round.is_at_rest(5).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_write_conserves_what_entities_hold_and_leaves_no_lock() {
    with_a_crash_after_every_write(25, async |round: &Round| {
        for key in ["a", "b"] {
            round.post(&format!("/v1/entities/{ENTITIES}/{key}/call/set"), 200, &[], &json!(100)).await;
        }
        let transfer =
            |from, to, amount: i64| json!({ "do": "locked_transfer", "from": from, "to": to, "amount": amount });
        let (there, back) = (transfer("a", "b", 30), transfer("b", "a", 7));
        tokio::join!(round.start("there", &there), round.start("back", &back));
        tokio::join!(round.ends("there", "completed", 1), round.ends("back", "completed", 1));
        let count = json!({ "do": "entity_calls", "name": ENTITIES, "key": "c", "op": "add", "input": 1, "count": 2 });
        round.start("counts", &count).await;
        round.completes("counts", &json!(2)).await;
        let path = |how| format!("/v1/entities/{ENTITIES}/c/{how}/add");
        let (_, called_in_vain) = round.post(&path("call"), 200, &[], &json!(1)).await;
        let (_, signalled_in_vain) = round.post(&path("signal"), 202, &[], &json!(1)).await;
        round.is_at_rest(3).await;
        assert_eq!((round.number("a").await, round.number("b").await), (77, 123));
        // A request without an answer may have been heard, and has no key.
        let (heard, at_most) = (4, 4 + called_in_vain + signalled_in_vain);
        let number = round.number("c").await;
        assert!((heard..=at_most).contains(&number), "{number} is not in {heard}..={at_most}");
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_write_loses_and_doubles_no_signal_between_runs() {
    with_a_crash_after_every_write(6, async |round: &Round| {
        round.start("continued", &json!({ "do": "continue", "left": 3, "take": "go" })).await;
        for n in 0..4 {
            round.signal("continued", "go", &json!(n)).await;
        }
        let status = round.ends("continued", "completed", 4).await;
        assert_eq!(status["output"], json!({ "run": 4, "taken": [0, 1, 2, 3] }), "{status:#}");
        round.is_at_rest(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_write_rewinds_once() {
    with_a_crash_after_every_write(5, async |round: &Round| {
        let ask = json!({ "url": format!("{}/mended", round.sink.url()) });
        round.start("rewound", &json!({ "do": "rewindable", "activity": "ask", "count": 3, "input": ask })).await;
        round.ends("rewound", "failed", 1).await;
        round.mended.store(true, Ordering::SeqCst);
        round.tell("rewound", "rewind", &[409, 410]).await;
        let status = round.status_when("rewound", "has completed", |status| status["state"] == "completed").await;
        assert_eq!((&status["run"], &status["output"]), (&json!(2), &json!(["well", "well", "well"])), "{status:#}");
        check_settled_once("rewound", &round.history("rewound", 2).await);
        round.is_at_rest(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_write_starts_what_is_due_once() {
    with_a_crash_after_every_write(6, async |round: &Round| {
        let echo = json!({ "do": "echo", "value": 1 });
        let body = json!({ "cron": "every 1s", "workflow": GUESTS, "input": echo, "overlap": "allow" });
        let path = "/v1/schedules/due";
        until("the schedule is put", 201, &[200], || round.client.admin(Method::PUT, path).json(&body)).await;
        eventually("the schedule has fired twice", async || {
            let schedule = round.get(path).await.expect(200).body;
            if schedule["fired"].as_u64() >= Some(2) { Ok(()) } else { Err(schedule) }
        })
        .await;
        let (paused, _) = round.post(&format!("{path}/pause"), 200, &[], &json!({})).await;
        let fired = paused.body["fired"].as_u64().and_then(|fired| usize::try_from(fired).ok()).expect("a number");
        round.is_at_rest(fired).await;
        let instances = round.listed("due-").await;
        let due = |instance: &Value| {
            assert_eq!((&instance["run"], &instance["state"]), (&json!(1), &json!("completed")), "{instance}");
            let id = instance["id"].as_str().and_then(|id| id.strip_prefix("due-"));
            id.and_then(|due| due.parse::<Timestamp>().ok()).expect("a due time")
        };
        let due: Vec<Timestamp> = instances.iter().map(due).collect();
        let second = SignedDuration::from_secs(1);
        assert!(due.windows(2).all(|pair| pair[1].duration_since(pair[0]) == second), "{due:?}");
        assert_eq!(paused.body["failed"], 0, "{paused:?}");
        until("the schedule is dropped", 204, &[404], || round.client.admin(Method::DELETE, path)).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_children_to_their_parent_close_policy() {
    with_a_crash_after_every_write(15, async |round: &Round| {
        let policies = [("terminate", "terminated"), ("request_cancel", "cancelled"), ("abandon", "completed")];
        for (policy, child_ends) in policies {
            let child = format!("child-{policy}");
            let input = json!({
                "do": "child_then_fail", "workflow": GUESTS, "id": child, "input": takes("end", 1), "parent_close": policy,
                "how": "return",
            });
            round.start(policy, &input).await;
            round.waits(policy).await;
            round.waits(&child).await;
            round.tell(policy, "terminate", &[410]).await;
            round.ends(policy, "terminated", 1).await;
            if policy == "abandon" {
                round.signal(&child, "end", &json!(null)).await;
            }
            round.ends(&child, child_ends, 1).await;
        }
        round.is_at_rest(6).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_write_suspends_and_resumes_once() {
    with_a_crash_after_every_write(5, async |round: &Round| {
        round.start("suspended", &takes("go", 3)).await;
        round.signal("suspended", "go", &json!(0)).await;
        round.tell("suspended", "suspend", &[]).await;
        round.signal("suspended", "go", &json!(1)).await;
        let status = round.get("/v1/instances/suspended").await.expect(200).body;
        assert_eq!(status["state"], "suspended", "{status:#}");
        round.tell("suspended", "resume", &[409]).await;
        round.signal("suspended", "go", &json!(2)).await;
        round.completes("suspended", &json!([0, 1, 2])).await;
        let history = round.history("suspended", 1).await;
        let told = ["InstanceSuspended", "InstanceResumed"].map(|name| history::count(&history, name));
        assert_eq!(told, [1, 1], "{history:#?}");
        round.is_at_rest(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_write_purges_the_whole_or_nothing() {
    with_a_crash_after_every_write(6, async |round: &Round| {
        let work = json!({ "do": "sequence", "name": "echo", "count": 2 });
        for id in ["purged", "kept"] {
            round.start(id, &work).await;
            round.completes(id, &json!([0, 1])).await;
        }
        let path = "/v1/instances/purged";
        until("the instance is purged", 204, &[404], || round.client.admin(Method::DELETE, path)).await;
        for part in ["", "/history", "/log", "/result"] {
            round.get(&format!("{path}{part}")).await.expect(404);
        }
        let body = json!({ "workflow": GUESTS, "id": "purged", "input": { "do": "echo", "value": 2 } });
        round
            .keyed("the id is used again", "again", || round.client.admin(Method::POST, "/v1/instances").json(&body))
            .await;
        round.completes("purged", &json!(2)).await;
        round.completes("kept", &json!([0, 1])).await;
        round.is_at_rest(2).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_at_any_write_settles_a_callback_once() {
    with_a_crash_after_every_write(3, async |round: &Round| {
        let register = format!("{}/register", round.sink.url());
        round.start("callback", &json!({ "do": "callback", "name": "c", "register_url": register })).await;
        let url = round.sink.received_when("a URL", |_| true).await.body["url"].as_str().expect("a URL").to_owned();
        until("the callback is taken", 202, &[], || round.client.post_bytes(&url, "[7]")).await;
        round.completes("callback", &json!([7])).await;
        assert_eq!(history::count(&round.history("callback", 1).await, "CallbackSettled"), 1);
        let urls: BTreeSet<String> = round.sink.received().iter().map(|one| one.body["url"].to_string()).collect();
        assert_eq!(urls.len(), 1, "an attempt that is made again says the same URL");
        round.is_at_rest(1).await;
    })
    .await;
}
