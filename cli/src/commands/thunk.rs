//! `mesh thunk create` and `mesh thunk show`

use std::fs;
use std::io::Read;
use std::path::Path;

use mesh_protocol::limits;
use mesh_protocol::thunk::Thunk;
use mesh_store::Store;

use super::print_line;
use crate::args::{ThunkCreateArgs, ThunkShowArgs};
use crate::error::CliError;
use crate::{exit, home, resolve};

pub(crate) fn create(args: &ThunkCreateArgs) -> Result<(), CliError> {
    let text = read_text(&args.file)?;
    let wrong = |error: &dyn std::fmt::Display| {
        CliError::new(exit::DATA, format_args!("{}: {error}", args.file.display()))
            .hint("mesh thunk create --help shows the form")
    };
    let thunk = Thunk::from_json(&text).map_err(|error| wrong(&error))?;
    let (name, bytes) = thunk.encode().map_err(|error| wrong(&error))?;
    match &args.output {
        Some(path) => fs::write(path, &bytes).map_err(CliError::io(path))?,
        None => {
            home::with_store(|store| Ok(store.put_bytes(&bytes)?))?;
        }
    }
    print_line(name)
}

fn read_text(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let opened = match path == Path::new("-") {
        true => fs::File::open("/dev/stdin"),
        false => fs::File::open(path),
    };
    let read = opened.and_then(|file| file.take(limits::THUNK_BYTES).read_to_string(&mut text));
    read.map_err(CliError::io(path))?;
    Ok(text)
}

pub(crate) fn show(store: &Store, args: &ThunkShowArgs) -> Result<(), CliError> {
    let thunk = resolve::thunk_anywhere(store, args.name.parse()?)?;
    let json = thunk.to_json(true).map_err(|error| CliError::new(exit::DATA, error))?;
    print_line(json)
}
