//! `mesh cat`

use std::io::Read;

use super::print_bytes;
use crate::args::NameArgs;
use crate::error::CliError;
use crate::{home, resolve};

pub(crate) fn run(args: &NameArgs) -> Result<(), CliError> {
    let store = home::open_store()?;
    let name = resolve::find_anywhere(&store, &args.name)?.name().digest();
    let mut file = store.open_checked(name)?;
    let mut chunk = vec![0; 128 * 1024];
    loop {
        match file.read(&mut chunk).map_err(CliError::io(store.root()))? {
            0 => return Ok(()),
            count => print_bytes(&chunk[..count])?,
        }
    }
}
