//! From a name on the command line to an object in the store.

use std::collections::BTreeSet;

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ObjectName, Tag, ThunkName, ValueName};
use mesh_protocol::thunk::{OutputObject, Thunk};
use mesh_protocol::wire::records::RecordKey;
use mesh_store::{Store, StoreError};

use crate::commands::bring_by_node;
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
        ObjectName::Thunk(thunk, tag) => Ok(follow(store, thunk, tag)?),
    }
}

/// As [`find`], and brings what is not here by way of the node of this home, if one runs.
pub(crate) fn find_anywhere(store: &Store, text: &str) -> Result<Found, CliError> {
    let name: ObjectName = text.parse()?;
    let found = match &name {
        ObjectName::Thunk(thunk, tag) => follow_anywhere(store, *thunk, tag.clone())?,
        ObjectName::Value(_) => find(store, text)?,
    };
    bring(store, found.name().digest())?;
    Ok(found)
}

/// Each step of the way that is not known here is asked for.
fn follow_anywhere(store: &Store, start: ThunkName, tag: Option<Tag>) -> Result<Found, CliError> {
    let mut asked = BTreeSet::new();
    loop {
        let missing = match follow(store, start, tag.clone()) {
            Err(Lost::Unreduced(thunk)) if asked.insert(thunk) => thunk,
            other => return other.map_err(CliError::from),
        };
        if !bring_by_node(RecordKey::Reduction(missing))? {
            return Err(Lost::Unreduced(missing).into());
        }
    }
}

/// Has the node of this home bring an object that is not here; an error if it cannot. If none runs,
/// nothing happens: whoever reads the object finds that out.
fn bring(store: &Store, digest: Digest) -> Result<(), CliError> {
    if !store.contains(digest) {
        bring_by_node(RecordKey::Provider(digest))?;
    }
    Ok(())
}

/// Why a thunk leads to nothing.
enum Lost {
    Unreduced(ThunkName),
    Wrong(CliError),
}

impl From<CliError> for Lost {
    fn from(error: CliError) -> Self {
        Self::Wrong(error)
    }
}

impl From<StoreError> for Lost {
    fn from(error: StoreError) -> Self {
        Self::Wrong(error.into())
    }
}

impl From<Lost> for CliError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Wrong(error) => error,
            Lost::Unreduced(thunk) => {
                let text =
                    format!("{thunk} has not been reduced here, or its result was collected");
                Self::new(exit::NOT_FOUND, text)
            }
        }
    }
}

fn follow(store: &Store, start: ThunkName, mut tag: Option<Tag>) -> Result<Found, Lost> {
    let mut thunk = start;
    for step in 0..limits::REDUCTION_CHAIN {
        let Some(reduction) = store.recall(thunk)? else {
            return Err(Lost::Unreduced(thunk));
        };
        let outputs = &reduction.outputs;
        let given = tag.take().filter(|tag| step == 0 || outputs.contains_key(tag));
        let Some(chosen) = given.or_else(|| mesh_protocol::graph::primary(outputs)) else {
            let tags: Vec<&str> = outputs.keys().map(Tag::as_str).collect();
            let text = format!("{thunk} has several outputs");
            let hint = format!("name one as {thunk}#TAG, TAG one of: {}", tags.join(" "));
            return Err(CliError::new(exit::DATA, text).hint(hint).into());
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
                return Err(CliError::new(exit::NOT_FOUND, text).into());
            }
        }
    }
    let text = format!("{start} leads from thunk to thunk without end");
    Err(CliError::new(exit::DATA, text).into())
}

/// As [`thunk`], and brings it if it is not here.
pub(crate) fn thunk_anywhere(store: &Store, name: ThunkName) -> Result<Thunk, CliError> {
    bring(store, name.digest())?;
    thunk(store, name)
}

/// Reads the thunk of that name.
pub(crate) fn thunk(store: &Store, name: ThunkName) -> Result<Thunk, CliError> {
    let bytes = store.read(name.digest(), limits::THUNK_BYTES)?;
    Thunk::decode(&bytes)
        .map_err(|error| CliError::new(exit::DATA, format_args!("{name}: {error}")))
}
