//! A node that runs for long lets go of objects that it used long ago, so that garbage collection may have them.

use std::time::{Duration, SystemTime};

use mesh_store::Store;

use crate::node::Node;

/// Objects of a node are kept for at least so long after their last use, and for twice as long at most, plus
/// however long it is busy.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How often a node that is busy when it is due is looked at again.
const LOOK: Duration = Duration::from_secs(60);

/// Renews the session of a node's store until it is dropped.
pub(crate) async fn serve(node: Node) {
    let mesh = node.mesh().clone();
    let is_idle = move || {
        let mesh = mesh.clone();
        async move { mesh.status().await.is_idle() }
    };
    repeat(is_idle, move || renew(node.store().clone())).await;
}

async fn renew(store: Store) {
    let renewed = tokio::task::spawn_blocking(move || store.renew(SystemTime::now())).await;
    if let Ok(Err(error)) = renewed {
        tracing::warn!(%error, "what this node used long ago cannot be let go");
    }
}

/// Not more often than once in [`EVERY`], and only when idle: what runs counts on what it used.
async fn repeat<I, R>(is_idle: impl Fn() -> I, renew: impl Fn() -> R)
where
    I: Future<Output = bool>,
    R: Future<Output = ()>,
{
    loop {
        tokio::time::sleep(EVERY).await;
        while !is_idle().await {
            tokio::time::sleep(LOOK).await;
        }
        renew().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_renewed_each_hour_unless_something_runs() {
        let began = Instant::now();
        let minutes = || began.elapsed().as_secs() / 60;
        let busy = 100..150;
        let renewed = RefCell::new(Vec::new());
        let repeats = repeat(
            || async { !busy.contains(&minutes()) },
            || async { renewed.borrow_mut().push(minutes()) },
        );
        let lasting = tokio::time::timeout(Duration::from_secs(5 * 60 * 60), repeats);
        assert!(lasting.await.is_err(), "it goes on");
        assert_eq!(*renewed.borrow(), [60, 150, 210, 270]);
    }
}
