//! `mesh cat`

use std::io::Read;

use mesh_protocol::name::Digest;
use mesh_store::Store;

use super::print_bytes;
use crate::args::NameArgs;
use crate::error::CliError;
use crate::resolve;

pub(crate) fn run(store: &Store, args: &NameArgs) -> Result<(), CliError> {
    let name = resolve::find_anywhere(store, &args.name)?.name().digest();
    print(store, name)
}

/// Prints an object.
pub(super) fn print(store: &Store, name: Digest) -> Result<(), CliError> {
    copy(store, name, &mut print_bytes)
}

/// Reads an object piece by piece.
pub(super) fn copy(
    store: &Store,
    name: Digest,
    write: &mut dyn FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut file = store.open_checked(name)?;
    let mut chunk = vec![0; 128 * 1024];
    loop {
        match file.read(&mut chunk).map_err(CliError::io(store.root()))? {
            0 => return Ok(()),
            count => write(&chunk[..count])?,
        }
    }
}
