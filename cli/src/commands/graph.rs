//! `mesh thunk graph`

use std::collections::BTreeSet;

use mesh_protocol::name::ThunkName;
use mesh_store::Store;

use super::print_line;
use crate::args::ThunkGraphArgs;
use crate::error::CliError;
use crate::{exit, resolve};

pub(crate) fn run(store: &Store, args: &ThunkGraphArgs) -> Result<(), CliError> {
    let mut next: Vec<ThunkName> =
        args.names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let roots = next.clone();
    let mut absent = BTreeSet::new();
    let mut seen = BTreeSet::new();
    print_line("digraph thunks {\n  rankdir=BT;\n  node [shape=box];")?;
    while let Some(name) = next.pop() {
        if !seen.insert(name) {
            continue;
        }
        let id = name.digest().hex();
        let Ok(thunk) = resolve::thunk(store, name) else {
            print_line(format_args!("  \"{id}\" [label=\"{name:?}\\nnot here\", style=dashed];"))?;
            absent.insert(name);
            continue;
        };
        let style = if store.recall(name)?.is_some() { "style=filled" } else { "style=solid" };
        let label = label(&thunk.spec().function.arguments);
        print_line(format_args!("  \"{id}\" [label=\"{label}\", {style}];"))?;
        for output in thunk.dependencies() {
            let from = output.thunk.digest().hex();
            print_line(format_args!("  \"{from}\" -> \"{id}\" [label=\"{}\"];", output.tag))?;
            next.push(output.thunk);
        }
    }
    print_line("}")?;
    match roots.iter().find(|name| absent.contains(name)) {
        Some(name) => Err(CliError::new(exit::NOT_FOUND, format_args!("{name} is not here"))
            .hint("mesh thunk show brings what another member has")),
        None => Ok(()),
    }
}

/// The command, shortened and safe inside DOT's quotes.
fn label(arguments: &[String]) -> String {
    const SHOWN: usize = 60;
    let text = arguments.join(" ");
    let safe = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut label: String = safe.take(SHOWN).collect();
    if text.chars().count() > SHOWN {
        label.push('…');
    }
    label.replace('\\', "\\\\").replace('"', "\\\"")
}
