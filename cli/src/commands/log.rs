//! `mesh log`

use mesh_protocol::limits;
use mesh_protocol::name::ThunkName;

use super::{print_bytes, print_line};
use crate::args::LogArgs;
use crate::error::CliError;
use crate::{exit, home, stderr};

pub(crate) fn run(args: &LogArgs) -> Result<(), CliError> {
    let store = home::open_store()?;
    let thunk: ThunkName = args.name.parse()?;
    let Some(reduction) = store.recall(thunk)? else {
        return Err(CliError::new(exit::NOT_FOUND, format_args!("{thunk} has not been run here")));
    };
    let bytes =
        |name: mesh_protocol::name::ValueName| store.read(name.digest(), limits::STREAM_BYTES);
    let (stdout, stderr) = (bytes(reduction.stdout)?, bytes(reduction.stderr)?);
    if args.json {
        return print_line(serde_json::json!({
            "thunk": thunk,
            "stdout": String::from_utf8_lossy(&stdout),
            "stderr": String::from_utf8_lossy(&stderr),
            "outputs": reduction.outputs,
            "usage": reduction.usage,
            "executor": reduction.executor,
            "finished_at_s": reduction.finished_at_s,
        }));
    }
    print_bytes(&stdout)?;
    stderr::write_bytes(&stderr)
}
