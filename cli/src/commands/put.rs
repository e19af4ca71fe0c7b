//! `mesh put`

use std::fs::File;
use std::path::Path;

use mesh_node::api::Request;
use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ValueName};
use mesh_store::Store;

use super::{print_line, try_node};
use crate::args::PutArgs;
use crate::error::CliError;
use crate::stderr;

pub(crate) fn run(store: &Store, args: &PutArgs) -> Result<(), CliError> {
    let mut names = Vec::new();
    let put = args.paths.iter().try_for_each(|path| {
        let name = put(store, path)?;
        names.push(name.digest());
        if args.pin {
            store.pin(name.digest(), &path.to_string_lossy())?;
        }
        print_line(name)
    });
    store.note_puts(&names)?;
    // Before others hear of it.
    store.flush()?;
    tell_node(&names);
    put
}

/// So that others find it at once. It is stored in any case, and told when the node starts next.
fn tell_node(names: &[Digest]) {
    for some in names.chunks(limits::STORED_NAMES) {
        if let Err(error) = try_node(&Request::Stored(some.to_vec())) {
            return stderr::write_line(format_args!(
                "mesh: the node of this home could not be told: {error}"
            ));
        }
    }
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
