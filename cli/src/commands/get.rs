//! `mesh get`

use std::fs::File;
use std::io::Write;
use std::path::Path;

use mesh_protocol::name::ValueName;
use mesh_protocol::tree::TREE_FORMAT;
use mesh_store::{ExportOptions, Store};

use super::cat;
use crate::args::GetArgs;
use crate::error::CliError;
use crate::exit;
use crate::resolve::{self, Found};

pub(crate) fn run(store: &Store, args: &GetArgs) -> Result<(), CliError> {
    let found = resolve::find_anywhere(store, &args.name)?;
    let name = found.name();
    let is_tree = match found {
        Found::Tree(_) => true,
        Found::File { .. } => false,
        Found::Value(name) => {
            let mut first = [0; 8];
            let mut file = store.open_blob(name.digest())?;
            let read = std::io::Read::read(&mut file, &mut first);
            read.map_err(CliError::io(&args.path))? == 8 && first == TREE_FORMAT.magic
        }
    };
    if is_tree {
        if args.path == Path::new("-") {
            let text = format!("{name} is a directory, which standard output cannot hold");
            return Err(CliError::new(exit::USAGE, text).hint("name a directory to be made"));
        }
        // What stands there stays: nobody wants two trees mixed.
        std::fs::create_dir(&args.path).map_err(CliError::io(&args.path))?;
        return Ok(store.export_tree(name, &args.path)?);
    }
    if args.path == Path::new("-") {
        return cat::print(store, name.digest());
    }
    let executable = matches!(found, Found::File { executable: true, .. });
    get_file(store, name, executable, &args.path)
}

/// Writes a file to its place: a link there stays, and what it leads to is replaced.
fn get_file(store: &Store, name: ValueName, executable: bool, path: &Path) -> Result<(), CliError> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match std::fs::metadata(&target) {
        Ok(there) if there.is_dir() => {
            let text = format!("{} is a directory", path.display());
            return Err(CliError::new(exit::USAGE, text).hint("name a file in it"));
        }
        // A pipe or a device must be written to, not replaced.
        Ok(there) if !there.is_file() => {
            let mut to = File::options().write(true).open(path).map_err(CliError::io(path))?;
            return cat::copy(store, name.digest(), &mut |bytes| {
                to.write_all(bytes).map_err(CliError::io(path))
            });
        }
        _ => {}
    }
    let mode = if executable { 0o755 } else { 0o644 };
    Ok(store.export(name.digest(), &target, &ExportOptions { mode, mtime: None })?)
}
