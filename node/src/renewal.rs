//! A node that runs for long lets go of objects that it used long ago, so that garbage collection may
//! have them: each hour, and at once when a collection finds too much held - unless it is busy.

use std::time::{Duration, SystemTime};

use mesh_store::{Store, StoreError};
use tokio::time::Instant;

use crate::node::Node;

/// Objects of a node are kept for at least so long after their last use, and for twice as long at most, plus
/// however long it is busy.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How often it looks whether room is wanted: one look at a file.
const LOOK: Duration = Duration::from_secs(2);

/// How often a node that is busy when it is due is looked at again.
const LOOK_WHEN_BUSY: Duration = Duration::from_secs(60);

/// Why a session is renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It is time to.
    Due,
    /// A collection found too much held.
    Wanted,
}

/// Renews the session of a node's store until it is dropped.
pub(crate) async fn serve(node: Node) {
    let mesh = node.mesh().clone();
    let is_idle = move || {
        let mesh = mesh.clone();
        async move { mesh.status().await.is_idle() }
    };
    let store = node.store().clone();
    let blocking = store.clone();
    let marked = tokio::task::spawn_blocking(move || blocking.makes_room()).await;
    if let Ok(Err(error)) = marked {
        tracing::warn!(%error, "collections are not told that this node makes room");
    }
    let wanted_at = || store.room_wanted_at();
    repeat(is_idle, wanted_at, |why| renew(store.clone(), why)).await;
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

/// Once in [`EVERY`], and when room is wanted; only when idle: what runs counts on what it used.
async fn repeat<T, I, R>(
    is_idle: impl Fn() -> I,
    wanted_at: impl Fn() -> T,
    renew: impl Fn(Why) -> R,
) where
    T: PartialEq,
    I: Future<Output = bool>,
    R: Future<Output = ()>,
{
    let (mut served, mut last) = (wanted_at(), Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let wanted = wanted_at();
        let why = match (wanted != served, last.elapsed() >= EVERY) {
            (true, _) => Why::Wanted,
            (false, true) => Why::Due,
            (false, false) => continue,
        };
        if !is_idle().await {
            tokio::time::sleep(LOOK_WHEN_BUSY).await;
            continue;
        }
        renew(why).await;
        (served, last) = (wanted, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_renewed_each_hour_unless_something_runs() {
        let began = Instant::now();
        let minutes = || began.elapsed().as_secs() / 60;
        let busy = 100..150;
        let renewed = RefCell::new(Vec::new());
        let repeats = repeat(
            || async { !busy.contains(&minutes()) },
            || (),
            |why| {
                assert_eq!(why, Why::Due);
                renewed.borrow_mut().push(minutes());
                async {}
            },
        );
        let lasting = tokio::time::timeout(Duration::from_secs(5 * 60 * 60), repeats);
        assert!(lasting.await.is_err(), "it goes on");
        assert_eq!(*renewed.borrow(), [60, 150, 210, 270]);
    }

    #[tokio::test(start_paused = true)]
    async fn and_soon_after_room_is_wanted_unless_something_runs() {
        let began = Instant::now();
        let minutes = || began.elapsed().as_secs() / 60;
        let busy = 20..25;
        let renewed = RefCell::new(Vec::new());
        let note = |why| renewed.borrow_mut().push((minutes(), why));
        let repeats = repeat(
            || async { !busy.contains(&minutes()) },
            // Wanted in minutes 10 and 20.
            || minutes() / 10,
            |why| {
                note(why);
                async {}
            },
        );
        let lasting = tokio::time::timeout(Duration::from_secs(29 * 60), repeats);
        assert!(lasting.await.is_err(), "it goes on");
        assert_eq!(*renewed.borrow(), [(10, Why::Wanted), (25, Why::Wanted)]);
    }
}
