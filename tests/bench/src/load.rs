//! Closed-loop load: so many connections, on each the next request as soon as the one before is answered.

use crate::client::Conn;
use crate::numbers::Sorted;
use futures::future::try_join_all;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Does a job for every index of a range; gives how long each took.
pub async fn each(
    conns: &mut [Conn],
    indexes: Range<u64>,
    job: impl AsyncFn(&mut Conn, u64) -> anyhow::Result<()>,
) -> anyhow::Result<Sorted<Duration>> {
    let next = Cell::new(indexes.start);
    let job = &job;
    let next = &next;
    let workers = conns.iter_mut().map(|conn| async move {
        let mut times = Vec::new();
        while let index = next.get()
            && index < indexes.end
        {
            next.set(index + 1);
            let begun = Instant::now();
            job(conn, index).await?;
            times.push(begun.elapsed());
        }
        anyhow::Ok(times)
    });
    let times = try_join_all(workers).await?;
    Ok(Sorted::new(times.into_iter().flatten().collect()))
}

/// What was done in a stretch of time under steady load.
#[derive(Debug)]
pub struct Window<S> {
    /// How long it was.
    pub length: Duration,
    /// How long each job took that ended in it.
    pub times: Vec<Duration>,
    /// What the meter showed at its beginning.
    pub before: S,
    /// What the meter showed at its end.
    pub after: S,
}

/// Does jobs with rising indexes from 0 on, for `warm` and then for `length`, of which alone it reports.
/// `meter` is read at both ends of it.
pub async fn for_a_while<S>(
    conns: &mut [Conn],
    warm: Duration,
    length: Duration,
    job: impl AsyncFn(&mut Conn, u64) -> anyhow::Result<()>,
    mut meter: impl AsyncFnMut() -> anyhow::Result<S>,
) -> anyhow::Result<Window<S>> {
    let (next, stopped) = (Cell::new(0_u64), Cell::new(false));
    let times: RefCell<Vec<Duration>> = RefCell::new(Vec::new());
    let (next, stopped, times, job) = (&next, &stopped, &times, &job);
    let workers = try_join_all(conns.iter_mut().map(|conn| async move {
        while !stopped.get() {
            let index = next.replace(next.get() + 1);
            let begun = Instant::now();
            job(conn, index).await?;
            times.borrow_mut().push(begun.elapsed());
        }
        anyhow::Ok(())
    }));
    let watch = async {
        tokio::time::sleep(warm).await;
        let before = meter().await?;
        times.borrow_mut().clear();
        let begun = Instant::now();
        tokio::time::sleep(length).await;
        let (length, times) = (begun.elapsed(), times.take());
        // Before the load ends, so that what the meter shows belongs to it.
        let after = meter().await?;
        stopped.set(true);
        Ok(Window { length, times, before, after })
    };
    let (_, window) = futures::try_join!(workers, watch)?;
    Ok(window)
}
