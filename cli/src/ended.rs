//! How a job ended, in the words of shells and scripts.

use mesh_node::exec::Exit;
use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::Usage;
use mesh_store::Store;
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::{exit, words};

/// The signal of the kernel's out-of-memory killer.
const SIGKILL: i32 = 9;

/// The signal of a file that becomes too large.
const SIGXFSZ: i32 = 25;

/// The exit status that a shell would report.
pub(crate) fn status(exit: Exit) -> u8 {
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => i32::from(exit::SIGNALLED) + signal,
        Exit::TimedOut => exit::TIMED_OUT.into(),
        Exit::OutOfMemory => i32::from(exit::SIGNALLED) + SIGKILL,
        Exit::TooLarge(_) => i32::from(exit::SIGNALLED) + SIGXFSZ,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// What a run left besides its outputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: ValueName,
    pub(crate) stderr: ValueName,
    pub(crate) usage: Usage,
}

impl Ran {
    /// The keys that every JSON result has of a run: `status` as a shell reports it, what ended it if
    /// it did not end by itself, the streams by name, and how much of them was cut.
    pub(crate) fn to_json(self, store: &Store) -> Result<Map<String, Value>, CliError> {
        let Self { exit, stdout, stderr, usage } = self;
        let mut keys = Map::new();
        let mut add = |key: &str, value: Value| keys.insert(key.to_owned(), value);
        add("status", json!(status(exit)));
        match exit {
            Exit::Code(_) => None,
            Exit::Signal(signal) => add("signal", json!(signal)),
            Exit::TimedOut => add("timed_out", json!(true)),
            Exit::OutOfMemory => add("out_of_memory", json!(true)),
            Exit::TooLarge(excess) => add("too_large", json!(excess.to_string())),
        };
        add("stdout", json!(stdout));
        add("stderr", json!(stderr));
        for (key, name) in [("stdout_cut_bytes", stdout), ("stderr_cut_bytes", stderr)] {
            let cut_bytes = words::cut_bytes(store, name)?;
            if cut_bytes > 0 {
                add(key, json!(cut_bytes));
            }
        }
        add("usage", json!(usage));
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use mesh_node::exec::Excess;

    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        let large = Exit::TooLarge(Excess::Files { files_max: 1 });
        let codes =
            [Exit::Code(3), Exit::Signal(11), Exit::TimedOut, Exit::OutOfMemory, large].map(status);
        assert_eq!(codes, [3, 139, 124, 137, 153]);
    }

    #[test]
    fn scripts_see_what_ended_a_run() {
        let directory = tempfile::tempdir().unwrap();
        let options = mesh_store::StoreOptions::new(directory.path().join("store"));
        let store = Store::open(options).unwrap();
        let empty = ValueName::of(b"");
        let keys = |exit| {
            let ran = Ran { exit, stdout: empty, stderr: empty, usage: Usage::default() };
            let keys = ran.to_json(&store).unwrap();
            ["status", "signal", "timed_out", "out_of_memory", "stdout_cut_bytes"]
                .map(|key| keys.get(key).cloned().unwrap_or(Value::Null).to_string())
        };
        let null = "null";
        assert_eq!(keys(Exit::Code(3)), ["3", null, null, null, null]);
        assert_eq!(keys(Exit::Signal(11)), ["139", "11", null, null, null]);
        assert_eq!(keys(Exit::TimedOut), ["124", null, "true", null, null]);
        assert_eq!(keys(Exit::OutOfMemory), ["137", null, null, "true", null]);
    }
}
