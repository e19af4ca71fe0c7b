//! A node that runs for long lets go of objects that it used long ago, so that garbage collection may
//! have them: each hour, and when a collection finds too much held.
//!
//! What a renewal lets go is what was used before the renewal before it. So a lease that is held for
//! somebody must have come after the last renewal, or the next one waits for its end. Builds of this
//! home are processes with sessions of their own, and keep what they need themselves.

use std::time::{Duration, SystemTime};

use mesh_protocol::limits;
use mesh_store::{Store, StoreError};
use tokio::time::Instant;

use crate::node::Node;

/// Objects of a node are kept for at least so long after their last use if nobody wants room, and for twice as
/// long at most, or as long as a lease is held that was there before.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How often it looks whether room is wanted: one look at a file.
const LOOK: Duration = Duration::from_secs(2);

/// Between two renewals of a node that is at work: what it left is fetched from it within this time.
const EVERY_BUSY: Duration = Duration::from_micros(limits::FETCH_US);

/// Why a session is renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It is time to.
    Due,
    /// A collection found too much held.
    Wanted,
}

/// What a node has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    Nothing,
    /// How long the oldest lease has been held for somebody, if one is.
    Something(Option<Duration>),
}

/// Renews the session of a node's store until it is dropped.
pub(crate) async fn serve(node: Node) {
    let mesh = node.mesh().clone();
    let work = move || {
        let mesh = mesh.clone();
        async move {
            let status = mesh.status().await;
            if status.is_idle() { Work::Nothing } else { Work::Something(status.oldest_job) }
        }
    };
    let store = node.store().clone();
    let blocking = store.clone();
    let marked = tokio::task::spawn_blocking(move || blocking.makes_room()).await;
    if let Ok(Err(error)) = marked {
        tracing::warn!(%error, "collections are not told that this node makes room");
    }
    let wanted_at = || store.room_wanted_at();
    repeat(work, wanted_at, |why| renew(store.clone(), why)).await;
}

async fn renew(store: Store, why: Why) {
    let renewed = tokio::task::spawn_blocking(move || {
        store.renew(SystemTime::now())?;
        if why == Why::Wanted {
            // What was used before the first time is let go by the second.
            store.renew(SystemTime::now())?;
            store.collect_in_background();
        }
        Ok::<_, StoreError>(())
    });
    if let Ok(Err(error)) = renewed.await {
        tracing::warn!(%error, "what this node used long ago cannot be let go");
    }
}

/// Once in [`EVERY`], and when room is wanted: at once if there is nothing to do, and otherwise once in
/// [`EVERY_BUSY`], until there is.
async fn repeat<T, W, R>(work: impl Fn() -> W, wanted_at: impl Fn() -> T, renew: impl Fn(Why) -> R)
where
    T: PartialEq,
    W: Future<Output = Work>,
    R: Future<Output = ()>,
{
    let (mut served, mut last) = (wanted_at(), Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let wanted = wanted_at();
        let since = last.elapsed();
        let is_wanted = wanted != served;
        if !is_wanted && since < EVERY {
            continue;
        }
        match work().await {
            Work::Nothing => {
                renew(if is_wanted { Why::Wanted } else { Why::Due }).await;
                served = wanted;
            }
            Work::Something(held)
                if since >= EVERY_BUSY && held.is_none_or(|held| held < since) =>
            {
                renew(Why::Due).await;
            }
            Work::Something(_) => continue,
        }
        last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::ops::Range;

    use super::*;

    /// In which minutes a session is renewed within five hours, and why: with leases that are held from
    /// a minute to another, and where room is wanted in one.
    async fn renewals(leases: &[Range<u64>], wanted: u64) -> Vec<(u64, Why)> {
        let began = Instant::now();
        let minutes = || began.elapsed().as_secs() / 60;
        let renewed = RefCell::new(Vec::new());
        let work = || async {
            let held = leases.iter().filter(|lease| lease.contains(&minutes()));
            match held.map(|lease| lease.start).min() {
                None => Work::Nothing,
                Some(start) => {
                    Work::Something(Some(began.elapsed() - Duration::from_secs(60 * start)))
                }
            }
        };
        let renew = |why| {
            renewed.borrow_mut().push((minutes(), why));
            async {}
        };
        let repeats = repeat(work, || minutes() >= wanted, renew);
        let lasting = tokio::time::timeout(Duration::from_secs(5 * 60 * 60 - 1), repeats);
        assert!(lasting.await.is_err(), "it goes on");
        renewed.into_inner()
    }

    const NEVER: u64 = u64::MAX;

    fn due(minutes: &[u64]) -> Vec<(u64, Why)> {
        minutes.iter().map(|minute| (*minute, Why::Due)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_renewed_each_hour() {
        assert_eq!(renewals(&[], NEVER).await, due(&[60, 120, 180, 240]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_never_idle_renews_it_too() {
        let short: Vec<Range<u64>> = (0..150).map(|n| 2 * n..2 * n + 3).collect();
        assert_eq!(renewals(&short, NEVER).await, due(&[60, 120, 180, 240]));
        // It is wanted, and so each ten minutes.
        let wanted = renewals(&short, 100).await;
        assert_eq!(
            wanted,
            due(&std::iter::once(60).chain((100..300).step_by(10)).collect::<Vec<_>>())
        );
    }

    /// It came before the renewal of minute 120, so it is waited for before the next.
    #[tokio::test(start_paused = true)]
    async fn what_a_lease_needs_is_held_until_it_ends() {
        let long = 100..250;
        assert_eq!(renewals(std::slice::from_ref(&long), NEVER).await, due(&[60, 120, 250]));
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_made_at_once_when_there_is_nothing_to_do() {
        let mut wanted = renewals(&[], 10).await;
        assert_eq!(wanted.remove(0), (10, Why::Wanted));
        assert_eq!(wanted, due(&[70, 130, 190, 250]));
        let lease = 5..25;
        let mut later = renewals(std::slice::from_ref(&lease), 10).await;
        // Once beside the lease, which came a moment before, and then without it.
        assert_eq!(later.drain(..2).collect::<Vec<_>>(), [(10, Why::Due), (25, Why::Wanted)]);
    }
}
