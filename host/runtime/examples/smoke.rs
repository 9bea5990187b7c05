//! scratch
use rehydrate_runtime::*;
use rehydrate_runtime::core::*;
use std::sync::Arc;
fn main() {
    tracing_subscriber_init();
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let dir = std::env::temp_dir().join("rh-smoke");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let store = Arc::new(rehydrate_runtime::store::MemoryStore::new());
        let client = outbound::OutboundClient::new(&Default::default(), outbound::Secrets::load(&Default::default()).unwrap(), Default::default()).unwrap();
        let config = RuntimeConfig { data_dir: dir, public_url: "http://x".into(), limits: Limits::default(), resident_instances: std::env::var("RES").map_or(10, |v| v.parse().unwrap()), resident_bytes: 1<<30, activity_concurrency: 16, queue_concurrency: Default::default(), default_start_to_close: Nanos::from_secs(60), component_bytes: 1<<26, compile_timeout: Nanos::from_secs(60), free_bytes_min: 0, idempotency_retention: Nanos::from_secs(1000), outbound: client };
        let rt = Runtime::open(config, store, Arc::new(|e| panic!("{e}"))).await.unwrap();
        let base = std::env::var("CARGO_TARGET_DIR").unwrap() + "/wasm32-wasip2/release/";
        for (n, f) in [("test-guests", "test_guests.wasm"), ("act", "test_activities.wasm"), ("ref", "test_refused.wasm")] {
            let t = std::time::Instant::now();
            match rt.deploy(n, "1", std::fs::read(base.clone() + f).unwrap().into()).await { Ok(r) => println!("deployed {:?} {:?}", r.deployment.name, t.elapsed()), Err(e) => println!("refused {e}") }
        }
        for input in std::env::args().skip(1) {
            let t = std::time::Instant::now();
            let r = rt.start(StartRequest { workflow: "test-guests".into(), input: input.clone(), ..Default::default() }).await;
            println!("{input} -> {r:?} {:?}", t.elapsed());
            let Ok(r) = r else { continue };
            let mut ch = rt.changed(&r.id);
            let d = loop {
                let d = rt.describe(&r.id).await.unwrap();
                if d.row.state.is_closed() || d.row.state == store::InstanceStateTag::Paused { break d }
                if tokio::time::timeout(std::time::Duration::from_secs(8), ch.next()).await.is_err() { break d }
            };
            println!("   {:?} out={:?} fail={:?} problem={:?} waiting={:?} {:?}", d.row.state, d.output.map(|o| o.chars().take(300).collect::<String>()), d.failure, d.row.problem, d.waiting_for, t.elapsed());
            let t = std::time::Instant::now();
            println!("   replay {:?} {:?}", rt.replay(&r.id, None, None).await.map(|r| format!("{:.200}", format!("{:?}", r.verdict))), t.elapsed());
            for l in rt.log(&r.id, None, 0, 5).await.unwrap() { println!("   log {} {:.150}", l.level, l.text); }
        }
        println!("{}", rt.stats());
        rt.shutdown(std::time::Duration::from_secs(5)).await;
    });
}
fn tracing_subscriber_init() {}
