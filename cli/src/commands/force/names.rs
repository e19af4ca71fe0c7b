//! `mesh force NAME|FILE…`: outputs of thunks, and placeholders.

use std::io::ErrorKind;
use std::path::PathBuf;

use mesh_protocol::name::{ObjectName, OutputRef, Tag, ThunkName, ValueName};
use mesh_protocol::thunk::{OutputObject, Thunk};
use mesh_store::{Store, StoreError};
use serde_json::{Map, Value, json};

use super::{Forced, Trouble};
use crate::build::placeholder;
use crate::commands::print_line;
use crate::error::CliError;
use crate::{exit, resolve};

/// What a word of the command line asks for.
enum Wanted {
    Value(ValueName),
    Output(OutputRef),
    /// A file of the user that is to become what it stands for.
    Placeholder(PathBuf, OutputRef),
    /// A file that stands for nothing but itself.
    File(PathBuf),
}

impl Wanted {
    fn read(store: &Store, text: &str) -> Result<Self, CliError> {
        match text.parse::<ObjectName>() {
            Ok(ObjectName::Value(_)) => {
                let name = resolve::find_anywhere(store, text)?.name();
                match store.contains(name.digest()) {
                    true => Ok(Self::Value(name)),
                    false => Err(StoreError::Missing(name.digest()).into()),
                }
            }
            Ok(ObjectName::Thunk(thunk, tag)) => Ok(Self::Output(output(store, thunk, tag)?)),
            Err(error) => {
                let path = PathBuf::from(text);
                match placeholder::read(&path) {
                    Ok(Some(output)) => Ok(Self::Placeholder(path, output)),
                    Ok(None) => Ok(Self::File(path)),
                    Err(io) if io.kind() == ErrorKind::NotFound && !text.contains(['/', '.']) => {
                        Err(error.into())
                    }
                    Err(io) => Err(CliError::io(&path)(io)),
                }
            }
        }
    }

    /// Forces it. The name of what it came to.
    async fn bring(&self, forced: &Forced) -> Result<ValueName, Trouble> {
        match self {
            Self::Value(name) => Ok(*name),
            Self::Output(output) => Ok(value_of(&reduce(forced, output).await?)?),
            Self::Placeholder(path, output) => {
                let object = reduce(forced, output).await?;
                let name = value_of(&object)?;
                let opened = forced.store.open_checked(name.digest()).map_err(CliError::from);
                let executable = matches!(object, OutputObject::File { executable: true, .. });
                placeholder::fill_at(path, output.clone(), &mut opened?, executable)
                    .map_err(CliError::io(path))?;
                Ok(name)
            }
            Self::File(path) => Ok(forced.store.name_file(path).map_err(CliError::from)?.name),
        }
    }

    /// The thunk that is forced for it.
    fn thunk(&self) -> Option<ThunkName> {
        match self {
            Self::Output(output) | Self::Placeholder(_, output) => Some(output.thunk),
            Self::Value(_) | Self::File(_) => None,
        }
    }
}

/// The output that is meant. One that the thunk does not declare is refused before anything runs.
fn output(store: &Store, name: ThunkName, tag: Option<Tag>) -> Result<OutputRef, CliError> {
    let thunk = match (resolve::thunk_anywhere(store, name), tag) {
        // The memo may know it all the same.
        (Err(_), Some(tag)) => return Ok(OutputRef { thunk: name, tag }),
        (Err(error), None) => return Err(error),
        (Ok(thunk), Some(tag)) if thunk.spec().outputs.contains_key(&tag) => {
            return Ok(OutputRef { thunk: name, tag });
        }
        (Ok(thunk), Some(tag)) => {
            let text = format!("{name} has no output #{tag}");
            return Err(CliError::new(exit::DATA, text).hint(tags(name, &thunk)));
        }
        (Ok(thunk), None) => thunk,
    };
    match thunk.primary_output() {
        Some(tag) => Ok(OutputRef { thunk: name, tag: tag.clone() }),
        None => Err(CliError::new(exit::DATA, format_args!("{name} has several outputs"))
            .hint(tags(name, &thunk))),
    }
}

fn tags(name: ThunkName, thunk: &Thunk) -> String {
    let tags: Vec<&str> = thunk.spec().outputs.keys().map(Tag::as_str).collect();
    format!("name one as {name}#TAG, TAG one of: {}", tags.join(" "))
}

async fn reduce(forced: &Forced, output: &OutputRef) -> Result<OutputObject, Trouble> {
    let answer = forced.driver.demand(output.clone()).await;
    answer.map_err(|error| forced.trouble(&error))
}

fn value_of(object: &OutputObject) -> Result<ValueName, CliError> {
    match object {
        OutputObject::File { name, .. } | OutputObject::Tree(name) => Ok(*name),
        OutputObject::Thunk(thunk) => {
            Err(CliError::new(exit::INTERNAL, format_args!("{thunk} is not a value")))
        }
    }
}

/// Forces what the words mean, all at once, and prints what they came to, in their order.
pub(super) async fn run(forced: &Forced, words: &[String], is_json: bool) -> Result<(), CliError> {
    if words.iter().any(|word| word == "-") {
        return Err(CliError::new(exit::USAGE, "- stands alone: it reads thunks as JSON lines"));
    }
    let wanted = words.iter().map(|text| Wanted::read(&forced.store, text));
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    let mut demands = Vec::new();
    for wanted in wanted {
        let forced = forced.clone();
        demands.push(tokio::spawn(async move {
            let came = wanted.bring(&forced).await;
            (wanted, came)
        }));
    }
    let mut failed: Vec<CliError> = Vec::new();
    for (word, demand) in words.iter().zip(demands) {
        let (wanted, came) = demand.await.map_err(|error| CliError::new(exit::INTERNAL, error))?;
        if is_json {
            let result = result(forced, word, &wanted, &came);
            forced.console.aside(|| print_line(Value::Object(result)))?;
        } else if let Ok(name) = &came {
            forced.console.aside(|| print_line(name))?;
            if let Some(thunk) = wanted.thunk() {
                tell_words(forced, thunk);
            }
        }
        failed.extend(came.err().map(CliError::from));
    }
    match failed.len() {
        0 => Ok(()),
        1 => Err(failed.remove(0)),
        count => {
            for error in &failed {
                forced.console.print(format!("mesh: {error}\n").as_bytes());
            }
            let code = failed.iter().map(CliError::code).min().unwrap_or(exit::FOUND_WRONG);
            let text = format!("{count} of {} names could not be forced", words.len());
            Err(CliError::new(code, text))
        }
    }
}

fn result(
    forced: &Forced,
    word: &str,
    wanted: &Wanted,
    came: &Result<ValueName, Trouble>,
) -> Map<String, Value> {
    let mut result = Map::from_iter([("name".to_owned(), json!(word))]);
    result.extend(wanted.thunk().map(|thunk| ("thunk".to_owned(), json!(thunk))));
    match came {
        Ok(name) => {
            result.insert("value".to_owned(), json!(name));
            let keys = wanted.thunk().map(|thunk| forced.remembered(thunk));
            match keys {
                Some(Ok(keys)) => result.extend(keys),
                Some(Err(error)) => forced.console.note(error),
                None => {}
            }
        }
        Err(trouble) => {
            trouble.clone().report(&mut result);
        }
    }
    result
}

/// Says where a thunk's standard output is: only values go to ours.
fn tell_words(forced: &Forced, thunk: ThunkName) {
    let Ok(Some(reduction)) = forced.store.recall(thunk) else { return };
    if reduction.stdout.digest().length > 0 {
        forced.console.note(format_args!("{thunk:?} wrote on standard output: mesh log {thunk}"));
    }
}
