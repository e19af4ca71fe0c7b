//! `mesh get`

use mesh_protocol::tree::TREE_FORMAT;
use mesh_store::ExportOptions;

use crate::args::GetArgs;
use crate::error::CliError;
use crate::home;
use crate::resolve::{self, Found};

pub(crate) fn run(args: &GetArgs) -> Result<(), CliError> {
    let store = home::open_store()?;
    let found = resolve::find_anywhere(&store, &args.name)?;
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
        // What stands there stays: nobody wants two trees mixed.
        std::fs::create_dir(&args.path).map_err(CliError::io(&args.path))?;
        return Ok(store.export_tree(name, &args.path)?);
    }
    let executable = matches!(found, Found::File { executable: true, .. });
    let mode = if executable { 0o755 } else { 0o644 };
    Ok(store.export(name.digest(), &args.path, &ExportOptions { mode, mtime: None })?)
}
