//! From a name on the command line to an object in the store.

use mesh_protocol::limits;
use mesh_protocol::name::{ObjectName, Tag, ThunkName, ValueName};
use mesh_protocol::thunk::{OutputObject, Thunk};
use mesh_store::Store;

use crate::error::CliError;
use crate::exit;

/// What a name leads to.
pub(crate) enum Found {
    /// A value of unknown shape: bytes, or a tree.
    Value(ValueName),
    /// A file that a thunk left.
    File { name: ValueName, executable: bool },
    /// A directory that a thunk left.
    Tree(ValueName),
}

impl Found {
    /// The value's name.
    pub(crate) fn name(&self) -> ValueName {
        match self {
            Self::Value(name) | Self::Tree(name) | Self::File { name, .. } => *name,
        }
    }
}

/// Follows a thunk's output through what is remembered; a value is itself.
pub(crate) fn find(store: &Store, text: &str) -> Result<Found, CliError> {
    match text.parse()? {
        ObjectName::Value(name) => Ok(Found::Value(name)),
        ObjectName::Thunk(thunk, tag) => follow(store, thunk, tag),
    }
}

fn follow(store: &Store, start: ThunkName, mut tag: Option<Tag>) -> Result<Found, CliError> {
    let mut thunk = start;
    for step in 0..limits::REDUCTION_CHAIN {
        let Some(reduction) = store.recall(thunk)? else {
            let text = format!("{thunk} has not been reduced here, or its result was collected");
            return Err(CliError::new(exit::NOT_FOUND, text));
        };
        let outputs = &reduction.outputs;
        let given = tag.take().filter(|tag| step == 0 || outputs.contains_key(tag));
        let Some(chosen) = given.or_else(|| mesh_protocol::graph::primary(outputs)) else {
            let tags: Vec<&str> = outputs.keys().map(Tag::as_str).collect();
            let text = format!("{thunk} has several outputs");
            let hint = format!("name one as {thunk}#TAG, TAG one of: {}", tags.join(" "));
            return Err(CliError::new(exit::DATA, text).hint(hint));
        };
        match outputs.get(&chosen) {
            Some(OutputObject::File { name, executable }) => {
                return Ok(Found::File { name: *name, executable: *executable });
            }
            Some(OutputObject::Tree(name)) => return Ok(Found::Tree(*name)),
            Some(OutputObject::Thunk(next)) => {
                thunk = *next;
                tag = Some(chosen);
            }
            None => {
                let text = format!("{thunk} left no output #{chosen}");
                return Err(CliError::new(exit::NOT_FOUND, text));
            }
        }
    }
    Err(CliError::new(exit::DATA, format_args!("{start} leads from thunk to thunk without end")))
}

/// Reads the thunk of that name.
pub(crate) fn thunk(store: &Store, name: ThunkName) -> Result<Thunk, CliError> {
    let bytes = store.read(name.digest(), limits::THUNK_BYTES)?;
    Thunk::decode(&bytes)
        .map_err(|error| CliError::new(exit::DATA, format_args!("{name}: {error}")))
}
