//! The next connection of a listener, whatever kind it is of.

use std::io;
use std::time::Duration;

/// The system has no descriptor left, for example: until there is one again, this long at least.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits for it, also while none can be accepted.
pub(crate) async fn accepted<S, A, F>(accept: impl Fn() -> F) -> S
where
    F: Future<Output = io::Result<(S, A)>>,
{
    loop {
        match accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn who_cannot_accept_does_not_spin() {
        let (tries, began) = (Cell::new(0), tokio::time::Instant::now());
        let stream = accepted(|| async {
            tries.set(tries.get() + 1);
            match tries.get() {
                10 => Ok(("a connection", ())),
                _ => Err(io::Error::from(rustix::io::Errno::MFILE)),
            }
        });
        assert_eq!(stream.await, "a connection");
        assert_eq!(began.elapsed(), 9 * PAUSE);
    }
}
