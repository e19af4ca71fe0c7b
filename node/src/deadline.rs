//! Waiting for a moment that may never be set.

use tokio::time::Instant;

/// Waits until then; for ever, if there is nothing to wait for. Cancel-safe.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
