//! `mesh store verify` and `mesh store stats`

use std::io::IsTerminal;

use mesh_store::Store;

use super::{print_line, size};
use crate::args::JsonArgs;
use crate::error::CliError;
use crate::{exit, stderr};

pub(crate) fn verify(store: &Store, args: &JsonArgs) -> Result<(), CliError> {
    let live = std::io::stderr().is_terminal();
    let report = store.verify(&mut |progress| {
        if live && (progress.checked % 256 == 0 || progress.checked == progress.total) {
            stderr::write(format_args!(
                "\rchecked {} of {} objects",
                progress.checked, progress.total
            ));
        }
    })?;
    if live {
        stderr::write_line("");
    }
    if args.json {
        let corrupt: Vec<String> = report.corrupt.iter().map(ToString::to_string).collect();
        print_line(serde_json::json!({
            "checked": report.checked, "checked_bytes": report.checked_bytes, "corrupt": corrupt,
        }))?;
    } else {
        let checked = size(report.checked_bytes);
        print_line(format_args!("checked {} objects ({checked})", report.checked))?;
        for name in &report.corrupt {
            print_line(format_args!("corrupt {name}"))?;
        }
    }
    match report.corrupt.len() {
        0 => Ok(()),
        count => {
            let text = format!("{count} corrupt objects were put aside");
            Err(CliError::new(exit::FOUND_WRONG, text)
                .hint("what needs them is computed or fetched again; check the disk"))
        }
    }
}

pub(crate) fn stats(store: &Store, args: &JsonArgs) -> Result<(), CliError> {
    let stats = store.stats()?;
    if args.json {
        return print_line(serde_json::json!({
            "path": store.root(),
            "blobs": stats.blobs,
            "blob_bytes": stats.blob_bytes,
            "derived_bytes": stats.derived_bytes,
            "reductions": stats.reductions,
            "pins": stats.pins,
            "quarantined": stats.quarantined,
            "log_bytes": stats.log_bytes,
        }));
    }
    print_line(format_args!("path         {}", store.root().display()))?;
    print_line(format_args!("objects      {} ({})", stats.blobs, size(stats.blob_bytes)))?;
    print_line(format_args!("derived      {}", size(stats.derived_bytes)))?;
    print_line(format_args!("reductions   {} ({})", stats.reductions, size(stats.log_bytes)))?;
    print_line(format_args!("pinned       {}", stats.pins))?;
    print_line(format_args!("quarantined  {}", stats.quarantined))
}
