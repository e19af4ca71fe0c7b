//! `mesh log`

use mesh_protocol::name::ThunkName;
use mesh_store::Store;

use super::{print_bytes, print_line};
use crate::args::LogArgs;
use crate::error::CliError;
use crate::words::Words;
use crate::{exit, stderr};

pub(crate) fn run(store: &Store, args: &LogArgs) -> Result<(), CliError> {
    let thunk: ThunkName = args.name.parse()?;
    let Some(reduction) = store.recall(thunk)? else {
        return Err(CliError::new(exit::NOT_FOUND, format_args!("{thunk} has not been run here")));
    };
    let words = Words::read(store, reduction.stdout, reduction.stderr)?;
    let (stdout, stderr) = (&words.stdout.bytes, &words.stderr.bytes);
    if args.json {
        return print_line(serde_json::json!({
            "thunk": thunk,
            "stdout": String::from_utf8_lossy(stdout),
            "stderr": String::from_utf8_lossy(stderr),
            "stdout_name": reduction.stdout,
            "stderr_name": reduction.stderr,
            "stdout_cut_bytes": words.stdout.cut_bytes,
            "stderr_cut_bytes": words.stderr.cut_bytes,
            "outputs": reduction.outputs,
            "usage": reduction.usage,
            "executor": reduction.executor,
            "finished_at_s": reduction.finished_at_s,
        }));
    }
    print_bytes(stdout)?;
    stderr::write_bytes(stderr)?;
    words.notice().into_iter().for_each(stderr::write);
    Ok(())
}
