//! The threads of a command that waits for messages, jobs and files.

use tokio::runtime::{Builder, Runtime};

use crate::error::CliError;

/// One that waits for so many cores: what is waited for runs on threads and in processes of its own.
const CORES_PER_WAITER: usize = 4;

/// Starts them. Few: one that is woken wakes another in case there is more to do, which cost a worker
/// with two of them a fifth more processor time.
pub(crate) fn start() -> Result<Runtime, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(cores.div_ceil(CORES_PER_WAITER)).enable_all();
    builder.build().map_err(CliError::io("starting threads"))
}
