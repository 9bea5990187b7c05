//! The executor against a host that is a list of outcomes to come.

use super::*;
use futures::future::{Either, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;

/// What the host of a test has seen and will do; one per test thread.
#[derive(Default)]
struct Host {
    settled: BTreeMap<u32, Outcome>,
    /// What settles at each wait; a wait for what never comes panics.
    to_come: VecDeque<u32>,
    dropped: Vec<u32>,
    /// Every wait, for one of these or for all.
    waits: Vec<Vec<u32>>,
    waits_for_all: usize,
    /// Operations that were asked whether they have settled.
    asked: Vec<u32>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

fn host<R>(with: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(with)
}

impl Host {
    fn settle_next(&mut self) {
        let next = self.to_come.pop_front().expect("a wait for something that never comes");
        self.settled.entry(next).or_insert_with(|| Ok(next.to_string()));
    }
}

struct Op(u32);

impl Wait for Op {
    fn get(&self) -> Option<Outcome> {
        host(|host| {
            host.asked.push(self.0);
            host.settled.get(&self.0).cloned()
        })
    }

    fn cancel(&self) {
        host(|host| {
            host.settled.entry(self.0).or_insert_with(|| Err(Failure::cancelled("by the guest")));
        });
    }

    fn wait(&self) -> Outcome {
        Op::wait_all(&[self]);
        self.get().expect("it was waited for")
    }

    fn wait_any(on: &[&Self]) -> Vec<u32> {
        host(|host| {
            host.waits.push(on.iter().map(|op| op.0).collect());
            loop {
                let settled = (0..).zip(on).filter(|(_, op)| host.settled.contains_key(&op.0));
                let indexes: Vec<u32> = settled.map(|(index, _)| index).collect();
                if !indexes.is_empty() {
                    return indexes;
                }
                host.settle_next();
            }
        })
    }

    fn wait_all(on: &[&Self]) {
        host(|host| {
            host.waits.push(on.iter().map(|op| op.0).collect());
            host.waits_for_all += 1;
            while !on.iter().all(|op| host.settled.contains_key(&op.0)) {
                host.settle_next();
            }
        });
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        host(|host| host.dropped.push(self.0));
    }
}

fn run<F: Future>(to_come: impl IntoIterator<Item = u32>, flow: impl FnOnce(Rc<Reactor<Op>>) -> F) -> F::Output {
    host(|host| host.to_come = to_come.into_iter().collect());
    let reactor = Reactor::new();
    let output = reactor.block_on(flow(Rc::clone(&reactor))).expect("the flow stalled");
    assert!(reactor.registered.borrow().is_empty(), "something stayed registered");
    output
}

async fn op(reactor: &Rc<Reactor<Op>>, id: u32) -> String {
    let single = Single::begun(reactor, Op(id));
    poll_fn(move |task| single.poll(task)).await.expect("the operation failed")
}

#[test]
fn operations_one_after_another_wait_one_at_a_time() {
    let sum = run([1, 2], |reactor| async move { op(&reactor, 1).await + &op(&reactor, 2).await });
    assert_eq!(sum, "12");
    assert_eq!(host(|host| host.waits.clone()), [[1], [2]]);
}

#[test]
fn what_settled_unseen_needs_no_wait() {
    run([2, 1], |reactor| async move {
        let second = Single::begun(&reactor, Op(2));
        op(&reactor, 1).await;
        assert_eq!(poll_fn(|task| second.poll(task)).await, Ok("2".to_owned()));
    });
    assert_eq!(host(|host| host.waits.clone()), [[1]]);
}

#[test]
fn nothing_is_asked_of_the_host_that_can_not_have_changed() {
    run([1, 2, 3], |reactor| async move {
        let (first, second) = (Single::begun(&reactor, Op(1)), Single::begun(&reactor, Op(3)));
        // Just begun: neither can have settled.
        assert!(poll_fn(|task| Poll::Ready(first.poll(task))).await.is_pending());
        assert!(poll_fn(|task| Poll::Ready(second.poll(task))).await.is_pending());
        assert!(host(|host| host.asked.is_empty()));
        assert_eq!(poll_fn(|task| first.poll(task)).await, Ok("1".to_owned()));
        // It has not settled in the one wait that there was.
        assert!(poll_fn(|task| Poll::Ready(second.poll(task))).await.is_pending());
        assert!(poll_fn(|task| Poll::Ready(second.poll(task))).await.is_pending());
        assert_eq!(host(|host| std::mem::take(&mut host.asked)), [1, 3]);
        second.cancel();
        assert!(poll_fn(|task| second.poll(task)).await.is_err());
    });
}

#[test]
fn a_signal_is_read_only_by_who_asks_for_it() {
    run([1], |reactor| async move {
        host(|host| host.settled.insert(2, Ok("2".to_owned())));
        // Signals may be there from the begin.
        let there = Single::signal(&reactor, Op(2));
        assert_eq!(poll_fn(|task| there.poll(task)).await, Ok("2".to_owned()));
        host(|host| host.asked.clear());
        let signal = Single::signal(&reactor, Op(1));
        let mut looked = false;
        poll_fn(|task| {
            if std::mem::replace(&mut looked, true) {
                return Poll::Ready(());
            }
            signal.poll(task).map(drop)
        })
        .await;
        // It came, and who was woken did not look at it.
        assert_eq!(host(|host| (host.asked.clone(), host.settled.contains_key(&1))), (vec![1], true));
    });
}

#[test]
fn join_all_and_futures_unordered_get_everything_in_any_order() {
    let joined = run([2, 0, 1], |reactor| async move { join_all((0..3).map(|id| op(&reactor, id))).await });
    assert_eq!(joined, ["0", "1", "2"]);
    let order: Vec<String> = run([5, 3, 4], |reactor| async move {
        let ops: FuturesUnordered<_> = (3..6).map(|id| op(&reactor, id)).collect();
        ops.collect().await
    });
    assert_eq!(order, ["5", "3", "4"]);
}

#[test]
fn the_loser_of_a_race_is_dropped_and_no_longer_waited_for() {
    run([2, 3], |reactor| async move {
        let (slow, quick) = (Box::pin(op(&reactor, 1)), Box::pin(op(&reactor, 2)));
        match select(slow, quick).await {
            Either::Right((winner, loser)) => {
                assert_eq!(winner, "2");
                drop(loser);
            }
            Either::Left(_) => panic!("1 never settles"),
        }
        assert!(host(|host| host.dropped.contains(&1)));
        op(&reactor, 3).await;
    });
    assert_eq!(host(|host| host.waits.clone()), [vec![1, 2], vec![3]]);
}

#[test]
fn the_loser_of_a_race_that_is_kept_can_be_awaited_again() {
    run([2, 1], |reactor| async move {
        let mut slow = Box::pin(op(&reactor, 1));
        drop(select(&mut slow, Box::pin(op(&reactor, 2))).await);
        assert_eq!(slow.await, "1");
    });
}

#[test]
fn many_futures_of_one_operation_are_one_registration() {
    use futures::FutureExt;
    run([1], |reactor| async move {
        let shared = op(&reactor, 1).shared();
        assert_eq!(join_all([shared.clone(), shared.clone(), shared]).await, ["1", "1", "1"]);
    });
    assert_eq!(host(|host| host.waits.clone()), [[1]]);
}

#[test]
fn a_wait_for_nothing_is_a_stall() {
    let reactor = Reactor::<Op>::new();
    assert!(reactor.block_on(std::future::pending::<()>()).is_err());
}

#[test]
fn a_future_that_wakes_itself_is_polled_again_without_a_wait() {
    let mut left = 3;
    let flow = poll_fn(move |task: &mut Context<'_>| {
        left -= 1;
        task.waker().wake_by_ref();
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    run([], |_| flow);
    assert!(host(|host| host.waits.is_empty()));
}

#[test]
fn a_cancelled_operation_settles_with_the_failure() {
    run([], |reactor| async move {
        let single = Single::begun(&reactor, Op(1));
        let mut first = true;
        let outcome = poll_fn(|task| {
            let polled = single.poll(task);
            if std::mem::take(&mut first) {
                single.cancel();
            }
            polled
        });
        assert!(outcome.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn a_group_alone_is_one_wait() {
    let outcomes = run((0..1000).rev(), |reactor| async move {
        let mut group = Group::new(&reactor, (0..1000).map(Op).collect());
        poll_fn(move |task| group.poll(task)).await
    });
    assert_eq!(outcomes.len(), 1000);
    assert_eq!(outcomes[7], Ok("7".to_owned()));
    assert_eq!(host(|host| (host.waits.len(), host.waits_for_all)), (1, 1));
}

#[test]
fn a_group_beside_another_operation_does_not_hold_it_up() {
    run([9, 1, 0, 2], |reactor| async move {
        let mut group = Group::new(&reactor, (0..3).map(Op).collect());
        let group = poll_fn(move |task| group.poll(task));
        match select(group, Box::pin(op(&reactor, 9))).await {
            Either::Right((_, group)) => assert_eq!(group.await.len(), 3),
            Either::Left(_) => panic!("9 settles first"),
        }
    });
    assert_eq!(host(|host| (host.waits.clone(), host.waits_for_all)), (vec![vec![0, 9], vec![0, 1, 2]], 1));
}

#[test]
fn an_empty_group_is_ready_at_once() {
    let outcomes = run([], |reactor| async move {
        let mut group = Group::new(&reactor, Vec::new());
        poll_fn(move |task| group.poll(task)).await
    });
    assert_eq!(outcomes, []);
}

#[test]
fn a_wide_fan_out_polls_each_future_twice_only() {
    let polls = Rc::new(Cell::new(0_u32));
    let count = Rc::clone(&polls);
    run((0..2000).rev(), |reactor| async move {
        let ops = (0..2000).map(|id| {
            let (single, count) = (Single::begun(&reactor, Op(id)), Rc::clone(&count));
            poll_fn(move |task| {
                count.set(count.get() + 1);
                single.poll(task)
            })
        });
        join_all(ops).await;
    });
    assert_eq!(polls.get(), 4000);
}
