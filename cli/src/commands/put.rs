//! `mesh put`

use std::fs::File;
use std::path::Path;

use mesh_protocol::name::ValueName;
use mesh_store::Store;

use super::print_line;
use crate::args::PutArgs;
use crate::error::CliError;
use crate::home;

pub(crate) fn run(args: &PutArgs) -> Result<(), CliError> {
    let store = home::open_store()?;
    for path in &args.paths {
        let name = put(&store, path)?;
        if args.pin {
            store.pin(name.digest(), &path.to_string_lossy())?;
        }
        print_line(name)?;
    }
    Ok(store.flush()?)
}

fn put(store: &Store, path: &Path) -> Result<ValueName, CliError> {
    if path == Path::new("-") {
        let stdin = File::open("/dev/stdin").map_err(CliError::io("standard input"))?;
        return Ok(ValueName(store.put_file(&stdin)?));
    }
    let found = std::fs::metadata(path).map_err(CliError::io(path))?;
    if found.is_dir() {
        return Ok(store.put_tree(path)?);
    }
    Ok(store.name_file(path)?.name)
}
