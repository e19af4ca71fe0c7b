//! Calls that may wait for the disk or for another process' lock, from tasks.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs such a call here, and has another thread do what this thread's runtime has to do meanwhile.
/// The task itself waits; so a loop that others wait for hands the call to a blocking task instead.
pub(crate) fn in_place<T>(call: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(call),
        // There is no other thread, or no runtime.
        _ => call(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_meanwhile() {
        let (tell, told) = mpsc::channel();
        let waits = tokio::spawn(async move { in_place(move || told.recv().unwrap()) });
        // On the only thread there is for tasks.
        let other = tokio::spawn(async move { tell.send("done").unwrap() });
        assert_eq!(waits.await.unwrap(), "done");
        other.await.unwrap();
    }

    #[tokio::test]
    async fn one_thread_is_enough() {
        assert_eq!(in_place(|| 1), 1);
    }
}
