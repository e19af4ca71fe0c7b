//! `mesh ls`

use mesh_protocol::name::ValueName;
use mesh_protocol::tree::TreeEntry;
use mesh_store::Store;

use super::print_line;
use crate::args::LsArgs;
use crate::error::CliError;
use crate::resolve;

pub(crate) fn run(store: &Store, args: &LsArgs) -> Result<(), CliError> {
    let tree = resolve::find(store, &args.name)?.name();
    list(store, tree, "", args)
}

fn list(store: &Store, tree: ValueName, below: &str, args: &LsArgs) -> Result<(), CliError> {
    for (name, entry) in store.read_tree(tree)?.entries() {
        let path = format!("{below}{name}");
        if args.json {
            print_line(serde_json::json!({ "path": path, "entry": entry }))?;
        } else {
            print_line(line(&path, entry))?;
        }
        if let (true, TreeEntry::Directory(tree)) = (args.recursive, entry) {
            list(store, *tree, &format!("{path}/"), args)?;
        }
    }
    Ok(())
}

fn line(path: &str, entry: &TreeEntry) -> String {
    match entry {
        TreeEntry::File { name, executable: false } => format!("- {name} {path}"),
        TreeEntry::File { name, executable: true } => format!("x {name} {path}"),
        TreeEntry::Directory(name) => format!("d {name} {path}/"),
        TreeEntry::Symlink(target) => format!("l {path} -> {target}"),
    }
}
